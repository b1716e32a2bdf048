//! One field of a cron text: what crontab(5) allows in it, said in our own terms, and its translation for the `cron` package.
//!
//! The package's own faults name neither the field nor what may stand there, and its weekdays count from Sunday = 1; so a
//! field is understood here and handed over as a plain list of numbers, which no calendar reads differently.

use super::cron::CronError;
use crate::text::display_safe_to;

/// What may stand in a field.
#[derive(Debug)]
pub(super) struct FieldSpec {
    /// How messages call it.
    pub name: &'static str,
    /// Smallest number.
    pub min: u8,
    /// Largest number.
    pub max: u8,
    /// Three-letter names, the first one meaning `min`.
    pub names: &'static [&'static str],
    /// The sentence that says what is allowed.
    pub allowed: &'static str,
}

impl FieldSpec {
    fn is_weekday(&self) -> bool {
        self.max == WEEKDAY.max
    }

    /// How many different numbers there are.
    fn size(&self) -> usize {
        usize::from(self.top() - self.min) + 1
    }

    /// The largest number that is not another one's second name: Saturday, for 7 is Sunday again.
    fn top(&self) -> u8 {
        if self.is_weekday() { self.max - 1 } else { self.max }
    }
}

pub(super) const SECOND: FieldSpec = FieldSpec { name: "second", min: 0, max: 59, names: &[], allowed: "0 to 59" };
pub(super) const MINUTE: FieldSpec = FieldSpec { name: "minute", min: 0, max: 59, names: &[], allowed: "0 to 59" };
pub(super) const HOUR: FieldSpec = FieldSpec { name: "hour", min: 0, max: 23, names: &[], allowed: "0 to 23" };
pub(super) const DAY: FieldSpec = FieldSpec { name: "day-of-month", min: 1, max: 31, names: &[], allowed: "1 to 31" };
pub(super) const MONTH: FieldSpec = FieldSpec {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    allowed: "1 to 12 or jan to dec",
};
pub(super) const WEEKDAY: FieldSpec = FieldSpec {
    name: "day-of-week",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    allowed: "0 to 7 (0 and 7 are Sunday) or sun to sat",
};

/// A field that was understood.
#[derive(Debug)]
pub(super) struct Field {
    /// The numbers it admits, one bit each; all are below 64.
    bits: u64,
    /// True where the text starts with `*`: what crontab(5) calls unrestricted.
    pub starred: bool,
    spec: &'static FieldSpec,
}

impl Field {
    /// The same numbers as the `cron` package writes them.
    pub(super) fn translated(&self) -> String {
        // Sunday is its 1; elsewhere the numbers are the same.
        let shift = if self.spec.is_weekday() { 1 } else { 0 };
        let numbers: Vec<String> =
            (0..64_u32).filter(|value| self.bits >> value & 1 == 1).map(|value| (value + shift).to_string()).collect();
        if numbers.len() == self.spec.size() { "*".to_owned() } else { numbers.join(",") }
    }
}

/// Reads one field.
pub(super) fn parse(spec: &'static FieldSpec, text: &str) -> Result<Field, CronError> {
    let mut bits = 0;
    for item in text.split(',') {
        bits |= parse_item(spec, text, item)?;
    }
    if spec.is_weekday() {
        // 7 is Sunday too.
        bits = (bits | bits >> 7) & 0x7f;
    }
    Ok(Field { bits, starred: text.starts_with('*'), spec })
}

fn refuse(spec: &FieldSpec, text: &str, problem: String) -> CronError {
    CronError::Field { field: spec.name, text: display_safe_to(text, 64), problem, allowed: spec.allowed }
}

fn parse_item(spec: &FieldSpec, text: &str, item: &str) -> Result<u64, CronError> {
    let (range, step) = match item.split_once('/') {
        None => (item, None),
        Some((range, step)) => (range, Some(parse_step(spec, text, step)?)),
    };
    let (low, high) = if range == "*" {
        // Up to Saturday only: 7 would be Sunday a second time, a step out of line.
        (spec.min, spec.top())
    } else if let Some((low, high)) = range.split_once('-') {
        let low = parse_value(spec, text, low)?;
        let mut end = parse_value(spec, text, high)?;
        if spec.is_weekday() && end == 0 && low > 0 && high.eq_ignore_ascii_case("sun") {
            end = 7;
        }
        (low, end)
    } else {
        let value = parse_value(spec, text, range)?;
        if step.is_some() {
            let problem = format!("a step needs a range before it; write {value}-{}/… or */…", spec.max);
            return Err(refuse(spec, text, problem));
        }
        (value, value)
    };
    if low > high {
        let problem =
            format!("the range {low}-{high} runs backwards; write it as two, {low}-{},{}-{high}", spec.max, spec.min);
        return Err(refuse(spec, text, problem));
    }
    Ok((low..=high).step_by(usize::from(step.unwrap_or(1))).fold(0, |bits, value| bits | 1 << value))
}

fn parse_value(spec: &FieldSpec, text: &str, value: &str) -> Result<u8, CronError> {
    if let Some(index) = spec.names.iter().position(|name| name.eq_ignore_ascii_case(value)) {
        return Ok(spec.min.saturating_add(u8::try_from(index).unwrap_or(0)));
    }
    let problem = || match value {
        "" => "a value is missing".to_owned(),
        "?" | "L" | "W" | "#" => "? L W and # belong to other schedulers; use * for every".to_owned(),
        _ => format!("{:?} is not one of its values", display_safe_to(value, 32)),
    };
    let digits = !value.is_empty() && value.len() <= 3 && value.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { value.parse::<u8>().ok() } else { None };
    number.filter(|number| (spec.min..=spec.max).contains(number)).ok_or_else(|| refuse(spec, text, problem()))
}

fn parse_step(spec: &FieldSpec, text: &str, step: &str) -> Result<u8, CronError> {
    let span = spec.max - spec.min + 1;
    let digits = !step.is_empty() && step.len() <= 3 && step.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { step.parse::<u8>().ok() } else { None };
    // A step beyond the field would run once per turn of it, never every so many: */90 is hourly, not every 90 minutes.
    number.filter(|number| (1..=span).contains(number)).ok_or_else(|| {
        let problem = format!("the step must be 1 to {span}; for anything longer use an interval such as 90m");
        refuse(spec, text, problem)
    })
}
