//! Hostile messages: any body is judged without a panic, within bounds of memory and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use serde_json::{Map, Value, json};

use super::envelope::{self, BodyKind, CONTENT_TYPE, Refusal};
use super::message::{Incoming, decode_request, encode_request};
use super::options::RabbitOptions;
use super::reply::{decode_reply, encode_reply};
use super::{Reply, Request, Target, transport_url};
use crate::fuzz::bounds::{Shape, grows_with_its_input, peak};
use crate::fuzz::{Memory, Target as Fuzzed, corpus, fuzz};

/// A quarter of the default: all bounds are in proportion to it.
const LIMIT: usize = 4 * 1024 * 1024;
const PLAIN: BodyKind<'_> =
    BodyKind { content_type: Some(CONTENT_TYPE), content_encoding: Some("utf-8"), compression: None };
const PACKED: BodyKind<'_> = BodyKind { compression: Some("application/x-gzip"), ..PLAIN };
const REQUESTS: &str = include_str!("fixtures/oslo_requests.json");
const REPLIES: &str = include_str!("fixtures/oslo_replies.json");
const NOTIFICATIONS: &str = include_str!("fixtures/oslo_notifications.json");
const WORDS: &[&str] = &[
    "oslo.version",
    "oslo.message",
    "2.0",
    "method",
    "args",
    "namespace",
    "version",
    "_msg_id",
    "_reply_q",
    "_timeout",
    "_unique_id",
    "_context_user",
    "_context_spice_auth",
    "result",
    "failure",
    "ending",
    "class",
    "module",
    "kwargs",
    "tb",
    "_Remote",
    "NaN",
    "Infinity",
    "\\u0000",
    "\\ud800",
    "{\"",
    "\\\"",
    "99999999999999999999",
];

/// What a small message may take with the copies that a judge makes of it.
const SMALL: Memory = Memory { per_byte: 400, fixed: 64 * 1024 };
/// What the largest request and reply may take, their own body not counted: their texts, unpacked and copied, and their values.
const LARGEST_REQUEST: u64 = 8 * LIMIT as u64;
const LARGEST_REPLY: u64 = 20 * LIMIT as u64;
/// What each byte of a message far below the limit may take: an object of six characters.
const MOST_PER_BYTE: u64 = 128;

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// The request in a body, as a server of `topic` would hand it to its dispatcher.
pub(crate) fn incoming(body: &[u8], exchange: &str, topic: &str, fanout: bool) -> Option<Incoming> {
    let received = decode_request(envelope::decode_request(PLAIN, body, LIMIT).ok()?).ok()?;
    Some(Incoming {
        msg_id: received.request.msg_id.clone(),
        request: received.request,
        namespace: received.namespace,
        version: received.version,
        exchange: exchange.to_owned(),
        topic: topic.to_owned(),
        server: Some("host1".to_owned()),
        fanout,
        via_server: false,
        unique_id: received.unique_id,
        redelivered: false,
    })
}

/// The body of a request, as a client sends it.
pub(crate) fn body(target: &Target, request: Request) -> Vec<u8> {
    envelope::encode(&encode_request(target, request, "uid", Some(("mid", "reply_q"))))
}

fn shown_is_safe(text: &str) {
    assert!(!text.chars().any(char::is_control) && text.len() < 4096, "{text:?}");
}

fn opened(kind: BodyKind<'_>, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let opened = envelope::decode(kind, body, LIMIT);
    if let Ok(request) = envelope::decode_request(kind, body, LIMIT) {
        assert_eq!(Ok(request), opened);
    }
    match &opened {
        Ok(message) => assert_eq!(envelope::decode(PLAIN, &envelope::encode(message), LIMIT).as_ref(), Ok(message)),
        Err(refusal) => shown_is_safe(&refusal.detail),
    }
    opened
}

#[test]
fn requests() {
    let judge = |body: &[u8]| {
        let Ok(message) = opened(PLAIN, body) else { return };
        match decode_request(message) {
            Ok(received) => {
                assert!(received.reply_to.as_ref().is_none_or(|to| to.queue.len() <= 255 && !to.msg_id.is_empty()));
                let target = Target {
                    namespace: received.namespace.clone(),
                    version: received.version.clone(),
                    ..Target::default()
                };
                let again = encode_request(&target, received.request.clone(), "uid", Some(("mid", "reply_q")));
                let again = decode_request(again).unwrap();
                assert_eq!((again.namespace, again.version), (received.namespace, received.version));
                assert_eq!(
                    (again.request.method, again.request.args, again.request.context),
                    (received.request.method, received.request.args, received.request.context)
                );
            }
            Err(failure) => shown_is_safe(&failure.to_string()),
        }
    };
    let mut seeds = corpus::bodies(REQUESTS);
    seeds.extend(corpus::bodies(NOTIFICATIONS));
    fuzz(&Fuzzed { name: "requests", seeds, words: WORDS, memory: SMALL, judge: &judge });
}

