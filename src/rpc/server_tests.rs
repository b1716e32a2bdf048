#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use super::*;
use crate::bus::Request;
use crate::clock::{Timestamp, VirtualClock};
use crate::security::{SharedTrustStore, SigningKey, TrustStore, TrustedKey};

struct Nothing;

#[async_trait]
impl Service for Nothing {
    async fn handle(&self, _: &'static Method, _: Caller, _: Map<String, Value>) -> Result<Value, RpcError> {
        Ok(Value::Null)
    }
}

/// A gate of `topic`, and an identity it trusts as `role`.
fn gate(topic: Topic, role: &str) -> (Arc<Secured>, Arc<VirtualClock>) {
    let clock = VirtualClock::starting_at(Timestamp(1_795_320_000_000));
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
    let trust = SharedTrustStore::fixed(TrustStore::of([trusted]));
    let identity = Identity::new("test".parse().unwrap(), "somebody", key, trust, clock.clone());
    (Secured::new(topic, Arc::new(identity), Arc::new(Nothing)), clock)
}

fn signed(gate: &Secured, topic: Topic, method: &str, fanout: bool) -> Incoming {
    let args = Map::new();
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
    let (auth, _) = gate.identity.signer.sign(&parts).unwrap();
    let context = Map::from_iter([(CONTEXT_MEMBER.to_owned(), auth)]);
    Incoming {
        request: Request::new(method, args.clone()).context(context),
        namespace: None,
        version: Some(VERSION.to_owned()),
        exchange: EXCHANGE.to_owned(),
        topic: topic.as_str().to_owned(),
        server: None,
        fanout,
        via_server: false,
        msg_id: None,
        unique_id: None,
        redelivered: false,
    }
}

fn outcome(gate: &Secured, incoming: &Incoming) -> Result<&'static str, &'static str> {
    gate.admit(incoming).map(|admitted| admitted.method.name).map_err(|refused| refused.reason)
}

#[tokio::test(start_paused = true)]
async fn a_recorded_heartbeat_or_call_counts_once() {
    for (topic, role, method, fanout) in
        [(Topic::Pool, "nodes", "pool_heartbeat", true), (Topic::Nodes, "reader", "node_list", false)]
    {
        let (gate, _) = gate(topic, role);
        tokio::time::advance(Duration::from_secs(1)).await;
        let recorded = signed(&gate, topic, method, fanout);
        assert_eq!(outcome(&gate, &recorded), Ok(method));
        assert_eq!(outcome(&gate, &recorded), Err("replayed"));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(outcome(&gate, &recorded), Err("replayed"));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(outcome(&gate, &recorded).is_err(), "also when its id is forgotten");
        assert_eq!(outcome(&gate, &signed(&gate, topic, method, fanout)), Ok(method), "a new one counts");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_differs_by_minutes_silences_no_publication() {
    for step_ms in [-300_000, 300_000] {
        let (gate, clock) = gate(Topic::Pool, "nodes");
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut said = Vec::new();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(2)).await;
            said.push(signed(&gate, Topic::Pool, "pool_heartbeat", true));
        }
        // Signed by the clock of Nodes, heard by one that differs.
        clock.step(step_ms);
        let heard: BTreeSet<_> = said.iter().map(|incoming| outcome(&gate, incoming)).collect();
        assert_eq!(heard, BTreeSet::from([Ok("pool_heartbeat")]), "{step_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_served_before_a_restart_is_refused() {
    let (before, clock) = gate(Topic::Nodes, "reader");
    tokio::time::advance(Duration::from_secs(1)).await;
    let recorded = signed(&before, Topic::Nodes, "node_list", false);
    let after = Secured::new(Topic::Nodes, before.identity.clone(), Arc::new(Nothing));
    assert_eq!(outcome(&after, &recorded), Err("replayed"));
    // Nor under a clock that is stepped, however little.
    for step_ms in [-1000, 2000] {
        clock.step(step_ms);
        assert_eq!(outcome(&after, &recorded), Err("replayed"), "{step_ms}");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(outcome(&after, &signed(&after, Topic::Nodes, "node_list", false)), Ok("node_list"));
}

#[tokio::test(start_paused = true)]
async fn what_began_under_a_clock_far_ahead_hears_everybody_once_it_is_set_right() {
    const AHEAD_MS: i64 = 9 * 3600 * 1000;
    for (topic, role, method, fanout) in
        [(Topic::Pool, "nodes", "pool_heartbeat", true), (Topic::Nodes, "reader", "node_list", false)]
    {
        let (right, clock) = gate(topic, role);
        tokio::time::advance(Duration::from_secs(1)).await;
        let recorded = signed(&right, topic, method, fanout);
        tokio::time::advance(Duration::from_secs(1)).await;
        clock.step(AHEAD_MS);
        let gate = Secured::new(topic, right.identity.clone(), Arc::new(Nothing));
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.step(-AHEAD_MS);
        assert_eq!(outcome(&gate, &signed(&gate, topic, method, fanout)), Ok(method));
        assert_eq!(outcome(&gate, &recorded), Err("replayed"), "but nothing from before it began");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_signed_for_all_is_not_taken_from_the_queue_of_one_and_the_reverse() {
    let (pool, _) = gate(Topic::Pool, "nodes");
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut heartbeat = signed(&pool, Topic::Pool, "pool_heartbeat", true);
    heartbeat.fanout = false;
    assert_eq!(outcome(&pool, &heartbeat), Err("wrong_target"));
    assert_eq!(outcome(&pool, &signed(&pool, Topic::Pool, "pool_heartbeat", false)), Err("no_such_method"));
    let (nodes, _) = gate(Topic::Nodes, "reader");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(outcome(&nodes, &signed(&nodes, Topic::Nodes, "node_list", true)), Err("no_such_method"));
}
