//! The end of every batch, whatever becomes of its messages and of the clock: nothing is awaited for ever.
//!
//! A batch ends when Nodes reports its outcomes as stored. Past its deadline Checks reports the time-out itself; that report
//! can be lost or put aside as a dead letter, so it is repeated with growing pauses; and should Nodes never answer, the
//! batch is given up: its nodes are free for the next run, and the run counts them as *unheard*. They are judged all the
//! same: without a stored pass they become unknown at the TTL.
//!
//! The deadline is a time of day, because it is signed and others read it. Beside it runs a timer in steady time, so that a
//! clock set back does not keep a batch, and with it all later runs of its nodes, waiting for as long as the step was. After a restart that timer
//! runs for as long as the batch had at first, at most: the clock may have been ahead when it was sent.

use std::time::Duration;

use serde::Deserialize;

use crate::checks::planner::Now;
use crate::checks::run::{Batch, Run};
use crate::checks::runs::Runs;
use crate::clock::Timestamp;
use crate::protocol::RunOrder;

/// The longest any check may take: see `Check::timeout_s`.
const LONGEST: Duration = Duration::from_secs(1200);
/// How long Nodes may take to report a time-out as stored before it is sent again; doubled each time.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often it is sent.
const REPORTS: u32 = 3;
/// How long after its end a batch is given up: every report had its time by then.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 60);

/// The steady times of a batch, begun anew with each start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ending {
    /// When its time is over at the latest.
    ends_at: Option<Duration>,
    /// How often the time-out was reported.
    reports: u32,
    /// Not before then it is reported again.
    report_at: Option<Duration>,
}

/// What a ticket says of its own time.
#[derive(Deserialize)]
struct Issued {
    issued_at: Timestamp,
}

impl Batch {
    /// Whether the time it was given is over.
    #[must_use]
    pub fn is_over(&self, now: Now) -> bool {
        now.utc >= self.deadline || self.ending.ends_at.is_some_and(|at| now.monotonic >= at)
    }

    /// How long it may still take, whatever clock its deadline was told by: not longer than it had when its ticket was issued.
    fn left(&self, now: Timestamp) -> Duration {
        let issued: Option<Issued> = serde_json::from_str(&self.ticket.body).ok();
        let had = issued.map_or(LONGEST, |issued| self.deadline.since(issued.issued_at));
        self.deadline.since(now).min(had).min(LONGEST)
    }

    fn is_to_be_reported(&self, now: Now) -> bool {
        !self.awaited.is_empty()
            && self.ending.reports < REPORTS
            && self.ending.report_at.is_none_or(|at| now.monotonic >= at)
            && self.is_over(now)
    }

    fn is_to_be_given_up(&self, now: Now) -> bool {
        self.ending.ends_at.is_some_and(|at| now.monotonic >= at + GIVEN_UP_AFTER)
    }

    fn count_report(&mut self, now: Duration) {
        self.ending.report_at = Some(now + REPORT_AGAIN_AFTER * 2_u32.pow(self.ending.reports.min(REPORTS)));
        self.ending.reports += 1;
    }
}

impl Runs {
    /// Starts the timers of batches that have none yet: new ones, and those of before a restart. Of these a time-out that was reported is
    /// reported again at once: whether Nodes stored it may have been told to the process before, and their nodes are left out of all runs until then.
    pub fn watch(&mut self, now: Now) {
        for batch in self.batches.values_mut().filter(|batch| batch.ending.ends_at.is_none()) {
            batch.ending.ends_at = Some(now.monotonic + batch.left(now.utc));
        }
    }

    /// Batches whose time is over, and whose time-out is to be reported now.
    pub fn overdue(&self, now: Now) -> impl Iterator<Item = &Batch> {
        self.batches.values().filter(move |batch| batch.is_to_be_reported(now))
    }

    /// Marks a batch's time-out as handed to the bus.
    pub fn mark_timed_out(&mut self, order: RunOrder, batch: i64, now: Duration) {
        if let Some(batch) = self.batches.get_mut(&(order, batch)) {
            batch.timed_out = true;
            batch.count_report(now);
        }
    }

    /// Gives up the batches Nodes has said nothing of for too long. Returns them, and their runs as they are now.
    pub fn give_up(&mut self, now: Now) -> Vec<(Batch, Option<Run>)> {
        let over: Vec<(RunOrder, i64)> =
            self.batches.iter().filter(|(_, batch)| batch.is_to_be_given_up(now)).map(|(key, _)| *key).collect();
        let mut given_up = Vec::new();
        for key in over {
            let Some(batch) = self.remove_batch(key) else { continue };
            let pending = self.is_pending(key.0);
            let run = self.run_mut(key.0).map(|run| {
                run.unheard += i64::try_from(batch.awaited.len()).unwrap_or(i64::MAX);
                if !pending && !run.sending {
                    run.finished_at.get_or_insert(now.utc);
                }
                run.clone()
            });
            given_up.push((batch, run));
        }
        given_up
    }
}

#[cfg(test)]
#[path = "endings_tests.rs"]
mod tests;
