//! What is known from outside: what the provider answered, what Nodes acknowledged and published, which policies Checks signed, what
//! administrators were told, and the pool file. What must follow from it is in `rules`. Neither shares code with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::cluster::BEGINNING;
use super::provider::{Scripted, Verdict};
use super::reader::View;
use super::{boottime, note};
use crate::protocol::Status;

/// The period of every check.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// How long a pass counts.
pub(super) const TTL: Duration = Duration::from_secs(30);
/// See [`crate::protocol::Judgement`].
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(13);
/// See [`crate::protocol::PoolPolicy`].
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(12);
/// See [`crate::protocol::Flapping`].
pub(super) const FLAP_WINDOW: Duration = Duration::from_secs(60);
/// Likewise.
pub(super) const FLAP_HOLD_DOWN: Duration = Duration::from_secs(40);
/// What was said before a clock was set is dated by guessing for so long.
const UNDATED: Duration = Duration::from_secs(60);

/// A check as administrators made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckFact {
    /// Which of those of its name.
    pub made: i64,
    pub rule: i64,
    pub exists: bool,
    pub enabled: bool,
    pub required: bool,
    pub fail_after: usize,
    pub recover_after: usize,
    /// A change is not yet answered.
    pub changing: bool,
}

/// A node as administrators made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeFact {
    pub registered: bool,
    pub quarantined: bool,
    pub was_quarantined: bool,
    /// The newest boot that was stored when the override was given.
    pub overridden: Option<u64>,
    pub released: Option<Duration>,
    /// When it was last asked for to be registered.
    pub registered_at: Duration,
    /// Older evidence is forgotten: it was registered or released after this.
    pub forgets: Duration,
    /// When the last change was answered.
    pub changed: Duration,
    pub changing: bool,
}

/// A result that Nodes acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub check: String,
    pub node: String,
    pub status: Status,
    pub at: Duration,
    pub made: i64,
    pub rule: i64,
    /// When the node was asked.
    pub asked: Duration,
    /// How old that is: the ticket was issued before, by what the clock of Checks said then.
    pub evidence: Duration,
    /// It came before its run was over.
    pub in_time: bool,
    pub order: (i64, i64),
    /// What it showed, where anybody was asked.
    pub boot: Option<u64>,
    /// It is only what the node says of itself.
    pub own_word: bool,
    /// The node was registered, and no clock was wrong.
    pub is_plain: bool,
}

/// A check in a signed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub made: i64,
    pub rule: i64,
    pub enabled: bool,
    pub required: bool,
}

/// What Nodes said of one version of the pools.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// What was stored before this is in it.
    pub as_of: Duration,
    /// The policy it was judged by, or the last one before.
    pub policy: i64,
    pub is_exact: bool,
}

#[derive(Default)]
pub(super) struct Facts {
    pub checks: BTreeMap<String, CheckFact>,
    pub nodes: BTreeMap<String, NodeFact>,
    pub rebooted: BTreeMap<String, Duration>,
    pub stored: Vec<Stored>,
    /// By number.
    pub policies: BTreeMap<i64, BTreeMap<String, Definition>>,
    /// By epoch and version.
    pub words: BTreeMap<(i64, i64), Word>,
    /// When Nodes said that it judges by which policy.
    pub judged_by: Vec<(Duration, i64)>,
    /// The policy of the last heartbeat of each epoch.
    pub leads: BTreeMap<i64, i64>,
    /// When the pool cache last heard of Nodes.
    pub heard: Duration,
    /// When Nodes was last down, paused or cut off, so that it may have stored what it did not acknowledge.
    pub unsteady: Duration,
    /// How wrong clocks are, and since when.
    pub offsets: BTreeMap<String, (i64, Duration)>,
    pub clocks_step: bool,
    /// When a clock was last wrong.
    pub clock_wrong: Duration,
    /// Every moment that explains a further run.
    pub events: Vec<Duration>,
    pub last: Option<(i64, i64)>,
    pub flaps: super::flaps::Flaps,
    /// Every head of the record that was ever told.
    pub heads: BTreeSet<String>,
    pub broken: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Oracle {
    facts: Arc<Mutex<Facts>>,
    pub(super) provider: Scripted,
}

pub(super) fn now() -> Duration {
    boottime().unwrap_or_default()
}

/// What somebody has signed, from the arguments of a message.
fn signed(args: &Value, name: &str) -> Option<Value> {
    serde_json::from_str(args[name]["body"].as_str()?).ok()
}

impl Facts {
    /// The word on what the file shows.
    pub(super) fn word(&self, view: &View) -> Option<Word> {
        self.words.get(&(view.epoch, view.version)).copied()
    }

