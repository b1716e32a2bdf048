//! What is late: slots that do not begin, batches that do not end. One answer for `status`, `spicectl top` and the figures.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checks::State;
use crate::checks::planner::Now;
use crate::checks::runs::Runs;
use crate::clock::Timestamp;
use crate::names::CheckName;

/// A slot that begins, or would have to begin, longer ago than this is late.
pub const LATE: Duration = Duration::from_secs(5);

/// What of the runs in progress is past its end, by the time of day or by the steady timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PastEnd {
    /// Results that are awaited all the same.
    pub results: usize,
    /// Batches whose time-out was not even reported yet.
    pub unreported: usize,
}

impl Runs {
    /// What is past its end.
    #[must_use]
    pub fn past_end(&self, now: Now) -> PastEnd {
        let over = self.batches().filter(|batch| batch.is_over(now));
        over.fold(PastEnd::default(), |sum, batch| PastEnd {
            results: sum.results + batch.awaited.len(),
            unreported: sum.unreported + usize::from(!batch.timed_out),
        })
    }
}

impl State {
    /// By how much each enabled check's next slot is overdue; nothing where the schedule is kept.
    pub(super) fn behind(&self, now: Timestamp) -> BTreeMap<&CheckName, Duration> {
        let enabled = self.registry.checks.values().filter(|check| check.enabled);
        let behind = enabled.filter_map(|check| {
            let last = self.anchor(check);
            let next = self.registry.schedule_of(check).ok()?.next_after(last, last);
            Some((&check.name, next.map_or(Duration::ZERO, |next| now.since(next))))
        });
        behind.collect()
    }
}
