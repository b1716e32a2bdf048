//! Schedules: when a check is due. Pure: the time is always passed in.
//!
//! | file | owns |
//! |---|---|
//! | `field` | one field: what crontab(5) allows, and its translation for the `cron` package |
//! | `cron` | crontab(5) text; the `cron` package finds the local times it names |
//! | `zoned` | local times as moments, across clock changes |
//! | `interval` | intervals |
//! | `gaps` | the longest and the median gap, and the time to live that follows |
//! | `due` | which slot is due, whatever the clock did |
//! | `splay` | the share of a slot's crowd that each node takes |
//! | `profiles` | the schedules that come with SPICE |
//!
//! Where clocks change: a local time that is skipped runs at the end of the gap. A local time that comes twice runs once,
//! the first time; but a schedule that runs in every hour of the day (its hour field admits all 24) runs in both passes of
//! the repeated hour, so that `*/5 * * * *` stays five minutes apart instead of falling silent for an hour.

mod cron;
mod due;
mod field;
mod gaps;
mod interval;
mod profiles;
mod splay;
mod zoned;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::text::display_safe_to;

pub use cron::{Cron, CronError};
pub use due::{due, latest_at_or_before};
pub use gaps::{GapStatistics, TtlError, default_ttl};
pub use interval::{Interval, IntervalError, MAX_INTERVAL, MIN_INTERVAL};
pub use profiles::{SHIPPED_PROFILES, ShippedProfile};
pub use splay::{MAX_SPLAY, splay, splay_window};

/// Most runs [`Schedule::next_runs`] lists.
pub const MAX_LISTED_RUNS: usize = 100;

/// Why something is no schedule; a sentence for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron text is wrong.
    #[error("{0}")]
    Cron(#[from] CronError),
    /// The interval is wrong.
    #[error("{0}")]
    Interval(#[from] IntervalError),
    /// No such zone.
    #[error("time zone {0:?} is not known: use an IANA name such as UTC or Europe/Berlin")]
    Zone(String),
    /// Neither or both kinds.
    #[error("a schedule has either cron (and, if not UTC, zone), such as \"15 2 * * *\", or every, such as \"5m\"")]
    Kind,
}

/// When a check runs. As JSON: `{"cron": "15 2 * * *", "zone": "Europe/Berlin"}` or `{"every": "5m"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Schedule {
    /// At times of day of a zone.
    Cron {
        /// Which times.
        cron: Cron,
        /// Of which zone.
        zone: Tz,
    },
    /// At equal distances of steady time.
    Every(Interval),
}

/// A schedule as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<String>,
}

impl TryFrom<Written> for Schedule {
    type Error = ScheduleError;

    fn try_from(written: Written) -> Result<Self, ScheduleError> {
        match (written.cron, written.every) {
            (Some(cron), None) => Self::cron(&cron, written.zone.as_deref()),
            (None, Some(every)) if written.zone.is_none() => Ok(Self::Every(Interval::parse(&every)?)),
            _ => Err(ScheduleError::Kind),
        }
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Cron { cron, zone } => {
                Self { cron: Some(cron.text().to_owned()), zone: Some(zone.name().to_owned()), every: None }
            }
            Schedule::Every(interval) => Self { cron: None, zone: None, every: Some(interval.to_string()) },
        }
    }
}

impl Schedule {
    /// A cron schedule in `zone` (an IANA name; UTC when absent).
    ///
    /// # Errors
    /// [`ScheduleError`] names the field or the zone that is wrong.
    pub fn cron(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = match zone {
            None => Tz::UTC,
            Some(name) => name.parse().map_err(|_| ScheduleError::Zone(display_safe_to(name, 64)))?,
        };
        Ok(Self::Cron { cron: Cron::parse(text)?, zone })
    }

    /// A schedule as a person writes it: an interval (`5m`, `every 5 minutes`) or a cron text with an optional zone.
    ///
    /// # Errors
    /// [`ScheduleError`]; a text of one word that is no `@` word is judged as an interval, and intervals have no zone.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let trimmed = text.trim();
        let interval = trimmed.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("every"))
            || (!trimmed.starts_with(['@', '*']) && trimmed.split_ascii_whitespace().count() <= 2);
        match zone {
            _ if !interval => Self::cron(trimmed, zone),
            None => Ok(Self::Every(Interval::parse(trimmed)?)),
            Some(_) => Err(ScheduleError::Kind),
        }
    }

    /// The first slot after `at`; `None` when there is none within the calendar.
    ///
    /// `anchor` is where an interval counts from (when the check came into force); cron ignores it. For an interval both
    /// times are meant to be steady: the time of day when the process started plus monotonic time since.
    #[must_use]
    pub fn next_after(&self, anchor: Timestamp, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { cron, zone } => {
                zoned::next_after(cron, *zone, at.to_utc()?).map(|next| Timestamp::from_datetime(&next))
            }
            Self::Every(interval) => interval.next_after(anchor, at),
        }
    }

    /// The next `count` slots after `at`, at most [`MAX_LISTED_RUNS`].
    #[must_use]
    pub fn next_runs(&self, anchor: Timestamp, at: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(anchor, at), |last| self.next_after(anchor, *last))
            .take(count.min(MAX_LISTED_RUNS))
            .collect()
    }

    /// The zone in which a person thinks of it; UTC for intervals.
    #[must_use]
    pub fn zone(&self) -> Tz {
        match self {
            Self::Cron { zone, .. } => *zone,
            Self::Every(_) => Tz::UTC,
        }
    }

    /// All gaps between the runs of 366 days from the first run after `from`.
    #[must_use]
    pub fn gaps(&self, from: Timestamp) -> GapStatistics {
        gaps::measure(self, from)
    }

    /// The period: the longest gap in 366 days.
    #[must_use]
    pub fn period(&self, from: Timestamp) -> Duration {
        self.gaps(from).longest
    }

    /// The median gap in 366 days.
    #[must_use]
    pub fn median_gap(&self, from: Timestamp) -> Duration {
        self.gaps(from).median
    }
}

/// As a person writes it: `15 2 * * * Europe/Berlin`, `every 5m`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { cron, zone } => f.pad(&format!("{cron} {zone}")),
            Self::Every(interval) => f.pad(&format!("every {interval}")),
        }
    }
}
