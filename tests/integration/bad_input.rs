//! Bad input gets a clear answer on the side that caused it, and nothing stops.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;

use crate::cloud::Cloud;

async fn refused(cloud: &Cloud, topic: Topic, method: &str, args: Value, kind: Kind, says: &str) {
    let error = cloud.try_admin(topic, method, args.clone()).await.expect_err(&args.to_string());
    assert_eq!(error.kind, kind, "{method} {args}: {error}");
    assert!(error.message.contains(says), "{method} {args}: {error}");
    assert!(!error.message.contains(['\n', '\u{202e}', '\u{1b}']), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_definition_is_refused_with_what_to_do() {
    let cloud = Cloud::in_one_process("").await;
    cloud.await_adapter("openattestation").await;
    cloud.await_adapter("command").await;
    let good = json!({ "name": "c", "adapter": "openattestation", "schedule": { "every": "1h" } });
    let with = |changes: Value| {
        let mut check = good.clone();
        for (member, value) in changes.as_object().unwrap() {
            check[member] = value.clone();
        }
        json!({ "check": check })
    };
    let create = async |changes: Value, kind: Kind, says: &str| {
        refused(&cloud, Topic::Checks, "check_create", with(changes), kind, says).await;
    };
    create(json!({ "adapter": "nosuch" }), Kind::BadRequest, "no adapter named nosuch").await;
    create(json!({ "schedule": { "cron": "61 * * * *" } }), Kind::BadRequest, "minute").await;
    create(json!({ "schedule": { "cron": "0 0 31 2 *" } }), Kind::BadRequest, "never").await;
    create(json!({ "schedule": { "cron": "0 0 * * *", "zone": "Mars/Olympus" } }), Kind::BadRequest, "IANA").await;
    create(json!({ "schedule": { "profile": "nosuch" } }), Kind::BadRequest, "no profile named nosuch").await;
    create(json!({ "schedule": { "cron": "0 0 1 1 *", "every": "5m" } }), Kind::BadRequest, "either").await;
    create(json!({ "schedule": { "cron": "0 8 * * mon" , "zone": "UTC"}, "ttl_s": 0 }), Kind::BadRequest, "ttl_s")
        .await;
    create(json!({ "schedule": { "cron": "0 8,9 * * *" } }), Kind::BadRequest, "ttl").await;
    create(json!({ "parameters": { "nosuch": 1 } }), Kind::BadRequest, "parameters of adapter openattestation").await;
    create(json!({ "adapter": "command", "parameters": {} }), Kind::BadRequest, "plugin").await;
    create(json!({ "parameters": { "max_age_s": 1.5 } }), Kind::BadRequest, "").await;
    create(json!({ "timeout_s": 0, "batch_size": 201 }), Kind::BadRequest, "batch_size is 201").await;
    create(json!({ "pools": { "nosuch": "required" } }), Kind::BadRequest, "no pool named nosuch").await;
    create(json!({ "targets": { "patterns": ["[a"] } }), Kind::BadRequest, "targets").await;
    create(json!({ "colour": "blue" }), Kind::BadRequest, "colour").await;
    for hostile in ["-rf", "", "a b", "x\u{202e}y", "a\u{1b}[31m", "../etc"] {
        create(json!({ "name": hostile }), Kind::BadRequest, "check name").await;
    }
    create(json!({ "name": "x".repeat(65) }), Kind::BadRequest, "1 to 64").await;

    cloud.admin(Topic::Checks, "check_create", with(json!({}))).await;
    create(json!({}), Kind::Conflict, "already").await;
    let checks = cloud.admin(Topic::Checks, "check_list", json!({})).await;
    assert_eq!(checks.as_array().unwrap().len(), 1, "nothing else was registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_things_are_named_and_hostile_names_are_refused() {
    let cloud = Cloud::in_one_process("").await;
    let nodes = async |method: &str, args: Value, kind: Kind, says: &str| {
        refused(&cloud, Topic::Nodes, method, args, kind, says).await;
    };
    nodes("node_show", json!({ "name": "ghost" }), Kind::NotFound, "no node named ghost").await;
    nodes("node_delete", json!({ "name": "ghost" }), Kind::NotFound, "no node named ghost").await;
    nodes("node_why", json!({ "name": "ghost" }), Kind::NotFound, "nothing is known").await;
    nodes("pool_show", json!({ "name": "ghost" }), Kind::NotFound, "known are: default").await;
    nodes("node_create", json!({ "name": "--help" }), Kind::BadRequest, "node name").await;
    nodes("node_create", json!({ "name": "n", "labels": { "a": "b\u{7}" } }), Kind::BadRequest, "printable").await;
    nodes("node_quarantine", json!({ "name": "ghost", "reason": " " }), Kind::BadRequest, "say why").await;
    nodes("node_list", json!({ "pol": "default" }), Kind::BadRequest, "pol").await;
    nodes("no_such_method", json!({}), Kind::BadRequest, "does not support").await;
    refused(&cloud, Topic::Checks, "check_run", json!({ "name": "ghost" }), Kind::NotFound, "no check named ghost")
        .await;
    refused(&cloud, Topic::Checks, "run_show", json!({ "run": "x" }), Kind::BadRequest, "no run id").await;
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "n1" })).await;
    nodes("node_create", json!({ "name": "n1" }), Kind::Conflict, "already").await;
    let hours = json!({ "name": "n1", "hours": 73, "reason": "because" });
    nodes("node_override", hours, Kind::BadRequest, "use 1 to 72").await;
}
