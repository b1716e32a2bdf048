//! Parts of answers in words: schedules, targets, runs, levels.

use serde_json::Value;

use crate::cli::output::{member, pieces, safe, word};

/// `15 2 * * * (Europe/Berlin)`, `every 5m` or `profile nightly`.
pub fn schedule(value: &Value) -> Vec<String> {
    let text = |name: &str| value.get(name).map(word);
    let told = match (text("profile"), text("every"), text("cron")) {
        (Some(profile), ..) => format!("profile {profile}"),
        (_, Some(every), _) => format!("every {every}"),
        (.., Some(cron)) => format!("{cron} ({})", text("zone").unwrap_or_else(|| "UTC".to_owned())),
        _ => return pieces(value),
    };
    vec![told]
}

/// `all`, `node:n1`, `pattern:c-*`, `label:rack=r1`: as `--target` takes them.
pub fn targets(value: &Value) -> Vec<String> {
    let mut told = Vec::new();
    if value.get("all").and_then(Value::as_bool) == Some(true) {
        told.push("all".to_owned());
    }
    let texts = |name: &str| value.get(name).map(pieces).unwrap_or_default();
    told.extend(texts("nodes").into_iter().map(|node| format!("node:{node}")));
    told.extend(texts("patterns").into_iter().map(|glob| format!("pattern:{glob}")));
    told.extend(texts("labels").into_iter().map(|label| format!("label:{label}")));
    told.extend(texts("aggregates").into_iter().map(|glob| format!("aggregate:{glob}")));
    told.extend(texts("zones").into_iter().map(|glob| format!("zone:{glob}")));
    told
}

/// Future runs: local time, and UTC.
pub fn next_runs(value: &Value) -> Vec<String> {
    let runs = value.as_array().map(Vec::as_slice).unwrap_or_default();
    runs.iter().map(|run| format!("{} ({})", member(run, "local"), member(run, "utc"))).collect()
}

/// The times at which a window opens, and when it ends then.
pub fn opens(value: &Value) -> Vec<String> {
    let times = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let told = |time| format!("{} ({}), until {}", member(time, "local"), member(time, "utc"), member(time, "until"));
    times.iter().map(told).collect()
}

/// A check's last run: when, why, and what came of it.
pub fn last_run(run: &Value) -> Vec<String> {
    if run.is_null() {
        return vec!["none yet".to_owned()];
    }
    let outcomes = run.get("outcomes").map(pieces).unwrap_or_default().join(" ");
    let end = match run.get("finished_at") {
        Some(at) if !at.is_null() => format!("finished {}", word(at)),
        _ => format!("{} of {} nodes done", member(run, "done"), member(run, "nodes")),
    };
    vec![format!(
        "{}: begun {} ({}), {end} {outcomes}",
        member(run, "run"),
        member(run, "started_at"),
        member(run, "cause")
    )]
}

/// Who waits for what a check runs after.
pub fn not_passed_before(value: &Value) -> Vec<String> {
    let count = value.get("nodes").and_then(Value::as_u64).unwrap_or(0);
    let some: Vec<String> =
        value.get("some").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(safe).collect();
    match (count, count > some.len() as u64) {
        (0, _) => vec!["nobody waits".to_owned()],
        (_, false) => vec![format!("{count} nodes wait: {}", some.join(", "))],
        (_, true) => vec![format!("{count} nodes wait, among them {}", some.join(", "))],
    }
}

/// What became of a check's slots since the service started.
pub fn slots(value: &Value) -> Vec<String> {
    let mut told = vec![format!(
        "{} since the start, {} of them late; {} missed while nothing ran",
        member(value, "slots"),
        member(value, "late"),
        member(value, "missed")
    )];
    if value.get("last_slot").is_some_and(|at| !at.is_null()) {
        told.push(format!("last: {}, {} ms late", member(value, "last_slot"), member(value, "last_late_ms")));
    }
    let skipped = value.get("skipped").and_then(Value::as_object);
    told.extend(skipped.into_iter().flatten().map(|(why, skip)| {
        format!("left out for {}: {} nodes, last at {}", safe(why), member(skip, "nodes"), member(skip, "last_at"))
    }));
    told
}

/// A node's level in each pool, with its reason.
pub fn levels(value: &Value) -> Vec<String> {
    let Some(pools) = value.as_object() else { return pieces(value) };
    let told = pools.iter().map(|(pool, level)| {
        let mut notes = Vec::new();
        if let Some(until) = level.get("expires_at").filter(|until| !until.is_null()) {
            notes.push(format!("until {}", word(until)));
        }
        for (flag, note) in [("overridden", "OVERRIDDEN"), ("self_reported", "by its own word")] {
            if level.get(flag).and_then(Value::as_bool) == Some(true) {
                notes.push(note.to_owned());
            }
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(", ")) };
        format!("{}: {}{notes}: {}", safe(pool), member(level, "trust"), member(level, "reason"))
    });
    told.collect()
}

