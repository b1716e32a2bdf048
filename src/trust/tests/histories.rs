//! Random histories against the oracle, and what must hold whatever happens.

use proptest::prelude::*;

use super::oracle::Oracle;
use super::*;

const CHECKS: [&str; 2] = ["a", "b"];

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A run of a check begins now and its answer is on the way.
    Ask {
        check: usize,
        status: Status,
        verifier_lag: i64,
        skew: i64,
        filler: bool,
    },
    /// One of the messages on the way, or one that came before, arrives.
    Deliver(usize),
    Wait(i64),
    Reboot,
    Revise(usize),
    Enable(usize, bool),
    Require(usize, bool),
    Quarantine,
    Release,
    Override(i64),
    /// With its tombstone, found once or twice.
    Reregister(usize),
}

impl Step {
    pub(super) fn is_a_quarantine(&self) -> bool {
        matches!(self, Self::Quarantine)
    }

    pub(super) fn is_a_release(&self) -> bool {
        matches!(self, Self::Release)
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        6 => Just(Status::Pass), 2 => Just(Status::Fail), 1 => Just(Status::Error), 1 => Just(Status::Timeout)
    ];
    let lag = prop_oneof![4 => Just(0), 1 => 0..8 * MINUTE];
    let skew = prop_oneof![20 => Just(0), 1 => Just(29 * SECOND), 1 => Just(45 * SECOND)];
    prop_oneof![
        12 => (0..2usize, status, lag, skew, prop::bool::weighted(0.15)).prop_map(
            |(check, status, verifier_lag, skew, filler)| Step::Ask { check, status, verifier_lag, skew, filler }
        ),
        20 => any::<usize>().prop_map(Step::Deliver),
        6 => (1..6 * MINUTE).prop_map(Step::Wait),
        1 => (10 * MINUTE..40 * MINUTE).prop_map(Step::Wait),
        1 => (-30 * MINUTE..0).prop_map(Step::Wait),
        1 => Just(Step::Reboot),
        1 => (0..2usize).prop_map(Step::Revise),
        1 => (0..2usize, any::<bool>()).prop_map(|(check, on)| Step::Enable(check, on)),
        1 => (0..2usize, any::<bool>()).prop_map(|(check, on)| Step::Require(check, on)),
        1 => Just(Step::Quarantine),
        1 => Just(Step::Release),
        1 => (1..80 * 60 * MINUTE).prop_map(Step::Override),
        1 => (1..3usize).prop_map(Step::Reregister),
    ]
}

pub(super) struct World {
    pub(super) story: Story,
    oracle: Oracle,
    boot: u32,
    runs: i64,
    /// Everything ever sent; any of it may arrive at any time, again and again.
    sent: Vec<(&'static str, Observation)>,
}

impl World {
    /// In a pool where nobody flaps: the oracle does not know of that.
    pub(super) fn new(judgement: Judgement) -> Self {
        let checks = CHECKS.map(|name| CheckPolicy { judgement, ttl_ms: 20 * MINUTE, ..check(name) });
        let mut story = Story::of(checks.into());
        story.policy.pools[0].flapping.limit = 0;
        Self { story, oracle: Oracle::default(), boot: 0, runs: 0, sent: Vec::new() }
    }

    fn ask(&mut self, check: usize, status: Status, verifier_lag: i64, skew: i64, filler: bool) {
        self.runs += 1;
        let name = CHECKS[check];
        let mut seen = self.story.seen(name, self.runs, status);
        seen.result.verified_at = Some(Timestamp(self.story.now.0 - verifier_lag + skew));
        seen.result.boot = Some(format!("boot {}", self.boot));
        self.sent.push((name, seen));
        if filler {
            self.sent.push((name, self.story.filler(name, self.runs)));
        }
        // Now and then another attempt says something else.
        if status == Status::Error {
            let mut again = self.story.seen(name, self.runs, Status::Pass);
            again.result.boot = Some(format!("boot {}", self.boot));
            self.sent.push((name, again));
        }
    }

