//! A year of schedules in zones that change their clocks, slot by slot as the loop goes through it, and in one that left
//! out a day.

use proptest::prelude::*;

use super::*;

/// Zone, and the year that is looked at.
const YEARS: &[(&str, &str)] = &[
    ("Europe/Berlin", "2026-01-01T00:00:00Z"),
    ("America/New_York", "2026-01-01T00:00:00Z"),
    // Its clock is set by half an hour.
    ("Australia/Lord_Howe", "2026-01-01T00:00:00Z"),
    ("Africa/Casablanca", "2026-01-01T00:00:00Z"),
    ("Asia/Kolkata", "2026-01-01T00:00:00Z"),
    // 30 December 2011 did not exist there.
    ("Pacific/Apia", "2011-02-01T00:00:00Z"),
];
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Goes through the slots from `from` to `to`, looking `late` after each, and at once again. Every slot is due once, and
/// not a moment before.
fn slots(schedule: &Schedule, from: Timestamp, to: Timestamp, late: Duration) -> Vec<Timestamp> {
    let mut slots = vec![];
    let mut last = from;
    while let Some(next) = schedule.next_after(ANCHOR, last).filter(|next| *next <= to) {
        assert_eq!(due(schedule, ANCHOR, last, Timestamp(next.0 - 1)), None, "{schedule}: early for {next}");
        let following = schedule.next_after(ANCHOR, next).unwrap();
        let look = next.plus(late).min(Timestamp(following.0 - 1));
        assert_eq!(due(schedule, ANCHOR, last, look), Some(next), "{schedule}");
        assert_eq!(due(schedule, ANCHOR, next, look), None, "{schedule}: {next} twice");
        slots.push(next);
        last = next;
    }
    slots
}

fn longest(slots: &[Timestamp]) -> Duration {
    slots.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
}

/// The two days around every change of the zone's offset in the year after `from`.
fn changes(zone: &str, from: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let zone: Tz = zone.parse().unwrap();
    let local = |at: Timestamp| at.to_utc().unwrap().with_timezone(&zone).naive_local();
    let offset = |at: Timestamp| local(at) - at.to_utc().unwrap().naive_utc();
    let days = (0..366).map(|day| from.plus(DAY * day));
    days.filter(|day| offset(*day) != offset(day.plus(DAY))).map(|day| (day.minus(DAY), day.plus(DAY * 2))).collect()
}

#[test]
fn a_year_of_every_shipped_profile_has_every_slot_once_and_no_gap_above_its_period() {
    for (zone, from) in YEARS {
        let from = at(from);
        for shipped in SHIPPED_PROFILES {
            let schedule = Schedule::cron(shipped.text, Some(zone)).unwrap();
            let period = schedule.period(from);
            let frequent = schedule.median_gap(from) < HOUR;
            // Half a million slots look alike but for the days around a change of the clock.
            let spans = if frequent { changes(zone, from) } else { vec![(from, from.plus(YEAR))] };
            for (start, end) in spans {
                let slots = slots(&schedule, start, end, SECOND * 20);
                assert!(longest(&slots) <= period, "{} in {zone}: {:?}", shipped.name, longest(&slots));
                if frequent {
                    assert_eq!(longest(&slots), schedule.median_gap(from), "{} in {zone} falls silent", shipped.name);
                }
            }
        }
    }
}

#[test]
fn nightly_runs_every_night_of_the_year_whatever_the_clock_did() {
    for (zone, from) in YEARS {
        let from = at(from);
        let schedule = Schedule::cron("15 2 * * *", Some(zone)).unwrap();
        let slots = slots(&schedule, from, from.plus(YEAR), SECOND);
        assert!((366..=367).contains(&slots.len()), "{zone}: {}", slots.len());
        assert!(longest(&slots) <= DAY + HOUR, "{zone}: {:?}", longest(&slots));
    }
}

#[test]
fn a_skipped_local_time_runs_at_the_first_instant_after_the_gap_and_a_doubled_one_once() {
    let runs = |text: &str, zone: &str, from: &str, count: usize| -> Vec<Timestamp> {
        Schedule::cron(text, Some(zone)).unwrap().next_runs(ANCHOR, at(from), count)
    };
    let berlin = runs("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
    assert_eq!(berlin, [at("2026-03-29T01:00:00Z"), at("2026-03-30T00:30:00Z")]);
    let berlin = runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(berlin, [at("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z")], "02:30 came twice");
    // From 02:00 to 02:30 and back.
    let lord_howe = runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 2);
    assert_eq!(lord_howe, [at("2026-10-03T15:30:00Z"), at("2026-10-04T15:15:00Z")]);
    let lord_howe = runs("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", 2);
    assert_eq!(lord_howe, [at("2026-04-04T14:45:00Z"), at("2026-04-05T15:15:00Z")]);
    // Neither noon nor night of 30 December 2011: all of it runs at the first instant of the 31st, once.
    let apia = runs("0 6,12,18 * * *", "Pacific/Apia", "2011-12-30T03:00:00Z", 3);
    assert_eq!(apia, [at("2011-12-30T04:00:00Z"), at("2011-12-30T10:00:00Z"), at("2011-12-30T16:00:00Z")]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_year_of_any_cron_has_every_slot_once_and_no_gap_above_its_period(
        minute in 0_u32..60,
        hours in prop::collection::btree_set(0_u32..24, 1..4),
        weekdays in prop_oneof![Just("*".to_owned()), (0_u32..7).prop_map(|day| day.to_string())],
        (zone, from) in prop::sample::select(YEARS),
        late in 0_u64..1_000,
    ) {
        let hours: Vec<String> = hours.iter().map(u32::to_string).collect();
        let schedule = Schedule::cron(&format!("{minute} {} * * {weekdays}", hours.join(",")), Some(zone)).unwrap();
        let from = at(from);
        let first = schedule.next_after(ANCHOR, from).unwrap();
        let slots = slots(&schedule, from, first.plus(YEAR), SECOND * u32::try_from(late).unwrap());
        prop_assert!(longest(&slots) <= schedule.period(from));
    }
}
