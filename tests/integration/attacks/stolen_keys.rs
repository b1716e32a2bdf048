//! The key of an adapter, or of a node's agent, in the wrong hands: it can do what that role can, under its tickets, and
//! nothing else.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;
use spice::security::{Role, bootstrap};

use super::attacker::{Forger, now};
use super::*;
use crate::cloud::{deployment, object};

const ADAPTER: &str = "adapter-openattestation";

async fn report(cloud: &Cloud, by: &str, ticket: &SignedDocument, said: &[NodeResult]) {
    Forger::with_key_of(cloud, by).send(cloud, Topic::Results, "record_results", results(ticket, said)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapters_key_is_believed_under_a_ticket_of_checks_for_this_adapter_only() {
    let cloud = cloud_with_a_compromised_node("").await;
    let ticket = ticket_for(&cloud, &["node-1"]).await;
    let of_command = Ticket { adapter: "command".parse().unwrap(), ..ticket.clone() };
    let elsewhere = Ticket { deployment: "other-cloud".parse().unwrap(), ..ticket.clone() };
    let mut refused = 0;
    for (what, by, document) in [
        ("a ticket it made itself", ADAPTER, signed_by(&cloud, ADAPTER, &ticket)),
        ("a ticket of another role", ADAPTER, signed_by(&cloud, "nodes", &ticket)),
        ("a ticket of another adapter", ADAPTER, signed_by(&cloud, "checks", &of_command)),
        ("its ticket in another adapter's hands", "adapter-command", signed_by(&cloud, "checks", &ticket)),
        ("a ticket of another cloud", ADAPTER, signed_by(&cloud, "checks", &elsewhere)),
        ("Checks itself, which only fills in", "checks", signed_by(&cloud, "checks", &ticket)),
    ] {
        report(&cloud, by, &document, &[pass("node-1")]).await;
        refused += 1;
        await_dead_letters(&cloud, refused).await;
        assert_eq!(cloud.level("node-1").await, "untrusted", "{what}");
    }
    // Nor does an adapter believe an adapter.
    let asked = cloud.oat.state().await["requests"].clone();
    let run_check = json!({ "ticket": signed_by(&cloud, ADAPTER, &ticket), "parameters": {} });
    Forger::with_key_of(&cloud, ADAPTER).send(&cloud, Topic::Adapter, "run_check", run_check).await;
    await_dead_letters(&cloud, refused + 1).await;
    assert_eq!(cloud.oat.state().await["requests"], asked, "the verifier was not asked");

    // Nodes that are not in the ticket are left out, and the others count.
    let ticket = ticket_for(&cloud, &["node-2"]).await;
    report(&cloud, ADAPTER, &signed_by(&cloud, "checks", &ticket), &[pass("node-1"), pass("node-2")]).await;
    eventually("the one in the ticket is stored", async || stored(&cloud, "node-2", ticket.order).await == (1, 1))
        .await;
    assert_eq!(stored(&cloud, "node-1", ticket.order).await, (0, 0));

    // Other definitions of the check: stored, and counted for nothing.
    let ticket = ticket_for(&cloud, &["node-1"]).await;
    let older = Ticket { revision: ticket.revision - 1, ..ticket.clone() };
    let other = Ticket { check_id: "another-check".to_owned(), batch: 2, ..ticket.clone() };
    let unknown = Ticket { check: "unheard-of".parse().unwrap(), batch: 3, ..ticket.clone() };
    for wrong in [older, other, unknown] {
        report(&cloud, ADAPTER, &signed_by(&cloud, "checks", &wrong), &[pass("node-1")]).await;
    }
    eventually("all are stored", async || stored(&cloud, "node-1", ticket.order).await == (3, 0)).await;

    // A node that was deleted does not come back.
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "gone" })).await;
    let ticket = ticket_for(&cloud, &["gone"]).await;
    cloud.admin(Topic::Nodes, "node_delete", json!({ "name": "gone" })).await;
    report(&cloud, ADAPTER, &signed_by(&cloud, "checks", &ticket), &[pass("gone")]).await;
    cloud.lab.await_depth("spice-nodes-results", 0).await;
    goes_on_unimpressed(&cloud).await;
    assert!(cloud.try_admin(Topic::Nodes, "node_show", json!({ "name": "gone" })).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_an_adapter_states_makes_a_pass_younger_than_its_ticket() {
    let (configuration, address) = metrics();
    let cloud = Cloud::in_one_process(&configuration).await;
    // A verifier that answers nothing, so that only what is reported here can make the node trusted.
    cloud.oat.order(json!({ "up": false })).await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", '-').await;
    eventually("its first run is over", async || {
        let runs = cloud.admin(Topic::Checks, "run_list", json!({})).await;
        runs.as_array().unwrap().iter().all(|run| run["finished"] == true) && !runs.as_array().unwrap().is_empty()
    })
    .await;
    let hours = |count: i64| spice::clock::Timestamp(now().0 + count * 3_600_000);
    for (what, said) in [
        ("asked in the future", NodeResult { requested_at: hours(1), finished_at: hours(1), ..pass("node-1") }),
        ("verified in the future", NodeResult { verified_at: Some(hours(24)), ..pass("node-1") }),
        ("asked long ago", NodeResult { requested_at: hours(-10), ..pass("node-1") }),
        ("verified long ago", NodeResult { verified_at: Some(hours(-3)), ..pass("node-1") }),
    ] {
        let ticket = ticket_for(&cloud, &["node-1"]).await;
        report(&cloud, ADAPTER, &signed_by(&cloud, "checks", &ticket), &[said]).await;
        eventually(what, async || stored(&cloud, "node-1", ticket.order).await.0 == 1).await;
        assert_eq!(cloud.level("node-1").await, "unknown", "{what}");
    }
    // Long after the deadline, with whatever times: as old as the ticket.
    let mut ticket = ticket_for(&cloud, &["node-1"]).await;
    ticket.issued_at = hours(-1);
    ticket.deadline = hours(-1).plus(Duration::from_secs(60));
    let said = NodeResult { verified_at: Some(now()), ..pass("node-1") };
    let document = signed_by(&cloud, "checks", &ticket);
    report(&cloud, ADAPTER, &document, std::slice::from_ref(&said)).await;
    cloud.await_in_file("node-1", 't').await;
    let expires = i64::try_from(cloud.pool_file()["node-1"].1).unwrap();
    assert!(
        expires <= ticket.issued_at.0 + 7_200_000,
        "trusted until {expires}, the ticket is of {}",
        ticket.issued_at
    );

    // The same ticket with another outcome: the worse stands, whichever came first, and it is counted.
    let failure = NodeResult { status: Status::Fail, ..pass("node-1") };
    report(&cloud, ADAPTER, &document, &[failure]).await;
    cloud.await_in_file("node-1", 'u').await;
    assert_eq!(counted(&address, "spice_nodes_results_contradicted_total", "").await, 1);
    report(&cloud, ADAPTER, &document, &[said]).await;
    eventually("it is stored", async || stored(&cloud, "node-1", ticket.order).await.0 == 3).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");
    assert_eq!(counted(&address, "spice_nodes_results_contradicted_total", "").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_adapters_and_agents_speak_for_nobody_else() {
    let cloud = cloud_with_a_compromised_node("").await;
    let node: Role = "agent:node-1".parse().unwrap();
    bootstrap::create_key(&cloud.state(), &deployment(), "agent-node-1", [node]).unwrap();
    let ask = async |by: &str, topic, method: &str, args: Value| {
        cloud.as_holder_of(by).call(topic, method, object(args)).await.unwrap_err()
    };
    eventually("the new key is known", async || {
        ask("agent-node-1", Topic::Nodes, "node_list", json!({})).await.kind == Kind::Forbidden
    })
    .await;
    let announce = json!({ "adapter": "command", "instance": "here", "schema": {} });
    for by in ["agent-node-1", ADAPTER] {
        for (topic, method, args) in [
            (Topic::Checks, "adapter_announce", announce.clone()),
            (Topic::Checks, "check_run", json!({ "name": "attestation" })),
            (Topic::Checks, "policy_get", json!({})),
            (Topic::Nodes, "policy_publish", json!({ "document": {} })),
            (Topic::Nodes, "node_inventory", json!({})),
            (Topic::Nodes, "pool_snapshot", json!({ "nonce": "0123456789abcdef" })),
            (Topic::Nodes, "node_release", json!({ "name": "node-1", "reason": "let me in" })),
        ] {
            assert_eq!(ask(by, topic, method, args).await.kind, Kind::Forbidden, "{by} {method}");
        }
    }
    // Its own word about its node, even under a true ticket for it.
    let ticket = ticket_for(&cloud, &["node-1"]).await;
    let document = signed_by(&cloud, "checks", &ticket);
    report(&cloud, "agent-node-1", &document, &[pass("node-1")]).await;
    await_dead_letters(&cloud, 1).await;
    goes_on_unimpressed(&cloud).await;
}