    /// Whether `stored` was made under the definition that Nodes required when it came.
    pub(super) fn was_required(&self, stored: &Stored) -> bool {
        let split = self.judged_by.partition_point(|(at, _)| *at <= stored.at);
        let before = split.checked_sub(1).and_then(|at| self.judged_by.get(at));
        let ours = |by: Option<&(Duration, i64)>| {
            let definition = by.and_then(|(_, policy)| self.policies.get(policy)?.get(&stored.check));
            definition.is_some_and(|it| it.required && (it.made, it.rule) == (stored.made, stored.rule))
        };
        ours(before) && ours(self.judged_by.get(split))
    }

    /// Whether every policy that Nodes can have judged by since `from` requires `check`, up to what `word` says.
    pub(super) fn is_required_since(&self, check: &str, from: Duration, word: Word) -> bool {
        let requires = |policy: i64| {
            let definition = self.policies.get(&policy).and_then(|policy| policy.get(check));
            definition.is_some_and(|it| it.required)
        };
        let first = self.judged_by.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        let told = self.judged_by.iter().skip(first).take_while(|(at, _)| *at <= word.as_of);
        let untold = self.policies.range(word.policy..).map(|(policy, _)| *policy).filter(|_| !word.is_exact);
        told.map(|(_, policy)| *policy).chain([word.policy]).chain(untold).all(requires)
    }
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
        let Some(ticket) = signed(&args, "ticket") else { return };
        let check = ticket["check"].as_str().unwrap_or_default().to_owned();
        let order = (ticket["epoch"].as_i64().unwrap_or(0), ticket["run"].as_i64().unwrap_or(0));
        let in_time = BEGINNING.plus(now()).0 < ticket["deadline"].as_i64().unwrap_or_default();
        // Under a ticket that was issued by a clock far ahead nothing can be judged, even once that was set right.
        let issued_at = ticket["issued_at"].as_i64().unwrap_or(i64::MAX);
        let is_dated_well = issued_at <= BEGINNING.plus(now()).0;
        let issued = Duration::from_millis(u64::try_from(issued_at - BEGINNING.0).unwrap_or(0));
        for result in args["results"].as_array().into_iter().flatten() {
            let node = result["node"].as_str().unwrap_or_default().to_owned();
            let Ok(status) = serde_json::from_value::<Status>(result["status"].clone()) else { continue };
            let truth = self.provider.truth();
            // Only what the provider said, and what Checks fills in; what thieves say is none.
            let told = |verdict: &&Verdict| {
                verdict.node == node
                    && verdict.check == check
                    && verdict.status == status
                    && result["requested_at"] == verdict.requested_at
            };
            let verdict = truth.verdicts.iter().rev().find(told).cloned();
            let mut facts = self.facts();
            let plain = facts.nodes.get(&node).is_some_and(|fact| fact.registered && !fact.changing);
            let (made, rule, asked, boot) = match &verdict {
                _ if result["reason"] == "a lie" => continue,
                Some(verdict) => (verdict.made, verdict.rule, verdict.asked, Some(verdict.boot)),
                None if status == Status::Timeout || status == Status::Error => (0, 0, now(), None),
                None => continue,
            };
            note(&format!("nodes acknowledges {status} of {node} by {check}, asked at {}", asked.as_secs()));
            let is_plain =
                plain && is_dated_well && (asked > facts.clock_wrong + Duration::from_secs(1) || !facts.clocks_step);
            let (check, at) = (check.clone(), now());
            let own_word = verdict.is_some_and(|verdict| verdict.self_reported);
            let evidence = asked.min(issued);
            let stored = Stored {
                check,
                node,
                status,
                at,
                made,
                rule,
                asked,
                evidence,
                in_time,
                order,
                boot,
                own_word,
                is_plain,
            };
            facts.stored.push(stored);
        }
    }

