#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::checks::definition::NewCheck;
use crate::checks::planner::{Inventory, Now, Planner};
use crate::checks::registry::default_pool;

const START: Timestamp = Timestamp(1_795_320_000_000);

/// The schedules of tests go by days.
const DAY: i64 = 86_400;

fn name(name: &str) -> CheckName {
    name.parse().unwrap()
}

fn node(number: usize) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn at(seconds: i64) -> Now {
    Now {
        utc: Timestamp(START.0 + seconds * 1000),
        monotonic: Duration::from_secs(u64::try_from(seconds + 1000).unwrap()),
    }
}

/// A check that runs once a day, by default, and whose passes count for an hour.
fn check(name: &str, after: &[&str]) -> Check {
    let new: NewCheck = serde_json::from_value(
        json!({ "name": name, "adapter": "command", "schedule": { "every": "24h" }, "ttl_s": 3600, "after": after }),
    )
    .unwrap();
    Check::from_new(new, format!("id-{name}"), START)
}

fn registry(checks: &[(&str, &[&str])]) -> Registry {
    let pool = default_pool().unwrap();
    let registry = Registry { pools: [(pool.name.clone(), pool)].into(), ..Registry::default() };
    checks.iter().fold(registry, |registry, (name, after)| registry.with_check(check(name, after)).unwrap())
}

/// Checks that send out, and Nodes that has told that nobody has passed anything.
struct Cloud {
    registry: Registry,
    inventory: Inventory,
    planner: Planner,
}

impl Cloud {
    fn new(checks: &[(&str, &[&str])]) -> Self {
        let registry = registry(checks);
        let inventory: Inventory = (0..3).map(|number| (node(number), Arc::default())).collect();
        let mut cloud = Self { registry, inventory, planner: Planner::default() };
        cloud.planner.follow(&cloud.registry, &BTreeMap::new(), at(0));
        cloud.tells(&[]);
        cloud
    }

    /// Nodes tells who has passed `a`, for an hour from the start.
    fn tells(&mut self, nodes: &[usize]) {
        for (check, definition) in self.planner.prerequisites.to_ask() {
            let until = nodes.iter().map(|number| (node(*number), at(3600).utc)).collect();
            self.planner.prerequisites.told(&check, &definition, until);
        }
    }

    /// A run of `check` that begins and ends `now` says `status` of a node.
    fn hears(&mut self, check: &str, number: usize, status: Status, now: i64) {
        let definition = Definition::of(&self.registry.checks[&name(check)]);
        let outcomes = BTreeMap::from([(node(number), status)]);
        self.planner.prerequisites.hear(&name(check), &definition, at(now).utc, &outcomes, at(now).utc);
    }

    /// Who is asked by which check in these seconds.
    fn asked(&mut self, seconds: std::ops::RangeInclusive<i64>) -> Vec<(i64, String, String)> {
        let mut asked = Vec::new();
        for second in seconds {
            for due in self.planner.tick(&self.registry, &self.inventory, at(second)) {
                asked.extend(due.nodes.iter().map(|node| (second, due.check.to_string(), node.to_string())));
            }
        }
        asked
    }

    /// Who is asked by check `b` in its slot after a day and the splay.
    fn slot_of_b(&mut self) -> Vec<String> {
        let asked = self.asked(DAY - 1..=DAY + DAY / 2);
        asked.into_iter().filter(|(_, check, _)| check == "b").map(|(_, _, node)| node).collect()
    }
}

#[test]
fn a_node_is_asked_once_it_has_passed_what_comes_before_and_at_once() {
    let mut cloud = Cloud::new(&[("a", &[]), ("b", &["a"])]);
    assert_eq!(cloud.slot_of_b(), Vec::<String>::new());
    let waiting: Vec<String> = cloud.planner.prerequisites.waiting(&name("b")).map(ToString::to_string).collect();
    assert_eq!(waiting, ["n0", "n1", "n2"]);
    let later = DAY + DAY / 2 + 100;
    for (number, status) in [(0, Status::Pass), (1, Status::Fail), (2, Status::Error)] {
        cloud.hears("a", number, status, later);
    }
    assert_eq!(cloud.asked(later..=later + 50), [(later, "b".to_owned(), "n0".to_owned())]);
    assert_eq!(cloud.planner.prerequisites.total(), 2);
}

