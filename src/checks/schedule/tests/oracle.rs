//! Rules that hold for any schedule, against a second opinion that asks every minute.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use proptest::prelude::*;

use super::*;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Gaza",
];

/// A field that is `*`, a step, a list or a range.
fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=high - low).prop_map(|step| format!("*/{step}")),
        2 => prop::collection::btree_set(low..=high, 1..4)
            .prop_map(|set| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
    ]
}

fn five_fields() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// A minute near a clock change of the zone, or anywhere.
fn minute_near_change(zone: Tz) -> impl Strategy<Value = i64> {
    // 1995 to 2030: offsets of whole minutes.
    (789_000_000_i64 / 60..1_900_000_000 / 60, any::<bool>(), 0..2_880_i64).prop_map(move |(minute, near, before)| {
        let offset = |minute: i64| {
            let utc = DateTime::<Utc>::from_timestamp(minute * 60, 0).unwrap();
            utc.with_timezone(&zone).naive_local() - utc.naive_utc()
        };
        let day = 1_440;
        let change = (0..400).map(|days| minute + days * day).find(|at| offset(*at) != offset(at + day));
        change.filter(|_| near).map_or(minute, |change| change + day - before)
    })
}

/// The runs among the minutes after `from`, asked minute by minute from the fields' plain meaning.
fn asked(text: &str, zone: Tz, from: i64, minutes: i64) -> Vec<i64> {
    let fields: Vec<(BTreeSet<u32>, bool)> = text
        .split(' ')
        .zip([(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)])
        .map(|(field, span)| members(field, span))
        .collect();
    let matches = |local: NaiveDateTime| {
        let has = |index: usize, value: u32| fields[index].0.contains(&value);
        let weekday = local.weekday().num_days_from_sunday();
        let (by_day, by_weekday) = (has(2, local.day()), has(4, weekday) || weekday == 0 && has(4, 7));
        let day = if fields[2].1 || fields[4].1 { by_day && by_weekday } else { by_day || by_weekday };
        has(0, local.minute()) && has(1, local.hour()) && has(3, local.month()) && day
    };
    let local =
        |minute: i64| DateTime::<Utc>::from_timestamp(minute * 60, 0).unwrap().with_timezone(&zone).naive_local();
    let is_run = |minute: i64| {
        let here = local(minute);
        let first_time = zone.from_local_datetime(&here).earliest().unwrap().timestamp() == minute * 60;
        let mut skipped = local(minute - 1) + TimeDelta::minutes(1);
        let mut hit = false;
        while skipped < here {
            hit |= matches(skipped);
            skipped += TimeDelta::minutes(1);
        }
        hit || matches(here) && (first_time || fields[1].0.len() == 24)
    };
    (from + 1..=from + minutes).filter(|minute| is_run(*minute)).collect()
}

fn members(field: &str, (low, high): (u32, u32)) -> (BTreeSet<u32>, bool) {
    let number = |text: &str| text.parse::<u32>().unwrap();
    let set = match (field.strip_prefix("*/"), field.split_once('-')) {
        (Some(step), _) => (low..=high).step_by(step.parse().unwrap()).collect(),
        (None, Some((first, last))) => (number(first)..=number(last)).collect(),
        _ if field == "*" => (low..=high).collect(),
        _ => field.split(',').map(number).collect(),
    };
    (set, field.starts_with('*'))
}

fn scene() -> impl Strategy<Value = (String, &'static str, i64)> {
    (five_fields(), prop::sample::select(ZONES)).prop_flat_map(|(text, zone)| {
        let tz: Tz = zone.parse().unwrap();
        (Just(text), Just(zone), minute_near_change(tz))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_run_is_missed_and_none_invented_in_two_days((text, zone, from) in scene()) {
        let Ok(schedule) = Schedule::cron(&text, Some(zone)) else { return Ok(()) };
        let minutes = 2 * 1_440;
        let expected = asked(&text, zone.parse().unwrap(), from, minutes);
        let mut found = Vec::new();
        let mut now = Timestamp(from * 60_000);
        while let Some(next) = schedule.next_after(ANCHOR, now).filter(|next| next.0 <= (from + minutes) * 60_000) {
            prop_assert!(next.0 >= now.0 + 60_000, "two runs within a minute: {now} {next}");
            prop_assert_eq!(next.0 % 60_000, 0);
            found.push(next.0 / 60_000);
            now = next;
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_answer_does_not_depend_on_where_between_two_runs_one_asks((text, zone, from) in scene(), share in 0.0..1.0_f64) {
        let Ok(schedule) = Schedule::cron(&text, Some(zone)) else { return Ok(()) };
        let first = schedule.next_after(ANCHOR, Timestamp(from * 60_000)).unwrap();
        let second = schedule.next_after(ANCHOR, first).unwrap();
        prop_assert!(first < second);
        let between = Timestamp(first.0 + ((second.0 - first.0 - 1) as f64 * share) as i64);
        prop_assert_eq!(schedule.next_after(ANCHOR, between), Some(second));
        prop_assert_eq!(latest_at_or_before(&schedule, ANCHOR, between), Some(first));
    }

    #[test]
    fn text_that_both_calendars_read_alike_means_the_same_translated(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 28), month in field(1, 12), from in 789_000_000_i64..1_900_000_000,
    ) {
        let ours = Schedule::cron(&format!("{minute} {hour} {day} {month} *"), None).unwrap();
        let theirs: ::cron::Schedule = format!("0 {minute} {hour} {day} {month} *").parse().unwrap();
        let start = DateTime::<Utc>::from_timestamp(from, 0).unwrap();
        let expected: Vec<i64> = theirs.after(&start).take(20).map(|run| run.timestamp_millis()).collect();
        let found: Vec<i64> = ours.next_runs(ANCHOR, Timestamp(from * 1000), 20).iter().map(|run| run.0).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_text_is_understood_or_refused(text in "\\PC{0,40}", zone in "\\PC{0,20}") {
        let _ = Schedule::cron(&text, Some(&zone));
        let _ = Schedule::parse(&text, None);
        let _ = Interval::parse(&text);
    }

    #[test]
    fn text_of_cron_letters_is_understood_or_refused(text in "[-0-9*/, a-zA-Z@]{0,30}") {
        let _ = Schedule::parse(&text, Some("UTC"));
    }
}
