#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Write;

use serde_json::json;

use super::*;
use crate::bus::message;
use proptest::prelude::*;

const LIMIT: usize = 16 * 1024 * 1024;
const PLAIN: BodyKind<'_> =
    BodyKind { content_type: Some(CONTENT_TYPE), content_encoding: Some("utf-8"), compression: None };

#[test]
fn numbers_that_only_python_holds_do_not_cost_the_message() {
    let body = json!({"oslo.version": "2.0", "oslo.message": r#"{"method": "echo", "args": {"x": [NaN, 1180591620717411303424]}}"#});
    assert_eq!(
        decode(PLAIN, body.to_string().as_bytes(), LIMIT).map(Value::Object),
        Ok(json!({"method": "echo", "args": {"x": ["NaN", "1180591620717411303424"]}}))
    );
}

#[test]
fn an_encoding_that_says_the_same_is_read_and_another_refused() {
    let latin = BodyKind { content_encoding: Some("latin-1"), ..PLAIN };
    assert!(decode(latin, br#"{"a": "\u00e9"}"#, LIMIT).is_ok());
    assert_eq!(decode(latin, "{\"a\": \"é\"}".as_bytes(), LIMIT).unwrap_err().reason, "content_encoding");
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
