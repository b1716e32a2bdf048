//! One node with everything trust depends on, and what can happen to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{CheckName, PoolName};
use crate::protocol::{Level, PoolPolicy};
use crate::security::Vouch;
use crate::text::display_safe;

use super::MAX_SKEW;
use super::boot::{BootSeen, Boots};
use super::fold::{Folded, Note, fold};
use super::judge::{Verdict, judge};
use super::observation::{Observation, Reporter};
use super::revoked::{Release, note_ticket};
use super::rules::{Rule, Rules};
use super::standing::{Override, OverrideError, Standing};
use super::state::{CheckState, Pass};

/// What the rules must know of the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The identity of this registration: anything that a machine of the same name does not share.
    pub identity: String,
    /// The boots seen.
    #[serde(default, skip_serializing_if = "Boots::is_nothing")]
    pub boots: Boots,
    /// Passes whose evidence is not newer are forgotten: the node was released or registered again then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_up_to: Option<Timestamp>,
}

impl NodeFacts {
    /// Whether `pass` was made after the last release or registration.
    #[must_use]
    pub fn remembers(&self, pass: &Pass) -> bool {
        self.forget_up_to.is_none_or(|at| pass.evidence_at > at)
    }
}

/// An administrator keeps the node out of every pool until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Who.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Actions are muted for a while. It never makes a node trusted: no rule here reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Who.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<Vouch>,
}

impl Maintenance {
    /// Whether actions are muted now.
    #[must_use]
    pub fn mutes(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// One node. Serialisable; the parts may as well be stored as rows of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeTrust {
    /// The node itself.
    pub facts: NodeFacts,
    /// Set until it is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Muted actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// What administrators have released the node from, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<Release>,
    /// What is remembered of each check. Boxed, as below: a map has room for eleven values from its first on, and most nodes have few.
    pub checks: BTreeMap<CheckName, Box<CheckState>>,
    /// What sticks in each pool, deleted pools included.
    pub standings: BTreeMap<PoolName, Box<Standing>>,
}

/// What a result did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// What the result meant.
    pub folded: Folded,
    /// What its boot meant, where it showed one.
    pub boot: Option<BootSeen>,
}

/// What a review found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The verdict in every pool of the policy.
    pub verdicts: BTreeMap<PoolName, Box<Verdict>>,
    /// Whether the node changed and has to be stored before anything is published.
    pub changed: bool,
}

impl Review {
    /// When to review next, if nothing else happens.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        self.verdicts.values().filter_map(|verdict| verdict.next_change).min()
    }
}

impl NodeTrust {
    /// A node registered for the first time.
    #[must_use]
    pub fn new(identity: &str) -> Self {
        Self { facts: NodeFacts { identity: identity.to_owned(), ..NodeFacts::default() }, ..Self::default() }
    }

    /// Takes in one result of `check`: boot, memory of the check, distrust. [`NodeTrust::review`] afterwards.
    pub fn record(&mut self, rules: &Rules, check: &CheckName, seen: &Observation, now: Timestamp) -> Recorded {
        let Some(rule) = rules.check(check) else {
            return Recorded { folded: Folded::not_counted(Note::NoSuchCheck), boot: None };
        };
        let boot = self.observe_boot(check, seen, now);
        let state = self.checks.entry(check.clone()).or_default();
        if let Some(Vouch { key, at }) = seen.ticket_by {
            note_ticket(&mut state.tickets, key, at);
        }
        let folded = fold(state, &self.facts.boots, &rule.check, seen, now, MAX_SKEW);
        for name in rule.check.pools.keys() {
            if let Some(pool) = rules.pools().get(name) {
                self.standings.entry(name.clone()).or_default().absorb(pool, &rule.check, state, now);
            }
        }
        // A pool that no longer names the check may still distrust the node because of it.
        for (name, standing) in &mut self.standings {
            if standing.distrust.contains_key(check)
                && let Some(pool) = rules.pools().get(name)
            {
                standing.absorb(pool, &rule.check, state, now);
            }
        }
        Recorded { folded, boot }
    }

    fn observe_boot(&mut self, check: &CheckName, seen: &Observation, now: Timestamp) -> Option<BootSeen> {
        let boot = seen.result.boot.as_deref()?;
        if seen.reporter != Reporter::Adapter || seen.from_the_future(now, MAX_SKEW) {
            return None;
        }
        let (from, to) = (seen.evidence_at(), seen.happened_at(now));
        self.facts.boots.mend_clock(now.plus(MAX_SKEW), now);
        Some(self.facts.boots.observe(check.as_str(), boot, Some(seen.order), from, to))
    }

    /// The node's agent shows this boot id now.
    pub fn agent_boot(&mut self, boot: &str, now: Timestamp) -> BootSeen {
        self.facts.boots.mend_clock(now.plus(MAX_SKEW), now);
        self.facts.boots.observe(Boots::AGENT, boot, None, now, now)
    }

