//! What becomes of nodes when the role *nova* tells Nodes how Nova has them. Nova itself is asked in tools/e2e.

use serde_json::{Value, json};
use spice::rpc::table::Topic;
use spice::rpc::{Kind, RpcError};

use crate::cloud::{Cloud, object};
use crate::lab::eventually;

/// A node as Nova has it, where `changes` do not say otherwise.
fn node(name: &str, changes: Value) -> Value {
    let mut nova = object(json!({
        "host": format!("host-of-{name}"), "service": format!("service-of-{name}"),
        "hypervisor": format!("hypervisor-of-{name}"), "up": true,
    }));
    nova.extend(object(changes));
    json!({ "name": name, "nova": nova })
}

async fn try_tell(cloud: &Cloud, as_holder_of: &str, nodes: &[Value], gone: &[&str]) -> Result<Value, RpcError> {
    let args = object(json!({ "nodes": nodes, "gone": gone }));
    cloud.as_holder_of(as_holder_of).call(Topic::Nodes, "node_reconcile", args).await
}

async fn tell(cloud: &Cloud, nodes: &[Value], gone: &[&str]) -> Value {
    try_tell(cloud, "nova", nodes, gone).await.unwrap()
}

async fn shown(cloud: &Cloud, name: &str) -> Value {
    cloud.admin(Topic::Nodes, "node_show", json!({ "name": name })).await
}

/// What the record tells that was done to a node, the oldest first, without what it was for.
async fn done_to(cloud: &Cloud, name: &str) -> Vec<String> {
    let record = cloud.admin(Topic::Nodes, "record_list", json!({ "node": name })).await;
    let entries = record["entries"].as_array().unwrap().iter();
    let entries = entries.map(|link| serde_json::from_str::<Value>(link["text"].as_str().unwrap()).unwrap());
    entries.filter(|entry| entry["event"] == "action").map(|entry| entry["action"].as_str().unwrap().into()).collect()
}

async fn runs(cloud: &Cloud) -> usize {
    let runs = cloud.admin(Topic::Checks, "run_list", json!({ "check": "attestation" })).await;
    runs.as_array().unwrap().len()
}

