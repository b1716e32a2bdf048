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
//! there first ([`super::recast`]).

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
    runs.batches().filter_map(move |batch| {
        let loss = suspicion(batch, watching, now.utc)?;
        let held = adapters.is_held(&batch.adapter, batch.order, batch.batch, now.monotonic);
        (!held).then_some((batch, loss))
    })
}

/// Whether there is reason to take `batch` as lost, and it could be cast again.
fn suspicion(batch: &Batch, watching: Timestamp, now: Timestamp) -> Option<Loss> {
    let sent_at = batch.sent_at.filter(|_| can_be_cast_again(batch, now))?;
    if let Some(loss) = batch.lost {
        return Some(loss);
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