#[test]
fn replies_and_the_failures_in_them() {
    let judge = |body: &[u8]| {
        let Some(part) = opened(PLAIN, body).ok().and_then(decode_reply) else { return };
        if let Err(failure) = &part.reply.result {
            shown_is_safe(&failure.to_string());
        }
        let again = decode_reply(encode_reply(part.reply.clone(), &part.msg_id, "uid")).unwrap();
        assert_eq!((again.msg_id, again.ending), (part.msg_id, true));
        match (again.reply.result, part.reply.result) {
            // A class that carries oslo's suffix twice loses it one at a time.
            (Err(again), Err(first)) => assert_eq!(again.message, first.message),
            (again, first) => assert_eq!(again, first),
        }
        assert_eq!(again.reply.extras, part.reply.extras);
    };
    fuzz(&Fuzzed { name: "replies", seeds: corpus::bodies(REPLIES), words: WORDS, memory: SMALL, judge: &judge });
}

#[test]
fn compressed_bodies() {
    let judge = |body: &[u8]| {
        let _ = opened(PACKED, body);
    };
    let mut seeds: Vec<Vec<u8>> = corpus::bodies(REQUESTS).iter().take(4).map(|body| packed(body)).collect();
    seeds.push(packed(&[b' '; 100_000]));
    // A mutant may unpack to a thousand times its size: what counts is the limit.
    let memory = Memory { per_byte: 0, fixed: LARGEST_REPLY };
    fuzz(&Fuzzed { name: "compressed", seeds, words: &[], memory, judge: &judge });
}

#[test]
fn transport_urls() {
    let judge = |url: &[u8]| {
        let url = String::from_utf8_lossy(url);
        // A password is what an @ follows.
        let is_password = url.rsplit("geheim").next().is_some_and(|rest| rest.contains('@'));
        match transport_url::parse(&url, &mut RabbitOptions::default()) {
            Ok(parsed) => {
                assert!(!parsed.hosts.is_empty() && !parsed.virtual_host.is_empty());
                assert!(!(is_password && parsed.virtual_host.contains("geheim")), "{url:?}");
            }
            Err(why) => {
                shown_is_safe(&why);
                assert!(!(is_password && why.contains("geheim")), "{why}");
            }
        }
    };
    let seeds = [
        "rabbit://spice:geheim@rabbit1.example.org:5672,spice:geheim@[::1]:5673/spice?ssl=1&ssl_ca_file=%2Fetc%2Fca.pem",
        "rabbit://u:geheim%2F%40@h/a%2Fb?heartbeat_timeout_threshold=7&rabbit_quorum_queue=true",
        "rabbit://",
    ];
    let seeds = seeds.iter().map(|url| url.as_bytes().to_vec()).collect();
    let words =
        ["://", "@", ":", "[", "]", ",", "/", "?", "&", "=", "%", "%00", "%ff", "#", "ssl", "kombu", "amqps", "65536"];
    fuzz(&Fuzzed { name: "transport_urls", seeds, words: &words, memory: SMALL, judge: &judge });
}

/// Messages of about so many bytes, in every shape that costs more than its size.
const SHAPES: &[Shape] = &[
    ("one text", |size| json!({ "method": "x".repeat(size) }).to_string()),
    ("escaped text", |size| json!({ "method": "\u{1}".repeat(size / 6) }).to_string()),
    ("numbers", |size| format!("{{\"args\":[0{}]}}", ",0".repeat(size / 2))),
    ("empty lists", |size| format!("{{\"args\":[[]{}]}}", ",[]".repeat(size / 3))),
    ("small objects", |size| format!("{{\"args\":[0{}]}}", ",{\"\":0}".repeat(size / 7))),
    ("objects in objects", |size| format!("{{\"args\":[0{}]}}", ",{\"\":{\"\":{\"\":0}}}".repeat(size / 18))),
    ("members", |size| {
        let members: Vec<String> = (0..size / 16).map(|number| format!("\"_x{number:08}\":0")).collect();
        format!("{{{}}}", members.join(","))
    }),
    ("one member again and again", |size| format!("{{\"a\":0{}}}", ",\"a\":0".repeat(size / 6))),
    ("context", |size| {
        let members: Vec<String> = (0..size / 22).map(|number| format!("\"_context_{number:08}\":0")).collect();
        format!("{{\"method\":\"m\",{}}}", members.join(","))
    }),
    ("inexact numbers", |size| format!("{{\"args\":[0{}]}}", ",NaN".repeat(size / 4))),
    ("a long number", |size| format!("{{\"args\":[{}]}}", "9".repeat(size))),
    ("quotes never closed", |size| format!("{{\"args\":\"{}", "\\\"".repeat(size / 2))),
    ("a failure", |size| {
        let failure = format!("{{\"class\":\"E\",\"tb\":[0{}]}}", ",{\"\":0}".repeat(size / 12));
        json!({ "_msg_id": "m", "ending": true, "failure": failure }).to_string()
    }),
    ("a failure of lines", |size| {
        let failure = json!({ "class": "E", "tb": vec![""; size / 6] }).to_string();
        json!({ "_msg_id": "m", "ending": true, "failure": failure }).to_string()
    }),
];

