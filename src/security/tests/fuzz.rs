//! Hostile signatures, documents, keys and trust files: nothing verifies but what was signed, and no file says more than it says.

use std::cell::Cell;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;

use super::super::trust_file;
use super::documents::ticket;
use super::*;
use crate::fuzz::bounds::{Shape, grows_with_its_input};
use crate::fuzz::{Memory, Target, fuzz};
use crate::protocol::Ticket;
use crate::security::reply::ExpectedReply;

const MEMORY: Memory = Memory { per_byte: 400, fixed: 128 * 1024 };
const WORDS: &[&str] = &[
    "kind",
    "body",
    "key_id",
    "signature",
    "sender",
    "alice",
    "checks",
    "ticket",
    "policy",
    "heartbeat",
    "time",
    "id",
    "v",
    "deployment",
    "test-cloud",
    "exchange",
    "topic",
    "server",
    "fanout",
    "admin",
    "adapter:x",
    "roles",
    "revoked_since",
    "public_key",
    "comment",
    "e06e5b289f834734ec3f0eb3ede7a6e7",
];

/// Signatures of somebody without a key: none, too short, as long as a good one.
const FORGED: &[&str] =
    &["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="];

/// The members `name` of the vectors' cases, or the cases themselves.
fn vectors(text: &str, name: Option<&str>) -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap().iter().chain(vectors["refused"].as_array().into_iter().flatten());
    cases.map(|case| name.map_or(case, |name| &case[name]).to_string().into_bytes()).collect()
}

#[test]
fn no_changed_document_is_believed() {
    let (mut sealed, mut contents) = (Vec::new(), Vec::new());
    for run in [17, 18] {
        let content = Ticket { order: crate::protocol::RunOrder { epoch: 1_795_320_000_000, run }, ..ticket() };
        sealed.push(SignedDocument::seal(&content, &checks().key).unwrap());
        contents.push(content);
    }
    let mut seeds = vectors(include_str!("../../../tests/vectors/documents.json"), Some("document"));
    seeds.extend(sealed.iter().map(|document| json!(document).to_string().into_bytes()));
    for signature in FORGED {
        let body = sealed[0].body.replace("compute-1", "compute-3");
        let document = SignedDocument { body, signature: (*signature).to_owned(), ..sealed[0].clone() };
        seeds.push(json!(document).to_string().into_bytes());
    }
    let (store, deployment) = (store(), deployment());
    let believed = Cell::new(0);
    let judge = |text: &[u8]| {
        let Ok(document) = serde_json::from_slice::<SignedDocument>(text) else { return };
        assert_eq!(SignedDocument::deserialize(json!(document)).unwrap(), document);
        if let Ok((content, key)) = document.open_for::<Ticket>(&deployment, &store, SIGNED_AT, |_| true) {
            assert!(contents.contains(&content), "{content:?}");
            assert_eq!(key.sender, "checks");
            believed.set(believed.get() + 1);
            assert!(
                sealed.iter().any(|sealed| sealed.body == document.body),
                "not as it was signed: {}",
                document.body
            );
        }
    };
    fuzz(&Target { name: "documents", seeds, words: WORDS, memory: MEMORY, judge: &judge });
    assert!(believed.get() > 0);
}

#[test]
fn no_changed_request_is_believed() {
    let mut vectors = vectors(include_str!("../../../tests/vectors/requests.json"), None);
    // Those that are refused were signed too, for another delivery; they say no digest.
    vectors.retain(|case| serde_json::from_slice::<Value>(case).unwrap().get("digest").is_some());
    let digests: Vec<String> = vectors
        .iter()
        .map(|case| serde_json::from_slice::<Value>(case).unwrap()["digest"].as_str().unwrap_or_default().to_owned())
        .collect();
    let (store, deployment) = (store(), deployment());
    let believed = Cell::new(0);
    let judge = |text: &[u8]| {
        let Ok(Value::Object(request)) = serde_json::from_slice::<Value>(text) else { return };
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        let (Some(exchange), Some(topic), Some(method)) = (text("exchange"), text("topic"), text("method")) else {
            return;
        };
        let Some(Value::Object(args)) = request.get("args") else { return };
        let fanout = request.get("fanout") == Some(&Value::Bool(true));
        let (server, namespace, version) = (text("server"), text("namespace"), text("version"));
        let parts = RequestParts { exchange, topic, server, fanout, namespace, method, version, args };
        let auth = request.get("auth").unwrap_or(&Value::Null);
        if let Ok(verified) = verify_request(&parts, auth, &store, &deployment, SIGNED_AT) {
            believed.set(believed.get() + 1);
            // The digest is of everything that was signed.
            assert!(digests.contains(&hex::encode(verified.digest)), "{request:?}");
        }
    };
    let mut seeds = vectors;
    for signature in FORGED {
        let mut request: Value = serde_json::from_slice(&seeds[0]).unwrap();
        request["args"]["forged"] = json!(true);
        request["auth"]["signature"] = json!(signature);
        seeds.push(request.to_string().into_bytes());
    }
    fuzz(&Target { name: "signed_requests", seeds, words: WORDS, memory: MEMORY, judge: &judge });
    assert!(believed.get() > 0);
}

