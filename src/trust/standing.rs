//! What sticks to a node in a pool, whatever expires, restarts, is disabled, deleted or registered again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{CheckName, PoolName};
use crate::protocol::{CheckPolicy, PoolPolicy, Requirement, RunOrder};
use crate::security::Vouch;
use crate::text::display_safe;

use super::MAX_OVERRIDE_MS;
use super::boot::Boots;
use super::node::NodeFacts;
use super::revoked::Ended;
use super::state::{CheckState, Pass};

/// Distrust because of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrust {
    /// Since when the node is distrusted.
    pub since: Timestamp,
    /// The reason given with the failure that began it, safe to show.
    pub cause: String,
    /// How many failures in a row began it.
    pub failures: u32,
    /// The run of the last failure; passes of later runs count towards recovery.
    pub last_failure: RunOrder,
    /// When the last failure happened, at the latest.
    pub failed_at: Timestamp,
}

/// An administrator's word that a node which is unknown is to be taken as trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Who gave it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When.
    pub granted_at: Timestamp,
    /// Until when it holds; at most 72 h later.
    pub until: Timestamp,
    /// The identity of the node it was given for.
    pub identity: String,
    /// The boot it was given for.
    pub boot: u32,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<Vouch>,
}

impl Override {
    /// Whether it holds now for a node of this identity and boot.
    #[must_use]
    pub fn holds(&self, identity: &str, boots: &Boots, now: Timestamp) -> bool {
        let left = self.until.0.saturating_sub(now.0);
        // A clock that was stepped back must not stretch it.
        left > 0 && left <= MAX_OVERRIDE_MS && self.identity == identity && self.boot == boots.count()
    }
}

/// Why an override is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// It would last for no time or for more than 72 h.
    #[error("an override lasts at least 1 ms and at most 72 h: choose an end within that")]
    Duration,
    /// No reason or no owner.
    #[error("an override needs an owner and a reason: say who answers for it and why")]
    Unexplained,
    /// The node is untrusted.
    #[error("the node is untrusted, and an override covers unknown only: release it first (spicectl node release)")]
    Untrusted,
    /// The policy has no such pool.
    #[error("the policy has no pool {0}: list the pools with spicectl pool list")]
    NoSuchPool(PoolName),
}

/// Which passes of a check no longer count towards trust, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Those whose evidence is not newer: seen expired, or made during the hold-down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Timestamp>,
    /// Those of runs up to here: the clock was stepped back, so that their evidence lies in the future.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunOrder>,
}

impl Spent {
    /// Whether `pass` is among them.
    #[must_use]
    pub fn covers(&self, pass: &Pass) -> bool {
        self.evidence.is_some_and(|at| pass.evidence_at <= at) || self.run.is_some_and(|run| pass.order <= run)
    }

    fn also(self, other: Self) -> Self {
        Self { evidence: self.evidence.max(other.evidence), run: self.run.max(other.run) }
    }
}

/// What sticks to one node in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Distrust, by the name of the check that caused it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub distrust: BTreeMap<CheckName, Distrust>,
    /// The newest failure an administrator's release has forgiven, per check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub forgiven: BTreeMap<CheckName, RunOrder>,
    /// Passes that no longer count, per check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spent: BTreeMap<CheckName, Spent>,
    /// The last distrust by each check that passes have ended.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ended: BTreeMap<CheckName, Ended>,
    /// When the node fell into distrust, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub falls: Vec<Timestamp>,
    /// The override, if there is one.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overriding: Option<Override>,
}

impl Standing {
    /// Whether `check` has failed often enough in a row for new distrust in `pool`.
    #[must_use]
    pub fn is_failing(&self, pool: &PoolPolicy, check: &CheckPolicy, state: &CheckState) -> bool {
        if check.pools.get(&pool.name) != Some(&Requirement::Required) {
            return false;
        }
        let mut row = state.row(pool.accept_self_report);
        let Some(last) = row.next_back() else { return false };
        let unforgiven = self.forgiven.get(&check.name).is_none_or(|forgiven| last.order > *forgiven);
        let enough = row.count() + 1 >= usize::try_from(check.judgement.fail_after.max(1)).unwrap_or(usize::MAX);
        enough && unforgiven && state.generation_of(check) == Some(last.generation)
    }

    /// Takes failures in `state` into the distrust; true where something changed. To be called after every result, so
    /// that a pass cannot hide the failure before it, and under a new policy.
    pub fn absorb(&mut self, pool: &PoolPolicy, check: &CheckPolicy, state: &CheckState, now: Timestamp) -> bool {
        let failing = self.is_failing(pool, check, state);
        let failures = u32::try_from(state.row(pool.accept_self_report).count()).unwrap_or(u32::MAX);
        let Some(last) = state.row(pool.accept_self_report).next_back() else { return false };
        let failed_at = state.row(pool.accept_self_report).map(|f| f.failed_at).max().unwrap_or(last.failed_at);
        if let Some(distrust) = self.distrust.get_mut(&check.name) {
            let before = (distrust.last_failure, distrust.failed_at);
            distrust.last_failure = distrust.last_failure.max(last.order);
            distrust.failed_at = distrust.failed_at.max(failed_at);
            return before != (distrust.last_failure, distrust.failed_at);
        }
        if failing {
            if self.distrust.is_empty() {
                self.note_fall(now);
            }
            let cause = state.failure_reason().to_owned();
            let distrust = Distrust { since: now, cause, failures, last_failure: last.order, failed_at };
            self.distrust.insert(check.name.clone(), distrust);
        }
        failing
    }

