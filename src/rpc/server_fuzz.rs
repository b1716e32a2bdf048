//! Hostile requests before the gate: what gets through is what was signed, as it was signed, or nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures_util::FutureExt;
use serde_json::json;

use super::*;
use crate::bus::{Request, Target, fuzz as wire};
use crate::clock::{Timestamp, VirtualClock};
use crate::fuzz::{Memory, Target as Fuzzed, fuzz};
use crate::security::{SharedTrustStore, SigningKey, TrustStore, TrustedKey};

/// When a gate of these tests begins; what it hears is signed a second later and heard another one later.
const BEGUN: Timestamp = Timestamp(1_795_320_000_000);
const STEP_MS: i64 = 1000;

/// A key and who trusts it as what.
pub(crate) struct Peer {
    key: SigningKey,
    trust: Arc<SharedTrustStore>,
}

impl Peer {
    pub(crate) fn trusted_as(role: &str) -> Self {
        let key = SigningKey::generate().unwrap();
        let trusted = TrustedKey {
            key_id: key.key_id(),
            sender: "somebody".to_owned(),
            roles: [role.parse().unwrap()].into_iter().collect(),
            public_key: *key.public_key(),
            revoked_since: None,
            not_before: None,
            not_after: None,
            comment: None,
        };
        Self { key, trust: SharedTrustStore::fixed(TrustStore::of([trusted])) }
    }

    pub(crate) fn identity_at(&self, at: Timestamp) -> (Arc<Identity>, Arc<VirtualClock>) {
        let clock = VirtualClock::starting_at(at);
        let deployment = "test".parse().unwrap();
        let identity = Identity::new(deployment, "somebody", self.key.clone(), Arc::clone(&self.trust), clock.clone());
        (Arc::new(identity), clock)
    }

    pub(crate) fn said_at() -> Timestamp {
        Timestamp(BEGUN.0 + STEP_MS)
    }

    /// The body of a request signed by this peer.
    pub(crate) fn body(&self, topic: Topic, method: &str, args: Map<String, Value>, fanout: bool) -> Vec<u8> {
        let (identity, _) = self.identity_at(Self::said_at());
        let parts = RequestParts {
            exchange: EXCHANGE,
            topic: topic.as_str(),
            server: None,
            fanout,
            namespace: None,
            method,
            version: Some(VERSION),
            args: &args,
        };
        let (auth, _) = identity.signer.sign(&parts).unwrap();
        let context = Map::from_iter([(CONTEXT_MEMBER.to_owned(), auth)]);
        let target = Target::topic(EXCHANGE, topic.as_str()).version(VERSION);
        wire::body(&target, Request::new(method, args).context(context))
    }

    /// Sends a body through a gate of its own to `service`; `None` where it is no request.
    pub(crate) fn hears(
        &self,
        topic: Topic,
        fanout: bool,
        body: &[u8],
        service: Arc<dyn Service>,
    ) -> Option<Disposition> {
        let incoming = wire::incoming(body, EXCHANGE, topic.as_str(), fanout)?;
        let (identity, clock) = self.identity_at(BEGUN);
        let gate = Secured::new(topic, identity, service);
        clock.step(2 * STEP_MS);
        Some(gate.dispatch(incoming).now_or_never().expect("such a service answers at once"))
    }
}

/// Notes what it is asked.
#[derive(Default)]
struct Noted(Mutex<Vec<(&'static str, Map<String, Value>)>>);

#[async_trait]
impl Service for Noted {
    async fn handle(&self, method: &'static Method, _: Caller, args: Map<String, Value>) -> Result<Value, RpcError> {
        self.0.lock().unwrap().push((method.name, args));
        Ok(Value::Null)
    }
}

#[test]
fn only_what_was_signed_is_carried_out() {
    let peer = Peer::trusted_as("operator");
    let args = json!({ "name": "compute-1", "reason": "kernel module 'rootkit' \u{1f600}", "n": [1, -2, null, true, {"a": {}}] });
    let Value::Object(args) = args else { unreachable!("it is an object") };
    let good = peer.body(Topic::Nodes, "node_quarantine", args.clone(), false);
    let listing = peer.body(Topic::Nodes, "node_list", Map::new(), false);
    let carried_out = |body: &[u8]| {
        let noted = Arc::new(Noted::default());
        let answered = peer.hears(Topic::Nodes, false, body, noted.clone());
        assert!(!matches!(answered, Some(Disposition::Poison(_) | Disposition::Retry(_))), "calls are answered");
        noted.0.lock().unwrap().pop()
    };
    let signed = [("node_quarantine", args), ("node_list", Map::new())];
    assert_eq!(carried_out(&good).as_ref(), Some(&signed[0]));
    assert_eq!(carried_out(&listing).as_ref(), Some(&signed[1]));
    let judge = |body: &[u8]| {
        if let Some(carried_out) = carried_out(body) {
            assert!(signed.contains(&carried_out), "{carried_out:?}");
        }
    };
    let words = [
        "node_release",
        "node_override",
        "node_delete",
        "spice-checks",
        "fanout",
        "server",
        "spice_auth",
        "signature",
        "_context_spice_auth",
        "method",
        "args",
        "1.0",
        "2.0",
        "deployment",
        "key_id",
        "somebody",
    ];
    let memory = Memory { per_byte: 400, fixed: 256 * 1024 };
    // Signed, but by a key that nobody trusts.
    let forged = Peer::trusted_as("operator").body(Topic::Nodes, "node_quarantine", Map::new(), false);
    fuzz(&Fuzzed { name: "gate", seeds: vec![good, listing, forged], words: &words, memory, judge: &judge });
}
