//! Windows under the planner, in virtual time: what is held, what runs once when they end, and clocks and processes that fail meanwhile.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::checks::window::Window;
use crate::checks::window::opening::Mark;

/// `registry` with a window of this name, which says `more` beside its targets.
fn with_window(mut registry: Registry, name: &str, more: serde_json::Value) -> Registry {
    let mut window = json!({ "name": name, "id": format!("id-{name}"), "reason": "patches", "targets": { "all": true }, "changed_at": START.0 });
    window.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let window: Window = serde_json::from_value(window).unwrap();
    assert_eq!(window.faults(START), Vec::<String>::new());
    registry.windows.insert(window.name.clone(), window);
    registry
}

/// Open once, by seconds after the start.
fn once(from: i64, until: i64) -> serde_json::Value {
    json!({ "from": now(from).utc.to_string(), "until": now(until).utc.to_string() })
}

fn every_minute() -> Registry {
    registry(&[("c", json!({ "every": "1m" }))])
}

/// What was stored until now.
fn marks(planner: &mut Planner, stored: &mut BTreeMap<String, Mark>) -> Vec<Mark> {
    for (id, mark) in planner.holding.openings.unsaved().clone() {
        match mark {
            Some(mark) => drop(stored.insert(id, mark)),
            None => drop(stored.remove(&id)),
        }
    }
    planner.holding.openings.saved();
    stored.values().cloned().collect()
}

fn held(planner: &Planner) -> usize {
    planner.holding.total()
}

#[test]
fn what_was_missed_runs_once_when_the_window_ends_each_node_in_its_own_place() {
    let registry = with_window(registry(&[("c", json!({ "every": "10m" }))]), "w", once(300, 5_700));
    let (mut planner, inventory) = (planner(&registry), inventory(200));
    assert_eq!(play(&mut planner, &registry, &inventory, 0..=5_699), [], "nine slots came");
    assert_eq!(held(&planner), 200, "each waits once");
    let sent = play(&mut planner, &registry, &inventory, 5_700..=5_999);
    let seconds: BTreeSet<i64> = sent.iter().map(|(second, _)| *second).collect();
    let nodes: BTreeSet<&NodeName> = sent.iter().map(|(_, node)| node).collect();
    assert_eq!((sent.len(), nodes.len(), held(&planner)), (200, 200, 0));
    assert!(seconds.len() > 50, "they are spread: {seconds:?}");
    let sent = play(&mut planner, &registry, &inventory, 6_000..=6_599);
    assert_eq!(sent.len(), 200, "and the beat goes on as before");
    let shown = planner.ledger.show(&"c".parse().unwrap());
    assert_eq!((&shown["skipped"]["window"]["nodes"], &shown["missed"]), (&json!(9 * 200), &json!(0)));
}

#[test]
fn a_slot_that_begins_while_they_are_let_go_takes_them_along() {
    let registry = with_window(every_minute(), "w", once(70, 175));
    let (mut planner, inventory) = (planner(&registry), inventory(50));
    let before = play(&mut planner, &registry, &inventory, 0..=69).len();
    let sent = play(&mut planner, &registry, &inventory, 70..=239);
    assert!(before < 50 && sent.len() <= 100, "{before} before, {} after", sent.len());
    let mut of_slot: Vec<&NodeName> = sent.iter().filter(|(second, _)| *second >= 180).map(|(_, node)| node).collect();
    of_slot.sort();
    assert_eq!(of_slot, inventory.keys().collect::<Vec<_>>(), "everybody once in the slot after its end");
}

