//! One result into what is remembered of a check of a node.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{CheckPolicy, Status};
use crate::text::display_safe;

use super::boot::Boots;
use super::observation::{Observation, Reporter};
use super::state::{CheckState, Closed, ClosedRun, Failure, Pass, Shown};

/// What a result meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A pass that counts.
    Pass,
    /// A failure that counts.
    Failure,
    /// Neither yes nor no; recorded, counts for nothing.
    NotJudged,
    /// Said before.
    Duplicate,
    /// A pass that came too late.
    LatePass,
    /// A failure of a run older than one that passed.
    Superseded,
    /// A time in it lies too far in the future, so it was taken as an error.
    Future,
    /// A pass made under a boot that is over.
    OtherBoot,
    /// Made under another definition than the policy's. `newer`: the policy in force may be behind.
    OtherRevision {
        /// Whether the ticket's revision is higher than the policy's, of the same check.
        newer: bool,
    },
    /// The policy in force has no check of this name, or it is not this node's.
    NoSuchCheck,
    /// Another outcome than before under the same key; the worse one stands.
    Conflict {
        /// What stands now.
        stands: Status,
    },
    /// A timeout from Checks for a run that has its answer.
    Unneeded,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "the pass counts",
            Self::Failure => "the failure counts",
            Self::NotJudged => "the node could not be judged; this changes nothing until the last pass expires",
            Self::Duplicate => "this was reported before",
            Self::LatePass => "the pass came too late and counts for nothing",
            Self::Superseded => "a later run has passed, so this older failure does not count",
            Self::Future => "a time in the result lies in the future: taken as an error; compare the clocks",
            Self::OtherBoot => "the pass belongs to an earlier boot and counts for nothing",
            Self::OtherRevision { newer: false } => "made under another definition of the check; shown only",
            Self::OtherRevision { newer: true } => "made under a newer revision than the policy here; shown only",
            Self::NoSuchCheck => "the policy has no such check; ignored",
            Self::Conflict { stands: Status::Fail } => "contradicts what this run said before: the failure stands",
            Self::Conflict { .. } => "contradicts what this run said before: it passed nothing",
            Self::Unneeded => "the run has its answer; this timeout is not needed",
        })
    }
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Whether it counts as a pass or failure now.
    pub counted: bool,
    /// What it meant.
    pub note: Note,
}

impl Folded {
    pub(super) fn not_counted(note: Note) -> Self {
        Self { counted: false, note }
    }

    fn counted(note: Note) -> Self {
        Self { counted: true, note }
    }
}

/// Takes `seen` into `state`. `boots` must have taken in the result's own boot already.
///
/// The result is the same however often `seen` comes again.
pub fn fold(
    state: &mut CheckState,
    boots: &Boots,
    check: &CheckPolicy,
    seen: &Observation,
    now: Timestamp,
    max_skew: Duration,
) -> Folded {
    let future = seen.from_the_future(now, max_skew);
    let status = if future { Status::Error } else { seen.result.status };
    let current = seen.check_id == check.id && seen.revision == check.revision;
    let folded = if current {
        let generation = state.enter_generation(check);
        let folded = match status {
            Status::Fail => take_failure(state, seen, generation, now),
            Status::Pass => take_pass(state, boots, check, seen, generation),
            Status::Error | Status::Timeout => take_unjudged(state, seen),
        };
        state.trim(&check.judgement);
        folded
    } else {
        let newer = seen.check_id == check.id && seen.revision > check.revision;
        Folded::not_counted(Note::OtherRevision { newer })
    };
    let folded = if future && !folded.counted && folded.note == Note::NotJudged {
        Folded::not_counted(Note::Future)
    } else {
        folded
    };
    show(state, seen, status, future, now);
    folded
}

fn take_failure(state: &mut CheckState, seen: &Observation, generation: u32, now: Timestamp) -> Folded {
    let key = seen.order;
    let failed_at = seen.happened_at(now);
    if let Some(known) = state.failures.iter_mut().find(|failure| failure.order == key) {
        // The stricter times stand, whichever report came first.
        known.failed_at = known.failed_at.max(failed_at);
        known.evidence_at = known.evidence_at.min(seen.evidence_at());
        return Folded::not_counted(Note::Duplicate);
    }
    let passed = remove(&mut state.passes, |pass| pass.order == key);
    let closed = remove(&mut state.closed, |run| run.order == key);
    let contradicts = passed.is_some() || closed.as_ref().is_some_and(|run| run.how == Closed::Answered);
    let conflicted = passed.as_ref().is_some_and(|p| p.conflicted) || closed.as_ref().is_some_and(|c| c.conflicted);
    if contradicts && !conflicted {
        state.conflicts = state.conflicts.saturating_add(1);
    }
    let at = state.failures.partition_point(|failure| failure.order < key);
    if at == state.failures.len() {
        state.failure_reason = display_safe(&seen.result.reason);
    }
    let failure = Failure {
        order: key,
        began_at: seen.issued_at,
        evidence_at: seen.evidence_at(),
        failed_at,
        generation,
        conflicted: contradicts || conflicted,
    };
    state.failures.insert(at, failure);
    let superseded = state.newest_pass(false).is_some_and(|pass| pass.order > key);
    match (contradicts, superseded) {
        (true, _) => Folded { counted: !superseded, note: Note::Conflict { stands: Status::Fail } },
        (false, true) => Folded::not_counted(Note::Superseded),
        (false, false) => Folded::counted(Note::Failure),
    }
}

