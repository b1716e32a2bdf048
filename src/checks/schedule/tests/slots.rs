//! Which slot is due: missed ones, clocks that step, intervals.

use proptest::prelude::*;

use super::*;

fn hourly() -> Schedule {
    cron("@hourly", "UTC")
}

#[test]
fn a_slot_is_due_once() {
    let (last, slot) = (at("2026-05-05T10:00:00Z"), at("2026-05-05T11:00:00Z"));
    assert_eq!(due(&hourly(), ANCHOR, last, slot.minus(SECOND)), None);
    assert_eq!(due(&hourly(), ANCHOR, last, slot), Some(slot));
    assert_eq!(due(&hourly(), ANCHOR, slot, slot.plus(MINUTE)), None);
}

#[test]
fn missed_slots_run_once_as_the_latest_of_them() {
    let last = at("2020-01-01T00:00:00Z");
    assert_eq!(due(&hourly(), ANCHOR, last, at("2026-05-05T11:20:00Z")), Some(at("2026-05-05T11:00:00Z")));
    let every_second = cron("* * * * * *", "Europe/Berlin");
    assert_eq!(due(&every_second, ANCHOR, last, at("2026-05-05T11:20:00.5Z")), Some(at("2026-05-05T11:20:00Z")));
}

#[test]
fn a_corrected_clock_does_not_repeat_the_slot() {
    let nightly = cron("15 2 * * *", "UTC");
    let last = at("2026-05-05T02:15:00Z");
    assert_eq!(due(&nightly, ANCHOR, last, last.minus(SECOND * 5)), None);
    assert_eq!(due(&nightly, ANCHOR, last, last), None);
    assert_eq!(due(&nightly, ANCHOR, last, last.plus(DAY)), Some(last.plus(DAY)));
}

#[test]
fn a_clock_set_back_a_year_runs_once_and_goes_on() {
    let (last, now) = (at("2027-05-05T10:00:00Z"), at("2026-05-05T11:20:00Z"));
    let slot = due(&hourly(), ANCHOR, last, now).unwrap();
    assert_eq!(slot, at("2026-05-05T11:00:00Z"));
    assert_eq!(due(&hourly(), ANCHOR, slot, now.plus(SECOND)), None);
    assert_eq!(due(&hourly(), ANCHOR, slot, now.plus(HOUR)), Some(slot.plus(HOUR)));
}

#[test]
fn a_fast_schedule_does_not_freeze_when_the_clock_is_corrected() {
    let schedule = cron("* * * * * *", "UTC");
    let last = at("2026-05-05T10:00:30Z");
    assert!(due(&schedule, ANCHOR, last, last.minus(SECOND * 5)).is_some());
}

#[test]
fn a_schedule_that_has_not_run_yet_has_no_latest_slot() {
    let rare = cron("0 0 29 2 *", "UTC");
    assert_eq!(latest_at_or_before(&rare, ANCHOR, at("2026-01-01T00:00:00Z")), Some(at("2024-02-29T00:00:00Z")));
    assert_eq!(due(&rare, ANCHOR, at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")), None);
}

#[test]
fn intervals_are_read_in_many_spellings_and_shown_in_one() {
    for (text, shown) in [
        ("30s", "30s"),
        ("every 5 minutes", "5m"),
        ("Every 1 hour", "1h"),
        ("90 seconds", "1m30s"),
        ("1h30m", "1h30m"),
        ("1h 30 min", "1h30m"),
        ("31d", "31d"),
        ("24h", "1d"),
    ] {
        assert_eq!(Interval::parse(text).unwrap().to_string(), shown);
    }
    for bad in
        ["", "every", "5", "0s", "32d", "5x", "-5m", "5m5m", "5m1h", "1.5h", "99999999999999999999s", "every 5", "s"]
    {
        let error = Interval::parse(bad).expect_err(bad).to_string();
        assert!(error.contains("1s to 31d"), "{error}");
    }
}

#[test]
fn an_interval_counts_from_its_anchor() {
    let schedule = Schedule::parse("5m", None).unwrap();
    let anchor = at("2026-05-05T10:00:07Z");
    let runs = schedule.next_runs(anchor, anchor, 2);
    assert_eq!(runs, [anchor.plus(MINUTE * 5), anchor.plus(MINUTE * 10)]);
    assert_eq!(schedule.next_after(anchor, anchor.minus(SECOND)), Some(anchor));
}

proptest! {
    #[test]
    fn whatever_the_clock_does_a_look_runs_at_most_once_and_then_is_content(
        text in prop::sample::select(&["* * * * * *", "*/5 * * * *", "30 2 * * *", "0 0 1 * *"][..]),
        zone in prop::sample::select(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"][..]),
        steps in prop::collection::vec(-200_000_000_i64..200_000_000, 1..20),
    ) {
        let schedule = cron(text, zone);
        let mut now = at("2026-10-25T00:30:00Z");
        let mut last = now;
        for step in steps {
            now = Timestamp(now.0 + step);
            if let Some(slot) = due(&schedule, ANCHOR, last, now) {
                prop_assert!(slot <= now);
                last = slot;
            }
            prop_assert_eq!(due(&schedule, ANCHOR, last, now), None, "runs twice");
            // Never silent for longer than the two slots after now, and the correction allowed for.
            let wake = schedule.next_after(ANCHOR, schedule.next_after(ANCHOR, now).unwrap()).unwrap().plus(MINUTE);
            prop_assert!(due(&schedule, ANCHOR, last, wake).is_some(), "frozen");
        }
    }

    #[test]
    fn interval_slots_are_equally_far_apart(seconds in 1..2_678_400_u64, anchor in any::<i32>(), from in any::<i32>()) {
        let schedule = Schedule::parse(&format!("{seconds}s"), None).unwrap();
        let (anchor, from) = (Timestamp(anchor.into()), Timestamp(from.into()));
        let runs = schedule.next_runs(anchor, from, 3);
        prop_assert!(runs[0] > from && runs[0].since(from) <= SECOND * u32::try_from(seconds).unwrap());
        for pair in runs.windows(2) {
            prop_assert_eq!(pair[1].since(pair[0]).as_secs(), seconds);
        }
    }
}
