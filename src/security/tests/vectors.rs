//! The vectors in `tests/vectors`, which the Python client makes and verifies too. Ed25519 and RFC 8785 leave no choice, so
//! both sides must come to the same bytes. After a change of format: `SPICE_WRITE_VECTORS=1 cargo test --lib vectors`.

use super::super::reply::{ExpectedReply, sign_reply_at};
use super::super::trust_file::TrustFile;
use super::*;

const CANONICAL: &str = include_str!("../../../tests/vectors/canonical.json");
const REQUESTS: &str = include_str!("../../../tests/vectors/requests.json");
const REPLIES: &str = include_str!("../../../tests/vectors/replies.json");
const DOCUMENTS: &str = include_str!("../../../tests/vectors/documents.json");

fn committed(name: &str, text: &str, made: &Value) {
    if std::env::var_os("SPICE_WRITE_VECTORS").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        std::fs::write(path, serde_json::to_string_pretty(made).unwrap() + "\n").unwrap();
        return;
    }
    let committed: Value = serde_json::from_str(text).unwrap();
    assert_eq!(&committed, made, "{name} is not what this code makes");
}

fn trust() -> Value {
    let file = |signer: &RequestSigner, role: &str| {
        let key = trusted(signer, role);
        serde_json::to_value(TrustFile::from(key)).unwrap()
    };
    json!({"alice": file(&admin(), "admin"), "checks": file(&checks(), "checks")})
}

#[test]
fn canonical_vectors_hold() {
    let texts = [
        r#"{"b":1,"a":[true,false,null],"":{}}"#,
        "{\"\u{fb33}\":1,\"\u{1f600}\":2,\"\u{e9}\":3,\"z\":4}",
        r#""\u0000\u001f\b\t\n\f\r\"\\\/\u007f\u2028\u00e9\ud83d\ude00""#,
        "[9007199254740991,-9007199254740991,0]",
        r#" [ 1 , { "x" : [ ] } ] "#,
        r#"{"\u0061b":1,"aB":2,"A":3,"10":4,"9":5}"#,
    ];
    let deepest = "[".repeat(32) + &"]".repeat(32);
    let accepted: Vec<Value> = texts
        .iter()
        .copied()
        .chain([deepest.as_str()])
        .map(|text| {
            let canonical = canonicalize(&parse_strict(text.as_bytes()).unwrap()).unwrap();
            json!({"text": text, "canonical": String::from_utf8(canonical).unwrap()})
        })
        .collect();
    let too_deep = "[".repeat(33) + &"]".repeat(33);
    let refused = [
        "1.0",
        "1e3",
        "-0",
        "NaN",
        "[Infinity]",
        "9007199254740992",
        "-9007199254740992",
        "1e999",
        r#"{"a":1,"a":1}"#,
        r#"{"a":{"b":1,"\u0062":2}}"#,
        "{} {}",
        "[1,]",
        "",
        "01",
        r#""\ud800""#,
        "\"\u{1}\"",
        "\u{feff}{}",
        "{'a':1}",
        &too_deep,
    ];
    for text in refused {
        assert!(parse_strict(text.as_bytes()).is_err(), "{text}");
    }
    committed("canonical.json", CANONICAL, &json!({"accepted": accepted, "refused": refused}));
}

