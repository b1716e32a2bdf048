use std::collections::HashMap;
use std::time::Duration;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

fn id(number: u64) -> String {
    format!("{number:032x}")
}

#[test]
fn a_repeat_is_refused_until_its_time_window_has_passed() {
    let mut seen = SeenIds::new(WINDOW, 10);
    let at = SIGNED_AT;
    seen.record(&id(1), at, at).unwrap();
    assert_eq!(seen.record(&id(1), at, at).unwrap_err().kind(), "replayed");
    assert_eq!(seen.record(&id(1), at, at.plus(WINDOW)).unwrap_err().kind(), "replayed");
    let later = at.plus(WINDOW).plus(Duration::from_millis(1));
    seen.record(&id(2), later, later).unwrap();
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_request_signed_ahead_of_the_clock_is_remembered_until_it_cannot_pass_any_more() {
    let mut seen = SeenIds::new(WINDOW, 10);
    let ahead = SIGNED_AT.plus(WINDOW);
    seen.record(&id(1), ahead, SIGNED_AT).unwrap();
    assert!(seen.record(&id(1), ahead, ahead.plus(WINDOW)).is_err());
}

#[test]
fn when_full_it_refuses_new_ids_rather_than_forgetting_one() {
    let mut seen = SeenIds::new(WINDOW, 3);
    for number in 0..3 {
        seen.record(&id(number), SIGNED_AT, SIGNED_AT).unwrap();
    }
    assert!(seen.record(&id(3), SIGNED_AT, SIGNED_AT).is_err());
    assert!(seen.record(&id(0), SIGNED_AT, SIGNED_AT).is_err());
    let later = SIGNED_AT.plus(WINDOW * 2);
    seen.record(&id(3), later, later).unwrap();
}

#[test]
fn a_clock_set_back_revives_nothing() {
    let mut seen = SeenIds::new(WINDOW, 10);
    seen.record(&id(1), SIGNED_AT, SIGNED_AT).unwrap();
    let ahead = SIGNED_AT.plus(Duration::from_secs(3600));
    seen.record(&id(2), ahead, ahead).unwrap();
    assert_eq!(seen.record(&id(1), SIGNED_AT, SIGNED_AT).unwrap_err().kind(), "replayed");
    let fresh = SIGNED_AT.plus(Duration::from_millis(1));
    seen.record(&id(3), fresh, fresh).unwrap();
}

#[test]
fn what_is_no_id_is_refused() {
    let mut seen = SeenIds::new(WINDOW, 10);
    for bad in ["", "1", "+0000000000000000000000000000001", "g0000000000000000000000000000000", &"0".repeat(33)] {
        assert_eq!(seen.record(bad, SIGNED_AT, SIGNED_AT).unwrap_err().kind(), "malformed", "{bad}");
    }
}

proptest! {
    #[test]
    fn nothing_is_accepted_twice_whatever_the_clock_does_and_memory_is_bounded(
        steps in prop::collection::vec((0u64..12, -90_000i64..90_000, -40_000i64..90_000), 1..200),
    ) {
        let mut seen = SeenIds::new(WINDOW, 8);
        let mut now = SIGNED_AT;
        // A captured request keeps its id and its time.
        let mut signed: HashMap<u64, Timestamp> = HashMap::new();
        let mut accepted = std::collections::HashSet::new();
        for (number, skew, step) in steps {
            now = Timestamp(now.0 + step);
            let time = *signed.entry(number).or_insert(Timestamp(now.0 + skew));
            if check_window(time, now, WINDOW).is_ok() && seen.record(&id(number), time, now).is_ok() {
                prop_assert!(accepted.insert(number), "id {} accepted twice", number);
            }
            prop_assert!(seen.len() <= 8);
        }
    }
}
