//! Intervals: `30s`, `5m`, `every 2 hours`. They count steady time and know no calendar.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::text::display_safe_to;

/// Shortest interval.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest interval: 31 days.
pub const MAX_INTERVAL: Duration = Duration::from_secs(31 * 24 * 3600);

const UNITS: [(&[&str], u64); 4] = [
    (&["d", "day", "days"], 86_400),
    (&["h", "hour", "hours"], 3_600),
    (&["m", "min", "minute", "minutes"], 60),
    (&["s", "sec", "second", "seconds"], 1),
];

/// Why a text is no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no interval: write a number and s, m, h or d, from 1s to 31d, such as 30s, 5m or 1h30m")]
pub struct IntervalError(String);

/// A whole number of seconds from 1 to 31 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u64);

impl Interval {
    /// Reads `30s`, `1h30m`, `5 minutes`, `every 5 minutes`.
    ///
    /// # Errors
    /// [`IntervalError`] for anything else, and outside 1 second to 31 days.
    pub fn parse(text: &str) -> Result<Self, IntervalError> {
        Self::read(text)
            .filter(|seconds| (MIN_INTERVAL.as_secs()..=MAX_INTERVAL.as_secs()).contains(seconds))
            .map(Self)
            .ok_or_else(|| IntervalError(display_safe_to(text, 64)))
    }

    fn read(text: &str) -> Option<u64> {
        let lower = text.trim().to_ascii_lowercase();
        let mut rest = lower.strip_prefix("every").unwrap_or(&lower).trim_start();
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at(digits);
            let tail = tail.trim_start();
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (word, tail) = tail.split_at(letters);
            let (_, unit) = UNITS.iter().find(|(words, _)| words.contains(&word))?;
            // Larger units first, each once: 5m1h is more likely a slip than an intention.
            if *unit >= last_unit {
                return None;
            }
            last_unit = *unit;
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit)?)?;
            rest = tail.trim_start();
        }
        Some(total)
    }

    /// Its length.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// The first of `anchor`, `anchor` ± 1, 2, ... intervals that is after `at`.
    pub(super) fn next_after(self, anchor: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let step = i128::from(self.0) * 1000;
        let turns = (i128::from(at.0) - i128::from(anchor.0)).div_euclid(step) + 1;
        i64::try_from(i128::from(anchor.0) + turns * step).ok().map(Timestamp)
    }
}

/// The shortest text for it: `1h30m`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut rest = self.0;
        for (words, unit) in UNITS {
            if rest >= unit {
                text.push_str(&format!("{}{}", rest / unit, words.first().unwrap_or(&"")));
                rest %= unit;
            }
        }
        f.pad(&text)
    }
}
