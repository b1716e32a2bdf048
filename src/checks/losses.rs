//! Which batches are lost: a pure rule, time passed in.
//!
//! An adapter that acknowledges a batch only when it has handed its results over loses none: the broker delivers it again.
//! One that acknowledges first, as every oslo.messaging server does, takes a batch with it when it dies. Two signs tell, and
//! either is enough:
//! - **Its holder is gone**: adapters name in their announcements the batches they hold. One whose announcements stop, or
//!   that began anew, has lost them.
//! - **Silence**: nobody says it holds the batch, and half of the time it was given passed without a result. This needs
//!   nothing of an adapter but its results.
//!
//! A batch that still waits in its queue is not lost, nor one whose results may be under way; whoever acts on this looks
//! there first ([`super::recast`]). Nor is one that was just taken from the queue, or just answered: whoever took it had no
//! time to say so yet, and its results may be in anybody's hands. So what was known to be safe until a moment ago is given
//! time before either sign counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checks::adapters::Adapters;
use crate::checks::planner::Now;
use crate::checks::run::Batch;
use crate::checks::runs::Runs;
use crate::clock::Timestamp;

/// Most times one batch is cast, the first included.
pub const MAX_ATTEMPTS: i64 = 3;
/// With less time than this to its deadline a batch is not cast again, nor with less than a tenth of what it had.
pub const MIN_LEFT: Duration = Duration::from_secs(1);

/// Whoever takes a batch, and tells, has told by then: adapters of ours do within 250 ms. Longer than from one look at the
/// queue to the next.
const TOLD_WITHIN: Duration = Duration::from_millis(1500);

/// Every adapter that tells has told what it holds within this: it announces itself every 5 s. Until Checks has listened
/// for so long, as after a restart, silence says nothing.
const LISTENED_FOR: Duration = Duration::from_secs(6);

/// Why a batch was taken as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The instance that held it stopped announcing itself.
    AdapterGone,
    /// The instance that held it began anew.
    AdapterRestarted,
    /// Nobody said it holds it, and no result came for half of its time.
    Silence,
}

impl Loss {
    /// The word in metrics, logs and views.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdapterGone => "adapter_gone",
            Self::AdapterRestarted => "adapter_restarted",
            Self::Silence => "silence",
        }
    }
}

/// The batches that are to be cast again, unless they or their results wait in a queue. Since `watching` we know who holds
/// what: silence from before that says nothing.
pub fn lost<'a>(
    runs: &'a Runs,
    adapters: &'a Adapters,
    watching: Timestamp,
    now: Now,
) -> impl Iterator<Item = (&'a Batch, Loss)> {
    runs.batches().filter_map(move |batch| Some((batch, loss_of(batch, adapters, watching, now)?)))
}

/// Why `batch` is to be cast again, if it is; see [`lost`].
#[must_use]
pub fn loss_of(batch: &Batch, adapters: &Adapters, watching: Timestamp, now: Now) -> Option<Loss> {
    let loss = suspicion(batch, watching, now.utc)?;
    (!adapters.is_held(&batch.adapter, batch.order, batch.batch, now.monotonic)).then_some(loss)
}

/// Takes note of what is told of batches: who holds which, and whose holder is gone. To be done after looking for what is
/// [`lost`]: a batch whose holder began anew may be in the next one's hands already, who says so before the next look.
pub fn take_note(runs: &mut Runs, adapters: &mut Adapters, now: Now) {
    for lost in adapters.take_lost(now.monotonic) {
        runs.mark_lost(&lost);
    }
    let held = |batch: &Batch| adapters.is_held(&batch.adapter, batch.order, batch.batch, now.monotonic);
    runs.mark_held(now.utc, held);
}

/// Whether there is reason to take `batch` as lost, and it could be cast again.
fn suspicion(batch: &Batch, watching: Timestamp, now: Timestamp) -> Option<Loss> {
    let sent_at = batch.sent_at.filter(|_| can_be_cast_again(batch, now))?;
    let safe_for = batch.safe_at.map(|at| (now.since(at), batch.deadline.since(at)));
    if let Some(loss) = batch.lost {
        return safe_for.is_none_or(|(past, _)| past >= TOLD_WITHIN).then_some(loss);
    }
    if safe_for.is_some_and(|(past, left)| past < (left / 2).max(TOLD_WITHIN)) || now.since(watching) < LISTENED_FOR {
        return None;
    }
    let heard = batch.heard_at.map_or(sent_at, |heard| heard.max(sent_at)).max(watching);
    (now.since(heard) >= batch.deadline.since(sent_at) / 2).then_some(Loss::Silence)
}

/// Whether anything is left to be asked, an attempt to ask it with, and the time.
#[must_use]
pub fn can_be_cast_again(batch: &Batch, now: Timestamp) -> bool {
    let Some(sent_at) = batch.sent_at.filter(|_| batch.sent && !batch.timed_out) else { return false };
    let least = (batch.deadline.since(sent_at) / 10).max(MIN_LEFT);
    !batch.awaited.is_empty() && batch.attempt < MAX_ATTEMPTS && batch.deadline.since(now) >= least
}

#[cfg(test)]
#[path = "losses_tests.rs"]
mod tests;
