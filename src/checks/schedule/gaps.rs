//! The gaps between the runs of a year, exactly, and the time to live that follows from them.
//!
//! A schedule of every second has 31 million gaps a year. They are counted by the hour: the runs of an hour without a clock
//! change differ from those of another only by where it starts, so that its gaps are counted once and added as often.
//! Hours touched by a clock change are stepped through run by run.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use chrono_tz::Tz;

use super::{Cron, Schedule, zoned};
use crate::clock::Timestamp;

/// The span looked at, in seconds: 366 days.
const SPAN: i64 = 366 * 86_400;

/// What the gaps of 366 days are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapStatistics {
    /// The longest: the period of the schedule.
    pub longest: Duration,
    /// The shortest.
    pub shortest: Duration,
    /// The one in the middle (the shorter of two).
    pub median: Duration,
    /// How many there are.
    pub count: u64,
}

/// Why no time to live can be derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// The gaps are too different for one default to fit them.
    #[error(
        "the longest gap between runs ({} s) is more than twice the usual one ({} s), so that a default time to live would be far too long for most of them; give ttl explicitly",
        longest.as_secs(), median.as_secs()
    )]
    Uneven {
        /// The longest gap.
        longest: Duration,
        /// The median gap.
        median: Duration,
    },
}

/// How long a pass counts unless the check says otherwise: two periods, the splay, and the timeout with all retries.
///
/// # Errors
/// [`TtlError::Uneven`] where the longest gap is over twice the median: the check must then name its own.
pub fn default_ttl(
    schedule: &Schedule,
    from: Timestamp,
    splay: Duration,
    timeout_with_retries: Duration,
) -> Result<Duration, TtlError> {
    let GapStatistics { longest, median, .. } = schedule.gaps(from);
    if longest > median.saturating_mul(2) {
        return Err(TtlError::Uneven { longest, median });
    }
    Ok(longest.saturating_mul(2).saturating_add(splay).saturating_add(timeout_with_retries))
}

pub(super) fn measure(schedule: &Schedule, from: Timestamp) -> GapStatistics {
    match schedule {
        Schedule::Every(interval) => {
            let length = interval.length();
            let count = SPAN.unsigned_abs() / length.as_secs().max(1);
            GapStatistics { longest: length, shortest: length, median: length, count }
        }
        Schedule::Cron { cron, zone } => {
            let mut gaps = Histogram::default();
            // Beyond the calendar nothing runs: no gap is longer than the span.
            let complete = from.to_utc().and_then(|from| fill(&mut gaps, cron, *zone, from));
            gaps.statistics(complete.is_none())
        }
    }
}

/// Gap in seconds, and how often it occurs.
#[derive(Default)]
struct Histogram(BTreeMap<i64, u64>);

impl Histogram {
    fn add(&mut self, gap: i64, times: u64) {
        *self.0.entry(gap).or_default() += times;
    }

    fn statistics(&self, cut_short: bool) -> GapStatistics {
        let seconds = |gap: i64| Duration::from_secs(gap.unsigned_abs());
        let count: u64 = self.0.values().sum();
        let mut seen = 0;
        let middle = self.0.iter().find(|(_, times)| {
            seen += **times;
            seen > count.saturating_sub(1) / 2
        });
        let longest = self.0.keys().next_back().copied().unwrap_or(SPAN);
        let longest = if cut_short { longest.max(SPAN) } else { longest };
        let shortest = self.0.keys().next().copied().unwrap_or(SPAN);
        let median = seconds(middle.map_or(SPAN, |(gap, _)| *gap));
        GapStatistics { longest: seconds(longest), shortest: seconds(shortest), median, count }
    }
}

/// Every gap that begins in the span; `None` when the calendar ends before.
fn fill(gaps: &mut Histogram, cron: &Cron, zone: Tz, from: DateTime<Utc>) -> Option<()> {
    let hour = Hour::of(cron);
    let mut run = zoned::next_after(cron, zone, from)?;
    let end = run.timestamp().checked_add(SPAN)?;
    while run.timestamp() < end {
        let next = match hour.last_if_plain(zone, run) {
            Some(last) if last.timestamp() < end => {
                hour.gaps.iter().for_each(|(gap, times)| gaps.add(*gap, *times));
                run = last;
                zoned::next_after(cron, zone, run)?
            }
            _ => zoned::next_after(cron, zone, run)?,
        };
        gaps.add(next.timestamp() - run.timestamp(), 1);
        run = next;
    }
    Some(())
}

/// The runs within one hour.
struct Hour {
    /// Seconds into the hour of the first and the last run.
    first: i64,
    last: i64,
    gaps: BTreeMap<i64, u64>,
}

impl Hour {
    fn of(cron: &Cron) -> Self {
        let runs: Vec<i64> = cron.minutes().flat_map(|m| cron.seconds().map(move |s| i64::from(m * 60 + s))).collect();
        let mut gaps = BTreeMap::new();
        for pair in runs.windows(2) {
            if let [earlier, later] = pair {
                *gaps.entry(later - earlier).or_default() += 1;
            }
        }
        let first = runs.first().copied().unwrap_or(0);
        Self { first, last: runs.last().copied().unwrap_or(first), gaps }
    }

    /// The last run of the hour whose first run is `run`; `None` when `run` is not the first one or a clock change could
    /// touch the hour, which then must be stepped through.
    fn last_if_plain(&self, zone: Tz, run: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.first == self.last {
            return None;
        }
        let local = zoned::local(zone, run)?;
        let into_hour = i64::from(local.minute() * 60 + local.second());
        if into_hour != self.first {
            return None;
        }
        let last_local = local.checked_add_signed(chrono::TimeDelta::seconds(self.last - self.first))?;
        let last = zoned::only_moment(zone, last_local)?;
        let plain =
            zoned::only_moment(zone, local)? == run && last.timestamp() - run.timestamp() == self.last - self.first;
        plain.then_some(last)
    }
}
