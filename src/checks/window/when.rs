//! From when to when a window is open. Pure.

use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checks::schedule::{self, Schedule};
use crate::clock::Timestamp;

/// The longest window that is open once: 366 days.
const LONGEST_ONCE: Duration = Duration::from_secs(366 * 86_400);
/// The shortest and the longest time a window is open that opens again and again, in seconds: a minute, 7 days.
const DURATION_S: (i64, i64) = (60, 7 * 86_400);

/// When a window is open. As JSON: `{"from": TIME, "until": TIME}`, or `{"schedule": {"cron": ...}, "duration_s": 7200}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum When {
    /// Once.
    Once {
        /// Open from this time on.
        #[serde(with = "text")]
        from: Timestamp,
        /// And no more at this.
        #[serde(with = "text")]
        until: Timestamp,
    },
    /// From every slot of a cron schedule on.
    Recurring {
        /// When it opens.
        schedule: Schedule,
        /// How long it is open, of true time: an hour that a clock change takes or gives does not count.
        duration_s: i64,
    },
}

/// One time a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// From then on.
    pub start: Timestamp,
    /// Until then, exclusive.
    pub end: Timestamp,
}

impl When {
    /// How long it is open at a time.
    #[must_use]
    pub fn length(&self) -> Duration {
        match self {
            Self::Once { from, until } => until.since(*from),
            Self::Recurring { duration_s, .. } => Duration::from_secs(u64::try_from(*duration_s).unwrap_or(0)),
        }
    }

    /// The occurrence that `at` lies in.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Option<Occurrence> {
        let start = match self {
            Self::Once { from, .. } => Some(*from).filter(|from| *from <= at),
            Self::Recurring { schedule, .. } => schedule::latest_at_or_before(schedule, at, at),
        }?;
        let end = start.plus(self.length());
        (at < end).then_some(Occurrence { start, end })
    }

    /// The first occurrence that begins after `at`.
    #[must_use]
    pub fn next(&self, at: Timestamp) -> Option<Occurrence> {
        let start = match self {
            Self::Once { from, .. } => Some(*from).filter(|from| *from > at),
            Self::Recurring { schedule, .. } => schedule.next_after(at, at),
        }?;
        Some(Occurrence { start, end: start.plus(self.length()) })
    }

    /// When the last occurrence ends; `None` where there is always another.
    #[must_use]
    pub fn over_at(&self) -> Option<Timestamp> {
        match self {
            Self::Once { until, .. } => Some(*until),
            Self::Recurring { .. } => None,
        }
    }

    /// Every fault, as sentences; gaps of a schedule are looked at from `now` on.
    #[must_use]
    pub fn faults(&self, now: Timestamp) -> Vec<String> {
        let mut faults = Vec::new();
        match self {
            Self::Once { from, until } => {
                if until <= from {
                    faults.push(format!("until ({until}) is not after from ({from})"));
                } else if until.since(*from) > LONGEST_ONCE {
                    faults.push("until is more than 366 days after from; a window has to end".to_owned());
                }
                if *until <= now {
                    faults.push(format!("until ({until}) is over; it is {now}"));
                }
            }
            Self::Recurring { schedule: Schedule::Every(_), .. } => {
                faults
                    .push("schedule: a window opens at times of day: give cron text, such as \"0 2 * * 0\"".to_owned());
            }
            Self::Recurring { schedule, duration_s } => {
                let (low, high) = DURATION_S;
                if !(low..=high).contains(duration_s) {
                    faults.push(format!("duration_s is {duration_s}; use {low} to {high}"));
                }
                let shortest = schedule.gaps(now).shortest;
                if self.length() >= shortest {
                    faults.push(format!(
                        "duration_s is {duration_s}, and the schedule comes again after {} s: a window has to end before it opens again",
                        shortest.as_secs()
                    ));
                }
            }
        }
        faults
    }
}

/// A time as it is written down: RFC 3339, of any zone.
///
/// # Errors
/// A sentence.
pub fn read_time(text: &str) -> Result<Timestamp, String> {
    let read = DateTime::parse_from_rfc3339(text);
    read.map(|at| Timestamp::from_datetime(&at))
        .map_err(|_| format!("{:?} is no time: write 2026-11-22T13:00:00Z", crate::text::display_safe_to(text, 64)))
}

/// Times as people read them: RFC 3339, UTC.
mod text {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        at.to_string().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        super::read_time(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "when_tests.rs"]
mod tests;
