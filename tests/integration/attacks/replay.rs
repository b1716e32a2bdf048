//! Whoever recorded everything can play it again, at once, later, or hold it back and let it go at a moment of its choice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use spice::clock::Timestamp;
use spice::rpc::table::Topic;

use super::attacker::{Attacker, Forger, Recorded, ask_with, now};
use super::*;
use crate::cloud::object;

const HOUR: Duration = Duration::from_secs(3600);

/// What is to be recorded: everything that is said while a node is registered, checked, distrusted and released.
const EVERY_KIND: [&str; 13] = [
    "adapter_announce",
    "check_create",
    "check_run",
    "node_import",
    "node_quarantine",
    "node_release",
    "nodes_changed",
    "policy_publish",
    "pool_delta",
    "pool_heartbeat",
    "record_results",
    "results_stored",
    "run_check",
];

/// All that a replay could change.
async fn everything(cloud: &Cloud) -> Value {
    let nodes = cloud.admin(Topic::Nodes, "status", json!({})).await;
    json!({
        "record": [nodes["record_entries"], nodes["record_head"], nodes["version"], nodes["policy_number"], nodes["nodes"]],
        "results": cloud.admin(Topic::Nodes, "result_list", json!({})).await,
        "runs": cloud.admin(Topic::Checks, "run_list", json!({ "limit": 1000 })).await,
        "definitions": cloud.admin(Topic::Checks, "check_list", json!({})).await,
        "verifier": cloud.oat.state().await["requests"],
        "pool": format!("{:?}", cloud.pool_file()),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_recorded_counts_once() {
    let cloud = Cloud::in_one_process("").await;
    let mut attacker = Attacker::let_in(&cloud).await;
    attacker.record().await;
    let cloud = compromise(cloud).await;
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "suspect" })).await;
    cloud.admin(Topic::Nodes, "node_release", json!({ "name": "node-2", "reason": "examined" })).await;
    cloud.await_in_file("node-2", 't').await;
    cloud.attest().await;

    let recorded = tokio::sync::Mutex::new(Vec::new());
    eventually("every kind of message was recorded", async || {
        let mut recorded = recorded.lock().await;
        recorded.extend(attacker.recorded().await);
        let methods: BTreeSet<String> = recorded.iter().map(Recorded::method).collect();
        EVERY_KIND.iter().all(|method| methods.contains(*method))
    })
    .await;
    let recorded = recorded.into_inner();
    eventually("the pool file is what Nodes says", async || {
        cloud.pool_header()["version"] == cloud.admin(Topic::Nodes, "status", json!({})).await["version"]
    })
    .await;
    let before = everything(&cloud).await;
    for message in &recorded {
        attacker.replay(message).await;
        attacker.replay(&message.renewed()).await;
    }
    for queue in ["spice-nodes-results", "spice-checks-events", "spice-adapter-openattestation"] {
        cloud.lab.await_depth(queue, 0).await;
    }
    // What stood in other queues stands before these.
    cloud.admin(Topic::Checks, "check_list", json!({})).await;
    eventually("what was replayed is done with", async || {
        let unacknowledged = cloud.lab.queues().await;
        unacknowledged.iter().all(|queue| queue["messages_unacknowledged"].as_i64().unwrap_or(0) == 0)
    })
    .await;
    // (Nothing but replays came since, so whatever differs is their doing.)
    assert_same(&everything(&cloud).await, &before);
    assert_eq!(cloud.lab.depth("spice_work.dead").await, 0, "a redelivery of work is done, not an attack");
    goes_on_unimpressed(&cloud).await;
}

