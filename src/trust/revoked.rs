//! What is left of a node's memory when a key that vouched for parts of it is revoked. It never raises anybody: passes and
//! overrides go, distrust stays, and distrust that ended by what is void now is back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{CheckName, PoolName};
use crate::protocol::RunOrder;
use crate::security::{KeyId, Revocations, Vouch};

use super::fold::close;
use super::node::{NodeTrust, Quarantine};
use super::standing::{Distrust, Standing};
use super::state::{CheckState, Closed, ClosedRun, Pass};

/// Most keys of Checks remembered per check; there are one or two at a time.
const MAX_TICKET_KEYS: usize = 16;
/// Most releases remembered per node.
const MAX_RELEASES: usize = 8;

/// Distrust that passes have ended, kept because one of them may turn out to count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The distrust.
    pub distrust: Distrust,
    /// When it ended.
    pub at: Timestamp,
    /// How many passes it took.
    pub needed: u32,
    /// Who reported the passes there were.
    pub passes: Vec<Option<Vouch>>,
}

/// What an administrator released a node from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<Vouch>,
    /// The quarantine it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// The distrust it ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distrust: BTreeMap<PoolName, BTreeMap<CheckName, Distrust>>,
    /// The falls it had forgotten.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub falls: BTreeMap<PoolName, Vec<Timestamp>>,
}

/// What a revocation took back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Voided {
    /// In words, for the record.
    pub what: Vec<String>,
    /// The keys that had vouched for it, where that was noted.
    pub keys: BTreeSet<KeyId>,
}

impl Voided {
    /// Whether nothing was taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.what.is_empty()
    }

    fn note(&mut self, what: String, vouches: impl IntoIterator<Item = Option<Vouch>>) {
        self.what.push(what);
        self.keys.extend(vouches.into_iter().flatten().map(|vouch| vouch.key));
    }
}

/// Notes that something was taken in under a ticket by `key`.
pub(super) fn note_ticket(tickets: &mut BTreeMap<KeyId, Timestamp>, key: KeyId, at: Timestamp) {
    let known = tickets.entry(key).or_insert(at);
    *known = (*known).max(at);
    if tickets.len() > MAX_TICKET_KEYS
        && let Some(oldest) = tickets.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key)
    {
        tickets.remove(&oldest);
    }
}

impl NodeTrust {
    /// Whether revoked keys vouched for anything here. Cheap, so that all nodes can be asked.
    #[must_use]
    pub fn leans_on(&self, revoked: &Revocations) -> bool {
        let void = |vouch: &Option<Vouch>| revoked.voids(vouch.as_ref());
        let by_checks = self.checks.values().any(|state| {
            state.tickets.iter().any(|(key, at)| revoked.void(key, *at)) || state.passes.iter().any(|p| void(&p.vouch))
        });
        let by_standings = self.standings.values().any(|standing| {
            standing.overriding.as_ref().is_some_and(|over| void(&over.vouch))
                || standing.ended.values().any(|ended| ended.passes.iter().any(void))
        });
        let by_acts = self.maintenance.as_ref().is_some_and(|maintenance| void(&maintenance.vouch))
            || self.releases.iter().any(|release| void(&release.vouch));
        !revoked.is_empty() && (by_checks || by_standings || by_acts)
    }

    /// Takes back what revoked keys vouched for. [`NodeTrust::review`] afterwards; doing it again changes nothing.
    pub fn void(&mut self, revoked: &Revocations) -> Voided {
        let mut voided = Voided::default();
        if !self.leans_on(revoked) {
            return voided;
        }
        for (check, state) in &mut self.checks {
            let void = |key: &KeyId, at: &Timestamp| revoked.void(key, *at).then_some(Vouch { key: *key, at: *at });
            let tickets: Vec<Vouch> = state.tickets.iter().filter_map(|(key, at)| void(key, at)).collect();
            if let Some(since) = tickets.iter().filter_map(|ticket| revoked.since(&ticket.key)).min() {
                voided.note(format!("what check {check} found by its tickets"), tickets.into_iter().map(Some));
                state.begin_anew();
                state.tickets.retain(|key, at| !revoked.void(key, *at));
                self.facts.boots.forget(check.as_str());
                for standing in self.standings.values_mut() {
                    standing.begin_anew(check, since);
                }
                let released = self.releases.iter_mut().flat_map(|release| release.distrust.values_mut());
                for distrust in released.filter_map(|distrusts| distrusts.get_mut(check)) {
                    distrust.last_failure = RunOrder::default();
                }
            }
            let passes = state.void_passes(revoked);
            if let Some(newest) = passes.last().map(|pass| pass.order) {
                voided
                    .note(format!("passes of check {check} up to run {newest}"), passes.iter().map(|pass| pass.vouch));
            }
            let ended = self.standings.iter_mut().filter(|(_, standing)| standing.ended.contains_key(check));
            for (pool, standing) in ended {
                if standing.bring_back(check, revoked, !passes.is_empty()) {
                    voided.note(format!("the end of distrust by check {check} in pool {pool}"), None);
                }
            }
        }
        for (pool, standing) in &mut self.standings {
            let void = standing.overriding.as_ref().is_some_and(|over| revoked.voids(over.vouch.as_ref()));
            if void && let Some(over) = standing.overriding.take() {
                voided.note(format!("the override by {} in pool {pool}", over.owner), [over.vouch]);
            }
        }
        let void = self.maintenance.as_ref().is_some_and(|maintenance| revoked.voids(maintenance.vouch.as_ref()));
        if void && let Some(maintenance) = self.maintenance.take() {
            voided.note(format!("the maintenance by {}", maintenance.owner), [maintenance.vouch]);
        }
        self.void_releases(revoked, &mut voided);
        voided
    }

