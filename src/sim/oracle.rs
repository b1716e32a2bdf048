//! What must hold, told from the rules and from what is seen from outside: what the provider answered, what Nodes acknowledged, what
//! administrators were told, and the pool file. It shares no code with the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::cluster::BEGINNING;
use super::provider::{Scripted, Verdict};
use super::reader::{Taken, View};
use super::{boottime, note};
use crate::protocol::Status;

/// The period of every check.
pub(super) const PERIOD: Duration = Duration::from_secs(30);
/// How long a pass counts.
pub(super) const TTL: Duration = Duration::from_secs(90);
/// See [`crate::protocol::Judgement`].
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(20);
/// See [`crate::protocol::PoolPolicy`].
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(60);
/// How far clocks may differ unpunished.
const SKEW: Duration = Duration::from_secs(30);

/// A check as administrators made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckFact {
    pub rule: i64,
    pub exists: bool,
    pub enabled: bool,
    pub required: bool,
    /// When it was last changed, and whether the change is not yet answered.
    pub changed: Duration,
    pub changing: bool,
}

/// A node as administrators made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeFact {
    pub registered: bool,
    pub quarantined: bool,
    pub was_quarantined: bool,
    pub overridden: bool,
    pub released: Option<Duration>,
    pub changed: Duration,
    pub changing: bool,
}

/// A result that Nodes acknowledged.
#[derive(Debug, Clone)]
struct Stored {
    check: String,
    node: String,
    status: Status,
    at: Duration,
    rule: i64,
    /// When the node was asked.
    asked: Duration,
    /// It came before its run was over.
    in_time: bool,
}