fn enveloped(inner: &str) -> Vec<u8> {
    json!({ "oslo.version": "2.0", "oslo.message": inner }).to_string().into_bytes()
}

fn read_request(kind: BodyKind<'_>, body: &[u8]) {
    if let Ok(message) = envelope::decode_request(kind, body, LIMIT) {
        drop(decode_request(message));
    }
}

fn read_reply(kind: BodyKind<'_>, body: &[u8]) {
    if let Ok(message) = envelope::decode(kind, body, LIMIT) {
        drop(decode_reply(message));
    }
}

#[test]
fn time_grows_with_the_message_and_no_faster() {
    for (shape, made) in SHAPES {
        for body in [|text: String| text.into_bytes(), |text: String| enveloped(&text)] {
            grows_with_its_input(
                shape,
                20_000,
                MOST_PER_BYTE,
                |size| body(made(size)),
                |body| read_request(PLAIN, body),
            );
            grows_with_its_input(shape, 20_000, MOST_PER_BYTE, |size| body(made(size)), |body| read_reply(PLAIN, body));
        }
    }
}

fn cannot_fill_the_memory(kind: BodyKind<'_>, shape: &str, body: &[u8]) {
    let ((), held) = peak(|| read_request(kind, body));
    assert!(held <= LARGEST_REQUEST, "{shape}: a request of {} bytes took {} MiB", body.len(), held >> 20);
    let ((), held) = peak(|| read_reply(kind, body));
    assert!(held <= LARGEST_REPLY, "{shape}: a reply of {} bytes took {} MiB", body.len(), held >> 20);
}

#[test]
fn the_largest_message_cannot_fill_the_memory() {
    for (shape, made) in SHAPES {
        // An envelope writes every quote of its text as two characters.
        for body in [made(LIMIT - 100).into_bytes(), enveloped(&made(LIMIT / 3))] {
            assert!(body.len() <= LIMIT, "{shape}: {}", body.len());
            cannot_fill_the_memory(PLAIN, shape, &body);
        }
        // As large as can be read at all.
        for share in [10, 40] {
            cannot_fill_the_memory(PLAIN, shape, made(LIMIT / share).as_bytes());
        }
    }
}

#[test]
fn a_small_message_that_unpacks_to_a_large_one_costs_no_more_than_that() {
    for (shape, made) in SHAPES {
        for share in [1, 10] {
            cannot_fill_the_memory(PACKED, shape, &packed(made(LIMIT / share - 100).as_bytes()));
        }
    }
    let bomb = packed(&vec![b' '; 8 * LIMIT]);
    let (refused, held) = peak(|| envelope::decode(PACKED, &bomb, LIMIT));
    assert_eq!(refused.unwrap_err().reason, "too_large");
    assert!(held <= 4 * LIMIT as u64, "{} MiB", held >> 20);
}

#[test]
fn a_large_answer_that_is_meant_is_read() {
    // Every node of the largest cloud with its labels.
    let nodes: Vec<Value> = (0..100_000)
        .map(|number| json!({ "name": format!("compute-{number:06}"), "labels": { "zone": "a" } }))
        .collect();
    let sent = encode_reply(Reply::ok(json!({ "nodes": nodes, "version": 7 })), "mid", "uid");
    let limit = super::BusOptions::default().max_message_bytes;
    let received = decode_reply(envelope::decode(PLAIN, &envelope::encode(&sent), limit).unwrap()).unwrap();
    assert_eq!(received.reply.result.unwrap()["nodes"].as_array().unwrap().len(), 100_000);
}
