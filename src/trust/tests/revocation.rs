//! A key that vouched turns out to be stolen: what it vouched for goes, and nobody is raised by it.

use proptest::prelude::*;

use super::*;
use crate::security::{KeyId, Revocations, Vouch};

fn key(name: char) -> KeyId {
    name.to_string().repeat(32).parse().unwrap()
}

const GOOD: char = 'a';
const STOLEN: char = 'b';
const CHECKS: char = 'c';
const STOLEN_CHECKS: char = 'd';

fn stolen(names: &[char], since: i64) -> Revocations {
    names.iter().map(|name| (key(*name), Timestamp(since))).collect()
}

impl Story {
    fn vouch(&self, name: char) -> Option<Vouch> {
        Some(Vouch { key: key(name), at: self.now })
    }

    /// Check `a` says `status` in run `run`, as the holder of one key reports under the ticket of another.
    fn told(&mut self, run: i64, status: Status, reporter: char, ticket: char) -> Folded {
        let seen = self.seen("a", run, status).vouched(self.vouch(reporter), self.vouch(ticket));
        self.take("a", &seen)
    }

    fn revoke(&mut self, names: &[char], since: i64) -> &mut Self {
        self.honour(&stolen(names, since))
    }

    fn honour(&mut self, revoked: &Revocations) -> &mut Self {
        let leant = self.node.leans_on(revoked);
        assert!(leant || self.node.clone().void(revoked).is_empty());
        let _ = self.node.void(revoked);
        assert!(self.node.clone().void(revoked).is_empty(), "a second time there is nothing left to take");
        self
    }
}

fn quick(hold_down_ms: i64) -> Story {
    Story::judged_by(Judgement { fail_after: 1, recover_after: 1, hold_down_ms })
}