    /// A process begins to send something.
    pub(super) fn said(&self, who: &str, method: &str, args: &Map<String, Value>) {
        let Some(body) = signed(&Value::Object(args.clone()), "document") else { return };
        match method {
            "policy_publish" => self.policy(&body),
            "pool_heartbeat" | "pool_delta" => self.published(who, method == "pool_heartbeat", &body),
            _ => {}
        }
    }

    fn policy(&self, policy: &Value) {
        let mut definitions = BTreeMap::new();
        for check in policy["checks"].as_array().into_iter().flatten() {
            let number = |of: &Value| of.as_i64().unwrap_or(0);
            // Every definition has a hold-down of its own, which tells it from others of its name.
            let made = number(&check["judgement"]["hold_down_ms"]) - i64::try_from(HOLD_DOWN.as_millis()).unwrap_or(0);
            let definition = Definition {
                made,
                rule: number(&check["revision"]),
                enabled: check["enabled"] == true,
                required: check["pools"]["default"] == "required",
            };
            definitions.insert(check["name"].as_str().unwrap_or_default().to_owned(), definition);
        }
        let number = policy["number"].as_i64().unwrap_or(0);
        let mut facts = self.facts();
        let known = facts.policies.entry(number).or_insert_with(|| definitions.clone());
        if *known != definitions {
            drop(facts);
            self.broken(4, &format!("policy {number} says one thing and another"));
        }
    }

    fn published(&self, who: &str, is_heartbeat: bool, body: &Value) {
        let number = |name: &str| body[name].as_i64().unwrap_or(0);
        let mut facts = self.facts();
        let (offset, since) = facts.offsets.get(who).copied().unwrap_or_default();
        // It may have waited since it was made; that is told by the clock of who made it, unless that was set meanwhile.
        let dated = u64::try_from(number("sent_at") - BEGINNING.0 - offset).unwrap_or(0);
        let made = match since.is_zero() || now() > since + UNDATED {
            true => Duration::from_millis(dated).min(now()),
            false => now().saturating_sub(UNDATED),
        };
        let last = facts.judged_by.last().map_or(0, |(_, policy)| *policy);
        let policy = if is_heartbeat { number("policy_number") } else { last };
        let known = facts.leads.get(&number("epoch")).copied().unwrap_or(policy);
        if is_heartbeat && known > policy {
            let text = format!("{who} judges by policy {policy} after policy {known}");
            self.breaks(&mut facts, 3, &text);
        }
        if is_heartbeat {
            facts.heads.insert(body["record_head"].as_str().unwrap_or_default().to_owned());
            facts.leads.insert(number("epoch"), policy);
        }
        let fresh = Word { as_of: made, policy, is_exact: is_heartbeat };
        let word = facts.words.entry((number("epoch"), number("version"))).or_insert(fresh);
        if word.as_of <= made && (is_heartbeat || !word.is_exact) {
            *word = fresh;
        }
        if is_heartbeat && facts.judged_by.last().is_none_or(|(at, _)| *at <= made) {
            facts.judged_by.push((made, policy));
        }
    }

    /// The pool cache has received something of Nodes.
    pub(super) fn heard(&self) {
        self.facts().heard = now();
    }

    /// A clock was set; it is wrong by `offset` ms now.
    pub(super) fn clock(&self, who: &str, offset: i64) {
        let mut facts = self.facts();
        facts.clocks_step |= offset != 0;
        facts.offsets.insert(who.to_owned(), (offset, now()));
    }

    pub(super) fn breaks(&self, facts: &mut Facts, rule: u8, text: &str) {
        let said = format!("RULE {rule} BROKEN: {text}");
        if !facts.broken.contains(&said) {
            note(&said);
            facts.broken.push(said);
        }
    }

    pub(super) fn broken(&self, rule: u8, text: &str) {
        let mut guard = self.facts();
        self.breaks(&mut guard, rule, text);
    }
}