#[test]
fn a_pass_counts_until_its_time_is_over_or_the_node_fails() {
    let mut cloud = Cloud::new(&[("a", &[]), ("b", &["a"])]);
    let free = |cloud: &mut Cloud, now: i64| {
        let check = cloud.registry.checks[&name("b")].clone();
        !cloud.planner.prerequisites.admit(&check, vec![node(0)], at(now).utc).is_empty()
    };
    cloud.hears("a", 0, Status::Pass, 0);
    assert!(free(&mut cloud, 3599) && !free(&mut cloud, 3600));
    cloud.hears("a", 0, Status::Pass, 4000);
    cloud.hears("a", 0, Status::Timeout, 4001);
    assert!(free(&mut cloud, 4002), "could not ask is not no");
    cloud.hears("a", 0, Status::Fail, 4003);
    assert!(!free(&mut cloud, 4004));
    cloud.hears("a", 0, Status::Pass, 4005);
    cloud.planner.prerequisites.forget(&[node(0)]);
    assert!(!free(&mut cloud, 4006), "released, booted or registered anew");
}

#[test]
fn a_run_under_a_clock_that_was_ahead_does_not_count_for_longer() {
    let mut cloud = Cloud::new(&[("a", &[]), ("b", &["a"])]);
    let definition = Definition::of(&cloud.registry.checks[&name("a")]);
    let outcomes = BTreeMap::from([(node(0), Status::Pass)]);
    cloud.planner.prerequisites.hear(&name("a"), &definition, at(9 * DAY).utc, &outcomes, at(0).utc);
    let check = cloud.registry.checks[&name("b")].clone();
    assert!(cloud.planner.prerequisites.admit(&check, vec![node(0)], at(3600).utc).is_empty());
}

#[test]
fn after_a_restart_nobody_is_taken_to_have_passed_until_nodes_has_told_and_what_was_heard_meanwhile_is_newer() {
    let mut cloud = Cloud::new(&[("a", &[]), ("b", &["a"])]);
    cloud.planner = Planner::default();
    cloud.planner.follow(&cloud.registry, &BTreeMap::new(), at(0));
    let check = cloud.registry.checks[&name("b")].clone();
    let all = || vec![node(0), node(1), node(2)];
    assert!(cloud.planner.prerequisites.admit(&check, all(), at(1).utc).is_empty());
    let asked = cloud.planner.prerequisites.to_ask();
    cloud.hears("a", 1, Status::Fail, 2);
    let told: BTreeMap<NodeName, Timestamp> = all().into_iter().map(|node| (node, at(3600).utc)).collect();
    cloud.planner.prerequisites.told(&asked[0].0, &asked[0].1, told.clone());
    assert_eq!(cloud.planner.prerequisites.admit(&check, all(), at(3).utc), [node(0), node(2)]);

    // Once it is known nobody is asked again, and an answer that was late changes nothing.
    assert!(cloud.planner.prerequisites.to_ask().is_empty());
    cloud.planner.prerequisites.told(&asked[0].0, &asked[0].1, told);
    assert_eq!(cloud.planner.prerequisites.admit(&check, all(), at(3).utc), [node(0), node(2)]);
}

#[test]
fn a_new_revision_has_been_passed_by_nobody_and_outcomes_of_the_old_one_are_none() {
    let mut cloud = Cloud::new(&[("a", &[]), ("b", &["a"])]);
    cloud.hears("a", 0, Status::Pass, 0);
    let old = Definition::of(&cloud.registry.checks[&name("a")]);
    cloud.registry.checks.get_mut(&name("a")).unwrap().revision = 2;
    cloud.planner.follow(&cloud.registry, &BTreeMap::new(), at(1));
    let outcomes = BTreeMap::from([(node(0), Status::Pass)]);
    cloud.planner.prerequisites.hear(&name("a"), &old, at(1).utc, &outcomes, at(1).utc);
    cloud.tells(&[]);
    assert_eq!(cloud.slot_of_b(), Vec::<String>::new());
}

#[test]
fn all_of_several_have_to_be_passed_and_whoever_no_longer_waits_for_any_is_asked() {
    let mut cloud = Cloud::new(&[("a", &[]), ("c", &[]), ("b", &["a", "c"])]);
    cloud.hears("a", 0, Status::Pass, DAY * 2);
    assert!(cloud.slot_of_b().is_empty());
    cloud.registry.checks.get_mut(&name("b")).unwrap().after.clear();
    cloud.planner.follow(&cloud.registry, &BTreeMap::new(), at(DAY * 2 - 9));
    let asked: Vec<String> = cloud.asked(DAY * 2 - 9..=DAY * 2 - 9).into_iter().map(|(_, _, node)| node).collect();
    assert_eq!(asked, ["n2", "n1", "n0"], "nothing is lost when the condition goes");
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let registry = registry(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    let refused = |check: Check| registry.with_check(check).unwrap_err().message;
    assert!(refused(check("d", &["ghost"])).contains("there is no check named ghost"));
    assert!(refused(check("d", &["d"])).contains("after itself"));
    assert!(refused(check("a", &["c"])).contains("after itself"));
    let error = registry.without_check(&name("a")).unwrap_err().message;
    assert!(error.contains("the checks b run after a"), "{error}");
    assert!(registry.without_check(&name("c")).unwrap().without_check(&name("b")).is_ok());
}