#[test]
fn trust_on_a_stolen_adapter_keys_word_is_gone_and_what_it_said_before_the_theft_stands() {
    let mut story = quick(0);
    story.told(1, Status::Pass, STOLEN, CHECKS);
    let theft = story.wait(MINUTE).now.0;
    story.told(2, Status::Pass, STOLEN, CHECKS);
    story.is(Level::Trusted);
    story.revoke(&[STOLEN], theft).is(Level::Trusted);
    assert_eq!(story.verdict().expires_at, Timestamp(START + 30 * MINUTE), "only the pass from before counts");
    story.revoke(&[STOLEN], START).is(Level::Unknown);
    assert_eq!(story.told(2, Status::Pass, GOOD, CHECKS).note, Note::Duplicate, "the run is over");
    story.wait(1).told(3, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
}

#[test]
fn distrust_that_only_a_stolen_keys_passes_ended_is_back() {
    let mut story = quick(MINUTE);
    story.told(1, Status::Fail, GOOD, CHECKS);
    let theft = story.wait(1).now.0;
    story.told(2, Status::Pass, STOLEN, CHECKS);
    story.wait(2 * MINUTE).is(Level::Unknown).told(3, Status::Pass, STOLEN, CHECKS);
    story.is(Level::Trusted);
    story.revoke(&[STOLEN], theft).is(Level::Untrusted);
    story.wait(MINUTE).told(4, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
}

#[test]
fn distrust_is_back_when_one_of_the_passes_it_took_to_end_it_is_void() {
    let mut story = Story::judged_by(Judgement { fail_after: 1, recover_after: 2, hold_down_ms: 0 });
    story.told(1, Status::Fail, GOOD, CHECKS);
    story.wait(1).told(2, Status::Pass, GOOD, CHECKS);
    story.is(Level::Untrusted);
    let theft = story.wait(1).now.0;
    story.told(3, Status::Pass, STOLEN, CHECKS);
    story.is(Level::Trusted);
    story.revoke(&[STOLEN], theft).is(Level::Untrusted);
    story.wait(1).told(4, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
}

#[test]
fn distrust_that_good_passes_ended_does_not_come_back_when_later_ones_are_void() {
    let mut story = quick(0);
    story.told(1, Status::Fail, GOOD, CHECKS);
    story.wait(MINUTE).told(2, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
    let theft = story.wait(MINUTE).now.0;
    for run in 3..9 {
        // So many that the good pass is forgotten in their favour.
        story.wait(1).told(run, Status::Pass, STOLEN, CHECKS);
        story.is(Level::Trusted);
    }
    story.revoke(&[STOLEN], theft).is(Level::Unknown);
    story.wait(1).told(9, Status::Fail, GOOD, CHECKS);
    story.is(Level::Untrusted);
}

#[test]
fn a_failure_a_thief_reported_stays_until_the_node_passes() {
    let mut story = quick(0);
    story.told(1, Status::Pass, GOOD, CHECKS);
    let theft = story.wait(1).now.0;
    story.told(2, Status::Fail, STOLEN, CHECKS);
    story.is(Level::Untrusted);
    story.revoke(&[STOLEN], theft).is(Level::Untrusted);
    story.wait(1).told(3, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
}

#[test]
fn a_stolen_key_of_checks_leaves_no_run_number_behind_that_good_runs_could_not_reach() {
    let mut story = quick(0);
    story.told(1, Status::Pass, GOOD, CHECKS);
    let theft = story.wait(1).now.0;
    for (run, status) in [(900, Status::Fail), (910, Status::Error), (920, Status::Timeout), (930, Status::Error)] {
        story.told(run, status, GOOD, STOLEN_CHECKS);
    }
    for run in 940..950 {
        story.told(run, Status::Error, GOOD, STOLEN_CHECKS);
    }
    story.is(Level::Untrusted);
    for by in [GOOD, STOLEN] {
        // Whether the release holds or not, and whichever key is revoked first.
        let mut story = Story { node: story.node.clone(), policy: story.policy.clone(), now: story.now };
        story.node.release(story.vouch(by), story.now);
        story.wait(1).told(960, Status::Fail, GOOD, STOLEN_CHECKS);
        story.is(Level::Untrusted);
        story.revoke(&[STOLEN_CHECKS], theft).revoke(&[STOLEN], theft).is(Level::Untrusted);
        story.wait(1).told(2, Status::Pass, GOOD, CHECKS);
        story.is(Level::Trusted);
        story.wait(1).told(3, Status::Fail, GOOD, CHECKS);
        story.is(Level::Untrusted);
    }
}

#[test]
fn a_boot_seen_under_a_forged_ticket_does_not_hide_the_true_one() {
    let mut story = quick(0);
    let theft = story.now.0;
    let mut seen = story.seen("a", 900, Status::Pass).vouched(story.vouch(GOOD), story.vouch(STOLEN_CHECKS));
    seen.result.boot = Some("forged".into());
    story.take("a", &seen);
    story.revoke(&[STOLEN_CHECKS], theft).is(Level::Unknown);
    story.wait(1);
    let mut seen = story.seen("a", 2, Status::Pass).vouched(story.vouch(GOOD), story.vouch(CHECKS));
    seen.result.boot = Some("true".into());
    story.take("a", &seen);
    story.is(Level::Trusted);
}

#[test]
fn an_override_by_a_stolen_administrators_key_ends_and_a_quarantine_stays() {
    let mut story = quick(0);
    let rules = story.rules();
    let (theft, until) = (story.now, Timestamp(START + MINUTE));
    let vouch = story.vouch(STOLEN);
    story.node.grant_override(&rules, &pool_name("default"), "ann", "why", vouch, (theft, until)).unwrap();
    story.node.maintenance = Some(Maintenance { owner: "ann".into(), reason: "r".into(), until, vouch });
    story.is(Level::Trusted).revoke(&[STOLEN], theft.0).is(Level::Unknown);
    assert_eq!(story.node.maintenance, None);
    story.node.quarantine("ann", "why", story.now);
    story.revoke(&[STOLEN], theft.0).is(Level::Untrusted);
}

#[test]
fn what_a_stolen_administrators_key_released_is_held_again() {
    let mut story = quick(0);
    story.node.quarantine("bob", "rootkit", story.now);
    let theft = story.wait(1).now.0;
    story.node.release(story.vouch(STOLEN), story.now);
    story.wait(1).told(1, Status::Pass, GOOD, CHECKS);
    story.is(Level::Trusted);
    story.revoke(&[STOLEN], theft).is(Level::Untrusted);
    story.node.release(story.vouch(GOOD), story.now);
    story.is(Level::Unknown);
}

#[test]
fn a_release_by_a_good_key_after_a_void_one_stands() {
    let mut story = quick(0);
    story.node.quarantine("bob", "rootkit", story.now);
    let theft = story.now.0;
    story.node.release(story.vouch(STOLEN), story.now);
    story.node.release(story.vouch(GOOD), story.now);
    story.wait(1).told(1, Status::Pass, GOOD, CHECKS);
    story.revoke(&[STOLEN], theft).is(Level::Trusted);
}

#[test]
fn what_was_deleted_comes_back_with_what_only_a_stolen_key_had_ended() {
    let mut story = quick(0);
    story.told(1, Status::Fail, GOOD, CHECKS);
    let theft = story.wait(1).now.0;
    story.told(2, Status::Pass, STOLEN, CHECKS);
    story.is(Level::Trusted);
    let mut grave = story.node.tombstone();
    assert!(!grave.void(&stolen(&[STOLEN], theft)).is_empty());
    story.node = NodeTrust::registered_again("uuid-2", &[grave], story.now);
    story.is(Level::Untrusted);
    story.node = NodeTrust::registered_again("uuid-2", &[story.node.tombstone()], story.now);
    story.is(Level::Untrusted);
}

#[test]
fn what_nobody_is_known_to_have_vouched_for_may_have_been_the_thiefs() {
    let mut story = quick(0);
    story.run(1, Status::Pass);
    story.is(Level::Trusted).revoke(&[STOLEN], START + MINUTE).is(Level::Unknown);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Result { status: Status, reporter: char, ticket: char, jump: i64 },
    Wait(i64),
    Release(char),
    Override(char),
    Quarantine,
    Reregister,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![5 => Just(Status::Pass), 3 => Just(Status::Fail), 1 => Just(Status::Error)];
    let reporter = prop_oneof![Just(GOOD), Just(STOLEN)];
    let ticket = prop_oneof![3 => Just(CHECKS), 1 => Just(STOLEN_CHECKS)];
    prop_oneof![
        12 => (status, reporter, ticket, 0..1_000_i64)
            .prop_map(|(status, reporter, ticket, jump)| Step::Result { status, reporter, ticket, jump }),
        6 => (1..4 * MINUTE).prop_map(Step::Wait),
        1 => (8 * MINUTE..40 * MINUTE).prop_map(Step::Wait),
        1 => prop_oneof![Just(GOOD), Just(STOLEN)].prop_map(Step::Release),
        1 => prop_oneof![Just(GOOD), Just(STOLEN)].prop_map(Step::Override),
        1 => Just(Step::Quarantine),
        1 => Just(Step::Reregister),
    ]
}

/// A history, and what of it good keys alone vouch for.
struct World {
    story: Story,
    run: i64,
    /// Since when the adapter's and the Checks' key are stolen.
    since: [i64; 2],
    /// Passes that stand: number of their run, when it began.
    passes: Vec<(i64, i64)>,
    /// The newest failure anybody reported under a good ticket, unless it was forgiven by a good release.
    failure: Option<i64>,
    /// Passes from before a release or registration are forgotten.
    forgotten_to: i64,
    quarantined: bool,
    overridden_until: i64,
}

impl World {
    fn holds(&self, name: char) -> bool {
        match name {
            STOLEN => self.story.now.0 < self.since[0],
            STOLEN_CHECKS => self.story.now.0 < self.since[1],
            _ => true,
        }
    }

    fn happen(&mut self, step: Step) {
        let now = self.story.now.0;
        match step {
            Step::Result { status, reporter, ticket, jump } => {
                self.story.wait(1);
                self.run += 1;
                // A forged ticket may count runs as it likes.
                let run = if ticket == STOLEN_CHECKS { self.run + jump } else { self.run };
                self.story.told(run, status, reporter, ticket);
                match status {
                    Status::Pass if self.holds(reporter) && self.holds(ticket) => self.passes.push((run, now + 1)),
                    Status::Fail if self.holds(ticket) => self.failure = self.failure.max(Some(run)),
                    _ => {}
                }
            }
            Step::Wait(ms) => drop(self.story.wait(ms).now),
            Step::Release(name) => {
                self.story.node.release(self.story.vouch(name), self.story.now);
                self.forgotten_to = now;
                if self.holds(name) {
                    (self.failure, self.quarantined) = (None, false);
                }
            }
            Step::Override(name) => {
                let rules = self.story.rules();
                let times = (self.story.now, Timestamp(now + 5 * MINUTE));
                let vouch = self.story.vouch(name);
                let granted = self.story.node.grant_override(&rules, &pool_name("default"), "ann", "why", vouch, times);
                if granted.is_ok() {
                    self.overridden_until = if self.holds(name) { times.1.0 } else { 0 };
                }
            }
            Step::Quarantine => {
                self.story.node.quarantine("ann", "odd", self.story.now);
                self.quarantined = true;
            }
            Step::Reregister => {
                let tombstone = self.story.node.tombstone();
                self.story.node = NodeTrust::registered_again("uuid-2", &[tombstone], self.story.now);
                (self.forgotten_to, self.overridden_until) = (now, 0);
            }
        }
        let _ = self.story.verdict();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn a_revocation_raises_nobody_and_leaves_nobody_trusted_whom_only_the_thief_vouched_for(
        steps in prop::collection::vec(step(), 1..30),
        since in [0..30 * MINUTE, 0..30 * MINUTE],
        which in 1..4_u8,
        after in prop::collection::vec((any::<bool>(), 1..3 * MINUTE), 0..4),
    ) {
        let names: Vec<char> =
            [(1, STOLEN), (2, STOLEN_CHECKS)].iter().filter(|(bit, _)| which & bit != 0).map(|(_, name)| *name).collect();
        let since = since.map(|since| START + since);
        let mut world = World {
            story: quick(0), run: 0, since, passes: Vec::new(), failure: None, forgotten_to: 0, quarantined: false,
            overridden_until: 0,
        };
        for step in steps {
            world.happen(step);
        }
        let before = world.story.verdict();
        let of = |name: char| since[usize::from(name == STOLEN_CHECKS)];
        world.story.honour(&names.iter().map(|name| (key(*name), Timestamp(of(*name)))).collect());
        let verdict = world.story.verdict();
        prop_assert!(verdict.level <= before.level, "{} became {}", before.level, verdict.level);
        // Only the keys revoked are a thief's; the judgement below assumes both, so it holds for both only.
        if names.len() == 2 && verdict.level == Level::Trusted {
            let now = world.story.now.0;
            prop_assert!(!world.quarantined, "{}", verdict.reason);
            if verdict.overridden {
                prop_assert!(now < world.overridden_until, "{}", verdict.reason);
            } else {
                let stands = |(run, at): &(i64, i64)| {
                    *at > world.forgotten_to && now < at + 30 * MINUTE && world.failure.is_none_or(|failed| *run > failed)
                };
                prop_assert!(world.passes.iter().any(stands), "{}: {:?}", verdict.reason, world.passes);
            }
        }
        // Whatever was left behind, good passes after good failures are still told apart.
        for (pass, wait) in after {
            world.story.wait(wait);
            let status = if pass { Status::Pass } else { Status::Fail };
            world.run += 1;
            let run = world.run;
            world.story.told(run, status, GOOD, CHECKS);
            if !pass && names.contains(&STOLEN_CHECKS) && since[1] <= START {
                prop_assert_eq!(world.story.verdict().level, Level::Untrusted);
            }
        }
    }
}
