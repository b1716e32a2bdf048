//! A compromised compute node attacks. Each file is one position it may be in; what holds in all of them: it is not
//! believed, the honest service goes on, and what it can do at most is make nodes unknown.
//!
//! | file | the attacker |
//! |---|---|
//! | `forgery` | may do everything in the virtual host, and makes things up |
//! | `replay` | recorded everything, and plays it again, at once or much later, or holds it back |
//! | `impostor` | answers in the place of a server |
//! | `sabotage` | deletes, unbinds, steals, floods, declares first |
//! | `stolen_keys` | holds the key of an adapter, or of a node's agent |
//! | `trickery` | plays with texts, names and properties |
//! | `narrow` | has the account of one role, or a compute node's own |
//! | `administration` | would administer |

mod administration;
mod attacker;
mod forgery;
mod impostor;
mod narrow;
mod replay;
mod sabotage;
mod stolen_keys;
mod trickery;

use std::time::Duration;

use serde_json::{Value, json};
use spice::names::NodeName;
use spice::protocol::{NodeResult, RunOrder, Status, Ticket};
use spice::rpc::table::Topic;
use spice::security::{DocumentKind, SignedDocument};

use crate::cloud::{Cloud, deployment};
use crate::lab::eventually;
use attacker::now;

/// A pass, as any adapter would report it.
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

/// A ticket as Checks would make it for a run of now.
async fn ticket_for(cloud: &Cloud, nodes: &[&str]) -> Ticket {
    let check = cloud.admin(Topic::Checks, "check_show", json!({ "name": "attestation" })).await;
    Ticket {
        deployment: deployment(),
        order: RunOrder { epoch: now().0, run: 1 },
        batch: 1,
        attempt: 1,
        check: "attestation".parse().unwrap(),
        check_id: check["id"].as_str().unwrap().to_owned(),
        revision: check["revision"].as_i64().unwrap(),
        adapter: "openattestation".parse().unwrap(),
        nodes: nodes.iter().map(|node| NodeName::new(node).unwrap()).collect(),
        issued_at: now(),
        deadline: now().plus(Duration::from_secs(60)),
    }
}

/// A ticket signed with a key of the cloud.
fn signed_by(cloud: &Cloud, name: &str, ticket: &Ticket) -> SignedDocument {
    SignedDocument::sign(DocumentKind::Ticket, ticket, &cloud.identity(name).key).unwrap()
}

/// The arguments of `record_results`.
fn results(ticket: &SignedDocument, results: &[NodeResult]) -> Value {
    json!({ "ticket": ticket, "results": results })
}

/// How many results of a run are stored for a node, and how many of them count; without what Checks fills in at a deadline.
async fn stored(cloud: &Cloud, node: &str, order: RunOrder) -> (usize, usize) {
    let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": node })).await;
    let run = order.to_string();
    let of_run: Vec<&Value> = stored
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["run"] == run.as_str() && result["attempt"] == 1 && result["status"] != "timeout")
        .collect();
    (of_run.len(), of_run.iter().filter(|result| result["counted"] == true).count())
}

/// A cloud in which node-1 failed its attestation and node-2 passed.
async fn cloud_with_a_compromised_node(more_configuration: &str) -> Cloud {
    compromise(Cloud::in_one_process(more_configuration).await).await
}

async fn compromise(cloud: Cloud) -> Cloud {
    cloud.register_nodes(2).await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
    cloud
}

/// Nothing was believed, and the service does its work as before.
async fn goes_on_unimpressed(cloud: &Cloud) {
    assert_eq!(cloud.level("node-1").await, "untrusted");
    assert_eq!(cloud.attest().await["outcomes"], json!({ "pass": 1, "fail": 1 }));
    assert_eq!(cloud.level("node-1").await, "untrusted");
    assert_eq!(cloud.level("node-2").await, "trusted");
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
}

/// Waits until so many messages were put aside as poisonous.
async fn await_dead_letters(cloud: &Cloud, count: u32) {
    eventually(&format!("{count} are refused"), async || cloud.lab.depth("spice_work.dead").await >= count).await;
    assert_eq!(cloud.lab.depth("spice_work.dead").await, count);
}

/// Configuration and address of metrics on a free port.
fn metrics() -> (String, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (format!("[metrics]\nlisten = 127.0.0.1:{port}\n"), format!("http://127.0.0.1:{port}/metrics"))
}

/// The sum of a counter over those of its labels that hold `label`.
async fn counted(address: &str, name: &str, label: &str) -> u64 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(address).send().await.unwrap().text().await.unwrap();
    let of_name = |line: &&str| line.starts_with(name) && line.contains(label);
    text.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}
