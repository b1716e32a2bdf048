//! What is remembered of one check of one node. Bounded: it grows with `fail_after` and `recover_after`, not with time. Written with every
//! result, so what is usual is left out.

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::protocol::{CheckPolicy, Judgement, RunOrder, Status};
use crate::security::{KeyId, Vouch};

use super::observation::Reporter;

/// Fewest passes kept of each kind, so that taking one back leaves the one before.
const MIN_PASSES: usize = 2;
/// The generation of marks that belong to no definition in force; real ones begin at 1.
pub(super) const FORGOTTEN: u32 = 0;
/// Closed runs (error, timeout, late pass) kept one by one; older ones are covered by [`CheckState::closed_up_to`].
const CLOSED_KEPT: usize = 4;

/// A pass that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Its run.
    #[serde(with = "crate::protocol::run_text")]
    pub order: RunOrder,
    /// When its ticket was issued: when the run began.
    pub issued_at: Timestamp,
    /// How old it is.
    pub evidence_at: Timestamp,
    /// Under which definition it was made ([`CheckState::generation_of`]).
    pub generation: u32,
    /// Under which boot of the node ([`super::Boots::count`]).
    pub boot: u32,
    /// Whether it is only the node's own word.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub own_word: bool,
    /// Whether another outcome came under the same key.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub conflicted: bool,
    /// Who reported it; nobody knows for one stored by a version that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<Vouch>,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its run.
    #[serde(with = "crate::protocol::run_text")]
    pub order: RunOrder,
    /// When its ticket was issued.
    pub began_at: Timestamp,
    /// How old its evidence is.
    pub evidence_at: Timestamp,
    /// The latest it can have happened; hold-down counts from here, and a run that recovers begins after it.
    pub failed_at: Timestamp,
    /// Under which definition.
    pub generation: u32,
    /// Whether another outcome came under the same key.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub conflicted: bool,
}

/// How a run ended that counts neither as pass nor as failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Checks filled in a timeout.
    Filler,
    /// The adapter could not judge, or its pass was outweighed.
    Answered,
    /// A pass that came too late.
    LatePass,
}

/// A run that is closed without counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRun {
    /// The run.
    pub order: RunOrder,
    /// How it ended.
    pub how: Closed,
    /// Whether another outcome came under the same key.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub conflicted: bool,
}

/// The newest result, for display only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its run.
    #[serde(with = "crate::protocol::run_text")]
    pub order: RunOrder,
    /// Which attempt of the run.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: i64,
    /// The outcome that stands under this key.
    pub status: Status,
    /// The reason given, safe to show.
    pub reason: String,
    /// Who sent it.
    pub reporter: Reporter,
    /// Under which revision.
    pub revision: i64,
    /// How old its evidence is.
    pub evidence_at: Timestamp,
    /// When it arrived.
    pub recorded_at: Timestamp,
    /// Whether it is only the node's own word.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub self_reported: bool,
}

/// All that is remembered of one check of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckState {
    pub(super) check_id: String,
    pub(super) revision: i64,
    pub(super) generation: u32,
    pub(super) passes: Vec<Pass>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failures: Vec<Failure>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) failure_reason: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) closed: Vec<ClosedRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closed_up_to: Option<RunOrder>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) conflicts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shown: Option<Shown>,
    /// The keys of Checks under whose tickets anything was taken in, and when last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tickets: BTreeMap<KeyId, Timestamp>,
}

fn first() -> i64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_first(attempt: &i64) -> bool {
    *attempt == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl CheckState {
    /// The newest result, for display.
    #[must_use]
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// How many runs had contradicting outcomes.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Passes of runs up to here count for nothing unless they counted before.
    #[must_use]
    pub fn closed_up_to(&self) -> Option<RunOrder> {
        self.closed_up_to
    }

    /// The number by which marks name the definition `check` has now; `None` when nothing was made under it yet.
    #[must_use]
    pub fn generation_of(&self, check: &CheckPolicy) -> Option<u32> {
        (self.generation > 0 && self.check_id == check.id && self.revision == check.revision).then_some(self.generation)
    }

    /// Like [`CheckState::generation_of`], beginning a new one where needed. A definition that returns is a new one.
    pub(super) fn enter_generation(&mut self, check: &CheckPolicy) -> u32 {
        if self.generation_of(check).is_none() {
            self.check_id.clone_from(&check.id);
            self.revision = check.revision;
            self.generation = self.generation.saturating_add(1);
        }
        self.generation
    }

    /// The newest pass a pool accepts, whatever its age, definition and boot; it ends rows of failures.
    #[must_use]
    pub fn newest_pass(&self, accept_self_report: bool) -> Option<&Pass> {
        self.passes.iter().rev().find(|pass| accept_self_report || !pass.own_word)
    }

    /// The failures in a row, oldest first: those of runs newer than the newest accepted pass. No more than `fail_after`
    /// are remembered.
    pub fn row(&self, accept_self_report: bool) -> impl DoubleEndedIterator<Item = &Failure> {
        let end = self.newest_pass(accept_self_report).map(|pass| pass.order);
        self.failures.iter().filter(move |failure| end.is_none_or(|end| failure.order > end))
    }

    /// The newest failure remembered.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failures.last()
    }

    /// The reason given with the newest failure, safe to show.
    #[must_use]
    pub fn failure_reason(&self) -> &str {
        &self.failure_reason
    }

    /// The newest run that counts.
    #[must_use]
    pub fn newest_counted(&self) -> Option<RunOrder> {
        let pass = self.passes.last().map(|pass| pass.order);
        pass.max(self.failures.last().map(|failure| failure.order))
    }

    /// Keeps what the rules can still ask for.
    pub(super) fn trim(&mut self, judgement: &Judgement) {
        let bound = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).clamp(1, 100);
        let surplus = self.failures.len().saturating_sub(bound(judgement.fail_after));
        let forgotten = self.failures.drain(..surplus).map(|failure| failure.failed_at).max();
        if let (Some(forgotten), Some(kept)) = (forgotten, self.failures.first_mut()) {
            // An older run may have failed later; recovery has to wait for that, too.
            kept.failed_at = kept.failed_at.max(forgotten);
        }
        for kind in [false, true] {
            let kept = bound(judgement.recover_after).max(MIN_PASSES);
            let mut surplus = self.passes.iter().filter(|p| p.own_word == kind).count().saturating_sub(kept);
            self.passes.retain(|pass| {
                let drop = pass.own_word == kind && surplus > 0;
                surplus -= usize::from(drop);
                !drop
            });
        }
        self.bound_closed();
    }

    /// Keeps the newest closed runs one by one.
    pub(super) fn bound_closed(&mut self) {
        let surplus = self.closed.len().saturating_sub(CLOSED_KEPT);
        for run in self.closed.drain(..surplus) {
            self.closed_up_to = self.closed_up_to.max(Some(run.order));
        }
    }

    /// Forgets all passes but what they had ended: marks are left that never count again, but can be taken back.
    pub(super) fn forget_passes(&mut self) {
        for pass in &mut self.passes {
            pass.generation = FORGOTTEN;
        }
    }
}
