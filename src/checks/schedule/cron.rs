//! Cron text as crontab(5) means it, and the local times it names.
//!
//! Five fields are minute, hour, day of month, month, day of week; six put seconds first. The two day fields follow
//! crontab(5): when both are restricted either one is enough; a field that starts with `*` is unrestricted, and then both
//! must match (for `*` itself that is no condition; for `*/2` it is one).
//!
//! The `cron` package finds the runs. Its calendar is another one, so it is given a translation: weekdays counted from
//! Sunday = 1, seconds first, and, because it always joins its two day fields by *and*, a second schedule where either is
//! enough. It is asked in local time written as if it were UTC, for it drops what a clock change skips; `zoned` knows what
//! becomes of that. It knows the years 1970 to 2100: there are no runs outside them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use cron::TimeUnitSpec;

use super::field::{self, Field, FieldSpec};
use crate::text::display_safe_to;

/// Longest text looked at.
const MAX_TEXT: usize = 256;

/// The years the `cron` package knows.
const FIRST_YEAR: i32 = 1970;
const LAST_YEAR: i32 = 2100;

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
    /// Understood here, but not by the calendar behind.
    #[error("{0:?} cannot be used as a schedule; write it in another way, for instance with lists instead of ranges")]
    Unusable(String),
}

/// A cron text that was understood and runs at some time.
#[derive(Clone)]
pub struct Cron {
    text: String,
    calendar: Arc<Calendar>,
}

/// What the text names, as the package has it. Seconds, minutes, hours and months are the same in both schedules.
struct Calendar {
    main: cron::Schedule,
    /// Where either day field is enough: the second one (the first is in `main`).
    or: Option<cron::Schedule>,
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
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let count = fields.len();
        let Ok([second, minute, hour, day, month, weekday]) = <[&str; 6]>::try_from(fields) else {
            return Err(CronError::FieldCount { text: shown(), count });
        };
        let read = |spec: &'static FieldSpec, text: &str| field::parse(spec, text);
        let times = [read(&field::SECOND, second)?, read(&field::MINUTE, minute)?, read(&field::HOUR, hour)?];
        let (day, month, weekday) =
            (read(&field::DAY, day)?, read(&field::MONTH, month)?, read(&field::WEEKDAY, weekday)?);
        let calendar = Calendar::new(&times, &day, &month, &weekday).ok_or_else(|| CronError::Unusable(shown()))?;
        if calendar.next_after(DateTime::UNIX_EPOCH).is_none() {
            return Err(CronError::Never(shown()));
        }
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { text, calendar: Arc::new(calendar) })
    }

    /// The text as given, one blank between fields.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The minutes of its hours.
    pub(super) fn minutes(&self) -> impl Iterator<Item = u32> {
        self.calendar.main.minutes().iter()
    }

    /// The seconds of its minutes.
    pub(super) fn seconds(&self) -> impl Iterator<Item = u32> {
        self.calendar.main.seconds().iter()
    }

    /// True where the schedule runs in every hour of a day: it names no hour, so an hour that a clock change repeats is an
    /// hour like any other.
    pub(super) fn runs_every_hour(&self) -> bool {
        self.calendar.main.hours().is_all()
    }

    /// The first local time after `after` that the text names, taking every day to have 24 hours; `None` beyond the
    /// calendar.
    pub(super) fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.calendar.next_after(after.and_utc()).map(|next| next.naive_utc())
    }
}

impl Calendar {
    fn new(times: &[Field; 3], day: &Field, month: &Field, weekday: &Field) -> Option<Self> {
        let times = times.each_ref().map(Field::translated).join(" ");
        let schedule = |day: &str, weekday: &str| {
            format!("{times} {day} {} {weekday}", month.translated()).parse::<cron::Schedule>().ok()
        };
        let (on_day, on_weekday) = (day.translated(), weekday.translated());
        Some(if day.starred || weekday.starred {
            Self { main: schedule(&on_day, &on_weekday)?, or: None }
        } else {
            Self { main: schedule(&on_day, "*")?, or: Some(schedule("*", &on_weekday)?) }
        })
    }

    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The package takes years as unsigned numbers and steps a second before it looks.
        let after = match after.year() {
            ..FIRST_YEAR => DateTime::from_timestamp(-1, 0)?,
            FIRST_YEAR..=LAST_YEAR => after,
            _ => return None,
        };
        let schedules = [Some(&self.main), self.or.as_ref()];
        schedules.into_iter().flatten().filter_map(|schedule| schedule.after(&after).next()).min()
    }
}

/// The text decides everything else.
impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Hash for Cron {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
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