    /// Notes what a release is about to end.
    pub(super) fn remember_release(&mut self, vouch: Option<Vouch>) {
        let standings = self.standings.iter().filter(|(_, standing)| !standing.distrust.is_empty());
        let distrust = standings.map(|(pool, standing)| (pool.clone(), standing.distrust.clone())).collect();
        let standings = self.standings.iter().filter(|(_, standing)| !standing.falls.is_empty());
        let falls = standings.map(|(pool, standing)| (pool.clone(), standing.falls.clone())).collect();
        self.releases.push(Release { vouch, quarantine: self.quarantine.clone(), distrust, falls });
        self.bound_releases();
    }

    /// Takes over the releases of the registration before.
    pub(super) fn inherit_releases(&mut self, releases: &[Release]) {
        self.releases
            .extend(releases.iter().filter(|release| !self.releases.contains(release)).cloned().collect::<Vec<_>>());
        self.bound_releases();
    }

    fn bound_releases(&mut self) {
        let surplus = self.releases.len().saturating_sub(MAX_RELEASES);
        self.releases.drain(..surplus);
    }

    /// Brings back what void releases ended, back to the last one that holds.
    fn void_releases(&mut self, revoked: &Revocations, voided: &mut Voided) {
        let holds = |release: &Release| !revoked.voids(release.vouch.as_ref());
        let void = self.releases.split_off(self.releases.iter().rposition(holds).map_or(0, |last| last + 1));
        // Void ones before it were followed by a word that holds.
        self.releases.retain(holds);
        for release in void {
            voided.note("a release".to_owned(), [release.vouch]);
            self.quarantine = self.quarantine.take().or(release.quarantine);
            for (pool, falls) in release.falls {
                self.standings.entry(pool).or_default().inherit_falls(&falls);
            }
            for (pool, distrusts) in release.distrust {
                let standing = self.standings.entry(pool).or_default();
                for (check, distrust) in distrusts {
                    standing.distrust_again(check, distrust);
                }
            }
        }
    }
}

impl CheckState {
    /// Forgets everything whose order may have been made up.
    fn begin_anew(&mut self) {
        *self = Self {
            check_id: std::mem::take(&mut self.check_id),
            revision: self.revision,
            generation: self.generation,
            conflicts: self.conflicts,
            tickets: std::mem::take(&mut self.tickets),
            ..Self::default()
        };
    }

    /// Takes back the passes revoked keys reported, as if they had never come; their runs are over.
    fn void_passes(&mut self, revoked: &Revocations) -> Vec<Pass> {
        let (void, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.passes).into_iter().partition(|pass| revoked.voids(pass.vouch.as_ref()));
        self.passes = kept;
        for pass in &void {
            close(self, ClosedRun { order: pass.order, how: Closed::LatePass, conflicted: pass.conflicted });
        }
        let of_a_voided_run = |order: RunOrder| void.iter().any(|pass| pass.order == order);
        if self.shown.as_ref().is_some_and(|shown| of_a_voided_run(shown.order)) {
            self.shown = None;
        }
        self.bound_closed();
        void
    }
}

impl Standing {
    /// Distrust by `check` stays, or is back if it ended since `since`, and waits for runs that begin after it.
    fn begin_anew(&mut self, check: &CheckName, since: Timestamp) {
        self.forgiven.remove(check);
        if self.ended.get(check).is_some_and(|ended| ended.at >= since)
            && let Some(ended) = self.ended.remove(check)
        {
            self.distrust_again(check.clone(), ended.distrust);
        }
        if let Some(distrust) = self.distrust.get_mut(check) {
            distrust.last_failure = RunOrder::default();
        }
        if let Some(spent) = self.spent.get_mut(check) {
            spent.run = None;
        }
    }

    /// Distrust that void passes helped to end is back; true if so.
    fn bring_back(&mut self, check: &CheckName, revoked: &Revocations, passes_went: bool) -> bool {
        let Some(ended) = self.ended.get_mut(check) else { return false };
        ended.passes.retain(|vouch| !revoked.voids(vouch.as_ref()));
        if ended.passes.len() >= usize::try_from(ended.needed).unwrap_or(usize::MAX) {
            if passes_went {
                // It did end. The passes that say so may have been forgotten in favour of void ones, so that is noted.
                let up_to = ended.distrust.last_failure;
                let forgiven = self.forgiven.entry(check.clone()).or_insert(up_to);
                *forgiven = (*forgiven).max(up_to);
            }
            return false;
        }
        if let Some(ended) = self.ended.remove(check) {
            self.distrust_again(check.clone(), ended.distrust);
        }
        true
    }

    fn distrust_again(&mut self, check: CheckName, again: Distrust) {
        let distrust = self.distrust.entry(check).or_insert_with(|| again.clone());
        distrust.since = distrust.since.min(again.since);
        distrust.last_failure = distrust.last_failure.max(again.last_failure);
        distrust.failed_at = distrust.failed_at.max(again.failed_at);
        self.overriding = None;
    }
}
