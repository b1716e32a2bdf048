//! Periods, medians and the time to live that follows.

use super::*;

const FROM: &str = "2026-01-01T00:00:00Z";

fn gaps_of(text: &str, zone: &str) -> GapStatistics {
    cron(text, zone).gaps(at(FROM))
}

/// All gaps, run by run.
fn counted(schedule: &Schedule) -> GapStatistics {
    let first = schedule.next_after(ANCHOR, at(FROM)).unwrap();
    let (mut run, mut gaps) = (first, Vec::new());
    while run.since(first) < DAY * 366 {
        let next = schedule.next_after(ANCHOR, run).unwrap();
        gaps.push(next.since(run));
        run = next;
    }
    gaps.sort();
    GapStatistics {
        longest: gaps[gaps.len() - 1],
        shortest: gaps[0],
        median: gaps[(gaps.len() - 1) / 2],
        count: gaps.len() as u64,
    }
}

#[test]
fn the_shortcut_counts_every_gap() {
    for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"] {
        for text in [
            "*/5 * * * *",
            "0,50 * * * *",
            "7,9,31 */5 * * *",
            "*/20 1-3 * * *",
            "30 2 * * *",
            "0 0 1 * *",
            "*/10 8-18 * * 1-5",
        ] {
            assert_eq!(gaps_of(text, zone), counted(&cron(text, zone)), "{text} {zone}");
        }
    }
}

#[test]
fn a_schedule_of_every_second_is_measured_at_once() {
    let started = std::time::Instant::now();
    let gaps = gaps_of("* * * * * *", "Europe/Berlin");
    assert_eq!((gaps.longest, gaps.median, gaps.count), (SECOND, SECOND, 366 * 86_400));
    assert!(started.elapsed() < MINUTE / 4, "{:?}", started.elapsed());
}

#[test]
fn the_period_is_the_longest_gap_of_the_year() {
    for (text, zone, longest, median) in [
        ("15 2 * * *", "UTC", DAY, DAY),
        // The night in October in which the clock is set back.
        ("15 4 * * *", "Europe/Berlin", HOUR * 25, DAY),
        ("*/5 * * * *", "Europe/Berlin", MINUTE * 5, MINUTE * 5),
        ("0 0 * * 1-5", "UTC", DAY * 3, DAY),
        ("0 0 1 * *", "UTC", DAY * 31, DAY * 31),
        // The second gap from here begins a leap year.
        ("0 0 1 1 *", "UTC", DAY * 366, DAY * 365),
        ("0 0 29 2 *", "UTC", DAY * 1461, DAY * 1461),
        ("0 8-17 * * *", "UTC", HOUR * 15, HOUR),
    ] {
        let gaps = gaps_of(text, zone);
        assert_eq!((gaps.longest, gaps.median), (longest, median), "{text}");
    }
    assert_eq!(Schedule::parse("90s", None).unwrap().period(at(FROM)), SECOND * 90);
}

#[test]
fn the_default_time_to_live_is_two_periods_splay_and_timeout() {
    let ttl = |schedule: &Schedule| default_ttl(schedule, at(FROM), MINUTE * 2, MINUTE * 3);
    assert_eq!(ttl(&cron("*/5 * * * *", "Europe/Berlin")), Ok(MINUTE * 15));
    assert_eq!(ttl(&cron("15 2 * * *", "Europe/Berlin")), Ok(HOUR * 50 + MINUTE * 5));
    assert_eq!(ttl(&Schedule::parse("every 10 minutes", None).unwrap()), Ok(MINUTE * 25));
    // Exactly twice the median is still even enough.
    assert!(ttl(&cron("0,20 * * * *", "UTC")).is_ok());
}

#[test]
fn uneven_schedules_must_name_their_time_to_live() {
    for text in ["0 8-17 * * *", "0 0 * * 1-5", "*/10 8-18 * * *", "0,50 * * * *"] {
        let error = default_ttl(&cron(text, "UTC"), at(FROM), SECOND, SECOND).expect_err(text);
        assert!(error.to_string().contains("ttl explicitly"), "{error}");
    }
}

#[test]
fn every_shipped_profile_has_a_default_time_to_live() {
    let names: Vec<_> = SHIPPED_PROFILES.iter().map(|profile| profile.name).collect();
    assert_eq!(names, ["every-minute", "five-minutes", "hourly", "nightly"]);
    for profile in SHIPPED_PROFILES {
        let schedule = profile.schedule().unwrap();
        crate::names::ProfileName::new(profile.name).unwrap();
        default_ttl(&schedule, at(FROM), SECOND, SECOND).unwrap();
    }
}
