#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

fn when(value: serde_json::Value) -> When {
    serde_json::from_value(value).unwrap()
}

fn time(text: &str) -> Timestamp {
    read_time(text).unwrap()
}

#[test]
fn once_is_from_a_time_until_another() {
    let window = when(json!({ "from": "2026-11-24T02:00:00+01:00", "until": "2026-11-24T03:00:00Z" }));
    assert_eq!(json!(window), json!({ "from": "2026-11-24T01:00:00.000Z", "until": "2026-11-24T03:00:00.000Z" }));
    for (at, open) in [("00:59:59", false), ("01:00:00", true), ("02:59:59", true), ("03:00:00", false)] {
        assert_eq!(window.at(time(&format!("2026-11-24T{at}Z"))).is_some(), open, "{at}");
    }
    assert_eq!(window.next(time("2026-11-24T01:00:00Z")), None, "it comes no second time");
}

#[test]
fn clock_changes_neither_shorten_nor_lengthen_it() {
    let window = when(json!({ "schedule": { "cron": "30 2 * * *", "zone": "Europe/Berlin" }, "duration_s": 7200 }));
    // 2026-03-29: 02:30 does not exist; it opens when the gap is over. 2026-10-25: 02:30 comes twice; it opens once.
    for (day, opens) in
        [("2026-03-28", "01:30"), ("2026-03-29", "01:00"), ("2026-10-24", "00:30"), ("2026-10-25", "00:30")]
    {
        let start = time(&format!("{day}T{opens}:00Z"));
        assert_eq!(window.next(start.minus(Duration::from_secs(1))).map(|next| next.start), Some(start), "{day}");
        assert_eq!(window.at(start), Some(Occurrence { start, end: start.plus(Duration::from_secs(7200)) }), "{day}");
        let after = start.plus(Duration::from_secs(7200));
        assert_eq!((window.at(after), window.at(start.minus(Duration::from_secs(1)))), (None, None), "{day}");
    }
}

#[test]
fn a_window_has_an_end() {
    let now = time("2026-11-24T00:00:00Z");
    let faults = |value: serde_json::Value| when(value).faults(now).join("; ");
    for (value, told) in [
        (json!({ "from": "2026-11-24T02:00:00Z", "until": "2026-11-24T02:00:00Z" }), "not after from"),
        (json!({ "from": "2026-11-24T02:00:00Z", "until": "2028-11-24T02:00:00Z" }), "366 days"),
        (json!({ "from": "2026-11-20T02:00:00Z", "until": "2026-11-21T02:00:00Z" }), "is over"),
        (json!({ "schedule": { "every": "1d" }, "duration_s": 3600 }), "cron text"),
        (json!({ "schedule": { "cron": "0 2 * * *" }, "duration_s": 59 }), "use 60 to 604800"),
        (json!({ "schedule": { "cron": "0 0 1 1 *" }, "duration_s": 604_801 }), "use 60 to 604800"),
        // On the day on which clocks go forward the nights are 23 h apart.
        (
            json!({ "schedule": { "cron": "0 2 * * *", "zone": "Europe/Berlin" }, "duration_s": 83_000 }),
            "again after 82800 s",
        ),
        (json!({ "schedule": { "cron": "0,10 2 * * *" }, "duration_s": 600 }), "again after 600 s"),
    ] {
        let found = faults(value.clone());
        assert!(found.contains(told), "{value}: {found}");
    }
    assert_eq!(faults(json!({ "schedule": { "cron": "0 2 * * *" }, "duration_s": 7200 })), "");
}