#[test]
fn only_the_nodes_and_checks_it_names_are_held_and_only_as_long_as_it_covers_them() {
    let checks = registry(&[("a", json!({ "every": "1m" })), ("b", json!({ "every": "1m" }))]);
    let more = json!({ "targets": { "nodes": ["node-1", "node-2"] }, "checks": ["a"], "from": now(0).utc.to_string(), "until": now(3_600).utc.to_string() });
    let mut registry = with_window(checks, "w", more);
    let (mut planner, inventory) = (planner(&registry), inventory(4));
    let mut asked = BTreeMap::<(String, String), usize>::new();
    for second in 0..=600 {
        for due in planner.tick(&registry, &inventory, now(second)) {
            for node in due.nodes {
                *asked.entry((due.check.to_string(), node.to_string())).or_default() += 1;
            }
        }
    }
    let of = |check: &str, node: &str| asked.get(&(check.to_owned(), node.to_owned())).copied().unwrap_or(0);
    assert_eq!((of("a", "node-1"), of("a", "node-2")), (0, 0));
    assert!(of("a", "node-0") >= 9 && of("a", "node-3") >= 9 && of("b", "node-1") >= 9 && of("b", "node-2") >= 9);
    // The window is replaced by one that is about node-2 alone.
    let more = json!({ "id": "another", "targets": { "nodes": ["node-2"] }, "from": now(0).utc.to_string(), "until": now(3_600).utc.to_string() });
    registry = with_window(registry, "w", more);
    let sent = play(&mut planner, &registry, &inventory, 601..=632);
    assert!(sent.iter().any(|(_, node)| node.as_str() == "node-1"), "{sent:?}");
    assert_eq!(held(&planner), 2, "node-2 of both checks, as slots came");
    registry.windows.clear();
    let sent = play(&mut planner, &registry, &inventory, 633..=664);
    assert!(sent.iter().any(|(_, node)| node.as_str() == "node-2"), "deleting a window is its end: {sent:?}");
    assert_eq!(held(&planner), 0);
}

#[test]
fn nodes_to_be_asked_at_once_and_those_that_wait_for_a_place_are_held_too() {
    let registry = with_window(every_minute(), "w", once(10, 50));
    let (mut planner, inventory) = (planner(&registry), inventory(3));
    let check: CheckName = "c".parse().unwrap();
    let all: Vec<NodeName> = inventory.keys().cloned().collect();
    assert_eq!(planner.hold(&check, all.clone(), &inventory, now(1).utc), all, "it is not open yet");
    planner.waiting.put_back(&check, [all[0].clone()].into());
    assert_eq!(play(&mut planner, &registry, &inventory, 0..=10), []);
    assert!(!planner.waiting.is_waited_for(&check));
    assert_eq!(planner.hold(&check, all[1..].to_vec(), &inventory, now(11).utc), []);
    assert_eq!(held(&planner), 3);
    let sent = play(&mut planner, &registry, &inventory, 11..=59);
    assert!(sent.iter().all(|(second, _)| *second >= 50), "{sent:?}");
    let stranger: NodeName = "stranger".parse().unwrap();
    assert_eq!(
        planner.hold(&check, vec![stranger.clone()], &inventory, now(20).utc),
        [stranger],
        "nobody knows what it is"
    );
}

#[test]
fn who_is_gone_or_not_aimed_at_any_more_is_not_asked_when_the_window_ends() {
    let mut registry = with_window(every_minute(), "w", once(10, 100));
    let (mut planner, mut inventory) = (planner(&registry), inventory(3));
    play(&mut planner, &registry, &inventory, 0..=95);
    assert_eq!(held(&planner), 3);
    inventory.pop_first();
    let aimed = &mut registry.checks.values_mut().next().unwrap().targets;
    aimed.all = false;
    aimed.nodes = ["node-2".parse().unwrap()].into();
    let sent = play(&mut planner, &registry, &inventory, 96..=119);
    assert!(sent.iter().all(|(_, node)| node.as_str() == "node-2"), "{sent:?}");
    assert_eq!(held(&planner), 0);
}

#[test]
fn a_restart_in_the_window_or_after_it_loses_nobody() {
    let registry = with_window(registry(&[("c", json!({ "every": "10m" }))]), "w", once(300, 2_000));
    let inventory = inventory(100);
    // Down in the window until some time: in it, at its end, within the splay after it.
    for (down, up) in [(1_500, 1_600), (1_500, 2_050), (1_999, 2_001), (2_060, 2_090)] {
        let (mut planner, mut stored) = (planner(&registry), BTreeMap::new());
        let mut sent = play(&mut planner, &registry, &inventory, 0..=down);
        assert!(down > 2_000 || sent.is_empty());
        let marks = marks(&mut planner, &mut stored);
        let last = BTreeMap::from([("c".parse().unwrap(), planner.last_slot(&"c".parse().unwrap()).unwrap())]);
        let mut again = Planner::default();
        again.follow(&registry, &last, now(up));
        again.holding.restore(marks, &registry, now(up));
        sent.extend(play(&mut again, &registry, &inventory, up..=2_399));
        let nodes: BTreeSet<_> = sent.iter().map(|(_, node)| node).collect();
        assert_eq!(nodes.len(), 100, "down at {down}, up at {up}");
        assert!(sent.iter().all(|(second, _)| *second >= 2_000), "down at {down}, up at {up}");
        // Whoever was let go already is not known.
        let most = if down > 2_000 { 200 } else { 100 };
        assert!(sent.len() <= most, "down at {down}, up at {up}: {} for 100 nodes", sent.len());
    }
}

