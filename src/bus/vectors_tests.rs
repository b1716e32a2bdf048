//! Golden vectors: what was captured between real oslo.messaging peers, judged by our code as those peers judged it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::envelope::{self, BodyKind};
use super::message::{self, encode_request};
use super::notifier::{self, Notification};
use super::reply::{self, encode_reply};
use super::target::{Target, version_is_compatible};
use crate::clock::Timestamp;

const LIMIT: usize = 16 * 1024 * 1024;

/// A message as it was on the wire.
#[derive(Deserialize)]
struct Wire {
    content_type: Option<String>,
    content_encoding: Option<String>,
    compression: Option<String>,
    body: Option<String>,
    body_base64: Option<String>,
}

impl Wire {
    fn decode(&self) -> Result<Map<String, Value>, envelope::Refusal> {
        let kind = BodyKind {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            compression: self.compression.as_deref(),
        };
        let body = match &self.body_base64 {
            Some(packed) => base64::engine::general_purpose::STANDARD.decode(packed).unwrap(),
            None => self.body.clone().unwrap().into_bytes(),
        };
        envelope::decode(kind, &body, LIMIT)
    }
}

/// What goes out again is read as what came in, and as Python writes it.
fn survives_encoding(message: &Map<String, Value>, scenario: &str) {
    let plain = BodyKind { content_type: Some("application/json"), content_encoding: None, compression: None };
    assert_eq!(envelope::decode(plain, &envelope::encode(message), LIMIT).as_ref(), Ok(message), "{scenario}");
}

#[derive(Deserialize)]
struct CapturedRequest {
    scenario: String,
    #[serde(flatten)]
    wire: Wire,
    /// `runs`, `drops` (a duplicate), `refuses` or the class of the failure it was answered with.
    python: String,
    message: Option<String>,
}

#[test]
fn requests_are_judged_as_the_python_server_judged_them() {
    let captured: Vec<CapturedRequest> = serde_json::from_str(include_str!("fixtures/oslo_requests.json")).unwrap();
    assert!(captured.len() > 80, "{}", captured.len());
    for CapturedRequest { scenario, wire, python, message } in captured {
        let opened = wire.decode();
        if python == "refuses" {
            assert!(opened.is_err(), "{scenario}");
            continue;
        }
        let opened = opened.unwrap_or_else(|refusal| panic!("{scenario}: {refusal:?}"));
        survives_encoding(&opened, &scenario);
        let read = message::decode_request(opened.clone());
        match (python.as_str(), read) {
            ("runs" | "drops", read) => {
                let received = read.expect(&scenario);
                // The same request, sent by us, is the same message.
                let target = Target { namespace: received.namespace, version: received.version, ..Target::default() };
                let reply =
                    opened.get("_msg_id").and_then(Value::as_str).zip(opened.get("_reply_q").and_then(Value::as_str));
                let id = received.unique_id.unwrap_or_default();
                let ours = encode_request(&target, received.request, &id, reply);
                let known = |message: &Map<String, Value>| -> Map<String, Value> {
                    let kept = ["method", "args", "namespace", "version", "_msg_id", "_reply_q"];
                    let mut message = message.clone();
                    message.retain(|name, value| {
                        (kept.contains(&name.as_str()) || name.starts_with("_context_")) && !value.is_null()
                    });
                    message.entry("args").or_insert(json!({}));
                    message
                };
                let mut theirs = known(&opened);
                if reply.is_none() {
                    theirs.remove("_msg_id");
                    theirs.remove("_reply_q");
                }
                assert_eq!(known(&ours), theirs, "{scenario}");
            }
            // Methods, namespaces and versions that are well-formed are the endpoint's business.
            ("NoSuchMethod", read) => {
                let failure = super::Failure::no_such_method(&read.expect(&scenario).request.method);
                assert_eq!(Some(failure.message), message, "{scenario}");
            }
            ("UnsupportedVersion", Ok(received)) => {
                let (version, method) = (received.version.as_deref(), &received.request.method);
                assert!(received.namespace.is_some() || !version_is_compatible("1.3", version), "{scenario}");
                let failure = super::Failure::unsupported_version(version, method);
                assert_eq!(Some(failure.message), message, "{scenario}");
            }
            (class, Err(failure)) => {
                assert_eq!(failure.class, class, "{scenario}");
                assert!(class != "UnsupportedVersion" || Some(failure.message) == message, "{scenario}");
            }
            (class, Ok(_)) => panic!("{scenario}: Python answered {class}"),
        }
    }
}

