use std::time::Duration;

use super::*;

fn parts<'a>(args: &'a Map<String, Value>) -> RequestParts<'a> {
    RequestParts {
        exchange: "spice",
        topic: "spice-checks",
        server: None,
        fanout: false,
        namespace: None,
        method: "check_list",
        version: Some("1.0"),
        args,
    }
}

/// A request as it travels, as one value, so that each place of it can be changed.
fn as_value(parts: &RequestParts<'_>, auth: &Value) -> Value {
    json!({
        "exchange": parts.exchange, "topic": parts.topic, "server": parts.server, "fanout": parts.fanout,
        "namespace": parts.namespace, "method": parts.method, "version": parts.version, "args": parts.args,
        "auth": auth,
    })
}

/// Verifies such a value; `None` where no server would get as far, because the request has no such shape.
fn verify_value(value: &Value, store: &TrustStore) -> Option<Result<Verified, AuthError>> {
    let optional = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(other) => other.as_str().map(Some),
    };
    let parts = RequestParts {
        exchange: value.get("exchange")?.as_str()?,
        topic: value.get("topic")?.as_str()?,
        server: optional("server")?,
        fanout: value.get("fanout")?.as_bool()?,
        namespace: optional("namespace")?,
        method: value.get("method")?.as_str()?,
        version: optional("version")?,
        args: value.get("args")?.as_object()?,
    };
    Some(verify_request(&parts, value.get("auth").unwrap_or(&Value::Null), store, &deployment(), SIGNED_AT))
}

#[test]
fn a_signed_request_gives_the_roles_of_the_trust_store() {
    let args = object(json!({"name": "boot", "limit": 10}));
    let (auth, digest) = admin().sign(&parts(&args)).unwrap();
    let verified = verify_request(&parts(&args), &auth, &store(), &deployment(), SIGNED_AT).unwrap();
    assert_eq!((verified.sender.as_str(), verified.digest), ("alice", digest));
    assert!(verified.roles.satisfies(&Role::Reader) && !verified.roles.satisfies(&Role::Checks));
}

#[test]
fn every_signature_has_an_id_of_its_own() {
    let args = Map::new();
    let (one, two) = (admin().sign(&parts(&args)).unwrap(), admin().sign(&parts(&args)).unwrap());
    assert_ne!(one.0["id"], two.0["id"]);
    assert_ne!(one.1, two.1);
}

#[test]
fn each_refusal_has_its_kind() {
    let args = object(json!({"name": "boot"}));
    let parts = parts(&args);
    let (auth, _) = admin().sign(&parts).unwrap();
    let verify = |parts: &RequestParts<'_>, auth: &Value, store: &TrustStore| {
        verify_request(parts, auth, store, &deployment(), SIGNED_AT).unwrap_err()
    };
    let with = |name: &str, value: Value| {
        let mut changed = auth.clone();
        changed[name] = value;
        changed
    };
    assert_eq!(verify(&parts, &Value::Null, &store()).kind(), "unsigned");
    assert_eq!(verify(&parts, &json!("x"), &store()).kind(), "malformed");
    assert_eq!(verify(&parts, &with("v", json!(2)), &store()).kind(), "malformed");
    assert_eq!(verify(&parts, &with("id", json!("X".repeat(32))), &store()).kind(), "malformed");
    assert_eq!(verify(&parts, &with("extra", json!(1)), &store()).kind(), "malformed");
    assert_eq!(verify(&parts, &with("deployment", json!("other")), &store()).kind(), "wrong_deployment");
    assert_eq!(verify(&parts, &auth, &TrustStore::default()).kind(), "unknown_key");
    assert_eq!(verify(&parts, &with("sender", json!("bob")), &store()).kind(), "sender_mismatch");
    assert_eq!(verify(&parts, &with("time", json!(1)), &store()).kind(), "bad_signature");
    assert_eq!(verify(&parts, &auth, &revoked(Timestamp(0))).kind(), "revoked");
    let elsewhere = [
        RequestParts { exchange: "spice_work", ..parts },
        RequestParts { topic: "spice-nodes", ..parts },
        RequestParts { server: Some("s1"), ..parts },
        RequestParts { fanout: true, ..parts },
    ];
    for parts in elsewhere {
        assert_eq!(verify(&parts, &auth, &store()).kind(), "wrong_target");
    }
    assert_eq!(verify(&RequestParts { method: "check_delete", ..parts }, &auth, &store()).kind(), "bad_signature");
}

