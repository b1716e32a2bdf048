#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use super::*;
use crate::checks::definition::NewCheck;
use crate::checks::profile::Profile;
use crate::names::ProfileName;
use crate::protocol::{Flapping, Mode, PoolPolicy};

const START: Timestamp = Timestamp(1_795_320_000_000);

fn now(seconds: i64) -> Now {
    Now {
        utc: Timestamp(START.0 + seconds * 1000),
        monotonic: Duration::from_secs(u64::try_from(seconds + 1000).unwrap()),
    }
}

fn registry(checks: &[(&str, serde_json::Value)]) -> Registry {
    let pool = PoolPolicy {
        name: "default".parse().unwrap(),
        mode: Mode::Enforce,
        max_silence_ms: 600_000,
        accept_self_report: false,
        flapping: Flapping::default(),
    };
    let profile = Profile {
        name: ProfileName::new("quarter").unwrap(),
        schedule: Schedule::parse("*/15 * * * *", None).unwrap(),
        description: String::new(),
    };
    let mut registry = Registry {
        pools: [(pool.name.clone(), pool)].into(),
        profiles: [(profile.name.clone(), profile)].into(),
        ..Registry::default()
    };
    for (name, schedule) in checks {
        let new: NewCheck = serde_json::from_value(
            serde_json::json!({ "name": name, "adapter": "command", "schedule": schedule, "ttl_s": 86400 }),
        )
        .unwrap();
        registry = registry.with_check(Check::from_new(new, format!("id-{name}"), START)).unwrap();
    }
    registry
}

fn inventory(count: usize) -> Inventory {
    (0..count).map(|n| (NodeName::new(&format!("node-{n}")).unwrap(), Arc::default())).collect()
}

fn planner(registry: &Registry) -> Planner {
    let mut planner = Planner::default();
    planner.follow(registry, &BTreeMap::new(), now(0));
    planner
}

/// Ticks every second of `seconds` and says which nodes were sent out when.
fn play(
    planner: &mut Planner,
    registry: &Registry,
    inventory: &Inventory,
    seconds: std::ops::RangeInclusive<i64>,
) -> Vec<(i64, NodeName)> {
    let mut sent = Vec::new();
    for second in seconds {
        for due in planner.tick(registry, inventory, now(second)) {
            sent.extend(due.nodes.into_iter().map(|node| (second, node)));
        }
    }
    sent
}

#[test]
fn every_node_is_due_once_per_slot_within_the_splay() {
    let registry = registry(&[("c", serde_json::json!({ "every": "10m" }))]);
    let mut planner = planner(&registry);
    let sent = play(&mut planner, &registry, &inventory(200), 0..=1199);
    assert_eq!(sent.len(), 200, "one slot within 20 minutes less a second, every node once");
    let nodes: BTreeSet<_> = sent.iter().map(|(_, node)| node).collect();
    assert_eq!(nodes.len(), 200);
    assert!(sent.iter().all(|(second, _)| (600..=900).contains(second)), "splay is half the period");
    assert!(sent.iter().map(|(second, _)| second).collect::<BTreeSet<_>>().len() > 50, "they are spread");
}

#[test]
fn adding_a_node_moves_nobody_else() {
    let registry = registry(&[("c", serde_json::json!({ "every": "10m" }))]);
    let few = play(&mut planner(&registry), &registry, &inventory(50), 0..=900);
    let many = play(&mut planner(&registry), &registry, &inventory(51), 0..=900);
    assert_eq!(many.len(), 51);
    assert!(few.iter().all(|place| many.contains(place)));
}

#[test]
fn a_change_of_one_check_resets_no_other_timer() {
    let before =
        registry(&[("a", serde_json::json!({ "every": "10m" })), ("b", serde_json::json!({ "every": "10m" }))]);
    let mut planner = planner(&before);
    let after = registry(&[("a", serde_json::json!({ "every": "10m" })), ("b", serde_json::json!({ "every": "7m" }))]);
    planner.follow(&after, &BTreeMap::new(), now(300));
    let begun = |planner: &mut Planner, second| -> Vec<String> {
        planner
            .tick(&after, &inventory(1), now(second))
            .iter()
            .filter(|due| due.begins.is_some())
            .map(|due| due.check.to_string())
            .collect()
    };
    assert_eq!(begun(&mut planner, 599), Vec::<String>::new());
    assert_eq!(begun(&mut planner, 600), ["a"], "a keeps its beat");
    assert_eq!(begun(&mut planner, 719), Vec::<String>::new());
    assert_eq!(begun(&mut planner, 720), ["b"], "b counts from its change");
}

#[test]
fn a_change_of_a_profile_re_schedules_the_checks_that_use_it() {
    let mut registry = registry(&[("c", serde_json::json!({ "profile": "quarter" }))]);
    let mut planner = planner(&registry);
    let profile = registry.profiles.values_mut().next().unwrap();
    profile.schedule = Schedule::parse("every 30s", None).unwrap();
    planner.follow(&registry, &BTreeMap::new(), now(0));
    let begun =
        (0..=95).filter(|s| planner.tick(&registry, &inventory(1), now(*s)).iter().any(|due| due.begins.is_some()));
    assert_eq!(begun.collect::<Vec<_>>(), [30, 60, 90]);
}

