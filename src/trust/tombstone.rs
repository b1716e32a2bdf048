//! What a deleted node leaves behind, and what a node registered again inherits from it.
//!
//! Deletion forgives nothing and trusts nobody: failures, distrust and quarantine stay. Of the passes only marks stay,
//! which never count: they say which failures had been ended, and one that is taken back lets those count again.

use crate::clock::Timestamp;
use crate::protocol::{Judgement, RunOrder};

use super::node::NodeTrust;
use super::revoked::note_ticket;
use super::standing::Standing;
use super::state::{CheckState, FORGOTTEN, Failure, Pass};

/// The most that any judgement can ask to be remembered.
const LARGEST: Judgement = Judgement { fail_after: 100, recover_after: 100, hold_down_ms: 0 };

impl NodeTrust {
    /// What stays when the node is deleted, to be kept by name and by identity.
    #[must_use]
    pub fn tombstone(&self) -> Self {
        Self {
            facts: self.facts.clone(),
            quarantine: self.quarantine.clone(),
            maintenance: None,
            releases: self.releases.clone(),
            checks: self.checks.iter().map(|(name, state)| (name.clone(), Box::new(state.tombstone()))).collect(),
            standings: self
                .standings
                .iter()
                .map(|(name, standing)| (name.clone(), Box::new(standing.inherit())))
                .collect(),
        }
    }

    /// A node registered again, with the tombstones found by its name and by its identity.
    #[must_use]
    pub fn registered_again(identity: &str, tombstones: &[Self], now: Timestamp) -> Self {
        let mut node = Self::new(identity);
        node.facts.forget_up_to = Some(now);
        for tombstone in tombstones {
            node.quarantine = node.quarantine.take().or_else(|| tombstone.quarantine.clone());
            node.inherit_releases(&tombstone.releases);
            for (name, theirs) in &tombstone.checks {
                // Whatever was stored as a tombstone, no pass in it may count.
                let theirs = theirs.tombstone();
                let state = match node.checks.remove(name) {
                    Some(mine) => mine.merge_tombstone(theirs),
                    None => theirs,
                };
                node.checks.insert(name.clone(), Box::new(state));
            }
            for (name, theirs) in &tombstone.standings {
                let inherited = theirs.inherit();
                let standing = match node.standings.remove(name) {
                    Some(mine) => mine.merge(&inherited),
                    None => inherited,
                };
                node.standings.insert(name.clone(), Box::new(standing));
            }
        }
        node
    }
}

impl CheckState {
    /// What a deleted node leaves behind: failures stand, passes are marks of what they had ended.
    #[must_use]
    pub fn tombstone(&self) -> Self {
        let newest_pass = self.passes.last().map(|pass| pass.order);
        let newest_closed = self.closed.last().map(|run| run.order);
        let mut left = Self {
            closed: Vec::new(),
            closed_up_to: self.closed_up_to.max(newest_pass).max(newest_closed),
            shown: None,
            ..self.clone()
        };
        left.forget_passes();
        left
    }

    /// Two tombstones (found by name and by identity) as one: the rows of both stand.
    ///
    /// They may tell of two machines, so a pass of the one does not end the row of the other. Where it would, its mark is
    /// dropped, and what it had ended stays ended for good.
    #[must_use]
    fn merge_tombstone(self, other: Self) -> Self {
        let rows: Vec<RunOrder> = self.row(false).chain(other.row(false)).map(|failure| failure.order).collect();
        let limit = rows.iter().min().copied();
        let own_word_limit = self.row(true).chain(other.row(true)).map(|failure| failure.order).min();

        let closed_up_to = self.closed_up_to.max(other.closed_up_to);
        let conflicts = self.conflicts.max(other.conflicts);
        let mut tickets = self.tickets.clone();
        for (key, at) in &other.tickets {
            note_ticket(&mut tickets, *key, *at);
        }
        let failed_later = if self.last_failure().map(|f| f.order) >= other.last_failure().map(|f| f.order) {
            &self.failure_reason
        } else {
            &other.failure_reason
        };
        let failure_reason = failed_later.clone();
        let (newer, older) =
            if self.newest_counted() >= other.newest_counted() { (self, other) } else { (other, self) };
        let same = newer.check_id == older.check_id && newer.revision == older.revision;
        let (theirs, ours) = (older.generation, newer.generation);
        let mut merged = Self { closed_up_to, conflicts, failure_reason, tickets, ..newer };
        for failure in older.failures {
            let generation = if same && failure.generation == theirs { ours } else { FORGOTTEN };
            merged.inherit_failure(Failure { generation, ..failure });
        }
        for pass in older.passes {
            merged.inherit_mark(pass);
        }
        let failures = &merged.failures;
        merged.passes.retain(|pass| {
            let limit = if pass.own_word { own_word_limit } else { limit };
            limit.is_none_or(|limit| pass.order < limit) && failures.iter().all(|failure| failure.order != pass.order)
        });
        let ended = merged.newest_pass(false).map(|pass| pass.order);
        merged.failures.retain(|failure| rows.contains(&failure.order) || Some(failure.order) < ended);
        merged.trim(&LARGEST);
        merged
    }

    fn inherit_failure(&mut self, failure: Failure) {
        if let Some(known) = self.failures.iter_mut().find(|known| known.order == failure.order) {
            known.failed_at = known.failed_at.max(failure.failed_at);
            known.evidence_at = known.evidence_at.min(failure.evidence_at);
            known.conflicted |= failure.conflicted;
            return;
        }
        let at = self.failures.partition_point(|known| known.order < failure.order);
        self.failures.insert(at, failure);
    }

    fn inherit_mark(&mut self, pass: Pass) {
        if let Some(known) = self.passes.iter_mut().find(|known| known.order == pass.order) {
            known.own_word |= pass.own_word;
            known.conflicted |= pass.conflicted;
            return;
        }
        let at = self.passes.partition_point(|known| known.order < pass.order);
        self.passes.insert(at, pass);
    }
}

impl Standing {
    /// What a node that is registered again inherits from the one that was deleted: everything but the override.
    #[must_use]
    pub fn inherit(&self) -> Self {
        Self { overriding: None, ..self.clone() }
    }

    /// Two inheritances as one: what either distrusts is distrusted, what both forgave is forgiven.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (name, distrust) in &other.distrust {
            let mine = self.distrust.entry(name.clone()).or_insert_with(|| distrust.clone());
            mine.last_failure = mine.last_failure.max(distrust.last_failure);
            mine.failed_at = mine.failed_at.max(distrust.failed_at);
            mine.since = mine.since.min(distrust.since);
        }
        self.forgiven.retain(|name, mine| {
            other.forgiven.get(name).is_some_and(|theirs| {
                *mine = (*mine).min(*theirs);
                true
            })
        });
        for (name, spent) in &other.spent {
            self.spend(name, *spent);
        }
        for (name, ended) in &other.ended {
            let newer = self.ended.get(name).is_none_or(|mine| mine.at < ended.at);
            if newer {
                self.ended.insert(name.clone(), ended.clone());
            }
        }
        let more: Vec<_> = other.falls.iter().copied().filter(|at| !self.falls.contains(at)).collect();
        self.inherit_falls(&more);
        self.overriding = None;
        self
    }
}