    fn deliver(&mut self, name: &'static str, seen: &Observation) {
        self.story.take(name, seen);
        self.oracle.arrives(&self.story.policy, name, seen, self.story.now);
    }

    /// The rules' level, which is never above the oracle's.
    pub(super) fn check(&mut self) -> Result<(Level, Level), TestCaseError> {
        let alone = self.story.unsettled().level;
        let verdict = self.story.verdict();
        let limit = self.oracle.level(&self.story.policy, self.story.now);
        prop_assert!(verdict.level <= limit, "{} but at most {limit}: {}", verdict.level, verdict.reason);
        prop_assert!(alone <= limit.max(Level::Unknown), "unsettled {alone} but at most {limit}");
        if verdict.level == Level::Trusted {
            prop_assert!(verdict.expires_at > self.story.now && verdict.next_change.is_some());
        } else {
            prop_assert_eq!(verdict.expires_at, Timestamp(0));
        }
        self.time_alone_raises_nobody(&verdict)?;
        Ok((verdict.level, limit))
    }

    fn time_alone_raises_nobody(&self, verdict: &Verdict) -> Result<(), TestCaseError> {
        let mut later = Story { node: self.story.node.clone(), policy: self.story.policy.clone(), now: self.story.now };
        let mut before = verdict.clone();
        for wait in [1, MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 100 * 60 * MINUTE] {
            later.wait(wait);
            let after = later.verdict();
            let towards_unknown = after.level == before.level || after.level == Level::Unknown;
            prop_assert!(towards_unknown, "{} became {} by time alone", before.level, after.level);
            if after.level != before.level || after.overridden != before.overridden {
                let announced = before.next_change.is_some_and(|at| at <= later.now);
                prop_assert!(announced, "{} became {} unannounced", before.level, after.level);
            } else if let Some(at) = before.next_change {
                prop_assert!(at > later.now, "announced for {at}, but nothing changed: {}", after.reason);
            }
            before = after;
        }
        Ok(())
    }

    pub(super) fn happen(&mut self, step: Step) {
        let now = self.story.now;
        match step {
            Step::Ask { check, status, verifier_lag, skew, filler } => {
                self.ask(check, status, verifier_lag, skew, filler);
            }
            Step::Deliver(which) if !self.sent.is_empty() => {
                // Recent ones more often than ancient ones.
                let back = which % self.sent.len().min(if which % 4 == 0 { usize::MAX } else { 4 });
                let (name, seen) = self.sent[self.sent.len() - 1 - back].clone();
                self.deliver(name, &seen);
            }
            Step::Deliver(_) => {}
            Step::Wait(ms) => drop(self.story.wait(ms).now),
            Step::Reboot => self.boot += 1,
            Step::Revise(check) => {
                self.story.check_mut(CHECKS[check]).revision += 1;
                self.story.check_mut(CHECKS[1 - check]).revision += 1;
                self.oracle.new_definition();
            }
            Step::Enable(check, on) => self.story.check_mut(CHECKS[check]).enabled = on,
            Step::Require(check, on) => {
                // Required in no pool at all: its results count for nobody, but are remembered.
                let pools = on.then(|| (pool_name("default"), Requirement::Required));
                self.story.check_mut(CHECKS[check]).pools = pools.into_iter().collect();
            }
            Step::Quarantine => {
                self.story.node.quarantine("ann", "odd", now);
                self.oracle.quarantine();
            }
            Step::Release => {
                self.story.node.release(None, now);
                self.oracle.release(now);
            }
            Step::Override(lasts) => {
                let until = Timestamp(now.0 + lasts);
                let rules = self.story.rules();
                let granted =
                    self.story.node.grant_override(&rules, &pool_name("default"), "ann", "why", None, (now, until));
                if granted.is_ok() {
                    assert!(lasts <= 72 * 60 * MINUTE);
                    self.oracle.grant(until);
                }
            }
            Step::Reregister(copies) => {
                let tombstones = vec![self.story.node.tombstone(); copies];
                self.story.node = NodeTrust::registered_again("uuid-2", &tombstones, now);
            }
        }
    }
}

pub(super) fn judgement() -> impl Strategy<Value = Judgement> {
    (1..4u32, 1..4u32, prop_oneof![Just(0), Just(3 * MINUTE), Just(10 * MINUTE)])
        .prop_map(|(fail_after, recover_after, hold_down_ms)| Judgement { fail_after, recover_after, hold_down_ms })
}

/// So many cases, or as many as `PROPTEST_CASES` asks for.
pub(super) fn cases(usual: u32) -> ProptestConfig {
    let default = ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig { cases: usual, ..default },
    }
}