#[derive(Default)]
pub(super) struct Facts {
    pub checks: BTreeMap<String, CheckFact>,
    pub nodes: BTreeMap<String, NodeFact>,
    pub rebooted: BTreeMap<String, Duration>,
    stored: Vec<Stored>,
    /// When something last went wrong, or is wrong now.
    pub trouble: Duration,
    pub clocks_step: bool,
    /// Every moment that explains a further run.
    pub events: Vec<Duration>,
    last: Option<(i64, i64)>,
    pub broken: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Oracle {
    facts: Arc<Mutex<Facts>>,
    provider: Scripted,
}

fn now() -> Duration {
    boottime().unwrap_or_default()
}

impl Oracle {
    pub(super) fn new(provider: Scripted) -> Self {
        Self { facts: Arc::default(), provider }
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes has acknowledged results: they are stored.
    pub(super) fn acknowledged(&self, message: &Map<String, Value>) {
        let args = message.get("args").cloned().unwrap_or_default();
        let ticket = args["ticket"]["body"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let check = ticket.as_ref().and_then(|ticket| ticket["check"].as_str()).unwrap_or_default().to_owned();
        let deadline = ticket.as_ref().and_then(|ticket| ticket["deadline"].as_i64()).unwrap_or_default();
        let in_time = BEGINNING.plus(now()).0 < deadline;
        for result in args["results"].as_array().into_iter().flatten() {
            let node = result["node"].as_str().unwrap_or_default().to_owned();
            let Ok(status) = serde_json::from_value::<Status>(result["status"].clone()) else { continue };
            let truth = self.provider.truth();
            // Only what the provider said; what thieves say is none.
            let told = |verdict: &&Verdict| verdict.node == node && verdict.check == check && verdict.status == status;
            let Some(verdict) = truth.verdicts.iter().rev().find(told) else { continue };
            if verdict.self_reported {
                continue;
            }
            let (rule, asked) = (verdict.rule, verdict.asked);
            note(&format!("nodes acknowledges {status} of {node} by {check}, asked at {}", asked.as_secs()));
            let stored = Stored { check: check.clone(), node, status, at: now(), rule, asked, in_time };
            self.facts().stored.push(stored);
        }
    }

    fn breaks(&self, facts: &mut Facts, rule: u8, text: &str) {
        let said = format!("RULE {rule} BROKEN: {text}");
        if !facts.broken.contains(&said) {
            note(&said);
            facts.broken.push(said);
        }
    }

    /// Judges what the filter sees now.
    pub(super) fn look(&self, view: &View) {
        let mut guard = self.facts();
        let facts = &mut *guard;
        let version = (view.epoch, view.version);
        if facts.last.is_some_and(|last| last > version) {
            let text = format!("the pool file went back from {:?} to {version:?}", facts.last);
            self.breaks(facts, 4, &text);
        }
        facts.last = Some(version);
        let t = now();
        let grace = match t.saturating_sub(facts.trouble) > Duration::from_secs(15) {
            true => Duration::from_secs(5),
            false => MAX_SILENCE + Duration::from_secs(15),
        };
        let truth = self.provider.truth();
        let (verdicts, asked) = (&truth.verdicts, &truth.asked);
        for (node, taken) in &view.levels {
            let Some(fact) = facts.nodes.get(node).cloned() else {
                self.breaks(facts, 3, &format!("{node} was never registered"));
                continue;
            };
            let steady = !fact.changing && t > fact.changed + grace;
            if steady && !fact.registered && !view.silent {
                self.breaks(facts, 3, &format!("{node} was deleted and is in the pool"));
            }
            let fails = verdicts.iter().any(|verdict| verdict.node == *node && verdict.status == Status::Fail);
            match taken {
                Taken::Trusted => {
                    if steady && fact.quarantined {
                        self.breaks(facts, 1, &format!("{node} is in quarantine and trusted"));
                    }
                    for why in untrustworthy(facts, verdicts, node, t, grace) {
                        self.breaks(facts, 1, &why);
                    }
                }
                Taken::Untrusted if !fails && !fact.was_quarantined && !fact.changing => {
                    self.breaks(facts, 2, &format!("{node} is distrusted, and never failed"));
                }
                Taken::Unknown
                    if !view.silent
                        && steady
                        && fact == (NodeFact { registered: true, changed: fact.changed, ..NodeFact::default() })
                        && !(fails || facts.clocks_step)
                        && grace < PERIOD
                        && is_proved(facts, node, t, grace) =>
                {
                    self.breaks(facts, 2, &format!("{node} is unknown although its passes count"));
                }
                Taken::Override if steady && !fact.overridden => {
                    self.breaks(facts, 1, &format!("{node} is shown by an override that nobody gave"));
                }
                _ => {}
            }
        }
        self.storms(facts, asked, t);
    }

    /// Nothing runs more often than it has reason to.
    fn storms(&self, facts: &mut Facts, asked: &[(String, String, Duration)], t: Duration) {
        let lately = asked.iter().rev().take_while(|(_, _, at)| *at + PERIOD > t);
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (check, node, _) in lately {
            *counts.entry((check, node)).or_default() += 1;
        }
        let reasons = facts.events.iter().filter(|at| **at + PERIOD * 2 > t).count();
        for ((check, node), count) in counts {
            if count > 4 + 2 * reasons {
                self.breaks(facts, 5, &format!("{node} was asked {count} times within a period by {check}"));
            }
        }
    }

    /// Rule 5: in quiet times no period is skipped.
    pub(super) fn skips(&self, since: Duration) {
        let mut guard = self.facts();
        let facts = &mut *guard;
        let asked = self.provider.truth().asked.clone();
        let enabled: Vec<String> =
            facts.checks.iter().filter(|(_, fact)| fact.exists && fact.enabled).map(|(name, _)| name.clone()).collect();
        let registered: Vec<String> =
            facts.nodes.iter().filter(|(_, fact)| fact.registered).map(|(name, _)| name.clone()).collect();
        for check in &enabled {
            for node in &registered {
                let mut last = since;
                let times = asked.iter().filter(|(c, n, at)| c == check && n == node && *at >= since);
                for at in times.map(|(_, _, at)| *at).chain([now()]) {
                    if at.saturating_sub(last) > PERIOD * 2 + PERIOD / 2 {
                        let text = format!("{node} was not asked by {check} from {last:?} to {at:?}");
                        self.breaks(facts, 5, &text);
                    }
                    last = at;
                }
            }
        }
    }

    pub(super) fn broken(&self, rule: u8, text: &str) {
        let mut guard = self.facts();
        self.breaks(&mut guard, rule, text);
    }
}

/// Why a node that is trusted must not be.
fn untrustworthy(facts: &Facts, verdicts: &[Verdict], node: &str, t: Duration, grace: Duration) -> Vec<String> {
    let mut why = Vec::new();
    let lasts =
        TTL + if facts.clocks_step { SKEW + MAX_SILENCE + Duration::from_secs(5) } else { Duration::from_secs(1) };
    let required: Vec<(&String, &CheckFact)> =
        facts.checks.iter().filter(|(_, fact)| fact.exists && fact.required && fact.enabled).collect();
    let moving = facts.checks.values().any(|fact| fact.changing || t <= fact.changed + grace);
    if required.is_empty() && !moving {
        why.push(format!("{node} is trusted, and nothing is required"));
    }
    for (check, fact) in required {
        if fact.changing || t <= fact.changed + grace {
            continue;
        }
        let passed = verdicts.iter().any(|verdict| {
            verdict.node == node
                && verdict.check == *check
                && verdict.status == Status::Pass
                && !verdict.self_reported
                && verdict.rule == fact.rule
                && verdict.asked + lasts >= t
        });
        if !passed {
            why.push(format!("{node} is trusted without a pass of {check} that counts"));
        }
        let released = facts.nodes.get(node).and_then(|fact| fact.released).unwrap_or_default();
        let of_it = |stored: &&Stored| stored.node == *node && stored.check == *check && stored.rule == fact.rule;
        let failed = facts.stored.iter().filter(of_it).filter(|stored| stored.status == Status::Fail);
        let failed =
            failed.filter(|stored| stored.at > fact.changed && stored.at + grace < t && stored.asked > released);
        let Some(last) = failed.max_by_key(|stored| stored.asked) else { continue };
        let after = |verdict: &&Verdict| {
            verdict.node == node
                && verdict.check == *check
                && verdict.status == Status::Pass
                && verdict.asked > last.asked
        };
        match verdicts.iter().filter(after).map(|verdict| verdict.asked).max() {
            None => why.push(format!("{node} is trusted although {check} failed last")),
            Some(asked) if asked < last.asked + HOLD_DOWN && !facts.clocks_step && grace < HOLD_DOWN => {
                why.push(format!("{node} is trusted although the hold-down of {check} is not over"));
            }
            Some(_) => {}
        }
    }
    why
}

/// Whether passes that Nodes has stored make the node trusted beyond doubt.
fn is_proved(facts: &Facts, node: &str, t: Duration, grace: Duration) -> bool {
    let booted = facts.rebooted.get(node).copied().unwrap_or_default();
    let mut required = facts.checks.iter().filter(|(_, fact)| fact.exists && fact.required).peekable();
    required.peek().is_some()
        && required.all(|(check, fact)| {
            fact.enabled
                && !fact.changing
                && t > fact.changed + grace
                && facts.stored.iter().any(|stored| {
                    stored.node == node
                        && stored.check == *check
                        && stored.status == Status::Pass
                        && stored.in_time
                        && stored.rule == fact.rule
                        && stored.asked > fact.changed
                        && stored.asked > booted + PERIOD
                        && stored.at + grace < t
                        && stored.asked + TTL > t + Duration::from_secs(2)
                })
        })
}