#[test]
fn a_restart_keeps_the_beat_and_runs_a_missed_slot_once() {
    let registry = registry(&[("c", serde_json::json!({ "every": "10m" }))]);
    let last = BTreeMap::from([("c".parse().unwrap(), now(0).utc)]);
    let mut restarted = Planner::default();
    restarted.follow(&registry, &last, now(400));
    let begins = |planner: &mut Planner, second| {
        planner.tick(&registry, &inventory(1), now(second)).iter().any(|due| due.begins.is_some())
    };
    assert!(!begins(&mut restarted, 599));
    assert!(begins(&mut restarted, 600), "the timer was not reset by the restart");
    let mut late = Planner::default();
    late.follow(&registry, &last, now(5 * 3600));
    let slots: Vec<i64> = (18000..=19300)
        .filter(|second| late.tick(&registry, &inventory(1), now(*second)).iter().any(|due| due.begins.is_some()))
        .collect();
    assert_eq!(slots, [18000, 18600, 19200], "thirty missed slots run once");
}

#[test]
fn a_restart_within_the_splay_goes_on_with_those_not_yet_sent() {
    let registry = registry(&[("c", serde_json::json!({ "every": "10m" }))]);
    let inventory = inventory(100);
    let mut first = planner(&registry);
    let mut sent = play(&mut first, &registry, &inventory, 600..=700);
    let last = BTreeMap::from([("c".parse().unwrap(), first.last_slot(&"c".parse().unwrap()).unwrap())]);
    let mut second = Planner::default();
    second.follow(&registry, &last, now(701));
    sent.extend(play(&mut second, &registry, &inventory, 701..=1190));
    let nodes: BTreeSet<_> = sent.iter().map(|(_, node)| node).collect();
    assert_eq!((nodes.len(), sent.len()), (100, 100), "every node once, over both lives");
}

#[test]
fn a_disabled_check_is_never_due() {
    let mut registry = registry(&[("c", serde_json::json!({ "every": "1m" }))]);
    let mut planner = planner(&registry);
    registry.checks.values_mut().next().unwrap().enabled = false;
    planner.follow(&registry, &BTreeMap::new(), now(1));
    assert!(play(&mut planner, &registry, &inventory(3), 1..=600).is_empty());
}

#[test]
fn a_steady_interval_does_not_notice_a_step_of_the_clock() {
    let registry = registry(&[("c", serde_json::json!({ "every": "1m" }))]);
    for step in [-86_400_000_i64, 86_400_000] {
        let mut planner = planner(&registry);
        let stepped = |second: i64| {
            let now = now(second);
            Now { utc: Timestamp(now.utc.0 + if second >= 90 { step } else { 0 }), ..now }
        };
        let slots: Vec<i64> = (0..=300)
            .filter(|s| planner.tick(&registry, &inventory(1), stepped(*s)).iter().any(|due| due.begins.is_some()))
            .collect();
        assert_eq!(slots, [60, 120, 180, 240, 300], "step {step}");
    }
}

#[test]
fn what_could_not_be_stored_is_due_again_until_the_next_slot() {
    let registry = registry(&[("c", serde_json::json!({ "every": "10m" }))]);
    let mut planner = planner(&registry);
    let inventory = inventory(20);
    let mut sent = Vec::new();
    for second in 600..=1199 {
        let due = planner.tick(&registry, &inventory, now(second));
        // The disk is full for the first five minutes, in which every node has its place.
        if second <= 900 {
            planner.put_back(due);
        } else {
            sent.extend(due.into_iter().flat_map(|due| due.nodes));
        }
    }
    sent.sort();
    assert_eq!(sent, inventory.keys().cloned().collect::<Vec<_>>(), "every node once, none lost");
    let due = planner.tick(&registry, &inventory, now(1200));
    planner.put_back(due);
    let late = play(&mut planner, &registry, &inventory, 1800..=2399);
    assert_eq!(late.len(), 20, "what was not stored until the next slot goes out with that one");
}

#[test]
fn only_what_is_new_enabled_or_scheduled_anew_counts_from_now() {
    let every = |text: &str| serde_json::json!({ "every": text });
    let mut before = registry(&[
        ("a", every("10m")),
        ("b", every("10m")),
        ("c", every("10m")),
        ("p", serde_json::json!({ "profile": "quarter" })),
    ]);
    before.checks.get_mut(&"c".parse::<CheckName>().unwrap()).unwrap().enabled = false;
    let mut after = registry(&[
        ("a", every("10m")),
        ("b", every("9m")),
        ("c", every("10m")),
        ("d", every("10m")),
        ("p", serde_json::json!({ "profile": "quarter" })),
    ]);
    after.checks.get_mut(&"a".parse::<CheckName>().unwrap()).unwrap().description = "another".to_owned();
    let anew = |after: &Registry| after.scheduled_anew(&before).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(anew(&after), ["b", "c", "d"]);
    after.profiles.values_mut().next().unwrap().schedule = Schedule::parse("@hourly", None).unwrap();
    assert_eq!(anew(&after), ["b", "c", "d", "p"]);
}

#[test]
fn a_slot_knows_how_late_it_is_and_how_many_were_missed_before_it() {
    for schedule in [serde_json::json!({ "every": "10m" }), serde_json::json!({ "cron": "*/10 * * * *" })] {
        let registry = registry(&[("c", schedule)]);
        let mut planner = planner(&registry);
        let first = (1..=600).find_map(|second| planner.tick(&registry, &inventory(1), now(second)).pop()).unwrap();
        assert_eq!((first.late, first.missed), (Duration::ZERO, 0));
        let since = i64::try_from(first.begins.unwrap().since(START).as_secs()).unwrap();
        let on_time = now(since);
        // Frozen for an hour and seven seconds: six slots passed, the last of them runs.
        let late =
            planner.tick(&registry, &inventory(1), now(since + 3607)).into_iter().find(|due| due.begins.is_some());
        let late = late.unwrap();
        assert_eq!((late.late, late.missed), (Duration::from_secs(7), 5), "after {}", on_time.utc);
    }
}

#[path = "planner_clock_tests.rs"]
mod clock;

#[path = "window/planner_tests.rs"]
mod windows;