proptest! {
    #![proptest_config(cases(250))]

    /// Duplicates, reorders, delays, replays, reboots, policy changes, releases, deletions: the level is never above what
    /// the oracle allows, distrust included, and time alone raises nobody.
    #[test]
    fn no_history_raises_a_node_above_what_the_rules_told_naively_allow(
        judgement in judgement(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(judgement);
        for step in steps {
            world.happen(step);
            world.check()?;
        }
    }

    /// In order and without disturbance the rules say exactly what the oracle says: they are not merely strict.
    #[test]
    fn undisturbed_the_rules_say_exactly_what_they_mean(
        judgement in judgement(),
        runs in prop::collection::vec((0..2usize, 0..4usize, 1..8 * MINUTE), 1..80),
    ) {
        let mut world = World::new(judgement);
        for (check, status, wait) in runs {
            world.story.wait(wait);
            let status = [Status::Pass, Status::Pass, Status::Fail, Status::Error][status];
            world.runs += 1;
            let seen = world.story.seen(CHECKS[check], world.runs, status);
            world.deliver(CHECKS[check], &seen);
            let (level, limit) = world.check()?;
            prop_assert_eq!(level, limit);
        }
    }

    /// Whatever the order and however often the same results arrive, the node ends no higher than by delivery in order
    /// of those that counted. The one thing order may forgive is what the design says: a failure that arrives after
    /// a later run's pass. Histories in which that happened are compared without those failures.
    #[test]
    fn disorder_never_ends_higher_than_order(
        judgement in judgement(),
        runs in prop::collection::vec((0..4usize, any::<bool>()), 1..14),
        disorder in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let mut sender = World::new(judgement);
        for (status, filler) in runs {
            sender.story.wait(2 * MINUTE);
            let status = [Status::Pass, Status::Pass, Status::Fail, Status::Error][status];
            sender.ask(0, status, 0, 0, filler);
        }
        let now = sender.story.now;
        // The order of arrival: what disorder picks (again and again), then the rest as sent.
        let mut arrivals: Vec<usize> = disorder.iter().map(|index| index.index(sender.sent.len())).collect();
        arrivals.extend(0..sender.sent.len());
        let mut disordered = World::new(judgement);
        disordered.story.now = now;
        let mut forgiven = Vec::new();
        for index in &arrivals {
            let (name, seen) = sender.sent[*index].clone();
            if disordered.story.take(name, &seen).note == Note::Superseded {
                forgiven.push(seen.order);
            }
        }
        let mut ordered = World::new(judgement);
        ordered.story.now = now;
        let mut in_order = sender.sent.clone();
        in_order.sort_by_key(|(_, seen)| seen.order);
        for (name, seen) in in_order {
            if !(forgiven.contains(&seen.order) && seen.result.status == Status::Fail) {
                ordered.story.take(name, &seen);
            }
        }
        // Only check `a` ran, so only it is required here.
        for story in [&mut disordered.story, &mut ordered.story] {
            story.policy.checks.truncate(1);
        }
        let (high, low) = (ordered.story.verdict(), disordered.story.verdict());
        prop_assert!(low.level <= high.level, "{} above {}: {} / {}", low.level, high.level, low.reason, high.reason);
        prop_assert!(low.expires_at <= high.expires_at);
    }
}
