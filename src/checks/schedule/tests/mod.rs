//! Stories of schedules. `runs.txt` comes from `tests/python/cron_table.py`, which knows nothing of this code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crontab;
mod fuzz;
mod gaps;
mod json;
mod oracle;
mod slots;
mod splay;
mod year;

use chrono::{DateTime, Utc};

use super::*;

/// A time as RFC 3339.
fn at(text: &str) -> Timestamp {
    Timestamp::from_datetime(&text.parse::<DateTime<Utc>>().unwrap())
}

fn cron(text: &str, zone: &str) -> Schedule {
    Schedule::cron(text, Some(zone)).unwrap()
}

const ANCHOR: Timestamp = Timestamp(0);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
