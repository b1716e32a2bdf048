//! Hostile schedules: read or refused, and what was read runs when it says, without end and without standing still.

use super::*;
use crate::fuzz::bounds::grows_with_its_input;
use crate::fuzz::{Memory, Target, fuzz};

const WORDS: &[&str] = &[
    "*",
    "*/2",
    "1-5",
    "5-1",
    "0-59/7",
    "1,3,5",
    "L",
    "W",
    "#",
    "?",
    "@daily",
    "@reboot",
    "mon",
    "sun",
    "7",
    "0",
    "jan-dec",
    "feb",
    "29",
    "30",
    "31",
    "60",
    "every",
    "5m",
    "1h30m",
    "s",
    " ",
    "\t",
    "99999999999999999999",
    "-1",
    "/0",
    ",",
    "--",
    "H",
];
const ZONES: &[&str] =
    &["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran"];

#[test]
fn schedules() {
    let seeds = [
        "*/5 * * * *",
        "15 2 * * 1-5",
        "0 0 29 2 *",
        "30 2 28-31 3,10 0",
        "0 30 4 1,15 * fri",
        "@hourly",
        "every 5 minutes",
        "1h30m",
        "* * * * * *",
        "59 59 23 31 12 7",
    ];
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let from = at("2026-03-28T23:59:59Z");
    let judge = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        let zone = ZONES[text.len() % ZONES.len()];
        let schedule = match (Schedule::parse(&text, Some(zone)), Schedule::parse(&text, None)) {
            (Ok(schedule), _) | (Err(_), Ok(schedule)) => schedule,
            (Err(error), Err(_)) => {
                let told = error.to_string();
                assert!(!told.chars().any(char::is_control) && told.len() < 1024, "{told:?}");
                return;
            }
        };
        if let Schedule::Cron { cron, zone } = &schedule {
            assert_eq!(
                Schedule::parse(cron.text(), Some(zone.name())).as_ref(),
                Ok(&schedule),
                "it reads what it shows"
            );
        }
        let runs = schedule.next_runs(ANCHOR, from, 20);
        assert!(runs.first().is_none_or(|first| *first > from));
        assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "{schedule}: {runs:?}");
        for extreme in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX] {
            let _ = schedule.next_after(ANCHOR, Timestamp(extreme));
        }
    };
    fuzz(&Target {
        name: "schedules",
        seeds,
        words: WORDS,
        memory: Memory { per_byte: 200, fixed: 256 * 1024 },
        judge: &judge,
    });
}

#[test]
fn a_long_text_takes_time_in_proportion() {
    for part in ["1,", "* ", "every ", "0-59/", "1h", "@", "\u{e9}"] {
        let made = |size: usize| part.repeat(size / part.len()).into_bytes();
        grows_with_its_input(part, 20_000, 4, made, |text| {
            let text = String::from_utf8_lossy(text);
            drop(Schedule::parse(&text, None));
            drop(Schedule::parse(&text, Some("UTC")));
            drop(Schedule::parse("* * * * *", Some(&text)));
        });
    }
}