/// A node's latest results by check.
pub fn check_results(value: &Value) -> Vec<String> {
    let Some(checks) = value.as_object() else { return pieces(value) };
    let told = checks.iter().map(|(check, result)| {
        format!(
            "{}: {} of {} (run {}): {}",
            safe(check),
            member(result, "status"),
            member(result, "evidence_at"),
            member(result, "run"),
            member(result, "reason")
        )
    });
    told.collect()
}

/// Pools with their numbers of nodes, one a line.
pub fn pool_counts(value: &Value) -> Vec<String> {
    let pools = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let told = pools.iter().map(|pool| {
        let overridden = pool.get("overridden").and_then(Value::as_i64).unwrap_or(0);
        let overridden = if overridden > 0 { format!(", {overridden} OVERRIDDEN") } else { String::new() };
        let flapping = pool.get("flapping").and_then(Value::as_i64).filter(|count| *count > 0);
        let flapping = flapping.map(|count| format!(", {count} FLAPPING")).unwrap_or_default();
        let expiring = pool.get("expiring").and_then(Value::as_i64).filter(|count| *count > 0);
        let expiring = expiring.map(|count| format!(", {count} EXPIRING")).unwrap_or_default();
        let oldest = pool.get("oldest_evidence_s").and_then(Value::as_u64);
        let oldest = oldest.map(|age| format!(", oldest evidence {}", span(age))).unwrap_or_default();
        format!(
            "{} ({}): {} trusted, {} untrusted, {} unknown{flapping}{overridden}{expiring}{oldest}",
            member(pool, "name"),
            member(pool, "mode"),
            member(pool, "trusted"),
            member(pool, "untrusted"),
            member(pool, "unknown")
        )
    });
    told.collect()
}

/// Seconds as people say them: `45s`, `12m`, `3h20m`, `2d4h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Members of a pool: level, expiry.
pub fn members(value: &Value) -> Vec<String> {
    let Some(members) = value.as_object() else { return pieces(value) };
    let told = members.iter().map(|(node, state)| {
        let until = match state.get("expires_at") {
            Some(until) if !until.is_null() => format!(" until {}", word(until)),
            _ => String::new(),
        };
        let overridden = state.get("overridden").and_then(Value::as_bool) == Some(true);
        format!("{}: {}{until}{}", safe(node), member(state, "trust"), if overridden { " (OVERRIDDEN)" } else { "" })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schedules_and_targets_read_as_they_are_typed() {
        assert_eq!(schedule(&json!({"cron": "15 2 * * *", "zone": "Europe/Berlin"})), ["15 2 * * * (Europe/Berlin)"]);
        assert_eq!(schedule(&json!({"every": "5m"})), ["every 5m"]);
        assert_eq!(schedule(&json!({"profile": "nightly"})), ["profile nightly"]);
        let aimed = json!({"all": false, "nodes": ["n1"], "patterns": ["c-*"], "labels": {"rack": "r1"}, "aggregates": ["gpu"], "zones": ["eu-*"]});
        assert_eq!(targets(&aimed), ["node:n1", "pattern:c-*", "label:rack=r1", "aggregate:gpu", "zone:eu-*"]);
        assert_eq!(targets(&json!({"all": true})), ["all"]);
    }

    #[test]
    fn slots_that_were_late_missed_or_left_out_are_told() {
        let value = json!({
            "slots": 4, "late": 1, "missed": 30, "last_slot": "T", "last_late_ms": 7000,
            "skipped": { "overlap": { "nodes": 2, "last_at": "S" } },
        });
        let told = slots(&value);
        assert_eq!(told[0], "4 since the start, 1 of them late; 30 missed while nothing ran");
        assert_eq!(told[1..], ["last: T, 7000 ms late", "left out for overlap: 2 nodes, last at S"]);
        assert_eq!(last_run(&Value::Null), ["none yet"]);
    }

    #[test]
    fn a_level_that_stands_on_an_override_says_so_and_foreign_text_stays_on_its_line() {
        let level = json!({"default": {"trust": "trusted", "reason": "x\ny", "expires_at": "T", "overridden": true}});
        assert_eq!(levels(&level), ["default: trusted [until T, OVERRIDDEN]: x\\ny"]);
    }
}
