//! Which nodes a check is run for, and when besides its schedule: aggregates and zones, nodes that were down.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;

use crate::cloud::Cloud;
use crate::lab::eventually;

async fn runs_of(cloud: &Cloud, check: &str) -> Vec<Value> {
    let runs = cloud.admin(Topic::Checks, "run_list", json!({ "check": check })).await;
    runs.as_array().unwrap().clone()
}

/// Waits until Checks knows so many nodes.
async fn known(cloud: &Cloud, nodes: i64) {
    eventually("Checks knows the nodes", async || {
        cloud.admin(Topic::Checks, "status", json!({})).await["known_nodes"] == nodes
    })
    .await;
}

/// A check of the verifier that nothing but events runs.
async fn register(cloud: &Cloud, name: &str, targets: Value) {
    let check = json!({
        "name": name, "adapter": "openattestation", "schedule": { "every": "7d" }, "timeout_s": 5, "ttl_s": 864_000,
        "judgement": { "hold_down_ms": 0 }, "targets": targets,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_follows_nodes_into_an_aggregate_and_a_zone_and_out_again() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.await_adapter("openattestation").await;
    let nodes = json!([
        { "name": "node-1", "aggregates": ["gpu large", "other"] },
        { "name": "node-2", "zone": "eu-1" },
        { "name": "node-3", "labels": { "zone": "eu-1" } },
    ]);
    cloud.admin(Topic::Nodes, "node_import", json!({ "nodes": nodes })).await;
    known(&cloud, 3).await;
    register(&cloud, "placed", json!({ "aggregates": ["gpu*"], "zones": ["eu-?"] })).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 't').await;
    assert_eq!(cloud.level("node-3").await, "unknown", "a label is no zone");

    // Moved in, it is checked at once, with a period of a week.
    let shown =
        cloud.admin(Topic::Nodes, "node_update", json!({ "name": "node-3", "aggregates": ["gpu small"] })).await;
    assert_eq!((&shown["aggregates"], &shown["labels"]), (&json!(["gpu small"]), &json!({ "zone": "eu-1" })));
    cloud.await_in_file("node-3", 't').await;
    // Moved out, nothing is required of it any more, which makes it unknown.
    let shown = cloud.admin(Topic::Nodes, "node_update", json!({ "name": "node-2", "zone": "" })).await;
    assert_eq!(shown["zone"], Value::Null);
    cloud.await_in_file("node-2", '-').await;

    // Both roles find it again after a restart.
    for role in ["checks", "nodes"] {
        cloud.kill(role).await;
        cloud.start(role, &["--role", role]).await;
    }
    eventually("both know the placement", async || {
        let check = cloud.try_admin(Topic::Checks, "check_show", json!({ "name": "placed" })).await;
        check.is_ok_and(|check| check["nodes"] == 2)
    })
    .await;
    let bad = cloud.try_admin(Topic::Nodes, "node_update", json!({ "name": "node-1", "zone": "a\u{7}" })).await;
    assert_eq!(bad.unwrap_err().kind, Kind::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_again_is_asked_at_once_what_it_did_not_answer() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.await_adapter("openattestation").await;
    known(&cloud, 2).await;
    cloud.oat.order(json!({ "silent": ["node-2"] })).await;
    register(&cloud, "attestation", json!({ "all": true })).await;
    register(&cloud, "weekly", json!({ "all": true })).await;
    for check in ["attestation", "weekly"] {
        eventually("node-2 gave no answer", async || {
            // The first run; whether it began with the check or with the news of the nodes depends on which came first.
            let first = runs_of(&cloud, check).await.pop();
            first.is_some_and(|run| run["finished"] == true && run["outcomes"]["pass"] == 1)
        })
        .await;
    }
    cloud.oat.order(json!({ "silent": [] })).await;
    cloud.attest().await;
    // Nobody asked for the weekly check; a pass of both is needed.
    cloud.await_in_file("node-2", 't').await;
    let run = runs_of(&cloud, "weekly").await.remove(0);
    assert_eq!(
        (&run["cause"], &run["nodes"], &run["outcomes"]),
        (&json!("node_change"), &json!(1), &json!({ "pass": 1 }))
    );

    // Somebody who knows that a node is back says so.
    let begun = cloud.admin(Topic::Checks, "node_check", json!({ "nodes": ["node-1"] })).await;
    let checks: Vec<&Value> = begun.as_array().unwrap().iter().map(|run| &run["check"]).collect();
    assert_eq!(checks, ["attestation", "weekly"]);
    eventually("they are finished", async || cloud.run(&begun[1]["run"]).await["finished"] == true).await;
    let unknown = cloud.try_admin(Topic::Checks, "node_check", json!({ "nodes": ["nobody"] })).await;
    assert_eq!(unknown.unwrap_err().kind, Kind::NotFound);
}
