#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::checks::definition::{NewCheck, Profile};
use crate::names::ProfileName;
use crate::protocol::{Mode, PoolPolicy};

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
    (0..count).map(|n| (NodeName::new(&format!("node-{n}")).unwrap(), BTreeMap::new())).collect()
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However the clock is stepped, a cron schedule neither storms nor stays silent for more than two periods.
    #[test]
    fn no_storm_and_no_silence_under_clock_steps(steps in prop::collection::vec((1_i64..3600, -7200_i64..7200), 0..6)) {
        let registry = registry(&[("c", serde_json::json!({ "cron": "*/5 * * * *" }))]);
        let mut planner = planner(&registry);
        let (mut offset, mut at, mut steps) = (0_i64, 0_i64, steps.into_iter());
        let (mut wait, mut jump) = steps.next().unwrap_or((i64::MAX, 0));
        let mut begun = vec![0_i64];
        let mut jumps = 0;
        while at < 4 * 3600 {
            at += 1;
            wait -= 1;
            if wait == 0 {
                offset += jump;
                jumps += 1;
                (wait, jump) = steps.next().unwrap_or((i64::MAX, 0));
            }
            let now = Now { utc: Timestamp(START.0 + (at + offset) * 1000), monotonic: Duration::from_secs(u64::try_from(at).unwrap()) };
            if planner.tick(&registry, &inventory(1), now).iter().any(|due| due.begins.is_some()) {
                begun.push(at);
            }
        }
        begun.push(4 * 3600);
        prop_assert!(begun.windows(2).all(|pair| pair[1] - pair[0] <= 661), "silent: {begun:?}");
        prop_assert!(begun.len() <= 4 * 12 + 2 + 2 * jumps, "{} runs in four hours with {jumps} steps", begun.len());
    }
}