#[test]
fn hostile_text_in_a_signature_is_shown_escaped() {
    let args = Map::new();
    let (mut auth, _) = admin().sign(&parts(&args)).unwrap();
    for member in ["deployment", "exchange", "sender", "key_id", "\u{1b}[2J"] {
        let kept = auth.get(member).cloned();
        auth[member] = json!("\u{1b}[31m\u{202e}".repeat(100));
        let shown = verify_request(&parts(&args), &auth, &store(), &deployment(), SIGNED_AT).unwrap_err().to_string();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']) && shown.len() < 600, "{member}: {shown}");
        match kept {
            Some(kept) => auth[member] = kept,
            None => break,
        }
    }
}

#[test]
fn what_a_key_signed_before_it_was_stolen_still_counts() {
    let args = Map::new();
    let signer = RequestSigner { clock: clock_at(SIGNED_AT), ..admin() };
    let (auth, _) = signer.sign(&parts(&args)).unwrap();
    let verify =
        |since: i64| verify_request(&parts(&args), &auth, &revoked(Timestamp(since)), &deployment(), Timestamp(0));
    // The virtual clock may have moved a few milliseconds.
    assert!(verify(SIGNED_AT.0 + 60_000).is_ok());
    assert_eq!(verify(SIGNED_AT.0).unwrap_err().kind(), "revoked");
}

#[test]
fn arguments_that_cannot_be_signed_are_refused_before_they_are_sent() {
    for bad in [json!(1.5), json!(u64::MAX), json!(9_007_199_254_740_992i64)] {
        let args = object(json!({"a": {"b": [bad]}}));
        assert!(matches!(admin().sign(&parts(&args)), Err(SignError::Content(_))));
    }
}

#[test]
fn a_server_takes_requests_for_its_topic_for_itself_and_for_all_but_not_for_another() {
    let here = ServerAddress { exchange: "spice".into(), topic: "spice-checks".into(), server: "s1".into() };
    let args = Map::new();
    let sent = parts(&args);
    let verify = |sent: RequestParts<'_>| {
        let (auth, _) = admin().sign(&sent).unwrap();
        let received = here.parts(&auth, sent.namespace, sent.method, sent.version, sent.args);
        verify_request(&received, &auth, &store(), &deployment(), SIGNED_AT).map(|_| received.fanout)
    };
    assert_eq!(verify(sent), Ok(false));
    assert_eq!(verify(RequestParts { server: Some("s1"), ..sent }), Ok(false));
    assert_eq!(verify(RequestParts { fanout: true, ..sent }), Ok(true));
    assert_eq!(verify(RequestParts { server: Some("s2"), ..sent }).unwrap_err().kind(), "wrong_target");
    assert_eq!(verify(RequestParts { topic: "spice-nodes", ..sent }).unwrap_err().kind(), "wrong_target");
}

#[test]
fn the_time_window_is_closed_on_both_sides() {
    let window = Duration::from_secs(60);
    let now = SIGNED_AT;
    for ok in [-60_000, 0, 60_000] {
        assert!(check_window(Timestamp(now.0 + ok), now, window).is_ok(), "{ok}");
    }
    for bad in [-60_001, 60_001] {
        assert_eq!(check_window(Timestamp(now.0 + bad), now, window).unwrap_err().kind(), "expired");
    }
    assert!(check_window(Timestamp(i64::MIN), Timestamp(i64::MAX), window).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_change_of_anything_in_a_request_breaks_its_signature(
        args in arguments(), server in prop::option::of("[a-z]{1,4}"), fanout: bool, namespace in prop::option::of("[a-z]{0,4}"),
    ) {
        let sent = RequestParts { server: server.as_deref(), fanout, namespace: namespace.as_deref(), ..parts(&args) };
        let (auth, _) = admin().sign(&sent).unwrap();
        let message = as_value(&sent, &auth);
        let store = store();
        prop_assert!(verify_value(&message, &store).unwrap().is_ok());
        for mutant in mutants(&message) {
            // A null member and one that is not there are the same request.
            let same = ["server", "namespace", "version"].iter().all(|name| {
                mutant.get(name).unwrap_or(&Value::Null) == &message[name]
            }) && ["exchange", "topic", "fanout", "method", "args", "auth"].iter().all(|name| mutant.get(name) == message.get(name));
            if !same && let Some(Ok(_)) = verify_value(&mutant, &store) {
                // The frame's optional member is the one place where null and absent meet.
                prop_assert!(mutant["auth"].get("server").is_none() && message["auth"]["server"].is_null(), "accepted {}", mutant);
            }
        }
    }

    #[test]
    fn no_frame_makes_verification_panic(auth in content()) {
        let args = Map::new();
        prop_assert!(verify_request(&parts(&args), &auth, &store(), &deployment(), SIGNED_AT).is_err());
    }
}