#[test]
fn the_mark_of_a_window_that_is_gone_is_removed_when_it_says_nothing_any_more() {
    let mut registry = with_window(every_minute(), "w", once(0, 600));
    let (mut planner, mut stored) = (planner(&registry), BTreeMap::new());
    play(&mut planner, &registry, &inventory(1), 0..=100);
    assert!(marks(&mut planner, &mut stored).iter().all(|mark| mark.ended_at.is_none()) && stored.len() == 1);
    registry.windows.clear();
    play(&mut planner, &registry, &inventory(1), 101..=102);
    assert_eq!(marks(&mut planner, &mut stored)[0].ended_at, Some(now(101).utc));
    play(&mut planner, &registry, &inventory(1), 103..=702);
    assert!(marks(&mut planner, &mut stored).is_empty());
}

/// Seconds of true time in which the window is open, while the clock is off by `offset`.
fn open_seconds(registry: &Registry, seconds: i64, offset: impl Fn(i64) -> i64) -> Vec<i64> {
    let mut planner = planner(registry);
    let inventory = inventory(1);
    let is_open = |second: &i64| {
        let true_time = now(*second);
        let shown = Now { utc: Timestamp(true_time.utc.0 + offset(*second) * 1000), ..true_time };
        planner.tick(registry, &inventory, shown);
        planner.holding.openings.open().count() == 1
    };
    (0..seconds).filter(is_open).collect()
}

#[test]
fn a_clock_set_back_keeps_no_window_open_and_one_set_right_again_opens_it_again() {
    let registry = with_window(every_minute(), "w", once(600, 1_200));
    assert_eq!(open_seconds(&registry, 8_000, |_| 0), (600..1_200).collect::<Vec<_>>());
    // In the middle of it, an hour back: by the timer it is over when it would have been; its time comes no second time.
    let back = open_seconds(&registry, 8_000, |second| if second >= 700 { -100 } else { 0 });
    assert_eq!(back, (600..1_200).collect::<Vec<_>>());
    // A day ahead for two minutes: it goes on when the clock is set right.
    let ahead = open_seconds(&registry, 8_000, |second| if (700..820).contains(&second) { 86_400 } else { 0 });
    assert_eq!(ahead, (600..700).chain(820..1_200).collect::<Vec<_>>());
    // Corrected by seconds around its end: it ends once.
    for step in [-5, 5] {
        let corrected = open_seconds(&registry, 8_000, |second| if second >= 1_199 { step } else { 0 });
        assert!(corrected.len() >= 599 && corrected.windows(2).all(|pair| pair[1] == pair[0] + 1), "{step}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the clock is set to, a window is open no longer than it is long for every time it could open: once, and once
    /// for each step.
    #[test]
    fn no_window_stays_open_for_ever(
        recurring in any::<bool>(),
        steps in prop::collection::vec((1_i64..900, prop_oneof![-300_i64..300, -4_000_i64..4_000, -40_000_000_i64..40_000_000]), 0..8),
    ) {
        let length = 900;
        let more = if recurring { json!({ "schedule": { "cron": "0 */2 * * *" }, "duration_s": length }) } else { once(100, 100 + length) };
        let registry = with_window(every_minute(), "w", more);
        let mut at = 0;
        let moments: Vec<(i64, i64)> = steps.iter().map(|(after, by)| { at += after; (at, *by) }).collect();
        let offset = |second: i64| moments.iter().filter(|(at, _)| *at <= second).map(|(_, by)| by).sum::<i64>();
        let seconds = 3 * 3600;
        let open = open_seconds(&registry, seconds, offset);
        let times = i64::try_from(steps.len()).unwrap() + if recurring { 4 } else { 1 };
        prop_assert!(i64::try_from(open.len()).unwrap() <= times * (length + 1), "open for {} s with {} steps", open.len(), steps.len());
        let longest = open.chunk_by(|one, next| next - one == 1).map(<[i64]>::len).max().unwrap_or(0);
        // The clock may be set forward into the next one.
        let at_a_stretch = if recurring { length * (times + 1) } else { length };
        prop_assert!(longest <= usize::try_from(at_a_stretch + 1).unwrap(), "{longest} s at a stretch");
    }
}
