//! Local times of a zone as moments: what a clock change skips and what it repeats.
//!
//! A local time that does not exist stands for the first moment after the gap. One that exists twice stands for its first
//! occurrence, except in a schedule that runs in every hour of the day: that one names no hour, and leaving out the repeated
//! hour would leave every node unchecked for an hour (twelve periods of `*/5 * * * *`) and every trust expired. With an hour
//! left out of the day, the longest gap is over an hour anyway and the repeated hour never skips more than one period.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use super::cron::Cron;

/// No clock change ever repeated more than a day.
const LONGEST_REPEAT: TimeDelta = TimeDelta::hours(25);

/// The first run after `at`; `None` beyond the calendar.
pub(super) fn next_after(cron: &Cron, zone: Tz, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let repeats = cron.runs_every_hour();
    let mut from = local(zone, at)?;
    let next = loop {
        let wanted = cron.next_local(from)?;
        match moment(zone, wanted)? {
            (first, _) if first > at => break first,
            (_, Some(second)) if repeats && second > at => break second,
            // `at` lies in the repeated stretch, whose runs were had the first time: on to its end.
            (first, _) => from = wanted.max(reached_before_change(zone, first, at)?),
        }
    };
    if repeats { Some(repeated_run(cron, zone, at, next).unwrap_or(next)) } else { Some(next) }
}

/// Where the clock is set back after `at` and before `next`: the first run of the repeated stretch, if it has one before
/// `next`.
fn repeated_run(cron: &Cron, zone: Tz, at: DateTime<Utc>, next: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end = next.min(at.checked_add_signed(LONGEST_REPEAT)?);
    if offset(zone, end) >= offset(zone, at) {
        return None;
    }
    let change = first_change(zone, at, end)?;
    let restart = local(zone, change)?;
    let wanted = cron.next_local(restart.checked_sub_signed(TimeDelta::seconds(1))?)?;
    let run = change.checked_add_signed(wanted - restart)?;
    (run > at && run < next).then_some(run)
}

fn offset(zone: Tz, at: DateTime<Utc>) -> i32 {
    zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

/// What a clock in `zone` shows at `at`.
pub(super) fn local(zone: Tz, at: DateTime<Utc>) -> Option<NaiveDateTime> {
    at.naive_utc().checked_add_signed(TimeDelta::seconds(offset(zone, at).into()))
}

/// The moment of a local time that exists exactly once.
pub(super) fn only_moment(zone: Tz, wanted: NaiveDateTime) -> Option<DateTime<Utc>> {
    zone.from_local_datetime(&wanted).single().map(|at| at.to_utc())
}

/// The moment a local time stands for, and its second occurrence.
fn moment(zone: Tz, wanted: NaiveDateTime) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)> {
    match zone.from_local_datetime(&wanted) {
        MappedLocalTime::Single(at) => Some((at.to_utc(), None)),
        MappedLocalTime::Ambiguous(first, second) => Some((first.to_utc(), Some(second.to_utc()))),
        MappedLocalTime::None => Some((GapInfo::new(&wanted, &zone)?.end?.to_utc(), None)),
    }
}

/// The latest local time shown before the clock changed between `first` and `at`. Everything up to it was had.
fn reached_before_change(zone: Tz, first: DateTime<Utc>, at: DateTime<Utc>) -> Option<NaiveDateTime> {
    let change = first_change(zone, first, at)?;
    local(zone, change.checked_sub_signed(TimeDelta::seconds(1))?)
}

/// The first whole second in (`from`, `to`] with another offset than `from`, given that `to` has another one.
fn first_change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let before = offset(zone, from);
    let (mut low, mut high) = (from.timestamp(), to.timestamp());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(zone, DateTime::from_timestamp(middle, 0)?) == before { low = middle } else { high = middle }
    }
    DateTime::from_timestamp(high, 0)
}
