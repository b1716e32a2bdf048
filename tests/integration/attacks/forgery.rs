//! Everything SPICE says on the bus, made up by somebody who may do everything in the virtual host but has no key.

use std::time::Duration;

use serde_json::{Value, json};
use spice::protocol::{Delta, Heartbeat, Level, MemberState};
use spice::rpc::Kind;
use spice::rpc::table::Topic;
use spice::security::{DocumentKind, SignedDocument};

use super::attacker::{Attacker, Forger, now, request_text, send_unsigned};
use super::*;
use crate::cloud::{deployment, object};

#[tokio::test(flavor = "multi_thread")]
async fn made_up_work_is_put_aside_whoever_it_claims_to_be_from() {
    let cloud = cloud_with_a_compromised_node("").await;
    let asked = cloud.oat.state().await["requests"].clone();
    let runs = cloud.admin(Topic::Checks, "run_list", json!({})).await;
    // Even a true ticket, read off the bus, is of no use.
    let ticket = ticket_for(&cloud, &["node-1"]).await;
    let true_ticket = signed_by(&cloud, "checks", &ticket);
    let checks = Forger::in_the_name_of(&cloud, "checks");
    let own_ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, checks.key()).unwrap();
    let outcomes = json!({ "run": ticket.order.to_string(), "batch": 1, "outcomes": { "node-1": "pass" } });
    let work = [
        ("adapter-openattestation", Topic::Results, "record_results", results(&true_ticket, &[pass("node-1")])),
        ("adapter-openattestation", Topic::Results, "record_results", results(&own_ticket, &[pass("node-1")])),
        ("checks", Topic::Adapter, "run_check", json!({ "ticket": true_ticket, "parameters": {} })),
        ("checks", Topic::Adapter, "run_check", json!({ "ticket": own_ticket, "parameters": {} })),
        ("nodes", Topic::Events, "results_stored", outcomes),
        ("nodes", Topic::Events, "nodes_changed", json!({ "nodes": ["node-1"], "cause": "released" })),
    ];
    let mut refused = 0;
    for (sender, topic, method, args) in work {
        send_unsigned(&cloud, topic, method, args.clone()).await;
        Forger::in_the_name_of(&cloud, sender).send(&cloud, topic, method, args).await;
        refused += 2;
        await_dead_letters(&cloud, refused).await;
    }
    assert_eq!(cloud.oat.state().await["requests"], asked, "no run was carried out");
    assert_eq!(cloud.admin(Topic::Checks, "run_list", json!({})).await, runs, "and none begun");
    assert_eq!(stored(&cloud, "node-1", ticket.order).await, (0, 0));
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_calls_are_refused_and_counted() {
    let (configuration, address) = metrics();
    let cloud = cloud_with_a_compromised_node(&configuration).await;
    let status = async || {
        let nodes = cloud.admin(Topic::Nodes, "status", json!({})).await;
        (nodes["record_head"].clone(), nodes["policy_number"].clone())
    };
    let before = status().await;
    let checks = Forger::in_the_name_of(&cloud, "checks");
    let policy = SignedDocument::sign(DocumentKind::Policy, &json!({ "number": 99 }), checks.key()).unwrap();
    let loosened = json!({ "name": "attestation", "changes": { "pools": {} }, "confirm": "0123456789ab" });
    let calls = [
        ("admin", Topic::Nodes, "node_release", json!({ "name": "node-1", "reason": "trust me" })),
        ("admin", Topic::Nodes, "node_override", json!({ "name": "node-1", "hours": 72, "reason": "trust me" })),
        ("admin", Topic::Nodes, "node_delete", json!({ "name": "node-1" })),
        ("admin", Topic::Nodes, "node_list", json!({})),
        ("admin", Topic::Checks, "check_update", loosened),
        (
            "admin",
            Topic::Checks,
            "pool_update",
            json!({ "name": "default", "mode": "observe", "confirm": "0123456789ab" }),
        ),
        ("checks", Topic::Nodes, "policy_publish", json!({ "document": policy })),
        (
            "adapter-command",
            Topic::Checks,
            "adapter_announce",
            json!({ "adapter": "command", "instance": "x", "schema": {} }),
        ),
    ];
    let count = calls.len() as u64;
    for (sender, topic, method, args) in calls {
        let forger = Forger::in_the_name_of(&cloud, sender);
        let error = forger.client(&cloud).call(topic, method, object(args.clone())).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthorized, "{method}: {error}");
        send_unsigned(&cloud, topic, method, args).await;
    }
    // The last one had no answer to wait for.
    eventually("every one is counted", async || {
        counted(&address, "spice_requests_refused_total", "").await == 2 * count
    })
    .await;
    assert_eq!(counted(&address, "spice_requests_refused_total", "unsigned").await, count);
    assert_eq!(status().await, before, "the record of trust and the policy are as they were");
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_publications_do_not_reach_the_pool_file() {
    let (configuration, address) = metrics();
    let cloud = cloud_with_a_compromised_node(&configuration).await;
    let attacker = Attacker::let_in(&cloud).await;
    let header = cloud.pool_header();
    let (epoch, version) = (header["epoch"].as_i64().unwrap(), header["version"].as_i64().unwrap());
    let state =
        MemberState { level: Level::Trusted, expires_at: now().plus(Duration::from_secs(3600)), overridden: false };
    let delta = Delta {
        deployment: deployment(),
        epoch,
        version: version + 1,
        changes: [("default".parse().unwrap(), [("node-1".parse().unwrap(), Some(state))].into())].into(),
        sent_at: now(),
        not_after: now().plus(Duration::from_secs(60)),
    };
    // Were it believed, the cache would never listen to the true Nodes again.
    let heartbeat = Heartbeat {
        deployment: deployment(),
        epoch: epoch + 1_000_000,
        version: 1,
        digest: "0".repeat(64),
        policy_number: 1,
        record_head: String::new(),
        sent_at: now(),
        not_after: now().plus(Duration::from_secs(60)),
    };
    let queues = cloud.lab.queues().await;
    let queue = queues.iter().filter_map(|queue| queue["name"].as_str()).find(|n| n.starts_with("spice-pool_fanout_"));
    // Keys of other roles, stolen or not, and one of the attacker's own.
    let mut forgers: Vec<Forger> =
        ["adapter-openattestation", "pool", "checks", "admin"].map(|name| Forger::with_key_of(&cloud, name)).into();
    forgers.push(Forger::in_the_name_of(&cloud, "nodes"));
    for forger in forgers {
        for (kind, method, content) in [
            (DocumentKind::Delta, "pool_delta", json!(delta)),
            (DocumentKind::Heartbeat, "pool_heartbeat", json!(heartbeat)),
        ] {
            let forged = SignedDocument::sign(kind, &content, forger.key()).unwrap();
            let args = json!({ "document": forged });
            forger.send(&cloud, Topic::Pool, method, args.clone()).await;
            send_unsigned(&cloud, Topic::Pool, method, args.clone()).await;
            // Right into the cache's own queue.
            let auth = forger.auth(Topic::Pool, method, &object(args.clone()));
            attacker.send_text("", queue.unwrap(), &request_text(method, &object(args), &auth)).await;
        }
    }
    // Refused before anything of it is looked at: by five keys, two kinds, in three ways.
    eventually("all are refused", async || {
        counted(&address, "spice_requests_refused_total", "topic=\"spice-pool\"").await == 5 * 2 * 3
    })
    .await;
    // A true change afterwards shows that the cache has seen, and dropped, all that came before it.
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "test" })).await;
    cloud.await_in_file("node-2", 'u').await;
    assert_eq!(cloud.pool_file()["node-1"].0, 'u');
    assert_eq!(cloud.pool_header()["epoch"], json!(epoch));
    assert_ne!(cloud.pool_header()["version"], Value::Null);
}
