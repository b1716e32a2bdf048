//! The rules told once more, naively: everything that ever arrived is kept, and every question is answered by looking
//! through all of it. It shares no code with the rules. It is lenient where the rules are bounded in memory or choose the
//! stricter reading, so it is an upper limit: the rules may say less than it, never more.

use super::*;

/// A result as it arrived, with what the policy said then.
#[derive(Debug, Clone)]
struct Arrival {
    seen: Observation,
    /// `Error` where the result came from the future.
    status: Status,
    /// Nothing it shows is believed, its boot included.
    future: bool,
    /// A pass that was late or of an earlier boot when it came.
    void: bool,
    /// Which definition it was made under, counted by changes.
    definition: usize,
    /// The latest it can have happened.
    happened_at: i64,
}

#[derive(Debug, Clone)]
struct Bad {
    since_run: RunOrder,
    failed_at: i64,
}

#[derive(Debug, Default)]
struct OneCheck {
    arrivals: Vec<Arrival>,
    bad: Option<Bad>,
    forgiven: Option<RunOrder>,
    /// Passes that have been seen too old, or were made before a hold-down ended, by run.
    dead: std::collections::BTreeSet<RunOrder>,
    /// The end of the last hold-down that is over: what was made before counts for nothing, whenever it comes.
    held: i64,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Outcome {
    Good,
    Bad,
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    checks: BTreeMap<CheckName, OneCheck>,
    definition: usize,
    released_at: Option<i64>,
    quarantined: bool,
    granted: Option<i64>,
}

impl OneCheck {
    fn outcome(&self, run: RunOrder) -> Outcome {
        let of_run: Vec<&Arrival> = self.arrivals.iter().filter(|a| a.seen.order == run).collect();
        let by_adapter = |a: &&&Arrival| a.seen.reporter == Reporter::Adapter;
        if of_run.iter().any(|a| a.status == Status::Fail) {
            Outcome::Bad
        } else if of_run.iter().filter(by_adapter).any(|a| a.status != Status::Pass)
            || of_run.first().is_none_or(|a| a.status != Status::Pass || a.void)
        {
            Outcome::Nothing
        } else {
            Outcome::Good
        }
    }

    fn runs(&self, wanted: Outcome) -> Vec<RunOrder> {
        let mut runs: Vec<RunOrder> = self.arrivals.iter().map(|a| a.seen.order).collect();
        runs.sort();
        runs.dedup();
        runs.into_iter().filter(|run| self.outcome(*run) == wanted).collect()
    }

    /// Failing runs that no later run has passed.
    fn row(&self) -> Vec<RunOrder> {
        let good = self.runs(Outcome::Good);
        let bad = self.runs(Outcome::Bad);
        bad.into_iter().filter(|bad| good.iter().all(|good| good < bad)).collect()
    }

    fn of(&self, run: RunOrder) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(move |a| a.seen.order == run)
    }

    fn newest_boot(&self) -> Option<&String> {
        let shown = self.arrivals.iter().filter(|a| a.seen.reporter == Reporter::Adapter && !a.future);
        shown.filter(|a| a.seen.result.boot.is_some()).max_by_key(|a| a.seen.order)?.seen.result.boot.as_ref()
    }

    fn rebooted(&self) -> bool {
        let mut boots: Vec<_> = self.arrivals.iter().filter_map(|a| a.seen.result.boot.as_ref()).collect();
        boots.sort();
        boots.dedup();
        boots.len() > 1
    }
}

fn evidence(seen: &Observation) -> i64 {
    let mut times = vec![seen.issued_at.0, seen.result.requested_at.0];
    times.extend(seen.result.verified_at.map(|t| t.0));
    times.into_iter().min().unwrap()
}

impl Oracle {
    pub(super) fn new_definition(&mut self) {
        self.definition += 1;
    }

    pub(super) fn arrives(&mut self, policy: &Policy, name: &str, seen: &Observation, now: Timestamp) {
        let check = policy.checks.iter().find(|c| c.name.as_str() == name).unwrap();
        if seen.revision != check.revision {
            return;
        }
        let definition = self.definition;
        let one = self.checks.entry(check.name.clone()).or_default();
        let future = [Some(seen.issued_at), Some(seen.result.requested_at), seen.result.verified_at]
            .into_iter()
            .flatten()
            .any(|t| t.0 > now.0 + 30_000);
        let status = if future { Status::Error } else { seen.result.status };
        let newer = |runs: Vec<RunOrder>| runs.into_iter().any(|run| run > seen.order);
        // After a reboot the rules may have refused the newer pass, so it proves nothing here.
        let late = newer(one.runs(Outcome::Bad)) || (!one.rebooted() && newer(one.runs(Outcome::Good)));
        let void = status == Status::Pass && late;
        let happened_at = seen.result.finished_at.0.min(now.0).max(evidence(seen));
        one.arrivals.push(Arrival { seen: seen.clone(), status, future, void, definition, happened_at });
        self.distrust(policy);
    }

