#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const FILE: &str = "\
profiles: [{name: p, schedule: {every: 10m}}]
pools: [{name: default, mode: soft}]
nodes: [{name: n1, labels: {rack: r1}}, {name: n2}]
checks:
  - {name: boot, adapter: command, schedule: {profile: p}, parameters: {n: 1}}
";

fn wanted(text: &str) -> Definitions {
    Definitions::parse(text).unwrap()
}

fn empty_service() -> Current {
    let pool = json!({"name": "default", "mode": "enforce", "max_silence_ms": 600_000, "accept_self_report": false});
    Current { pools: by_name(&[pool]), ..Current::default() }
}

/// What the service has once every step was carried out.
fn after(steps: &[Step], mut current: Current) -> Current {
    for step in steps {
        let things = match step.kind {
            "profile" => &mut current.profiles,
            "pool" => &mut current.pools,
            "node" => &mut current.nodes,
            "window" => &mut current.windows,
            _ => &mut current.checks,
        };
        let Some(args) = step.arguments() else { continue };
        let members = args.get("check").or(args.get("changes")).unwrap_or(args).as_object().unwrap().clone();
        match step.action {
            Action::Delete => drop(things.remove(&step.name)),
            _ => {
                let thing = things.entry(step.name.clone()).or_insert_with(|| json!({}));
                for (name, value) in members {
                    if name == "max_silence_s" {
                        thing["max_silence_ms"] = json!(value.as_i64().unwrap() * 1000);
                    }
                    thing[name] = value;
                }
            }
        }
    }
    current
}

fn actions(steps: &[Step]) -> Vec<(Action, &str, &str)> {
    steps.iter().map(|step| (step.action, step.kind, step.name.as_str())).collect()
}

#[test]
fn what_a_check_needs_is_made_before_it_and_a_second_time_everything_is_left() {
    let wanted = wanted(FILE);
    let steps = plan(&wanted, &empty_service(), false);
    let expected = [
        (Action::Create, "profile", "p"),
        (Action::Change, "pool", "default"),
        (Action::Create, "node", "n1"),
        (Action::Create, "node", "n2"),
        (Action::Create, "check", "boot"),
    ];
    assert_eq!(actions(&steps), expected);
    assert_eq!(steps[1].changes, ["mode: enforce -> soft"]);
    let again = plan(&wanted, &after(&steps, empty_service()), true);
    assert!(again.iter().all(|step| step.action == Action::Leave && step.call.is_none()), "{again:?}");
}

#[test]
fn only_what_differs_is_sent() {
    let there = after(&plan(&wanted(FILE), &empty_service(), false), empty_service());
    let steps = plan(&wanted(&FILE.replace("{n: 1}", "{n: 2}").replace("r1", "r2")), &there, false);
    let changed: Vec<&Step> = steps.iter().filter(|step| step.action == Action::Change).collect();
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[0].arguments(), Some(&json!({"name": "n1", "labels": {"rack": "r2"}})));
    let expected = json!({"name": "boot", "changes": {"parameters": {"n": 2}}});
    assert_eq!(changed[1].arguments(), Some(&expected));
}

#[test]
fn nothing_is_deleted_unless_asked_and_then_only_in_sections_of_the_file() {
    let there = || after(&plan(&wanted(FILE), &empty_service(), false), empty_service());
    let without_check = wanted("checks: []\n");
    assert!(plan(&without_check, &there(), false).is_empty());
    let steps = plan(&without_check, &there(), true);
    assert_eq!(actions(&steps), [(Action::Delete, "check", "boot")]);
    let nothing_at_all = wanted("checks: []\nprofiles: []\nnodes: []\n");
    let steps = plan(&nothing_at_all, &there(), true);
    assert_eq!(actions(&steps)[..2], [(Action::Delete, "check", "boot"), (Action::Delete, "profile", "p")]);
}

#[test]
fn pools_are_made_before_the_checks_that_name_them_and_go_after_those_that_did() {
    let file = FILE.replace("mode: soft}]", "mode: soft}, {name: gold, max_silence_s: 60}]");
    let steps = plan(&wanted(&file), &empty_service(), false);
    let at = |kind: &str, name: &str| steps.iter().position(|step| (step.kind, step.name.as_str()) == (kind, name));
    assert!(at("pool", "gold").unwrap() < at("check", "boot").unwrap());
    let gold = &steps[at("pool", "gold").unwrap()];
    assert_eq!((gold.action, gold.arguments()), (Action::Create, Some(&json!({"name": "gold", "max_silence_s": 60}))));
    let there = after(&steps, empty_service());
    assert!(plan(&wanted(&file), &there, true).iter().all(|step| step.action == Action::Leave));
    let steps = plan(&wanted("checks: []\npools: []\n"), &there, true);
    let expected = [(Action::Delete, "check", "boot"), (Action::Delete, "pool", "gold")];
    assert_eq!(actions(&steps), expected, "pool default stays");
}

#[test]
fn windows_are_made_last_go_first_and_stay_when_they_are_over() {
    let file = format!(
        "{FILE}windows:\n  - {{name: w, reason: r, targets: {{all: true}}, checks: [boot], from: '2026-11-24T02:00:00+01:00', until: '2026-11-24T04:00:00Z'}}\n  \
         - {{name: v, reason: r, targets: {{all: true}}, schedule: '0 2 * * 0', duration_s: 3600}}\n"
    );
    let steps = plan(&wanted(&file), &empty_service(), false);
    assert_eq!(actions(&steps[steps.len() - 2..]), [(Action::Create, "window", "w"), (Action::Create, "window", "v")]);
    let there = || after(&steps, empty_service());
    assert!(plan(&wanted(&file), &there(), true).iter().all(|step| step.action == Action::Leave));
    // Another way to write the same times is no change, another end is.
    let same = file.replace("2026-11-24T02:00:00+01:00", "2026-11-24T01:00:00Z");
    assert!(plan(&wanted(&same), &there(), true).iter().all(|step| step.action == Action::Leave));
    let longer = plan(&wanted(&file.replace("04:00:00Z", "05:00:00Z")), &there(), true);
    let changed: Vec<&Step> = longer.iter().filter(|step| step.action == Action::Change).collect();
    assert_eq!((changed.len(), changed[0].arguments().unwrap()["reason"].as_str()), (1, Some("r")), "it is said whole");
    let late = Current { now: crate::clock::Timestamp(1_800_000_000_000), ..empty_service() };
    let steps = plan(&wanted(&file), &late, false);
    assert_eq!(actions(&steps[steps.len() - 2..]), [(Action::Leave, "window", "w"), (Action::Create, "window", "v")]);
    let steps = plan(&wanted("windows: []\nchecks: []\n"), &there(), true);
    assert_eq!(actions(&steps)[0].1, "window");
    assert!(
        Definitions::parse("windows: [{name: w, reason: r, targets: {all: true}}]").is_err(),
        "a window has an end"
    );
}

#[test]
fn a_check_is_made_after_those_it_runs_after_and_deleted_before_them() {
    let file = "\
checks:
  - {name: deep, adapter: command, schedule: {every: 10m}, after: [middle]}
  - {name: middle, adapter: command, schedule: {every: 10m}, after: [zero]}
  - {name: zero, adapter: command, schedule: {every: 10m}}
";
    let steps = plan(&wanted(file), &empty_service(), false);
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["zero", "middle", "deep"]);
    let there = after(&steps, empty_service());
    assert!(plan(&wanted(file), &there, true).iter().all(|step| step.action == Action::Leave), "it is as wanted");
    let steps = plan(&wanted("checks: []"), &there, true);
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["deep", "middle", "zero"]);
}
