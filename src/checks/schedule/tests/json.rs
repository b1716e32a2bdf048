//! Schedules as JSON and as a person writes them.

use super::*;

#[test]
fn json_goes_both_ways() {
    for (written, kept) in [
        (r#"{"cron":"*/5 * * * *","zone":"Europe/Berlin"}"#, r#"{"cron":"*/5 * * * *","zone":"Europe/Berlin"}"#),
        (r#"{"cron":"@daily"}"#, r#"{"cron":"@daily","zone":"UTC"}"#),
        (r#"{"every":"every 5 minutes"}"#, r#"{"every":"5m"}"#),
    ] {
        let schedule: Schedule = serde_json::from_str(written).unwrap();
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(text, kept);
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}

#[test]
fn json_of_another_shape_is_refused() {
    for bad in [
        "{}",
        r#"{"cron":"* * * * *","every":"5m"}"#,
        r#"{"every":"5m","zone":"UTC"}"#,
        r#"{"cron":"* * * * *","timezone":"UTC"}"#,
        r#"{"cron":"* * * *"}"#,
        r#"{"cron":5}"#,
        r#""5m""#,
        "null",
    ] {
        assert!(serde_json::from_str::<Schedule>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_person_may_write_either_kind() {
    for (text, zone, shown) in [
        ("5m", None, "every 5m"),
        ("EVERY 2 hours", None, "every 2h"),
        ("15 2 * * *", None, "15 2 * * * UTC"),
        ("@hourly", Some("Asia/Kolkata"), "@hourly Asia/Kolkata"),
    ] {
        assert_eq!(Schedule::parse(text, zone).unwrap().to_string(), shown);
    }
    assert_eq!(Schedule::parse("5m", Some("UTC")), Err(ScheduleError::Kind));
    assert!(Schedule::parse("nightly", None).unwrap_err().to_string().contains("interval"));
}