#[derive(Deserialize)]
struct CapturedReplies {
    scenario: String,
    sent: Vec<Wire>,
}

#[test]
fn replies_of_python_servers_and_hand_made_ones_are_read() {
    let captured: Vec<CapturedReplies> = serde_json::from_str(include_str!("fixtures/oslo_replies.json")).unwrap();
    assert!(captured.len() > 60, "{}", captured.len());
    let python = captured.iter().filter(|captured| !captured.scenario.starts_with("reply:"));
    for CapturedReplies { scenario, sent } in python {
        let (last, interim) = sent.split_last().expect("a reply");
        for wire in interim {
            let part = reply::decode_reply(wire.decode().unwrap()).unwrap();
            assert!(!part.ending && part.reply.result == Ok(Value::Null), "{scenario}");
        }
        let theirs = last.decode().unwrap();
        survives_encoding(&theirs, scenario);
        let part = reply::decode_reply(theirs.clone()).unwrap();
        assert!(part.ending, "{scenario}");
        // The same reply, sent by us, has the same members; a failure is read from ours as from theirs.
        let ours = encode_reply(part.reply.clone(), &part.msg_id, theirs["_unique_id"].as_str().unwrap());
        let without_failure = |message: &Map<String, Value>| {
            let mut message = message.clone();
            assert!(message.insert("failure".into(), Value::Null).is_some(), "{scenario}");
            message
        };
        assert_eq!(without_failure(&ours), without_failure(&theirs), "{scenario}");
        assert_eq!(reply::decode_reply(ours), Some(part), "{scenario}");
    }
}

#[derive(Deserialize)]
struct CapturedNotification {
    scenario: String,
    routing_key: String,
    #[serde(flatten)]
    wire: Wire,
}

#[test]
fn notifications_have_the_members_of_oslos_own_notifier() {
    let captured: Vec<CapturedNotification> =
        serde_json::from_str(include_str!("fixtures/oslo_notifications.json")).unwrap();
    assert!(captured.len() > 25, "{}", captured.len());
    for CapturedNotification { scenario, routing_key, wire } in captured {
        let theirs = wire.decode().unwrap_or_else(|refusal| panic!("{scenario}: {refusal:?}"));
        survives_encoding(&theirs, &scenario);
        if scenario.starts_with("notify_inbound:") {
            continue;
        }
        let text = |name: &str| theirs[name].as_str().unwrap().to_owned();
        let ours = notifier::encode(
            &Notification {
                message_id: text("message_id"),
                publisher_id: text("publisher_id"),
                event_type: text("event_type"),
                payload: theirs["payload"].as_object().cloned().unwrap_or_default(),
                timestamp: Timestamp(1_795_316_612_395),
                context: Map::new(),
            },
            "u",
        );
        let names = |message: &Map<String, Value>| {
            let mut names: Vec<String> =
                message.keys().filter(|name| !name.starts_with("_context_")).cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&ours), names(&theirs), "{scenario}");
        assert!(routing_key.ends_with(&format!(".{}", text("priority").to_lowercase())), "{scenario}");
        let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
        let whole_second = text("timestamp").len() == 19;
        assert!(whole_second || shape(ours["timestamp"].as_str().unwrap()) == shape(&text("timestamp")), "{scenario}");
    }
}