    /// Failures become distrust.
    fn distrust(&mut self, policy: &Policy) {
        for check in &policy.checks {
            let Some(one) = self.checks.get_mut(&check.name) else { continue };
            let row = one.row();
            let Some(last) = row.last().copied() else { continue };
            let failed_at = one.of(last).filter(|a| a.status == Status::Fail);
            let failed_at = failed_at.map(|a| a.happened_at).max();
            let current = one.of(last).any(|a| a.status == Status::Fail && a.definition == self.definition);
            let failed_at = failed_at.unwrap();
            if let Some(bad) = &mut one.bad {
                if last > bad.since_run {
                    *bad = Bad { since_run: last, failed_at };
                }
            } else if row.len() >= check.judgement.fail_after as usize
                && current
                && !check.pools.is_empty()
                && one.forgiven.is_none_or(|f| last > f)
            {
                one.bad = Some(Bad { since_run: last, failed_at });
                self.granted = None;
            }
        }
    }

    /// The clock was stepped back behind failures: they happened now.
    fn mend_clock(&mut self, now: Timestamp) {
        for one in self.checks.values_mut() {
            let times = one.arrivals.iter_mut().map(|a| &mut a.happened_at);
            for at in times.chain(one.bad.iter_mut().map(|bad| &mut bad.failed_at)).filter(|at| **at > now.0 + 30_000) {
                *at = now.0;
            }
            if one.held > now.0 + 30_000 {
                one.held = 0;
                one.dead.extend(one.runs(Outcome::Good));
            }
        }
    }

    /// The highest level the node may have; time takes effect here.
    pub(super) fn level(&mut self, policy: &Policy, now: Timestamp) -> Level {
        self.distrust(policy);
        self.mend_clock(now);
        let definition = self.definition;
        if self.released_at.is_some_and(|at| at > now.0 + 30_000) {
            // The clock was stepped back behind the release: what came so far is forgotten, what comes now is not.
            self.released_at = Some(now.0);
            for one in self.checks.values_mut() {
                one.dead.extend(one.runs(Outcome::Good));
            }
        }
        for check in &policy.checks {
            let Some(one) = self.checks.get_mut(&check.name) else { continue };
            let good = one.runs(Outcome::Good);
            let when = |one: &OneCheck, run| one.of(run).map(|a| evidence(&a.seen)).min().unwrap();
            for run in &good {
                let age = now.0 - when(one, *run);
                if age >= check.ttl_ms || age < -30_000 {
                    one.dead.insert(*run);
                }
            }
            let Some(bad) = one.bad.clone() else { continue };
            let after = good.iter().filter(|run| {
                let began = one.of(**run).map(|a| a.seen.issued_at.0).min().unwrap();
                let current = one.of(**run).all(|a| a.definition == definition || a.status != Status::Pass);
                **run > bad.since_run && began > bad.failed_at && current
            });
            let ends = bad.failed_at + check.judgement.hold_down_ms;
            if after.count() >= check.judgement.recover_after as usize && now.0 >= ends {
                one.bad = None;
                let early: Vec<RunOrder> = good.iter().copied().filter(|run| when(one, *run) < ends).collect();
                one.dead.extend(early);
                one.held = one.held.max(ends);
            }
        }
        if self.quarantined || self.checks.values().any(|one| one.bad.is_some()) {
            self.granted = None;
            return Level::Untrusted;
        }
        if let Some(to) = self.granted {
            if now.0 < to && to - now.0 <= 72 * 60 * MINUTE {
                return Level::Trusted;
            }
            self.granted = None;
        }
        let passed = |check: &CheckPolicy| {
            let Some(one) = self.checks.get(&check.name) else { return false };
            one.runs(Outcome::Good).into_iter().any(|run| {
                let age_of = |a: &Arrival| now.0 - evidence(&a.seen);
                !one.dead.contains(&run)
                    && one.of(run).all(|a| {
                        a.definition == definition
                            && evidence(&a.seen) >= one.held
                            && age_of(a) < check.ttl_ms
                            && self.released_at.is_none_or(|at| evidence(&a.seen) > at)
                            && (a.seen.reporter == Reporter::Checks || a.seen.result.boot.as_ref() == one.newest_boot())
                    })
            })
        };
        let required: Vec<&CheckPolicy> = policy.checks.iter().filter(|c| !c.pools.is_empty()).collect();
        if !required.is_empty() && required.iter().all(|check| check.enabled && passed(check)) {
            Level::Trusted
        } else {
            Level::Unknown
        }
    }

    pub(super) fn quarantine(&mut self) {
        self.quarantined = true;
        self.granted = None;
    }

    pub(super) fn release(&mut self, now: Timestamp) {
        self.quarantined = false;
        self.granted = None;
        self.released_at = self.released_at.max(Some(now.0));
        for one in self.checks.values_mut() {
            one.bad = None;
            one.forgiven = one.runs(Outcome::Bad).last().copied();
        }
    }

    pub(super) fn grant(&mut self, to: Timestamp) {
        self.granted = Some(to.0);
    }
}
