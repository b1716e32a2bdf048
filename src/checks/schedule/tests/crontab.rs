//! Cron text: what is understood, how what is not is refused, and the table of runs.

use super::*;

#[test]
fn runs_agree_with_the_table_across_zones_and_clock_changes() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for line in include_str!("runs.txt").lines().filter(|line| !line.starts_with('#')) {
        let [text, zone, from, runs]: [&str; 4] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let expected: Vec<Timestamp> =
            runs.split(' ').map(|run| Timestamp(run.parse::<i64>().unwrap() * 1000)).collect();
        let found = cron(text, zone).next_runs(ANCHOR, at(from), 5);
        if found != expected {
            wrong.push(format!("{text} {zone} {from}: {found:?} instead of {expected:?}"));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{} of {rows}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows > 200);
}

#[test]
fn a_time_in_the_gap_runs_at_its_end_and_a_time_that_exists_twice_runs_once() {
    let nightly = cron("30 2 * * *", "Europe/Berlin");
    let spring = nightly.next_runs(ANCHOR, at("2026-03-28T12:00:00Z"), 2);
    assert_eq!(spring, [at("2026-03-29T01:00:00Z"), at("2026-03-30T00:30:00Z")]);
    let autumn = nightly.next_runs(ANCHOR, at("2026-10-24T12:00:00Z"), 2);
    assert_eq!(autumn, [at("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z")]);
}

#[test]
fn a_schedule_of_every_hour_does_not_fall_silent_while_an_hour_repeats() {
    let runs = cron("*/5 * * * *", "Europe/Berlin").next_runs(ANCHOR, at("2026-10-24T23:57:00Z"), 40);
    for pair in runs.windows(2) {
        assert_eq!(pair[1].since(pair[0]), MINUTE * 5);
    }
}

#[test]
fn only_an_hour_field_of_all_24_hours_runs_in_both_passes_of_a_repeated_hour() {
    // In Berlin 02:00 to 03:00 comes twice, from 00:00Z and from 01:00Z.
    let (from, end) = (at("2026-10-24T23:59:00Z"), at("2026-10-25T02:00:00Z"));
    for (text, passes) in
        [("30 * * * *", 2), ("30 0-23 * * *", 2), ("30 0-22 * * *", 1), ("30 1-23 * * *", 1), ("30 2 * * *", 1)]
    {
        let runs = cron(text, "Europe/Berlin").next_runs(ANCHOR, from, 9);
        let found: Vec<_> = runs.into_iter().filter(|run| *run < end).collect();
        let both = [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")];
        assert_eq!(found, both[..passes], "{text}");
    }
}

#[test]
fn there_are_no_runs_before_1970_and_after_2100() {
    let yearly = cron("@yearly", "UTC");
    assert_eq!(yearly.next_after(ANCHOR, at("1900-05-05T00:00:00Z")), Some(at("1970-01-01T00:00:00Z")));
    assert_eq!(yearly.next_after(ANCHOR, at("2099-05-05T00:00:00Z")), Some(at("2100-01-01T00:00:00Z")));
    assert_eq!(yearly.next_after(ANCHOR, at("2100-05-05T00:00:00Z")), None);
}

#[test]
fn both_sundays_names_and_macros_mean_the_same() {
    let from = at("2026-05-05T00:00:00Z");
    for (one, other) in [
        ("0 0 * * 0", "0 0 * * 7"),
        ("0 0 * * 5-7", "0 0 * * fri-sun"),
        ("0 0 * * 0,5,6", "0 0 * * FRI,sat,Sun"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "@midnight"),
        ("@yearly", "@annually"),
        ("@monthly", "0 0 1 jan-dec *"),
        ("@hourly", "0 0 * * * *"),
        ("  7   */6 * * *  ", "7\t0,6,12,18 * * *"),
        ("0 0 * * */2", "0 0 * * 0,2,4,6"),
    ] {
        let runs = |text| cron(text, "Europe/Berlin").next_runs(ANCHOR, from, 20);
        assert_eq!(runs(one), runs(other), "{one} and {other}");
    }
}

#[test]
fn bad_text_is_refused_by_the_name_of_its_field() {
    for (text, parts) in [
        ("60 * * * *", ["minute", "0 to 59"]),
        ("* 24 * * *", ["hour", "0 to 23"]),
        ("* * 0 * *", ["day-of-month", "1 to 31"]),
        ("* * 32 * *", ["day-of-month", "1 to 31"]),
        ("* * * 13 *", ["month", "jan to dec"]),
        ("* * * foo *", ["month", "foo"]),
        ("* * * * 8", ["day-of-week", "Sunday"]),
        ("60 * * * * *", ["second", "0 to 59"]),
        ("*/0 * * * *", ["minute", "step"]),
        ("*/90 * * * *", ["minute", "interval"]),
        ("*/ * * * *", ["minute", "step"]),
        ("5/10 * * * *", ["minute", "5-59"]),
        ("30-10 * * * *", ["minute", "backwards"]),
        ("1,,2 * * * *", ["minute", "missing"]),
        ("- * * * *", ["minute", "missing"]),
        ("+5 * * * *", ["minute", "+5"]),
        ("0 0 ? * *", ["day-of-month", "other schedulers"]),
        ("0 0 L * *", ["day-of-month", "other schedulers"]),
        ("99999999999999999999 * * * *", ["minute", "0 to 59"]),
        ("* * * *", ["4 fields", "five"]),
        ("0 0 0 1 1 * 2026", ["7 fields", "five"]),
        ("", ["0 fields", "five"]),
        ("@reboot", ["@reboot", "@daily"]),
        ("0 0 31 2 *", ["never", "31"]),
        ("0 0 30 2 */2", ["never", "30"]),
        ("0 0 31 4,6,9,11 *", ["never", "31"]),
        ("\u{202e}\u{1b}[31m * * * *", ["minute", "u{202e}"]),
        (&"1,".repeat(10_000), ["fields", "five"]),
    ] {
        let error = Cron::parse(text).expect_err(text).to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        assert!(!error.contains(['\u{202e}', '\u{1b}']) && error.len() < 500, "{error}");
    }
    assert!(Cron::parse("0 0 31 2 mon").is_ok(), "either day field is enough");
    assert!(Cron::parse("0 0 29 2 *").is_ok());
}

#[test]
fn an_unknown_zone_is_refused_by_name() {
    let error = Schedule::cron("* * * * *", Some("Europe/Atlantis")).unwrap_err().to_string();
    assert!(error.contains("Europe/Atlantis") && error.contains("IANA"), "{error}");
}

#[test]
fn the_ends_of_the_calendar_are_no_runs_and_no_panics() {
    for zone in ["UTC", "Europe/Berlin", "Pacific/Apia"] {
        for text in ["* * * * * *", "0 0 29 2 *", "30 2 * * *"] {
            let schedule = cron(text, zone);
            for ms in [i64::MIN, -62_135_596_800_000, -1, 8_210_266_876_799_999, 8_210_266_876_790_000, i64::MAX] {
                let next = schedule.next_after(ANCHOR, Timestamp(ms));
                assert!(next.is_none_or(|next| next.0 > ms));
                let _ = schedule.gaps(Timestamp(ms));
                let _ = due(&schedule, ANCHOR, Timestamp(0), Timestamp(ms));
                let _ = due(&schedule, ANCHOR, Timestamp(ms), Timestamp(0));
            }
        }
    }
    let every = Schedule::parse("5m", None).unwrap();
    assert_eq!(every.next_after(Timestamp(i64::MIN), Timestamp(i64::MAX)), None);
}