fn take_pass(
    state: &mut CheckState,
    boots: &Boots,
    check: &CheckPolicy,
    seen: &Observation,
    generation: u32,
) -> Folded {
    let key = seen.order;
    let evidence_at = seen.evidence_at();
    let boot = boots.present(check.name.as_str(), seen.result.boot.as_deref(), evidence_at);
    if let Some(failure) = state.failures.iter_mut().find(|failure| failure.order == key) {
        return contradicted(&mut failure.conflicted, &mut state.conflicts, Status::Fail);
    }
    if let Some(run) = state.closed.iter_mut().find(|run| run.order == key) {
        return match run.how {
            Closed::Answered => contradicted(&mut run.conflicted, &mut state.conflicts, Status::Error),
            Closed::Filler => Folded::not_counted(Note::LatePass),
            Closed::LatePass => Folded::not_counted(Note::Duplicate),
        };
    }
    if let Some(known) = state.passes.iter_mut().find(|pass| pass.order == key) {
        // The weaker of two passes stands.
        known.evidence_at = known.evidence_at.min(evidence_at);
        known.issued_at = known.issued_at.min(seen.issued_at);
        known.own_word |= seen.result.self_reported;
        known.boot = known.boot.min(boot.unwrap_or(0));
        return Folded::not_counted(Note::Duplicate);
    }
    let late = state.newest_counted().max(state.closed_up_to).is_some_and(|newest| key <= newest);
    let Some(boot) = boot.filter(|_| !late) else {
        close(state, ClosedRun { order: key, how: Closed::LatePass, conflicted: false });
        return Folded::not_counted(if late { Note::LatePass } else { Note::OtherBoot });
    };
    let own_word = seen.result.self_reported;
    let issued_at = seen.issued_at;
    let vouch = seen.reported_by;
    state.passes.push(Pass {
        order: key,
        issued_at,
        evidence_at,
        generation,
        boot,
        own_word,
        conflicted: false,
        vouch,
    });
    Folded::counted(Note::Pass)
}

fn take_unjudged(state: &mut CheckState, seen: &Observation) -> Folded {
    let key = seen.order;
    let filler = seen.reporter == Reporter::Checks;
    if let Some(failure) = state.failures.iter_mut().find(|failure| failure.order == key) {
        if filler {
            return Folded::not_counted(Note::Unneeded);
        }
        return contradicted(&mut failure.conflicted, &mut state.conflicts, Status::Fail);
    }
    if let Some(run) = state.closed.iter_mut().find(|run| run.order == key) {
        if filler || run.how == Closed::Answered {
            return Folded::not_counted(if filler { Note::Unneeded } else { Note::Duplicate });
        }
        run.how = Closed::Answered;
        return Folded::not_counted(Note::NotJudged);
    }
    if filler && state.passes.iter().any(|pass| pass.order == key) {
        return Folded::not_counted(Note::Unneeded);
    }
    // An answer that outweighs a pass takes it back, and nothing of it is left to trust on.
    let passed = remove(&mut state.passes, |pass| pass.order == key);
    let how = if filler { Closed::Filler } else { Closed::Answered };
    close(state, ClosedRun { order: key, how, conflicted: passed.is_some() });
    if passed.is_none() {
        return Folded::not_counted(Note::NotJudged);
    }
    state.conflicts = state.conflicts.saturating_add(1);
    Folded::not_counted(Note::Conflict { stands: Status::Error })
}

fn contradicted(conflicted: &mut bool, conflicts: &mut u64, stands: Status) -> Folded {
    if !std::mem::replace(conflicted, true) {
        *conflicts = conflicts.saturating_add(1);
    }
    Folded::not_counted(Note::Conflict { stands })
}

pub(super) fn close(state: &mut CheckState, run: ClosedRun) {
    let at = state.closed.partition_point(|other| other.order < run.order);
    state.closed.insert(at, run);
}

fn remove<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool) -> Option<T> {
    list.iter().position(is).map(|at| list.remove(at))
}

/// How bad an outcome is when two come under one key; a timeout from Checks gives way to any answer but a late pass.
fn weight(status: Status, reporter: Reporter) -> u8 {
    match (status, reporter) {
        (Status::Pass, _) => 1,
        (Status::Error | Status::Timeout, Reporter::Adapter) => 2,
        (Status::Error | Status::Timeout, Reporter::Checks) => 0,
        (Status::Fail, _) => 3,
    }
}

fn show(state: &mut CheckState, seen: &Observation, status: Status, future: bool, now: Timestamp) {
    if let Some(shown) = &state.shown {
        let better = match seen.order.cmp(&shown.order) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => {
                let late_pass = status == Status::Pass && shown.reporter == Reporter::Checks;
                weight(status, seen.reporter) > weight(shown.status, shown.reporter) && !late_pass
            }
        };
        if !better {
            return;
        }
    }
    let reason = if future {
        format!("{}; the adapter said {}: {}", Note::Future, seen.result.status, seen.result.reason)
    } else {
        seen.result.reason.clone()
    };
    state.shown = Some(Shown {
        order: seen.order,
        attempt: seen.attempt,
        status,
        reason: display_safe(&reason),
        reporter: seen.reporter,
        revision: seen.revision,
        evidence_at: seen.evidence_at(),
        recorded_at: now,
        self_reported: seen.result.self_reported,
    });
}
