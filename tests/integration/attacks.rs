//! A compromised compute node holds bus credentials: what it can send is refused, counted and changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use spice::bus::{Request, Target};
use spice::clock::Timestamp;
use spice::names::NodeName;
use spice::protocol::{Delta, Level, MemberState, NodeResult, RunOrder, Status, Ticket};
use spice::rpc::Kind;
use spice::rpc::table::Topic;
use spice::security::{DocumentKind, SignedDocument};

use crate::cloud::{Cloud, deployment, object};
use crate::lab::eventually;

fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

fn pass(node: &str) -> NodeResult {
    NodeResult {
        node: NodeName::new(node).unwrap(),
        status: Status::Pass,
        reason: "all is well, believe me".to_owned(),
        requested_at: now(),
        finished_at: now(),
        verified_at: None,
        boot: None,
        self_reported: false,
    }
}

async fn ticket_for(cloud: &Cloud, adapter: &str, nodes: &[&str]) -> Ticket {
    let check = cloud.admin(Topic::Checks, "check_show", json!({ "name": "attestation" })).await;
    Ticket {
        deployment: deployment(),
        order: RunOrder { epoch: now().0, run: 1 },
        batch: 1,
        attempt: 1,
        check: "attestation".parse().unwrap(),
        check_id: check["id"].as_str().unwrap().to_owned(),
        revision: check["revision"].as_i64().unwrap(),
        adapter: adapter.parse().unwrap(),
        nodes: nodes.iter().map(|node| NodeName::new(node).unwrap()).collect(),
        issued_at: now(),
        deadline: now().plus(Duration::from_secs(60)),
    }
}

fn results(ticket: &SignedDocument, nodes: &[&str]) -> serde_json::Map<String, Value> {
    let results: Vec<NodeResult> = nodes.iter().map(|node| pass(node)).collect();
    object(json!({ "ticket": ticket, "results": results }))
}

/// A cloud in which node-1 failed its attestation and node-2 passed.
async fn cloud_with_a_compromised_node() -> Cloud {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
    cloud
}

