//! Which nodes a check is run for, and when besides its schedule: aggregates and zones, nodes that were down.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;

use crate::cloud::{Cloud, object};
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

/// The id under which an administrator may confirm a change of a node, which is refused without it.
async fn to_confirm(cloud: &Cloud, update: Value) -> String {
    let refused = cloud.try_admin(Topic::Nodes, "node_update", update).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict, "{}", refused.message);
    let (_, id) = refused.message.split_once("--confirm ").unwrap_or_else(|| panic!("no id: {}", refused.message));
    id.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_relabels_a_node_out_of_a_required_check_without_an_administrators_word_for_it() {
    let cloud = Cloud::one_process_each("").await;
    cloud.await_adapter("openattestation").await;
    let nodes = json!([{ "name": "node-1", "labels": { "tier": "gold", "rack": "r1" } }]);
    cloud.admin(Topic::Nodes, "node_import", json!({ "nodes": nodes })).await;
    known(&cloud, 1).await;
    register(&cloud, "strict", json!({ "labels": { "tier": "gold" } })).await;
    cloud.await_in_file("node-1", 't').await;

    let created = std::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .args(["--deployment", "test-cloud", "key", "create", "olga", "--role", "operator", "--dir"])
        .arg(cloud.state())
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    let operator = cloud.as_holder_of("olga");
    let ask = async |method: &str, args: Value| operator.call(Topic::Nodes, method, object(args)).await;
    eventually("the trust store has the new key", async || ask("node_show", json!({ "name": "node-1" })).await.is_ok())
        .await;
    let silver = json!({ "name": "node-1", "labels": { "tier": "silver", "rack": "r1" } });
    let id = to_confirm(&cloud, silver.clone()).await;
    let with = |update: &Value, id: &str| {
        let mut update = update.clone();
        update["confirm"] = json!(id);
        update
    };
    let refused = ask("node_update", with(&silver, &id)).await.unwrap_err();
    assert!(refused.kind == Kind::Conflict && refused.message.contains("by a key with the role admin"), "{refused:?}");
    // What was shown is not what is confirmed.
    let bronze = json!({ "name": "node-1", "labels": { "tier": "bronze" } });
    let refused = cloud.try_admin(Topic::Nodes, "node_update", with(&bronze, &id)).await.unwrap_err();
    assert!(refused.message.contains("something else") && refused.message.contains("check strict"), "{refused:?}");
    let shown = cloud.admin(Topic::Nodes, "node_show", json!({ "name": "node-1" })).await;
    assert_eq!(shown["labels"], json!({ "tier": "gold", "rack": "r1" }), "nothing was changed");
    // Who changes nothing of what is required needs no word.
    let moved = json!({ "name": "node-1", "labels": { "tier": "gold", "rack": "r2" } });
    assert_eq!(ask("node_update", moved).await.unwrap()["labels"]["rack"], "r2");
    let id = to_confirm(&cloud, silver.clone()).await;
    let shown = cloud.admin(Topic::Nodes, "node_update", with(&silver, &id)).await;
    assert_eq!(shown["labels"]["tier"], "silver");
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
    // Moved out, nothing is required of it any more, which makes it unknown. An administrator has to say so.
    let id = to_confirm(&cloud, json!({ "name": "node-2", "zone": "" })).await;
    let shown = cloud.admin(Topic::Nodes, "node_update", json!({ "name": "node-2", "zone": "", "confirm": id })).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_check_runs_only_where_another_has_passed_and_as_soon_as_it_has() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(2).await;
    known(&cloud, 2).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    register(&cloud, "first", json!({ "all": true })).await;
    cloud.await_in_file("node-2", 'u').await;
    let second = json!({
        "name": "second", "adapter": "openattestation", "schedule": { "every": "7d" }, "timeout_s": 5, "ttl_s": 864_000,
        "pools": { "default": "advisory" }, "after": ["first"],
    });
    let mut strange = second.clone();
    strange["after"] = json!(["ghost"]);
    let error = cloud.try_admin(Topic::Checks, "check_create", json!({ "check": strange })).await.unwrap_err();
    assert!(error.kind == Kind::BadRequest && error.message.contains("no check named ghost"), "{error}");
    cloud.admin(Topic::Checks, "check_create", json!({ "check": second })).await;

    let asked = async |cloud: &Cloud, node: &str| {
        let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": node, "check": "second" })).await;
        stored.as_array().unwrap().len()
    };
    eventually("whoever passed is asked", async || asked(&cloud, "node-1").await == 1).await;
    let shown = cloud.admin(Topic::Checks, "check_show", json!({ "name": "second" })).await;
    assert_eq!(shown["not_passed_before"], json!({ "nodes": 1, "some": ["node-2"] }), "{shown}");

    // After a restart it is known who has passed, without anybody having to pass again.
    cloud.kill("checks").await;
    cloud.start("checks", &["--role", "checks"]).await;
    let run = async |args: Value| cloud.try_admin(Topic::Checks, "check_run", args).await;
    eventually("Nodes has told who passed", async || {
        let made = run(json!({ "name": "second" })).await;
        made.is_ok_and(|made| (&made["nodes"], &made["waiting"]) == (&json!(1), &json!(1)))
    })
    .await;
    let error = run(json!({ "name": "second", "nodes": ["node-2"] })).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("runs after (first)"), "{error}");
    let error = cloud.try_admin(Topic::Checks, "check_delete", json!({ "name": "first" })).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("second run after first"), "{error}");
    assert_eq!(asked(&cloud, "node-2").await, 0);

    cloud.oat.order(json!({ "level": { "node-2": "trusted" } })).await;
    run(json!({ "name": "first" })).await.unwrap();
    eventually("it is asked as soon as it has passed", async || asked(&cloud, "node-2").await == 1).await;
}