    /// Lets time and policy take effect and judges every pool of `rules`. `targeting`: [`Rules::targeting`] this node.
    pub fn review(&mut self, rules: &Rules, targeting: &[CheckName], now: Timestamp) -> Review {
        let mut changed = self.mend_clock(now);
        let mut verdicts = BTreeMap::new();
        for (name, pool) in rules.pools() {
            let mut standing = self.standings.remove(name).unwrap_or_default();
            changed |= self.settle(&mut standing, pool, rules, targeting, now);
            let targeting = targeting.iter().filter_map(|check| rules.check(check));
            let verdict = judge(pool, rules, targeting, self, &standing, now);
            let facts = &self.facts;
            let lost =
                |over: &Override| verdict.level == Level::Untrusted || !over.holds(&facts.identity, &facts.boots, now);
            if standing.overriding.as_ref().is_some_and(lost) {
                standing.overriding = None;
                changed = true;
            }
            self.standings.insert(name.clone(), standing);
            verdicts.insert(name.clone(), Box::new(verdict));
        }
        Review { verdicts, changed }
    }

    fn settle(
        &self,
        standing: &mut Standing,
        pool: &PoolPolicy,
        rules: &Rules,
        targeting: &[CheckName],
        now: Timestamp,
    ) -> bool {
        let mut changed = false;
        let known = |rule: &'_ Rule| self.checks.get(&rule.check.name).cloned().unwrap_or_default();
        for rule in targeting.iter().filter_map(|check| rules.check(check)) {
            if let Some(state) = self.checks.get(&rule.check.name) {
                changed |= standing.absorb(pool, &rule.check, state, now);
                changed |= standing.spend_outdated(&rule.check, state, now, MAX_SKEW);
            }
        }
        let distrusting: Vec<CheckName> = standing.distrust.keys().cloned().collect();
        for rule in distrusting.iter().filter_map(|check| rules.check(check)) {
            let Some(end) = standing.settle(pool, &rule.check, &known(rule), &self.facts, now) else { continue };
            changed = true;
            if !(rule.required_in(&pool.name) && targeting.contains(&rule.check.name)) {
                // Its own spent passes hold nobody back, so time alone would make the node trusted by the other checks.
                for name in self.checks.keys() {
                    standing.spend_early(name, end);
                }
            }
        }
        changed
    }

    /// Keeps the node out of every pool until [`NodeTrust::release`].
    pub fn quarantine(&mut self, owner: &str, reason: &str, now: Timestamp) {
        self.quarantine = Some(Quarantine { owner: display_safe(owner), reason: display_safe(reason), since: now });
        for standing in self.standings.values_mut() {
            standing.overriding = None;
        }
    }

    /// An administrator releases the node in every pool: it is `unknown` until it passes again, never `trusted` at once.
    /// `vouch`: who signed it.
    pub fn release(&mut self, vouch: Option<Vouch>, now: Timestamp) {
        self.remember_release(vouch);
        self.quarantine = None;
        self.forget_passes(now);
        for standing in self.standings.values_mut() {
            standing.release(&self.checks);
        }
    }

    /// The machine, or the service on it, was made anew: no pass and no override of before holds for it. Distrust does.
    pub fn made_anew(&mut self, now: Timestamp) {
        self.forget_passes(now);
        for standing in self.standings.values_mut() {
            standing.overriding = None;
        }
    }

    /// No pass counts whose evidence is not newer.
    fn forget_passes(&mut self, now: Timestamp) {
        self.facts.forget_up_to = self.facts.forget_up_to.max(Some(now));
    }

    /// Overrides `unknown` in one pool, from `now` until the second time.
    ///
    /// # Errors
    /// [`OverrideError`] when it is too long, unexplained, for no pool, or the node is untrusted.
    pub fn grant_override(
        &mut self,
        rules: &Rules,
        pool: &PoolName,
        owner: &str,
        reason: &str,
        vouch: Option<Vouch>,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<(), OverrideError> {
        if !rules.pools().contains_key(pool) {
            return Err(OverrideError::NoSuchPool(pool.clone()));
        }
        if self.quarantine.is_some() {
            return Err(OverrideError::Untrusted);
        }
        self.standings.entry(pool.clone()).or_default().grant(Override {
            owner: owner.to_owned(),
            reason: reason.to_owned(),
            granted_at: now,
            until,
            identity: self.facts.identity.clone(),
            boot: self.facts.boots.count(),
            vouch,
        })
    }

    /// Ends the override in `pool`; true if there was one.
    pub fn revoke_override(&mut self, pool: &PoolName) -> bool {
        self.standings.get_mut(pool).is_some_and(|standing| standing.overriding.take().is_some())
    }
}
