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
    told
}

/// Future runs: local time, and UTC.
pub fn next_runs(value: &Value) -> Vec<String> {
    let runs = value.as_array().map(Vec::as_slice).unwrap_or_default();
    runs.iter().map(|run| format!("{} ({})", member(run, "local"), member(run, "utc"))).collect()
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
        let expiring = pool.get("expiring").and_then(Value::as_i64).filter(|count| *count > 0);
        let expiring = expiring.map(|count| format!(", {count} EXPIRING")).unwrap_or_default();
        let oldest = pool.get("oldest_evidence_s").and_then(Value::as_u64);
        let oldest = oldest.map(|age| format!(", oldest evidence {}", span(age))).unwrap_or_default();
        format!(
            "{} ({}): {} trusted, {} untrusted, {} unknown{overridden}{expiring}{oldest}",
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
        let aimed = json!({"all": false, "nodes": ["n1"], "patterns": ["c-*"], "labels": {"rack": "r1"}});
        assert_eq!(targets(&aimed), ["node:n1", "pattern:c-*", "label:rack=r1"]);
        assert_eq!(targets(&json!({"all": true})), ["all"]);
    }

    #[test]
    fn a_level_that_stands_on_an_override_says_so_and_foreign_text_stays_on_its_line() {
        let level = json!({"default": {"trust": "trusted", "reason": "x\ny", "expires_at": "T", "overridden": true}});
        assert_eq!(levels(&level), ["default: trusted [until T, OVERRIDDEN]: x\\ny"]);
    }
}
