//! What must hold across the files of this module, and the vectors shared with the Python client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod canonical;
mod documents;
mod fuzz;
mod keys;
mod replies;
mod requests;
mod seen;
mod trust;
mod vectors;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::clock::{SystemClock, Timestamp};
use crate::names::DeploymentId;

use super::*;

/// The time the fixed examples are signed at.
const SIGNED_AT: Timestamp = Timestamp(1_795_320_000_123);

/// Keys made for these tests only; they are public and worth nothing.
const ADMIN_PEM: &str = include_str!("../../../tests/vectors/admin.pem");
const CHECKS_PEM: &str = include_str!("../../../tests/vectors/checks.pem");

fn deployment() -> DeploymentId {
    DeploymentId::new("test-cloud").unwrap()
}

fn signer(pem: &str, sender: &str) -> RequestSigner {
    RequestSigner {
        key: SigningKey::from_pem(pem.as_bytes()).unwrap(),
        deployment: deployment(),
        sender: sender.into(),
        clock: SystemClock::shared(),
    }
}

fn admin() -> RequestSigner {
    signer(ADMIN_PEM, "alice")
}

fn checks() -> RequestSigner {
    signer(CHECKS_PEM, "checks")
}

fn trusted(signer: &RequestSigner, role: &str) -> TrustedKey {
    TrustedKey {
        key_id: signer.key.key_id(),
        sender: signer.sender.clone(),
        roles: [role.parse().unwrap()].into_iter().collect(),
        public_key: *signer.key.public_key(),
        revoked_since: None,
        not_before: None,
        not_after: None,
        comment: None,
    }
}

/// Trusts alice as admin and checks as checks.
fn store() -> TrustStore {
    TrustStore::of([trusted(&admin(), "admin"), trusted(&checks(), "checks")])
}

/// The same, with every key revoked since `since`.
fn revoked(since: Timestamp) -> TrustStore {
    TrustStore::of(store().keys().map(|key| TrustedKey { revoked_since: Some(since), ..key.clone() }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

/// Any content that can be signed.
fn content() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-super::canonical::MAX_INTEGER..=super::canonical::MAX_INTEGER).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Arguments of a method.
fn arguments() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-z_]{1,6}", content(), 0..4).prop_map(|members| members.into_iter().collect())
}

/// Every value that differs from `value` in one place: a scalar changed, a member or item removed or added.
fn mutants(value: &Value) -> Vec<Value> {
    let mut all = match value {
        Value::Null => vec![json!("x"), json!(0), json!(false)],
        Value::Bool(yes) => vec![json!(!yes), Value::Null],
        Value::Number(number) => vec![json!(number.as_i64().unwrap() ^ 1), json!(number.to_string())],
        Value::String(text) => {
            let mut changed = vec![json!(format!("{text}x")), Value::Null];
            if let Some(first) = text.chars().next() {
                changed.push(json!(&text[first.len_utf8()..]));
                changed.push(json!(text.replacen(first, if first == 'a' { "b" } else { "a" }, 1)));
            }
            changed
        }
        Value::Array(items) => {
            let mut longer = items.clone();
            longer.push(Value::Null);
            vec![longer.into(), json!({})]
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("mutant member".into(), Value::Null);
            vec![more.into(), json!([])]
        }
    };
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut without = items.clone();
                without.remove(index);
                all.push(without.into());
                for mutant in mutants(item) {
                    let mut changed = items.clone();
                    changed[index] = mutant;
                    all.push(changed.into());
                }
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let mut without = members.clone();
                without.remove(name);
                all.push(without.into());
                for mutant in mutants(member) {
                    let mut changed = members.clone();
                    changed[name] = mutant;
                    all.push(changed.into());
                }
            }
        }
        _ => {}
    }
    all
}

/// A clock handle, for signers whose time matters.
fn clock_at(at: Timestamp) -> Arc<dyn crate::clock::Clock> {
    crate::clock::VirtualClock::starting_at(at)
}