/// Says which part differs, not both in full.
fn assert_same(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&found[name], value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_long_ago_counts_for_nothing() {
    let cloud = cloud_with_a_compromised_node("").await;
    let long_ago = |ago: Duration| Timestamp(now().0 - i64::try_from(ago.as_millis()).unwrap());
    let asked = cloud.oat.state().await["requests"].clone();

    // A call: a minute either way, and once.
    let release = json!({ "name": "node-1", "reason": "an old story" });
    let minute_gone = Timestamp(now().0 - 65_000);
    let not_yet = now().plus(Duration::from_secs(65));
    for crafted in [minute_gone, long_ago(HOUR), not_yet] {
        let admin = Forger::with_key_of(&cloud, "admin").at(crafted);
        let refused = admin.ask(&cloud, Topic::Nodes, "node_release", release.clone()).await.unwrap_err();
        assert_eq!(refused.class, "Unauthorized", "{refused:?}");
        assert!(refused.message.contains("was signed at"), "{refused:?}");
    }
    let harmless = object(json!({}));
    let held = Forger::with_key_of(&cloud, "admin").auth(Topic::Nodes, "node_list", &harmless);
    assert!(ask_with(&cloud, Topic::Nodes, "node_list", harmless.clone(), held.clone()).await.is_ok());
    let again = ask_with(&cloud, Topic::Nodes, "node_list", harmless, held).await.unwrap_err();
    assert!(again.message.contains("used before"), "{again:?}");
    assert_eq!(cloud.level("node-1").await, "untrusted");

    // A run: its deadline.
    let mut ticket = ticket_for(&cloud, &["node-1", "node-2"]).await;
    ticket.issued_at = long_ago(HOUR);
    ticket.deadline = long_ago(HOUR - Duration::from_secs(60));
    ticket.order = RunOrder { epoch: long_ago(HOUR).0, run: 7 };
    let document = signed_by(&cloud, "checks", &ticket);
    let run_check = json!({ "ticket": document, "parameters": {} });
    Forger::with_key_of(&cloud, "checks")
        .at(ticket.issued_at)
        .send(&cloud, Topic::Adapter, "run_check", run_check)
        .await;

    // Results of an old run: stored, and counted for nothing beside what came later.
    let adapter = Forger::with_key_of(&cloud, "adapter-openattestation").at(ticket.issued_at);
    let old = results(&document, &[pass("node-1"), pass("node-2")]);
    adapter.send(&cloud, Topic::Results, "record_results", old).await;
    eventually("it is stored", async || stored(&cloud, "node-1", ticket.order).await.0 == 1).await;
    assert_eq!(stored(&cloud, "node-1", ticket.order).await, (1, 0));
    assert_eq!(stored(&cloud, "node-2", ticket.order).await, (1, 0));

    // News of changed nodes: a day.
    let news = json!({ "nodes": ["node-1"], "cause": "released" });
    let nodes = Forger::with_key_of(&cloud, "nodes").at(long_ago(25 * HOUR));
    nodes.send(&cloud, Topic::Events, "nodes_changed", news).await;
    await_dead_letters(&cloud, 1).await;

    cloud.lab.await_depth("spice-adapter-openattestation", 0).await;
    assert_eq!(cloud.oat.state().await["requests"], asked, "the verifier was not asked");
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_held_back_ends_no_distrust_and_outlives_no_ttl() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 20).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 't').await;
    let attacker = Attacker::let_in(&cloud).await;

    // While Nodes is away, the attacker takes the passes of a run out of the queue.
    let early = hold_back(&mut cloud, &attacker).await;
    // Then its node is found out.
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.attest().await;
    cloud.await_in_file("node-1", 'u').await;
    for message in &early {
        attacker.replay(message).await;
    }
    let order = order_of(&early[0]);
    eventually("the pass held back is stored", async || stored(&cloud, "node-1", order).await.0 == 1).await;
    assert_eq!(stored(&cloud, "node-1", order).await, (1, 0), "it counts for nothing: a later run failed");
    assert_eq!(cloud.level("node-1").await, "untrusted");

    // It keeps another pass until trust has run out, and would have it count from its release.
    let late = hold_back(&mut cloud, &attacker).await;
    cloud.oat.order(json!({ "up": false })).await;
    cloud.await_in_file("node-2", '-').await;
    for message in &late {
        attacker.replay(message).await;
    }
    let order = order_of(&late[0]);
    eventually("it is stored", async || stored(&cloud, "node-2", order).await.0 == 1).await;
    assert_eq!(cloud.level("node-2").await, "unknown", "a result is as old as its evidence");
    assert_eq!(cloud.level("node-1").await, "untrusted");
    assert!(cloud.pool_file().values().all(|(level, _)| *level != 't'));
}

/// Has a run carried out while Nodes is away, and takes its results.
async fn hold_back(cloud: &mut Cloud, attacker: &Attacker) -> Vec<Recorded> {
    cloud.stop("nodes").await;
    let run = cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await["run"].clone();
    let mut held = Vec::new();
    let mut nodes = BTreeSet::new();
    let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
    while nodes.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "results of {run} to hold back: {held:?}");
        let Some(message) = attacker.steal("spice-nodes-results").await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        assert_eq!(order_of(&message).to_string(), run.as_str().unwrap());
        for result in message.inner()["args"]["results"].as_array().unwrap() {
            nodes.insert(result["node"].as_str().unwrap().to_owned());
        }
        held.push(message);
    }
    cloud.start("nodes", &["--role", "nodes"]).await;
    held
}

/// The run a recorded message of results is of.
fn order_of(message: &Recorded) -> RunOrder {
    let body = message.inner()["args"]["ticket"]["body"].as_str().unwrap().to_owned();
    serde_json::from_str::<Ticket>(&body).unwrap().order
}
