//! The record: who was trusted when and why, verified, exported, and what is seen of somebody who changes it.

use std::process::Output;

use serde_json::{Value, json};
use spice::rpc::table::Topic;

use crate::cloud::Cloud;

async fn spicectl(cloud: &Cloud, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .arg("--config-file")
        .arg(cloud.dir.path().join("spice.conf"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap()
}

async fn done(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = spicectl(cloud, arguments).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code 2, and the table that says where.
async fn broken(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = spicectl(cloud, arguments).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {shown}{}", String::from_utf8_lossy(&output.stderr));
    shown
}

/// Changes the database behind the service's back.
async fn tamper(cloud: &Cloud, role: &'static str, statement: &'static str) {
    let file = cloud.state().join(format!("spice-{role}.sqlite"));
    let database = spice::store::Database::open(&format!("sqlite://{}", file.display()), role).await.unwrap();
    let mut changes = database.begin().await.unwrap();
    assert_eq!(changes.execute(statement, &[]).await.unwrap(), 1);
    changes.commit().await.unwrap();
    database.close().await;
}

/// node-1 passed and was then quarantined.
async fn cloud_with_a_past() -> Cloud {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 't').await;
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-1", "reason": "odd traffic" })).await;
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_are_verified_and_a_lie_in_them_is_found_at_its_entry() {
    let mut cloud = cloud_with_a_past().await;
    let verified: Value = serde_json::from_str(&done(&cloud, &["audit", "verify", "-f", "json"]).await).unwrap();
    assert_eq!((&verified[0]["verdict"], &verified[1]["verdict"]), (&json!("intact"), &json!("intact")), "{verified}");
    let head = verified[0]["head"].as_str().unwrap().to_owned();
    let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
    assert_eq!(head, format!("{}:{}", status["record_entries"], status["record_head"].as_str().unwrap()));
    done(&cloud, &["audit", "verify", "--expect", &head]).await;
    let (number, _) = head.split_once(':').unwrap();
    let other = format!("{number}:000000");
    assert!(broken(&cloud, &["audit", "verify", "--expect", &other]).await.contains("not the one that was noted"));

    cloud.stop("all").await;
    tamper(&cloud, "nodes", "UPDATE nodes_record SET body = replace(body, 'odd traffic', 'nothing at all') WHERE body LIKE '%odd traffic%' AND body LIKE '%\"action\"%'").await;
    let file = cloud.state().join("spice-nodes.sqlite");
    let file = file.to_str().unwrap();
    assert!(broken(&cloud, &["audit", "verify", "--database", file]).await.contains("its text was changed"));
    cloud.start("all", &[]).await;
    assert!(broken(&cloud, &["audit", "verify"]).await.contains("its text was changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_cut_off_does_not_reach_the_head_that_the_service_signs() {
    let cloud = cloud_with_a_past().await;
    let last = "DELETE FROM nodes_record WHERE seq = (SELECT MAX(seq) FROM nodes_record)";
    tamper(&cloud, "nodes", last).await;
    assert!(broken(&cloud, &["audit", "verify"]).await.contains("the service says"));
    // The other record is whole, and who changed what is in it.
    let listed: Value = serde_json::from_str(&done(&cloud, &["audit", "list", "-f", "json"]).await).unwrap();
    assert_eq!(
        (&listed[0]["sender"], &listed[0]["name"]),
        (&json!("admin"), &json!("attestation")),
        "the latest first"
    );
    assert!(listed.as_array().unwrap().iter().any(|entry| entry["sender"] == "spiced" && entry["name"] == "default"));
    tamper(&cloud, "checks", "DELETE FROM checks_record WHERE seq = 2").await;
    assert!(broken(&cloud, &["audit", "verify"]).await.contains("is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_exported_as_lines_that_anybody_can_verify() {
    let cloud = cloud_with_a_past().await;
    let lines = done(&cloud, &["audit", "export"]).await;
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for pair in entries.windows(2) {
        assert_eq!(pair[1]["previous"], pair[0]["hash"]);
        assert_eq!(pair[1]["seq"].as_i64(), pair[0]["seq"].as_i64().map(|seq| seq + 1));
    }
    let trusted = entries.iter().find(|entry| entry["to"] == "trusted" && entry["node"] == "node-1").unwrap();
    let (result, policy) = (&trusted["result"], &trusted["policy"]);
    assert_eq!((&result["check"], &result["sender"]), (&json!("attestation"), &json!("adapter-openattestation")));
    assert!(!result["key_id"].as_str().unwrap().is_empty() && !result["ticket_key_id"].as_str().unwrap().is_empty());
    assert!(policy.as_i64() > Some(1) && trusted["until"].as_i64() > trusted["at"].as_i64(), "{trusted}");

    let file = cloud.dir.path().join("record.jsonl");
    done(&cloud, &["audit", "export", "--node", "node-2", "--output", file.to_str().unwrap()]).await;
    let of_node_2 = std::fs::read_to_string(&file).unwrap();
    let expected = entries.iter().filter(|entry| entry["node"] == "node-2").count();
    assert!(of_node_2.lines().count() == expected && expected < entries.len(), "{of_node_2}");
    let quarantined = entries.last().unwrap()["time"].as_str().unwrap();
    assert_eq!(done(&cloud, &["audit", "export", "--since", quarantined]).await.lines().count(), 2);
    let definitions = done(&cloud, &["audit", "export", "--definitions"]).await;
    assert!(definitions.contains("\"created\"") && definitions.contains("attestation"), "{definitions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_is_answered_in_sentences_for_now_and_for_then() {
    let cloud = cloud_with_a_past().await;
    let told = done(&cloud, &["node", "why", "node-1"]).await;
    assert!(told.contains("Node node-1 is UNTRUSTED in pool default since "), "{told}");
    assert!(told.contains("Decided by quarantined by admin, under policy "), "{told}");
    assert!(told.contains("What would change it: only a release by an administrator"), "{told}");
    let told = done(&cloud, &["node", "why", "node-2"]).await;
    assert!(
        told.contains("TRUSTED in pool default") && told.contains("(attempt 1, reported by adapter-openattestation)"),
        "{told}"
    );
    assert!(told.contains("it becomes unknown unless check attestation passes again before"), "{told}");

    let entries = cloud.admin(Topic::Nodes, "record_list", json!({ "node": "node-1" })).await;
    let entries: Vec<Value> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| serde_json::from_str(link["text"].as_str().unwrap()).unwrap())
        .collect();
    let trusted = entries.iter().find(|entry| entry["to"] == "trusted").unwrap()["at"].as_i64().unwrap();
    let at = spice::clock::Timestamp(trusted).to_string();
    // It is deleted; the record alone still says what was.
    cloud.admin(Topic::Nodes, "node_delete", json!({ "name": "node-1" })).await;
    let told = done(&cloud, &["node", "why", "node-1", "--at", &at]).await;
    assert!(
        told.contains(&format!("At {at} node node-1 was TRUSTED in pool default since {at}: the required check")),
        "{told}"
    );
    assert!(told.contains("As it was then, that held until ") && told.contains("What would have changed it"), "{told}");
    let before = spice::clock::Timestamp(entries[0]["at"].as_i64().unwrap() - 1).to_string();
    let refused = spicectl(&cloud, &["node", "why", "node-1", "--at", &before]).await;
    assert_eq!(refused.status.code(), Some(2), "nothing is known of it then");
    let told = done(&cloud, &["node", "why", "node-1"]).await;
    assert!(told.contains("is not registered (any more)") && told.contains("deleted"), "{told}");
    assert!(!told.contains("UNTRUSTED in pool"), "a node that is gone has no level: {told}");
}
