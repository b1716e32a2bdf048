#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::bus::envelope::{self, BodyKind};
use proptest::prelude::*;
use serde_json::json;

const PLAIN: BodyKind<'_> =
    BodyKind { content_type: Some("application/json"), content_encoding: None, compression: None };

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// The captured replies of a scenario, in order.
fn captured(scenario: &str) -> Vec<ReplyPart> {
    let captured: Vec<Map<String, Value>> = serde_json::from_str(include_str!("fixtures/oslo_replies.json")).unwrap();
    captured
        .iter()
        .filter(|reply| reply["scenario"] == scenario)
        .map(|reply| {
            decode_reply(envelope::decode(PLAIN, reply["body"].as_str().unwrap().as_bytes(), 1 << 20).unwrap()).unwrap()
        })
        .collect()
}

#[test]
fn captured_replies_are_understood() {
    let result = captured("rpc_call_first").remove(0);
    assert!(result.ending);
    assert_eq!(result.reply.result.unwrap()["u"], "é☃😀");

    let parts = captured("rpc_call_monitor");
    assert_eq!(parts.iter().map(|part| part.ending).collect::<Vec<_>>(), [false, false, false, true]);

    let failure = captured("nova_rpc_call_exception").remove(0).reply.result.unwrap_err();
    assert_eq!((failure.class.as_str(), failure.module.as_str()), ("InstanceNotFound", "nova.exception"));
    assert_eq!(failure.kwargs["code"], 404);
    assert!(captured("rpc_call_no_such_method").remove(0).reply.result.unwrap_err().is_no_such_method());
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
fn replies_carry_every_member_python_needs_and_extras_cannot_replace_them() {
    let reply =
        Reply::ok(json!(1)).extra("signature", json!("s")).extra("ending", json!(false)).extra("failure", json!("f"));
    assert_eq!(
        Value::Object(encode_reply(reply, "mid", "uid")),
        json!({"result": 1, "failure": null, "ending": true, "_msg_id": "mid", "_unique_id": "uid", "signature": "s"})
    );
    let failed = encode_reply(Reply::failure(Failure::spice("A", "b")), "mid", "uid");
    assert!(failed["failure"].is_string() && failed["result"].is_null());
    assert_eq!(encode_heartbeat("mid", "uid")["ending"], json!(false));
}

#[test]
fn replies_are_read_by_oslos_rules() {
    let part = |value: Value| decode_reply(object(value));
    assert_eq!(part(json!({"result": 1})), None);
    assert!(!part(json!({"_msg_id": "m", "result": 1, "failure": null})).unwrap().ending);
    assert_eq!(part(json!({"_msg_id": "m", "ending": true, "failure": ""})).unwrap().reply, Reply::ok(Value::Null));
    let both = part(json!({"_msg_id": "m", "ending": true, "result": 1, "failure": "{\"class\": \"E\"}"})).unwrap();
    assert_eq!(both.reply.result.unwrap_err().class, "E");
    let extras =
        part(json!({"_msg_id": "m", "ending": 1, "result": 1, "_unique_id": "u", "sig": 2})).unwrap().reply.extras;
    assert_eq!(extras, object(json!({"sig": 2})));
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
    ) {
        let target = Target { namespace, version, ..Target::topic("x", "t") };
        let request = Request {
            method,
            args: args.into_iter().map(|(key, value)| (key, json!(value))).collect(),
            context: context.into_iter().map(|(key, value)| (key, json!(value))).collect(),
            msg_id: Some("m".to_owned()),
        };
        let received = decode_request(encode_request(&target, request.clone(), "uid", Some(("m", "q")))).unwrap();
        prop_assert_eq!(received.request, request);
        prop_assert_eq!((received.namespace, received.version), (target.namespace, target.version));
        prop_assert_eq!(received.unique_id.as_deref(), Some("uid"));
    }
}
