#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Write;

use super::*;
use crate::bus::target::version_is_compatible;
use proptest::prelude::*;
use serde::Deserialize;

const LIMIT: usize = 16 * 1024 * 1024;
const PLAIN: BodyKind<'_> =
    BodyKind { content_type: Some(CONTENT_TYPE), content_encoding: Some("utf-8"), compression: None };

#[derive(Deserialize)]
struct Captured {
    scenario: String,
    content_type: Option<String>,
    content_encoding: Option<String>,
    body: String,
    python: String,
}

#[test]
fn captured_requests_are_judged_as_the_python_server_judged_them() {
    let captured: Vec<Captured> = serde_json::from_str(include_str!("fixtures/oslo_requests.json")).unwrap();
    assert!(captured.len() > 40);
    for Captured { scenario, content_type, content_encoding, body, python } in captured {
        let kind = BodyKind {
            content_type: content_type.as_deref(),
            content_encoding: content_encoding.as_deref(),
            compression: None,
        };
        let opened = decode(kind, body.as_bytes(), LIMIT);
        match (python.as_str(), opened) {
            ("refuses", opened) => assert!(opened.is_err(), "{scenario}"),
            ("runs", opened) => {
                let received = message::decode_request(opened.expect(&scenario)).expect(&scenario);
                assert!(!received.request.method.is_empty(), "{scenario}");
            }
            // Methods and versions are the endpoint's business, so such requests get as far as the dispatcher.
            ("NoSuchMethod", opened) => {
                assert!(message::decode_request(opened.expect(&scenario)).is_ok(), "{scenario}")
            }
            (class, opened) => match message::decode_request(opened.expect(&scenario)) {
                Ok(received) => {
                    assert!(!version_is_compatible("1.3", received.version.as_deref()), "{scenario}: {class}")
                }
                Err(failure) => assert!(!failure.class.is_empty(), "{scenario}"),
            },
        }
    }
}

#[test]
fn numbers_that_cannot_be_held_are_refused_with_the_reply_address() {
    let body = json!({"oslo.version": "2.0",
        "oslo.message": r#"{"method": "echo", "args": {"x": [NaN, 1180591620717411303424]}, "_msg_id": "m", "_reply_q": "q", "_timeout": 4}"#});
    let refusal = decode(PLAIN, body.to_string().as_bytes(), LIMIT).unwrap_err();
    assert_eq!(refusal.reason, "inexact_number");
    assert_eq!(refusal.reply_to(), Some(ReplyTo { msg_id: "m".into(), queue: "q".into(), monitor_secs: Some(4) }));
    assert_eq!(refusal.failure().class, "MessageRefused");
}

#[test]
fn compressed_bodies_are_read_within_the_limit() {
    let deflated = |plain: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let message = Map::from_iter([("method".to_owned(), json!("echo"))]);
    let gzip = BodyKind { compression: Some("application/x-gzip"), ..PLAIN };
    assert_eq!(decode(gzip, &deflated(&encode(&message)), LIMIT), Ok(message));
    assert_eq!(decode(gzip, &deflated(&vec![b' '; LIMIT + 1]), LIMIT).unwrap_err().reason, "too_large");
    assert_eq!(decode(gzip, b"nonsense", LIMIT).unwrap_err().reason, "compression");
    let bzip = BodyKind { compression: Some("application/x-bz2"), ..PLAIN };
    assert_eq!(decode(bzip, b"x", LIMIT).unwrap_err().reason, "compression");
}

#[test]
fn the_limit_is_on_the_body() {
    let body = encode(&Map::from_iter([("x".to_owned(), json!("y".repeat(100)))]));
    assert!(decode(PLAIN, &body, body.len()).is_ok());
    assert_eq!(decode(PLAIN, &body, body.len() - 1).unwrap_err().reason, "too_large");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(members in proptest::collection::btree_map("\\PC{0,8}", "\\PC{0,20}", 0..6)) {
        let message: Map<String, Value> = members.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
        prop_assert_eq!(decode(PLAIN, &encode(&message), LIMIT), Ok(message));
    }

    #[test]
    fn any_body_is_judged_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), inner in "\\PC{0,60}") {
        let _ = decode(PLAIN, &body, LIMIT);
        let body = json!({"oslo.version": "2.0", "oslo.message": inner}).to_string();
        if let Ok(message) = decode(PLAIN, body.as_bytes(), LIMIT) {
            let _ = message::decode_request(message);
        }
    }
}
