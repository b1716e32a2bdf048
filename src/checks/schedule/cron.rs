//! Cron text as crontab(5) means it, and the local times it names.
//!
//! Five fields are minute, hour, day of month, month, day of week; six put seconds first. The two day fields follow
//! crontab(5): when both are restricted either one is enough; a field that starts with `*` is unrestricted, and then both
//! must match (for `*` itself that is no condition; for `*/2` it is one).
//!
//! The `cron` package keeps another calendar (Sunday is 1, both day fields always joined by *and*, nothing after 2100, runs
//! in a clock change's gap dropped), so that it would need a translated text, two schedules for the *or* and a second
//! pass over its answers. A set of bits per field is shorter than that and a hundred times cheaper to step through; the
//! package serves the tests as a second opinion.

use std::fmt;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::field::{self, FieldSet, FieldSpec};
use crate::text::display_safe_to;

/// Longest text looked at.
const MAX_TEXT: usize = 256;

/// Further than this no run is looked for: 29 February on a given weekday is at most 40 years away.
const HORIZON_YEARS: i32 = 50;

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// One field is wrong.
    #[error(
        "{field} field {text:?}: {problem}. Allowed: {allowed}, * for all, lists (1,3), ranges (1-5) and steps (*/2, 1-9/2)"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// What stood there, made safe.
        text: String,
        /// What is wrong with it.
        problem: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// Not five or six fields.
    #[error(
        "{text:?} has {count} fields: a cron schedule has five (minute, hour, day of month, month, day of week), or six with seconds first"
    )]
    FieldCount {
        /// The text, made safe.
        text: String,
        /// How many fields it has.
        count: usize,
    },
    /// An unknown `@` word.
    #[error(
        "{0:?} is not known: use @hourly, @daily (@midnight), @weekly, @monthly, @yearly (@annually), or five fields"
    )]
    Macro(String),
    /// No date fits.
    #[error("{0:?} never runs: no month it names has such a day")]
    Never(String),
}

/// A cron text that was understood and runs at some time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cron {
    text: String,
    pub(super) seconds: FieldSet,
    pub(super) minutes: FieldSet,
    pub(super) hours: FieldSet,
    days: FieldSet,
    months: FieldSet,
    weekdays: FieldSet,
}

impl Cron {
    /// Reads five or six fields or an `@` word.
    ///
    /// # Errors
    /// [`CronError`] names the field and what is allowed in it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let shown = || display_safe_to(text, 64);
        if text.len() > MAX_TEXT {
            return Err(CronError::FieldCount { text: shown(), count: text.split_ascii_whitespace().count() });
        }
        let expanded = match text.trim() {
            word if word.starts_with('@') => expand(word).ok_or_else(|| CronError::Macro(shown()))?,
            plain => plain,
        };
        let mut fields: Vec<&str> = expanded.split_ascii_whitespace().collect();
        let seconds = match fields.len() {
            5 => FieldSet::only(0),
            6 => field::parse(&field::SECOND, fields.remove(0))?,
            count => return Err(CronError::FieldCount { text: shown(), count }),
        };
        let read =
            |index: usize, spec: &'static FieldSpec| field::parse(spec, fields.get(index).copied().unwrap_or_default());
        let cron = Self {
            text: text.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            seconds,
            minutes: read(0, &field::MINUTE)?,
            hours: read(1, &field::HOUR)?,
            days: read(2, &field::DAY)?,
            months: read(3, &field::MONTH)?,
            weekdays: read(4, &field::WEEKDAY)?,
        };
        if cron.never_runs() { Err(CronError::Never(shown())) } else { Ok(cron) }
    }

    /// The text as given, one blank between fields.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True where the schedule runs in every hour of a day: it names no hour, so an hour that a clock change repeats is an
    /// hour like any other.
    pub(super) fn runs_every_hour(&self) -> bool {
        self.hours.len() == 24
    }

    fn either_day_field(&self) -> bool {
        !self.days.is_starred() && !self.weekdays.is_starred()
    }

    fn never_runs(&self) -> bool {
        let length = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        // Every date falls on every weekday within 40 years, so only day and month can contradict each other.
        !self.either_day_field() && !self.months.iter().any(|month| self.days.first() <= length(month))
    }

    fn runs_on(&self, date: NaiveDate) -> bool {
        let day = self.days.contains(date.day());
        let weekday = self.weekdays.contains(date.weekday().num_days_from_sunday());
        self.months.contains(date.month()) && if self.either_day_field() { day || weekday } else { day && weekday }
    }

    /// The first local time after `after` that the text names, taking every day to have 24 hours; `None` beyond the
    /// calendar.
    pub(super) fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let start = after.with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?;
        if self.runs_on(start.date())
            && let Some(time) = self.time_at_or_after(start.time())
        {
            return Some(start.date().and_time(time));
        }
        let date = self.day_at_or_after(start.date().succ_opt()?)?;
        let first = NaiveTime::from_hms_opt(self.hours.first(), self.minutes.first(), self.seconds.first())?;
        Some(date.and_time(first))
    }

    fn time_at_or_after(&self, time: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute) = (time.hour(), time.minute());
        if self.hours.contains(hour) {
            if self.minutes.contains(minute)
                && let Some(second) = self.seconds.at_or_after(time.second())
            {
                return NaiveTime::from_hms_opt(hour, minute, second);
            }
            if let Some(minute) = self.minutes.at_or_after(minute + 1) {
                return NaiveTime::from_hms_opt(hour, minute, self.seconds.first());
            }
        }
        let hour = self.hours.at_or_after(hour + 1)?;
        NaiveTime::from_hms_opt(hour, self.minutes.first(), self.seconds.first())
    }

    fn day_at_or_after(&self, start: NaiveDate) -> Option<NaiveDate> {
        let mut date = start;
        while date.year() <= start.year().saturating_add(HORIZON_YEARS) {
            if !self.months.contains(date.month()) {
                date = date.with_day(1)?.checked_add_months(chrono::Months::new(1))?;
            } else if self.runs_on(date) {
                return Some(date);
            } else {
                date = date.checked_add_days(Days::new(1))?;
            }
        }
        None
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

fn expand(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return None,
    })
}
