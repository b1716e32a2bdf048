//! Nodes that fall again and again: what counts as a fall, how long they wait, and what does not wash their falls off.

use proptest::prelude::*;

use super::histories::{World, cases, judgement, step};
use super::*;
use crate::security::{KeyId, Revocations, Vouch};
use Level::{Trusted, Unknown, Untrusted};
use Status::{Fail, Pass};

const DAY: i64 = 24 * HOUR;

/// A node of a pool in which the third fall within a day costs a day, with the run to come.
struct Falling {
    story: Story,
    run: i64,
}

impl Falling {
    fn new() -> Self {
        Self { story: Story::of(vec![check("a"), CheckPolicy { pools: BTreeMap::new(), ..check("b") }]), run: 1 }
    }

    fn runs(&mut self, status: Status) {
        self.story.run(self.run, status);
        self.run += 1;
    }

    /// The node fails.
    fn falls(&mut self) -> &mut Self {
        self.runs(Fail);
        self.story.is(Untrusted);
        self
    }

    /// It does all that takes a node back after a failure within the hold-down of its check.
    fn mends(&mut self) -> Level {
        self.story.wait(MINUTE);
        self.runs(Pass);
        self.story.wait(10 * MINUTE).verdict();
        self.runs(Pass);
        self.story.verdict().level
    }

    fn falls_and_mends(&mut self, times: usize) -> &mut Self {
        for _ in 0..times {
            assert_eq!(self.falls().mends(), Trusted);
        }
        self
    }
}

#[test]
fn the_third_fall_within_a_day_costs_a_day_without_failures() {
    let mut node = Falling::new();
    node.falls_and_mends(2);
    assert_eq!(node.falls().mends(), Untrusted);
    let told = node.story.verdict().reason.to_string();
    assert!(told.contains("it fell 3 times"), "{told}");
    node.story.wait(DAY - 12 * MINUTE);
    assert_eq!(node.mends(), Trusted, "{}", node.story.verdict().reason);
}

#[test]
fn passes_of_the_longer_hold_down_do_not_count_for_more_than_its_end() {
    let mut node = Falling::new();
    node.falls_and_mends(2).falls().mends();
    node.story.wait(DAY - 12 * MINUTE);
    node.runs(Pass);
    node.story.is(Untrusted).wait(2 * MINUTE).is(Unknown);
    node.runs(Pass);
    node.story.is(Trusted);
}

#[test]
fn a_further_failure_begins_the_longer_hold_down_anew() {
    let mut node = Falling::new();
    node.falls_and_mends(2).falls();
    node.story.wait(DAY - MINUTE);
    node.runs(Fail);
    node.story.wait(HOUR);
    assert_eq!(node.mends(), Untrusted);
}

#[test]
fn falls_further_apart_than_the_window_do_not_count_together() {
    let mut node = Falling::new();
    for _ in 0..6 {
        node.falls_and_mends(1);
        node.story.wait(13 * HOUR);
    }
}

#[test]
fn one_incident_that_several_checks_see_is_one_fall() {
    let mut story = Story::of(vec![check("a"), check("b"), check("c")]);
    for name in ["a", "b", "c"] {
        let seen = story.seen(name, 1, Fail);
        story.take(name, &seen);
    }
    story.is(Untrusted).wait(11 * MINUTE);
    for name in ["a", "b", "c"] {
        let seen = story.seen(name, 2, Pass);
        story.take(name, &seen);
    }
    story.is(Trusted);
}

#[test]
fn nothing_but_a_release_washes_falls_off() {
    let washes: [fn(&mut Story); 6] = [
        |story| drop(story.wait(3 * HOUR).verdict()),
        |story| {
            for boot in ["one", "two"] {
                story.node.agent_boot(boot, story.now);
            }
        },
        |story| {
            let tombstones = [story.node.tombstone(), story.node.tombstone()];
            story.node = NodeTrust::registered_again("uuid-2", &tombstones, story.now);
        },
        |story| {
            let pools = std::mem::take(&mut story.policy.pools);
            drop(story.node.review(&story.rules(), &[], story.now));
            story.policy.pools = pools;
        },
        |story| {
            story.check_mut("a").revision += 1;
            story.check_mut("b").pools = story.check_mut("a").pools.clone();
            story.verdict();
            story.check_mut("b").pools.clear();
        },
        |story| drop(story.wait(-HOUR).verdict()),
    ];
    for (number, wash) in washes.into_iter().enumerate() {
        let mut node = Falling::new();
        node.falls_and_mends(2);
        wash(&mut node.story);
        assert_eq!(node.falls().mends(), Untrusted, "wash {number}");
    }
}