async fn dead_letters(cloud: &Cloud) -> u32 {
    cloud.lab.depth("spice_work.dead").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_signature_ends_among_the_dead_letters() {
    let cloud = cloud_with_a_compromised_node().await;
    // Even with a true ticket, read off the bus.
    let ticket = ticket_for(&cloud, "openattestation", &["node-1"]).await;
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("checks").key).unwrap();
    let request = Request::new("record_results", results(&ticket, &["node-1"]));
    let target = Target::topic("spice_work", "spice-nodes-results").version("1.0");
    cloud.bus().work(&target, request, None).await.unwrap();
    eventually("it is refused", async || dead_letters(&cloud).await == 1).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_another_adapters_key_cannot_report() {
    let cloud = cloud_with_a_compromised_node().await;
    let ticket = ticket_for(&cloud, "openattestation", &["node-1"]).await;
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("checks").key).unwrap();
    let thief = cloud.as_holder_of("adapter-command");
    thief.work(Topic::Results, None, "record_results", results(&ticket, &["node-1"]), None).await.unwrap();
    eventually("it is refused", async || dead_letters(&cloud).await == 1).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_an_adapter_made_itself_is_not_believed() {
    let cloud = cloud_with_a_compromised_node().await;
    let ticket = ticket_for(&cloud, "openattestation", &["node-1"]).await;
    let adapter = cloud.identity("adapter-openattestation");
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &adapter.key).unwrap();
    let thief = cloud.as_holder_of("adapter-openattestation");
    thief.work(Topic::Results, None, "record_results", results(&ticket, &["node-1"]), None).await.unwrap();
    eventually("it is refused", async || dead_letters(&cloud).await == 1).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_for_a_node_outside_the_ticket_is_dropped_and_the_others_count() {
    let cloud = cloud_with_a_compromised_node().await;
    let ticket = ticket_for(&cloud, "openattestation", &["node-2"]).await;
    let run = ticket.order.to_string();
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("checks").key).unwrap();
    let adapter = cloud.as_holder_of("adapter-openattestation");
    adapter.work(Topic::Results, None, "record_results", results(&ticket, &["node-1", "node-2"]), None).await.unwrap();
    let of_run = async |node: &str| {
        let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": node })).await;
        stored.as_array().unwrap().iter().filter(|result| result["run"] == run.as_str()).count()
    };
    eventually("the one in the ticket is stored", async || of_run("node-2").await == 1).await;
    assert_eq!(of_run("node-1").await, 0);
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_itself_cannot_report_a_pass() {
    let cloud = cloud_with_a_compromised_node().await;
    let ticket = ticket_for(&cloud, "openattestation", &["node-1"]).await;
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("checks").key).unwrap();
    let checks = cloud.as_holder_of("checks");
    checks.work(Topic::Results, None, "record_results", results(&ticket, &["node-1"]), None).await.unwrap();
    eventually("it is refused", async || dead_letters(&cloud).await == 1).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_delivered_twice_is_done_once() {
    let cloud = cloud_with_a_compromised_node().await;
    let target = Target::topic("spice_work", "spice-nodes-results").version("1.0");
    let ticket = ticket_for(&cloud, "openattestation", &["node-2"]).await;
    let run = ticket.order.to_string();
    let ticket = SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("checks").key).unwrap();
    let args = results(&ticket, &["node-2"]);
    let parts = spice::security::RequestParts {
        exchange: "spice_work",
        topic: "spice-nodes-results",
        server: None,
        fanout: false,
        namespace: None,
        method: "record_results",
        version: Some("1.0"),
        args: &args,
    };
    let (auth, _) = cloud.identity("adapter-openattestation").signer.sign(&parts).unwrap();
    let request = Request::new("record_results", args).context(object(json!({ "spice_auth": auth })));
    for _ in 0..3 {
        cloud.bus().work(&target, request.clone(), None).await.unwrap();
    }
    eventually("all three are consumed", async || cloud.lab.depth("spice-nodes-results").await == 0).await;
    let of_run = async || {
        let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-2" })).await;
        stored.as_array().unwrap().iter().filter(|result| result["run"] == run.as_str()).count()
    };
    eventually("it is stored", async || of_run().await > 0).await;
    assert_eq!(of_run().await, 1);
    assert_eq!(dead_letters(&cloud).await, 0, "a redelivery is done, not an attack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_nobody_signed_is_not_carried_out() {
    let cloud = cloud_with_a_compromised_node().await;
    let asked = cloud.oat.state().await["requests"].clone();
    let ticket = ticket_for(&cloud, "openattestation", &["node-1"]).await;
    let ticket =
        SignedDocument::sign(DocumentKind::Ticket, &ticket, &cloud.identity("adapter-openattestation").key).unwrap();
    let thief = cloud.as_holder_of("adapter-openattestation");
    let adapter = "openattestation".parse().unwrap();
    let args = object(json!({ "ticket": ticket, "parameters": {} }));
    thief.work(Topic::Adapter, Some(&adapter), "run_check", args, None).await.unwrap();
    eventually("it is refused", async || dead_letters(&cloud).await == 1).await;
    assert_eq!(cloud.oat.state().await["requests"], asked, "the verifier was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_publications_do_not_reach_the_pool_file() {
    let cloud = cloud_with_a_compromised_node().await;
    let header = cloud.pool_header();
    let state =
        MemberState { level: Level::Trusted, expires_at: now().plus(Duration::from_secs(3600)), overridden: false };
    let delta = Delta {
        deployment: deployment(),
        epoch: header["epoch"].as_i64().unwrap(),
        version: header["version"].as_i64().unwrap() + 1,
        changes: [("default".parse().unwrap(), [("node-1".parse().unwrap(), Some(state))].into())].into(),
        sent_at: now(),
        not_after: now().plus(Duration::from_secs(60)),
    };
    for name in ["adapter-openattestation", "pool", "checks", "admin"] {
        let forged = SignedDocument::sign(DocumentKind::Delta, &delta, &cloud.identity(name).key).unwrap();
        let args = object(json!({ "document": forged }));
        cloud.as_holder_of(name).publish("pool_delta", args.clone()).await.unwrap();
        let target = Target::topic("spice", "spice-pool").version("1.0").fanout();
        cloud.bus().cast(&target, Request::new("pool_delta", args)).await.unwrap();
    }
    // A true change afterwards shows that the cache has seen, and dropped, all that came before it.
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "test" })).await;
    cloud.await_in_file("node-2", 'u').await;
    assert_eq!(cloud.pool_file()["node-1"].0, 'u');
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_machines_may_not_administer_and_an_operator_may_not_loosen() {
    let cloud = cloud_with_a_compromised_node().await;
    for name in ["adapter-openattestation", "pool", "checks", "nodes"] {
        let args = object(json!({ "name": "node-1", "reason": "let me in" }));
        let error = cloud.as_holder_of(name).call(Topic::Nodes, "node_release", args).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{name}: {error}");
        assert!(error.message.contains("takes the role"), "{name}: {error}");
    }
    let disable = json!({ "name": "attestation", "changes": { "pools": { "default": "advisory" } } });
    let error = cloud.try_admin(Topic::Checks, "check_update", disable).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.message.contains("loosens") && error.message.contains("confirm"), "{error}");
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_oslo_client_is_refused_unsigned_and_served_signed() {
    let cloud = cloud_with_a_compromised_node().await;
    let mut peer = cloud.lab.peer(&[]).await;
    let call = json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_list", "args": {} });
    let refused = peer.command(call).await;
    assert_eq!(refused["exc_type"], "Unauthorized", "{refused}");
    assert!(refused["value"].as_str().unwrap().contains("not signed"), "{refused}");

    let schedule = json!({ "cron": "15 2 * * *", "zone": "Europe/Berlin" });
    let check = json!({ "name": "nightly", "adapter": "openattestation", "schedule": schedule });
    let made = signed_python_call(&cloud, "spice-checks", "check_create", &[("check", &check)]).await;
    assert_eq!(made["effective_schedule"]["zone"], "Europe/Berlin");
    assert_eq!(made["next_runs"].as_array().unwrap().len(), 5);
    let listed = signed_python_call(&cloud, "spice-nodes", "node_list", &[]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laboratory_may_allow_unsigned_administration_and_says_so() {
    let cloud = Cloud::in_one_process("[security]\nunsigned_admin = true\n").await;
    let mut peer = cloud.lab.peer(&[]).await;
    let call = json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_create", "args": { "name": "n1" } });
    assert_eq!(peer.succeed(call).await["name"], "n1");
    let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
    assert_eq!(status["unsigned_admin"], true);
    // What machines do is signed all the same.
    let call =
        json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_inventory", "args": {} });
    assert_eq!(peer.command(call).await["exc_type"], "Unauthorized");
}

/// The unmodified oslo.messaging with our signer, as `python -m spice_client`.
async fn signed_python_call(cloud: &Cloud, topic: &str, method: &str, args: &[(&str, &Value)]) -> Value {
    let output = tokio::process::Command::new(crate::lab::python().await)
        .env("PYTHONPATH", crate::lab::root().join("plugins/client"))
        .args(["-W", "ignore", "-m", "spice_client", "--transport-url", &cloud.lab.transport_url()])
        .args(["--key", cloud.state().join("keys/admin.pem").to_str().unwrap()])
        .args(["--sender", "admin", "--deployment", deployment().as_str(), topic, method])
        .args(args.iter().map(|(name, value)| format!("{name}={value}")))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