#[test]
fn no_changed_reply_is_believed() {
    let (digest, result) =
        ([7; 32], json!({"level": "untrusted", "nodes": ["compute-1", {"since": 1_795_320_000_123_i64}]}));
    let auth = sign_reply(&checks(), "mid", &digest, ReplyOutcome::Result(&result)).unwrap();
    let mut seeds = vec![json!({ "result": result, "spice_auth": auth }).to_string().into_bytes()];
    for signature in FORGED {
        let mut auth = auth.clone();
        auth["signature"] = json!(signature);
        seeds.push(json!({ "result": { "level": "trusted" }, "spice_auth": auth }).to_string().into_bytes());
    }
    let (store, deployment) = (store(), deployment());
    let expected =
        ExpectedReply { deployment: &deployment, request_id: "mid", request_digest: &digest, role: &Role::Checks };
    let believed = Cell::new(0);
    let judge = |text: &[u8]| {
        let Ok(reply) = serde_json::from_slice::<Value>(text) else { return };
        let auth = reply.get("spice_auth").unwrap_or(&Value::Null);
        for outcome in ["result", "failure"] {
            let Some(said) = reply.get(outcome) else { continue };
            let said = if outcome == "result" { ReplyOutcome::Result(said) } else { ReplyOutcome::Failure(said) };
            if verify_reply(auth, &expected, said, &store, SIGNED_AT).is_ok() {
                assert_eq!(said, ReplyOutcome::Result(&result));
                believed.set(believed.get() + 1);
            }
        }
    };
    fuzz(&Target { name: "signed_replies", seeds, words: WORDS, memory: MEMORY, judge: &judge });
    assert!(believed.get() > 0);
}

#[test]
fn signed_text_means_one_thing() {
    let judge = |text: &[u8]| {
        let as_value = super::super::strict::parse_strict_as::<Value>(text);
        assert_eq!(as_value, parse_strict(text), "the same is read with and without a value in between");
        let Ok(value) = parse_strict(text) else { return };
        // What is read strictly can be signed, and what was signed is read as what it was.
        let canonical = canonicalize(&value).unwrap();
        assert_eq!(parse_strict(&canonical).as_ref(), Ok(&value));
        assert_eq!(canonicalize(&parse_strict(&canonical).unwrap()).unwrap(), canonical);
        assert_eq!(serde_json::from_slice::<Value>(text).unwrap(), value, "as everybody else reads it");
    };
    let seeds = vectors(include_str!("../../../tests/vectors/requests.json"), None);
    fuzz(&Target { name: "signed_text", seeds, words: WORDS, memory: MEMORY, judge: &judge });
}

#[test]
fn canonical_text_takes_time_in_proportion() {
    let shapes: &[Shape] = &[
        ("objects", |size| format!("[0{}]", ",{\"\":0}".repeat(size / 7))),
        ("numbers", |size| format!("[0{}]", ",0".repeat(size / 2))),
        ("one text", |size| format!("\"{}\"", "\u{e9}\\n".repeat(size / 4))),
        ("members", |size| {
            let members: Vec<String> = (0..size / 14).rev().map(|number| format!("\"{number:09}\":0")).collect();
            format!("{{{}}}", members.join(","))
        }),
        ("members that begin alike", |size| {
            let members: Vec<String> = (0..size / 64).rev().map(|number| format!("\"{number:060}\":0")).collect();
            format!("{{{}}}", members.join(","))
        }),
    ];
    for (shape, made) in shapes {
        let sign = |text: &[u8]| drop(canonicalize(&parse_strict(text).unwrap()).unwrap());
        grows_with_its_input(shape, 20_000, 250, |size| made(size).into_bytes(), sign);
    }
}

fn write_private(path: &Path, text: &[u8]) {
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text).unwrap();
}

#[test]
fn a_trust_file_says_what_it_says_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    let key = trusted(&admin(), "reader");
    let good = json!({
        "key_id": key.key_id, "sender": "alice", "roles": ["reader"], "public_key": key.public_key,
        "revoked_since": 1_795_320_000_123_i64, "comment": "laptop",
    });
    let judge = |text: &[u8]| {
        write_private(&path, text);
        match trust_file::read(&path) {
            Ok(read) => {
                assert_eq!(read.key_id, read.public_key.key_id());
                let said: Value = serde_json::from_slice(text).unwrap();
                let said_roles: Vec<&str> =
                    said["roles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert!(read.roles.iter().all(|role| said_roles.contains(&role.to_string().as_str())), "{said}");
                let said_revoked = said.get("revoked_since").filter(|at| !at.is_null());
                assert_eq!(read.revoked_since.map(|at| json!(at)).as_ref(), said_revoked, "revoked is revoked");
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                let shown = faults.join("; ");
                assert!(!shown.chars().any(char::is_control), "{shown:?}");
            }
        }
    };
    let seeds = vec![good.to_string().into_bytes()];
    fuzz(&Target { name: "trust_files", seeds, words: WORDS, memory: MEMORY, judge: &judge });
}

#[test]
fn a_key_file_gives_a_key_or_a_fault() {
    let seeds = vec![ADMIN_PEM.as_bytes().to_vec(), CHECKS_PEM.as_bytes().to_vec()];
    let judge = |text: &[u8]| {
        if let Ok(key) = SigningKey::from_pem(text) {
            let signature = key.sign(b"x").unwrap();
            assert!(key.public_key().verifies(b"x", &signature));
        }
    };
    let words = ["-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "\n"];
    fuzz(&Target { name: "key_files", seeds, words: &words, memory: MEMORY, judge: &judge });
}