/// A cloud with a check that nothing but events runs.
async fn cloud() -> Cloud {
    let cloud = Cloud::one_process_each("").await;
    cloud.register_attestation("7d", 864_000).await;
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nova_has_is_registered_and_checked_at_once() {
    let cloud = cloud().await;
    let placed = json!({ "placement": { "aggregates": ["gold"], "zone": "az1" }, "disabled": "being set up" });
    let answer = tell(&cloud, &[node("node-1", placed)], &[]).await;
    assert_eq!(answer, json!({ "registered": 1, "changed": 0, "gone": 0, "held": false }));
    cloud.await_in_file("node-1", 't').await;
    let shown = shown(&cloud, "node-1").await;
    assert_eq!(shown["nova"]["host"], "host-of-node-1");
    assert_eq!((&shown["aggregates"], &shown["zone"]), (&json!(["gold"]), &json!("az1")));
    assert_eq!(done_to(&cloud, "node-1").await, ["registered", "disabled in Nova"]);
    // Told again, nothing has changed.
    let placed = json!({ "placement": { "aggregates": ["gold"], "zone": "az1" }, "disabled": "being set up" });
    let answer = tell(&cloud, &[node("node-1", placed)], &[]).await;
    assert_eq!((&answer["registered"], &answer["changed"]), (&json!(0), &json!(0)));
    let known = cloud.as_holder_of("nova").call(Topic::Nodes, "node_in_nova", object(json!({}))).await.unwrap();
    assert_eq!(known["nodes"][0]["name"], "node-1");
    assert_eq!(known["more"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_or_service_that_was_made_anew_is_unknown_until_checked_and_no_less_distrusted() {
    let cloud = cloud().await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    tell(&cloud, &[node("node-1", json!({})), node("node-2", json!({})), node("node-3", json!({}))], &[]).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;
    cloud.await_in_file("node-3", 't').await;
    cloud.oat.order(json!({ "up": false })).await;
    let hours = json!({ "name": "node-3", "hours": 1, "reason": "an override ends as well", "pool": "default" });
    cloud.admin(Topic::Nodes, "node_override", hours).await;
    let service = json!({ "service": "another" });
    let machine = json!({ "hypervisor": "another" });
    let anew = [node("node-1", service.clone()), node("node-2", service), node("node-3", machine)];
    tell(&cloud, &anew, &[]).await;
    cloud.await_in_file("node-1", '-').await;
    cloud.await_in_file("node-3", '-').await;
    assert_eq!(cloud.level("node-2").await, "untrusted");
    assert_eq!(done_to(&cloud, "node-1").await, ["registered", "made anew in Nova"]);
    cloud.oat.order(json!({ "up": true })).await;
    cloud.attest().await;
    cloud.await_in_file("node-1", 't').await;
    assert_eq!(cloud.level("node-2").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_checked_at_once_and_one_that_goes_down_stays_what_it_is() {
    let cloud = cloud().await;
    tell(&cloud, &[node("node-1", json!({}))], &[]).await;
    cloud.await_in_file("node-1", 't').await;
    let before = runs(&cloud).await;
    tell(&cloud, &[node("node-1", json!({ "up": false }))], &[]).await;
    assert_eq!(cloud.level("node-1").await, "trusted", "whether it is up says nothing of whom to trust");
    tell(&cloud, &[node("node-1", json!({}))], &[]).await;
    eventually("it is checked", async || runs(&cloud).await == before + 1).await;
    assert_eq!(done_to(&cloud, "node-1").await, ["registered", "down in Nova", "up in Nova"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_moves_a_node_out_of_a_required_check_in_nova() {
    let cloud = Cloud::one_process_each("").await;
    cloud.await_adapter("openattestation").await;
    let check = json!({
        "name": "strict", "adapter": "openattestation", "schedule": { "every": "7d" }, "timeout_s": 5, "ttl_s": 864_000,
        "targets": { "aggregates": ["secure"] },
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    let secure = json!({ "placement": { "aggregates": ["secure"] } });
    tell(&cloud, &[node("node-1", secure)], &[]).await;
    cloud.await_in_file("node-1", 't').await;
    tell(&cloud, &[node("node-1", json!({}))], &[]).await;
    let after = shown(&cloud, "node-1").await;
    assert_eq!(after["targeted_by"], json!(["strict"]));
    assert_eq!(after["aggregates"], json!(["secure"]));
    assert_eq!(after["nova"].get("placement"), None, "what Nova has is shown beside");
    assert_eq!(done_to(&cloud, "node-1").await, ["registered", "not placed as Nova has it"]);
    // A move within its reach is followed.
    let elsewhere = json!({ "placement": { "aggregates": ["rack-2", "secure"] } });
    tell(&cloud, &[node("node-1", elsewhere)], &[]).await;
    assert_eq!(shown(&cloud, "node-1").await["aggregates"], json!(["rack-2", "secure"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_nodes_go_as_nova_has_them_and_of_many_at_once_none() {
    let cloud = cloud().await;
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "by-hand" })).await;
    let nodes: Vec<Value> = (1..=12).map(|number| node(&format!("node-{number}"), json!({}))).collect();
    tell(&cloud, &nodes, &[]).await;
    let answer = tell(&cloud, &[], &["by-hand", "node-1", "node-2", "never-heard-of"]).await;
    assert_eq!((&answer["gone"], &answer["held"]), (&json!(2), &json!(false)));
    let names = async || {
        let list = cloud.admin(Topic::Nodes, "node_list", json!({})).await;
        list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let left = names().await;
    assert_eq!(left.len(), 11);
    assert!(left.contains(&"by-hand".to_owned()), "what people registered stays");
    let many: Vec<String> = (3..=12).map(|number| format!("node-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = tell(&cloud, &[], &many).await;
    assert_eq!((&answer["gone"], &answer["held"]), (&json!(0), &json!(true)));
    assert_eq!(names().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distrusted_machine_that_goes_and_comes_under_another_name_is_distrusted() {
    let cloud = cloud().await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    tell(&cloud, &[node("node-1", json!({}))], &[]).await;
    cloud.await_in_file("node-1", 'u').await;
    tell(&cloud, &[], &["node-1"]).await;
    tell(&cloud, &[node("node-2", json!({ "hypervisor": "hypervisor-of-node-1" }))], &[]).await;
    assert_eq!(cloud.level("node-2").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_role_nova_may_tell_and_only_of_nodes_that_can_be() {
    let cloud = cloud().await;
    for other in ["admin", "pool", "checks", "nodes", "adapter-openattestation"] {
        let refused = try_tell(&cloud, other, &[node("node-1", json!({}))], &[]).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden, "{other}: {}", refused.message);
    }
    for bad in [node("-rf", json!({})), node("node-1", json!({ "up": "yes" })), node("node-1", json!({ "more": 1 }))] {
        let refused = try_tell(&cloud, "nova", &[bad], &[]).await.unwrap_err();
        assert_eq!(refused.kind, Kind::BadRequest, "{}", refused.message);
    }
    for field in ["host", "service", "hypervisor", "disabled"] {
        for text in ["x".repeat(256), "a\nb".into(), "\u{202e}".into(), String::new()] {
            if field == "disabled" && text.is_empty() {
                continue; // Disabled, and nobody said why.
            }
            let bad = node("node-1", json!({ field: text }));
            let refused = try_tell(&cloud, "nova", &[node("node-2", json!({})), bad], &[]).await.unwrap_err();
            assert_eq!(refused.kind, Kind::BadRequest, "{field}={text:?}: {}", refused.message);
        }
    }
    let twice = [node("node-1", json!({})), node("node-1", json!({ "up": false }))];
    assert_eq!(try_tell(&cloud, "nova", &twice, &[]).await.unwrap_err().kind, Kind::BadRequest);
    assert_eq!(cloud.admin(Topic::Nodes, "node_list", json!({})).await, json!([]));
}