#[test]
fn request_vectors_hold() {
    let args = object(json!({"name": "boot", "nodes": ["compute-1"], "limit": 10, "grün": {"\u{1f600}": null}}));
    let empty = Map::new();
    let plain = RequestParts {
        exchange: "spice",
        topic: "spice-checks",
        server: None,
        fanout: false,
        namespace: None,
        method: "check_list",
        version: None,
        args: &empty,
    };
    let named = [
        ("plain", plain),
        (
            "to one server, with version and namespace",
            RequestParts {
                server: Some("controller-1"),
                namespace: Some("ns"),
                version: Some("1.1"),
                args: &args,
                ..plain
            },
        ),
        ("to all servers", RequestParts { fanout: true, args: &args, ..plain }),
    ];
    let mut cases = Vec::new();
    for (index, (name, parts)) in named.iter().enumerate() {
        let id = format!("{index:032x}");
        let (auth, digest) = admin().sign_as(parts, SIGNED_AT, id.clone()).unwrap();
        assert!(verify_request(parts, &auth, &store(), &deployment(), SIGNED_AT).is_ok());
        cases.push(json!({
            "name": name, "exchange": parts.exchange, "topic": parts.topic, "server": parts.server, "fanout": parts.fanout,
            "namespace": parts.namespace, "method": parts.method, "version": parts.version, "args": parts.args,
            "time": SIGNED_AT.0, "id": id, "auth": auth, "digest": hex::encode(digest),
        }));
    }
    let mut refused = Vec::new();
    let (auth, _) = admin().sign_as(&plain, SIGNED_AT, "f".repeat(32)).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = auth.clone();
        changed[name] = value;
        changed
    };
    let unknown = {
        let id = "0".repeat(32);
        with("key_id", json!(id))
    };
    let changes = [
        ("no signature", Value::Null, plain),
        ("not an object", json!("x"), plain),
        ("another version of the format", with("v", json!(2)), plain),
        ("an additional member", with("extra", json!(1)), plain),
        ("an id that is none", with("id", json!("FF")), plain),
        ("signature that is no base64", with("signature", json!("!")), plain),
        ("another deployment", with("deployment", json!("other")), plain),
        ("arrived at another topic", auth.clone(), RequestParts { topic: "spice-nodes", ..plain }),
        ("arrived at another exchange", auth.clone(), RequestParts { exchange: "spice_work", ..plain }),
        ("arrived at one server", auth.clone(), RequestParts { server: Some("s"), ..plain }),
        ("arrived by fanout", auth.clone(), RequestParts { fanout: true, ..plain }),
        ("a key nobody trusts", unknown, plain),
        ("another sender", with("sender", json!("bob")), plain),
        ("another time", with("time", json!(SIGNED_AT.0 + 1)), plain),
        ("another method", auth.clone(), RequestParts { method: "check_delete", ..plain }),
        ("other arguments", auth.clone(), RequestParts { args: &args, ..plain }),
        ("a namespace", auth.clone(), RequestParts { namespace: Some(""), ..plain }),
        ("a version", auth.clone(), RequestParts { version: Some("1.0"), ..plain }),
    ];
    for (name, auth, parts) in changes {
        let kind = verify_request(&parts, &auth, &store(), &deployment(), SIGNED_AT).expect_err(name).kind();
        refused.push(json!({
            "name": name, "kind": kind, "exchange": parts.exchange, "topic": parts.topic, "server": parts.server,
            "fanout": parts.fanout, "namespace": parts.namespace, "method": parts.method, "version": parts.version,
            "args": parts.args, "auth": auth,
        }));
    }
    let made = json!({
        "deployment": deployment(), "trust": trust(), "signer": "alice", "key": "admin.pem", "cases": cases, "refused": refused,
    });
    committed("requests.json", REQUESTS, &made);
}

#[test]
fn reply_vectors_hold() {
    let digest = [7; 32];
    let results =
        [("result", json!({"checks": [{"name": "boot"}], "count": 1})), ("failure", json!("{\"class\": \"X\"}"))];
    let mut cases = Vec::new();
    for (member, value) in &results {
        let outcome = if *member == "result" { ReplyOutcome::Result(value) } else { ReplyOutcome::Failure(value) };
        let auth = sign_reply_at(&checks(), SIGNED_AT, "m1", &digest, outcome).unwrap();
        let (deployment, role) = (deployment(), Role::Checks);
        let expected =
            ExpectedReply { deployment: &deployment, request_id: "m1", request_digest: &digest, role: &role };
        assert!(verify_reply(&auth, &expected, outcome, &store(), SIGNED_AT).is_ok());
        cases.push(json!({"member": member, "value": value, "auth": auth}));
    }
    let made = json!({
        "deployment": deployment(), "trust": trust(), "request_id": "m1", "request_digest": hex::encode(digest),
        "role": "checks", "cases": cases,
    });
    committed("replies.json", REPLIES, &made);
}

#[test]
fn document_vectors_hold() {
    let content = super::documents::ticket();
    let ticket = SignedDocument::seal(&content, &checks().key).unwrap();
    let mut relabelled = ticket.clone();
    relabelled.kind = DocumentKind::Policy;
    let made = json!({
        "trust": trust(), "key": "checks.pem",
        "cases": [{"kind": "ticket", "content": content, "document": ticket}],
        "refused": [{"kind": "policy", "refusal": "bad_signature", "document": relabelled},
                    {"kind": "policy", "refusal": "wrong_target", "document": ticket}],
    });
    committed("documents.json", DOCUMENTS, &made);
}
