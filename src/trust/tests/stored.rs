//! What a node's row holds: it is written with every result, and rows of earlier versions stay readable.

use serde_json::{Value, json};

use super::*;

/// As a version wrote it that left nothing out.
fn in_full() -> Value {
    let order = |run: i64| json!({"epoch": 1_795_386_562_336_i64, "run": run});
    let pass = |run: i64, attempt_at: i64| {
        json!({"order": order(run), "issued_at": attempt_at, "evidence_at": attempt_at, "generation": 1, "boot": 0,
            "vouch": {"key": "30c6a2d95065f3722134d17e61468141", "at": attempt_at + 4}})
    };
    json!({
        "facts": {"identity": "3b318ccc-2719-4bf3-9338-e469f646dd6b", "boots": {"count": 0, "changed_at": null, "seen": []}},
        "checks": {"bench": {
            "check_id": "1", "revision": 1, "generation": 1,
            "passes": [pass(17, 1_795_386_571_755), pass(18, 1_795_386_572_269)],
            "failures": [{"order": order(1), "began_at": 5, "evidence_at": 6, "failed_at": 7, "generation": 1}],
            "failure_reason": "no", "conflicts": 0,
            "shown": {"order": order(18), "attempt": 1, "status": "pass", "reason": "fine", "reporter": "adapter", "revision": 1,
                "evidence_at": 1_795_386_572_269_i64, "recorded_at": 1_795_386_572_341_i64, "self_reported": false},
            "tickets": {"c8890cf955bb036d7c154edc9721d0c0": 1_795_386_572_341_i64}}},
        "standings": {"default": {}}
    })
}

#[test]
fn a_row_of_an_earlier_version_is_read_and_written_shorter_without_losing_anything() {
    let node: NodeTrust = serde_json::from_value(in_full()).unwrap();
    let state = &node.checks[&check_name("bench")];
    let shown = state.shown().unwrap();
    assert_eq!((shown.order.run, shown.attempt, shown.self_reported), (18, 1, false));
    assert_eq!(state.newest_pass(false).unwrap().order, RunOrder { epoch: 1_795_386_562_336, run: 18 });
    assert_eq!(state.last_failure().unwrap().order.run, 1);
    assert!(!node.facts.boots.observable());

    let written = serde_json::to_string(&node).unwrap();
    assert!(written.contains(r#""order":"1795386562336-18""#), "{written}");
    assert!(written.len() < in_full().to_string().len() * 9 / 10, "{written}");
    assert_eq!(serde_json::from_str::<NodeTrust>(&written).unwrap(), node);
}

#[test]
fn what_is_unusual_is_written() {
    let mut told = in_full();
    let shown = &mut told["checks"]["bench"]["shown"];
    (shown["attempt"], shown["self_reported"]) = (json!(3), json!(true));
    told["checks"]["bench"]["conflicts"] = json!(2);
    told["facts"]["boots"] = json!({"count": 4, "changed_at": 9, "seen": []});
    let node: NodeTrust = serde_json::from_value(told).unwrap();
    let again: NodeTrust = serde_json::from_str(&serde_json::to_string(&node).unwrap()).unwrap();
    assert_eq!(again, node);
    let shown = again.checks[&check_name("bench")].shown().unwrap();
    assert_eq!((shown.attempt, shown.self_reported), (3, true));
    assert_eq!((again.checks[&check_name("bench")].conflicts(), again.facts.boots.count()), (2, 4));
}

#[test]
fn a_run_that_is_no_run_is_refused() {
    for order in [json!("17"), json!("a-b"), json!({"epoch": 1}), json!(17), json!(null)] {
        let mut told = in_full();
        told["checks"]["bench"]["passes"][0]["order"] = order.clone();
        assert!(serde_json::from_value::<NodeTrust>(told).is_err(), "{order}");
    }
}
