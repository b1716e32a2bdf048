#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn a_call_has_exactly_oslos_members() {
    let target = Target::topic("x", "t").namespace("ns").version("1.2");
    let request = Request::new("echo", object(json!({"a": 1}))).context(object(json!({"user": "u"})));
    assert_eq!(
        Value::Object(encode_request(&target, request.clone(), "uid", Some(("mid", "queue")))),
        json!({"method": "echo", "args": {"a": 1}, "namespace": "ns", "version": "1.2", "_msg_id": "mid", "_reply_q": "queue",
               "_timeout": null, "_unique_id": "uid", "_context_user": "u"})
    );
    let monitored = request.clone().monitored(Duration::from_millis(2500));
    assert_eq!(encode_request(&target, monitored, "uid", Some(("mid", "queue")))["_timeout"], json!(3));
    // Absent is not the same as null for a version.
    let cast = encode_request(&Target::topic("x", "t"), request, "uid", None);
    assert_eq!(
        Value::Object(cast),
        json!({"method": "echo", "args": {"a": 1}, "_unique_id": "uid", "_context_user": "u"})
    );
}

#[test]
fn a_context_cannot_replace_members_of_the_protocol() {
    let request = Request::new("echo", Map::new()).context(object(json!({"method": "x", "_msg_id": "y"})));
    let message = encode_request(&Target::topic("x", "t"), request.clone(), "uid", None);
    assert_eq!(message["method"], "echo");
    assert_eq!(decode_request(message).unwrap().request.context, request.context);
}

#[test]
fn only_callers_who_asked_for_signs_of_life_get_them() {
    for (timeout, expected) in [
        (json!(null), None),
        (json!(0), None),
        (json!(1), None),
        (json!(1.9), None),
        (json!(2), Some(2)),
        (json!(2.9), Some(2)),
        (json!(1800), Some(1800)),
        (json!("4"), Some(4)),
        (json!("soon"), None),
        (json!(-5), None),
        (json!(1e300), None),
        (json!([2]), None),
    ] {
        let message = object(json!({"_msg_id": "m", "_reply_q": "q", "_timeout": timeout}));
        assert_eq!(reply_to(&message).unwrap().monitor_secs, expected, "{timeout}");
    }
    assert_eq!(reply_to(&object(json!({"_msg_id": "m"}))), None);
    assert_eq!(reply_to(&object(json!({"_msg_id": "m", "_reply_q": "q".repeat(256)}))), None);
}

proptest! {
    #[test]
    fn a_request_survives_the_wire(
        method in "[a-z_]{1,12}",
        args in proptest::collection::btree_map("[a-z]{1,6}", any::<i64>(), 0..5),
        context in proptest::collection::btree_map("\\PC{1,6}", "\\PC{0,6}", 0..5),
        namespace in proptest::option::of("[a-z]{1,5}"),
        version in proptest::option::of("[0-9]\\.[0-9]"),
        monitor in proptest::option::of(2..100_000_u64),
    ) {
        let target = Target { namespace, version, ..Target::topic("x", "t") };
        let request = Request {
            method,
            args: args.into_iter().map(|(key, value)| (key, json!(value))).collect(),
            context: context.into_iter().map(|(key, value)| (key, json!(value))).collect(),
            msg_id: Some("m".to_owned()),
            monitor: monitor.map(Duration::from_secs),
        };
        let received = decode_request(encode_request(&target, request.clone(), "uid", Some(("m", "q")))).unwrap();
        prop_assert_eq!(received.request, request);
        prop_assert_eq!((received.namespace, received.version), (target.namespace, target.version));
        prop_assert_eq!(received.unique_id.as_deref(), Some("uid"));
    }
}