#[test]
fn a_release_has_them_forgotten_and_one_by_a_stolen_key_has_not() {
    let mut node = Falling::new();
    node.falls_and_mends(2).falls();
    let (key, at): (KeyId, _) = ("b".repeat(32).parse().unwrap(), node.story.now);
    node.story.node.release(Some(Vouch { key, at }), at);
    node.story.is(Unknown).wait(MINUTE);
    assert_eq!(node.mends(), Trusted);
    let released = node.story.node.clone();
    node.falls_and_mends(2);

    node.story.node = released;
    node.story.node.void(&[(key, at)].into_iter().collect::<Revocations>());
    node.story.is(Untrusted);
    assert_eq!(node.mends(), Untrusted);
}

#[test]
fn a_pool_may_say_that_nobody_flaps_and_that_loosens_it() {
    let mut node = Falling::new();
    node.story.policy.pools[0].flapping.limit = 0;
    node.falls_and_mends(9);
}

#[test]
fn falls_dated_by_a_clock_that_was_far_ahead_do_not_hold_for_longer_than_others() {
    let mut node = Falling::new();
    node.story.wait(300 * DAY);
    node.falls().story.wait(-300 * DAY).is(Untrusted);
    node.mends();
    node.falls_and_mends(1);
    assert_eq!(node.falls().mends(), Untrusted);
    node.story.wait(DAY);
    assert_eq!(node.mends(), Trusted);
}

#[test]
fn no_more_falls_are_kept_than_a_pool_can_ask_for() {
    let mut node = Falling::new();
    node.story.policy.pools[0].flapping.limit = 0;
    node.falls_and_mends(30);
    assert_eq!(node.story.node.standings["default"].falls.len(), flap::MAX_FALLS);
}

/// The falls that show outside, and what they forbid.
#[derive(Default)]
struct Seen {
    falls: Vec<i64>,
    is_down: bool,
}

impl Seen {
    /// Until when a node that was down cannot be anything else.
    fn look(&mut self, level: Level, now: Timestamp, flapping: Flapping) -> Option<i64> {
        for at in self.falls.iter_mut().filter(|at| **at > now.0 + 30_000) {
            *at = now.0;
        }
        let was_down = std::mem::replace(&mut self.is_down, level == Untrusted);
        if self.is_down && !was_down {
            self.falls.push(now.0);
        }
        let last = *self.falls.iter().max()?;
        let close = self.falls.iter().filter(|at| last - **at <= flapping.window_ms).count();
        (was_down && close >= flapping.limit as usize).then_some(last + flapping.hold_down_ms)
    }
}

proptest! {
    #![proptest_config(cases(250))]

    /// Whatever happens in between, clocks that are set included, who was seen to fall so often is down for so long.
    #[test]
    fn who_falls_too_often_stays_down(
        judgement in judgement(),
        steps in prop::collection::vec(step(), 1..160),
        limit in 1..4u32,
        hold_down_ms in (10 * MINUTE)..(2 * HOUR),
    ) {
        let flapping = Flapping { limit, window_ms: 3 * HOUR, hold_down_ms };
        let mut world = World::new(judgement);
        world.story.policy.pools[0].flapping = flapping;
        let mut seen = Seen::default();
        for step in steps {
            if step.is_a_quarantine() {
                continue;
            }
            let released = step.is_a_release();
            world.happen(step);
            if released {
                seen = Seen::default();
            }
            let (level, _) = world.check()?;
            let until = seen.look(level, world.story.now, flapping);
            let free = until.is_none_or(|until| world.story.now.0 >= until);
            prop_assert!(free || level == Untrusted, "{level} before {until:?}: {}", world.story.verdict().reason);
        }
    }
}