    /// The passes in `state` that count towards ending the distrust by `check`.
    #[must_use]
    pub fn recovery_passes(
        &self,
        pool: &PoolPolicy,
        check: &CheckPolicy,
        state: &CheckState,
        facts: &NodeFacts,
    ) -> u32 {
        u32::try_from(self.passes_since(pool, check, state, facts).count()).unwrap_or(u32::MAX)
    }

    fn passes_since<'a>(
        &'a self,
        pool: &'a PoolPolicy,
        check: &'a CheckPolicy,
        state: &'a CheckState,
        facts: &'a NodeFacts,
    ) -> impl Iterator<Item = &'a Pass> {
        let generation = state.generation_of(check);
        let distrust = self.distrust.get(&check.name);
        state.passes.iter().filter(move |pass| {
            distrust.is_some_and(|distrust| pass.order > distrust.last_failure && pass.issued_at > distrust.failed_at)
                && generation == Some(pass.generation)
                && pass.boot == facts.boots.count()
                && (pool.accept_self_report || !pass.own_word)
                && facts.remembers(pass)
        })
    }

    /// Whether the node has passed often enough since; the hold-down remains to be waited for.
    #[must_use]
    pub fn has_recovered(&self, pool: &PoolPolicy, check: &CheckPolicy, state: &CheckState, facts: &NodeFacts) -> bool {
        self.recovery_passes(pool, check, state, facts) >= check.judgement.recover_after.max(1)
    }

    /// Ends the distrust by `check` where passes and hold-down allow; the end of the hold-down where it ended.
    pub fn settle(
        &mut self,
        pool: &PoolPolicy,
        check: &CheckPolicy,
        state: &CheckState,
        facts: &NodeFacts,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let ends = self.hold_down_ends(pool, check, self.distrust.get(&check.name)?);
        if now < ends || !self.has_recovered(pool, check, state, facts) {
            return None;
        }
        let passes = self.passes_since(pool, check, state, facts).map(|pass| pass.vouch).collect();
        if let Some(distrust) = self.distrust.remove(&check.name) {
            let needed = check.judgement.recover_after.max(1);
            self.ended.insert(check.name.clone(), Ended { distrust, at: now, needed, passes });
        }
        self.spend_early(&check.name, ends);
        Some(ends)
    }

    /// Spends the passes of `check` whose evidence is older than `end`, that of a hold-down; those as well that are still on their way.
    pub(super) fn spend_early(&mut self, check: &CheckName, end: Timestamp) {
        self.spend(check, Spent { evidence: Some(end.minus(Duration::from_millis(1))), run: None });
    }

    /// Makes it final that passes are expired or lie in the future; true where something changed.
    pub fn spend_outdated(
        &mut self,
        check: &CheckPolicy,
        state: &CheckState,
        now: Timestamp,
        max_skew: Duration,
    ) -> bool {
        let limit = now.plus(max_skew);
        let expired = state.passes.iter().filter(|pass| expires_at(pass, check) <= now);
        let future = state.passes.iter().filter(|pass| pass.evidence_at > limit);
        let evidence = expired.map(|pass| pass.evidence_at).max();
        self.spend(&check.name, Spent { evidence, run: future.map(|pass| pass.order).max() })
    }

    pub(super) fn spend(&mut self, check: &CheckName, more: Spent) -> bool {
        let before = self.spent.get(check).copied().unwrap_or_default();
        let after = before.also(more);
        if before != after {
            self.spent.insert(check.clone(), after);
        }
        before != after
    }

    /// An administrator lets the node back to `unknown`: distrust and override end. The node forgets its passes.
    pub(super) fn release(&mut self, states: &BTreeMap<CheckName, Box<CheckState>>) {
        self.distrust.clear();
        self.falls.clear();
        self.overriding = None;
        for (name, state) in states {
            if let Some(failure) = state.last_failure() {
                self.forgiven.insert(name.clone(), failure.order);
            }
        }
    }

    /// Takes an override.
    ///
    /// # Errors
    /// [`OverrideError`] when it is too long, unexplained, or the node is distrusted.
    pub fn grant(&mut self, grant: Override) -> Result<(), OverrideError> {
        let lasts = grant.until.0.saturating_sub(grant.granted_at.0);
        if !(1..=MAX_OVERRIDE_MS).contains(&lasts) {
            return Err(OverrideError::Duration);
        }
        let (owner, reason) = (display_safe(grant.owner.trim()), display_safe(grant.reason.trim()));
        if owner.is_empty() || reason.is_empty() {
            return Err(OverrideError::Unexplained);
        }
        if !self.distrust.is_empty() {
            return Err(OverrideError::Untrusted);
        }
        self.overriding = Some(Override { owner, reason, ..grant });
        Ok(())
    }
}

/// From when on `pass` is too old.
pub(super) fn expires_at(pass: &Pass, check: &CheckPolicy) -> Timestamp {
    pass.evidence_at.plus(Duration::from_millis(u64::try_from(check.ttl_ms).unwrap_or(0)))
}
