//! Several pools, and what changes of their requirements would do: shown first, and done only as it was shown.

use serde_json::{Value, json};
use spice::rpc::table::Topic;
use spice::rpc::{Kind, RpcError};

use crate::cloud::{Cloud, object};
use crate::lab::eventually;

/// Two nodes pass their attestation, but a second required check has nobody to carry it out: both are unknown.
async fn cloud_held_back_by_a_check() -> Cloud {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 't').await;
    let check = json!({
        "name": "lonely", "adapter": "absent", "schedule": { "every": "1h" }, "allow_missing_adapter": true,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    cloud.await_in_file("node-1", '-').await;
    cloud.await_in_file("node-2", '-').await;
    cloud
}

fn delete_lonely(confirm: Option<&Value>) -> Value {
    match confirm {
        Some(id) => json!({ "name": "lonely", "confirm": id }),
        None => json!({ "name": "lonely" }),
    }
}

async fn refused(cloud: &Cloud, args: Value) -> RpcError {
    let error = cloud.try_admin(Topic::Checks, "check_delete", args).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "{error}");
    assert_eq!(cloud.level("node-1").await, "unknown", "nothing was changed");
    error
}

async fn dry_run(cloud: &Cloud) -> Value {
    cloud.admin(Topic::Checks, "check_delete", json!({ "name": "lonely", "dry_run": true })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loosening_raises_nobody_until_exactly_what_was_shown_is_confirmed() {
    let cloud = cloud_held_back_by_a_check().await;
    let error = refused(&cloud, delete_lonely(None)).await;
    assert!(error.message.contains("pool default required check lonely, which is deleted"), "{error}");
    assert!(error.message.contains("raise in pool default 2 from unknown to trusted (node-1, node-2)"), "{error}");

    let preview = dry_run(&cloud).await;
    let raised = json!([{
        "pool": "default", "from": "unknown", "to": "trusted", "count": 2, "nodes": ["node-1", "node-2"],
    }]);
    assert_eq!((&preview["raised"], &preview["nodes"], &preview["lowered"]), (&raised, &json!(2), &json!([])));
    assert_eq!(cloud.level("node-1").await, "unknown", "a dry run changes nothing");
    assert!(
        error.message.contains(preview["confirm"].as_str().unwrap()),
        "the refusal names the same preview: {error}"
    );

    // A third node arrives and passes: more would be raised than the administrator was shown.
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-3" })).await;
    eventually("node-3 has passed its attestation", async || {
        let shown = cloud.admin(Topic::Nodes, "node_show", json!({ "name": "node-3" })).await;
        shown["checks"]["attestation"]["status"] == "pass"
    })
    .await;
    let error = refused(&cloud, delete_lonely(Some(&preview["confirm"]))).await;
    assert!(error.message.contains("more nodes would be raised than was shown"), "{error}");
    let error = refused(&cloud, delete_lonely(Some(&json!("0123456789ab")))).await;
    assert!(error.message.contains("is not known"), "{error}");

    // What was confirmed is one change, not another.
    let preview = dry_run(&cloud).await;
    let other = json!({ "name": "lonely", "changes": { "enabled": false, "pools": { "default": "advisory" } }, "confirm": preview["confirm"] });
    let error = cloud.try_admin(Topic::Checks, "check_update", other).await.unwrap_err();
    assert!(error.message.contains("another change"), "{error}");

    cloud.admin(Topic::Checks, "check_delete", delete_lonely(Some(&preview["confirm"]))).await;
    for node in ["node-1", "node-2", "node-3"] {
        cloud.await_in_file(node, 't').await;
    }
    let audit = cloud.admin(Topic::Checks, "audit_list", json!({})).await;
    let last: Value =
        serde_json::from_str(audit["entries"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&last["sender"], &last["action"], &last["name"]),
        (&json!("admin"), &json!("deleted"), &json!("lonely"))
    );
    assert_eq!(last["confirmed"], json!(["pool default required check lonely, which is deleted"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_would_happen_and_cannot_confirm_it() {
    let cloud = cloud_held_back_by_a_check().await;
    let made = tokio::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .args(["--deployment", "test-cloud", "key", "create", "olga", "--role", "operator", "--dir"])
        .arg(cloud.state())
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let operator = cloud.as_holder_of("olga");
    let asked = async |args: Value| operator.call(Topic::Checks, "check_delete", object(args)).await;
    eventually("the trust store has the new key", async || {
        asked(json!({ "name": "lonely", "dry_run": true })).await.is_ok()
    })
    .await;
    let preview = asked(json!({ "name": "lonely", "dry_run": true })).await.unwrap();
    assert_eq!(preview["raised"][0]["count"], 2);
    let error = asked(delete_lonely(Some(&preview["confirm"]))).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("by a key with the role admin"), "{error}");
    assert_eq!(cloud.level("node-1").await, "unknown");
    // The administrator can take the operator's word for what was shown.
    cloud.admin(Topic::Checks, "check_delete", delete_lonely(Some(&preview["confirm"]))).await;
    cloud.await_in_file("node-1", 't').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_loosened_while_nodes_does_not_say_whom_that_raises() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.stop("nodes").await;
    let observe = json!({ "name": "default", "mode": "observe" });
    let error = cloud.try_admin(Topic::Checks, "pool_update", observe.clone()).await.unwrap_err();
    assert!(error.kind == Kind::Unavailable && error.message.contains("nothing was changed"), "{error}");
    // What is stricter needs nobody's consent.
    cloud.admin(Topic::Checks, "pool_update", json!({ "name": "default", "max_silence_s": 300 })).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.confirmed("pool_update", observe).await;
    eventually("the mode is in the file", async || cloud.pool_header()["pools"][0]["mode"] == "observe").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_with_policies_of_their_own_come_and_go() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;

    let gold = json!({ "name": "gold", "mode": "soft", "max_silence_s": 60 });
    let made = cloud.admin(Topic::Checks, "pool_create", gold.clone()).await;
    assert_eq!((&made["mode"], &made["max_silence_ms"]), (&json!("soft"), &json!(60_000)));
    let error = cloud.try_admin(Topic::Checks, "pool_create", gold.clone()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    let level = async |pool: &str, node: &str| {
        let shown = cloud.admin(Topic::Nodes, "node_show", json!({ "name": node })).await;
        shown["pools"][pool]["trust"].as_str().unwrap_or("none").to_owned()
    };
    eventually("the pool is there and trusts nobody", async || level("gold", "node-1").await == "unknown").await;

    let in_both = json!({ "default": "required", "gold": "required" });
    let changed = json!({ "name": "attestation", "changes": { "pools": in_both } });
    cloud.admin(Topic::Checks, "check_update", changed).await;
    eventually("both pools judge", async || {
        level("gold", "node-1").await == "trusted" && level("gold", "node-2").await == "untrusted"
    })
    .await;
    let pools_in_file = || -> Vec<Value> {
        let header = cloud.pool_header();
        header["pools"].as_array().into_iter().flatten().map(|pool| pool["name"].clone()).collect()
    };
    eventually("the file has both", async || pools_in_file() == [json!("default"), json!("gold")]).await;

    let delete = json!({ "name": "gold" });
    let error = cloud.try_admin(Topic::Checks, "pool_delete", delete.clone()).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("attestation"), "{error}");
    let error = cloud.try_admin(Topic::Checks, "pool_delete", json!({ "name": "default" })).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("cannot be deleted"), "{error}");
    let only_default = json!({ "name": "attestation", "changes": { "pools": { "default": "required" } } });
    cloud.confirmed("check_update", only_default).await;
    eventually("nobody is trusted where nothing is required", async || level("gold", "node-1").await == "unknown")
        .await;
    assert_eq!(level("gold", "node-2").await, "untrusted", "distrust outlasts the requirement");
    cloud.admin(Topic::Checks, "pool_delete", delete).await;
    eventually("the file has one pool", async || pools_in_file() == [json!("default")]).await;
    assert_eq!(cloud.pool_file()["node-1"].0, 't', "the other pool is as it was");

    // Its end is in the record, and distrust is remembered: deleting a pool washes nobody.
    let why = cloud.admin(Topic::Nodes, "node_why", json!({ "name": "node-2" })).await;
    assert!(why["pools"].get("gold").is_none(), "{why}");
    assert!(
        why["record"][0]["what"].as_str().unwrap().contains("gold: untrusted -> unknown: the pool is deleted"),
        "{why}"
    );
    cloud.admin(Topic::Checks, "pool_create", gold).await;
    eventually("the pool is there again", async || level("gold", "node-1").await == "unknown").await;
    assert_eq!(level("gold", "node-2").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_the_results_there_are_would_mean_under_another_policy() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-3", 't').await;
    let asked = json!({ "name": "attestation", "changes": { "parameters": { "unused": 1 } }, "dry_run": true });
    // Parameters that the adapter refuses are refused here, too.
    let error = cloud.try_admin(Topic::Checks, "check_update", asked).await.unwrap_err();
    assert_eq!(error.kind, Kind::BadRequest, "{error}");
    let stricter = json!({ "name": "attestation", "changes": { "ttl_s": 1 }, "dry_run": true });
    eventually("passes would be too old", async || {
        let preview = cloud.admin(Topic::Checks, "check_update", stricter.clone()).await;
        assert_eq!((&preview["confirm"], &preview["raised"]), (&Value::Null, &json!([])), "{preview}");
        preview["lowered"] == json!([{
            "pool": "default", "from": "trusted", "to": "unknown", "count": 3, "nodes": ["node-1", "node-2", "node-3"],
        }])
    })
    .await;
    assert_eq!(cloud.level("node-1").await, "trusted", "it was only looked at");
    assert_eq!(cloud.admin(Topic::Checks, "check_show", json!({ "name": "attestation" })).await["ttl_s"], 7200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_again_and_again_stays_down_until_it_is_released() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    let error = cloud
        .try_admin(Topic::Checks, "pool_update", json!({ "name": "default", "flap_limit": 21 }))
        .await
        .unwrap_err();
    assert!(error.kind == Kind::BadRequest && error.message.contains("use 1 to 20"), "{error}");
    // Stricter than three falls, so nobody has to confirm it.
    let stricter = json!({ "name": "default", "flap_limit": 2 });
    let made = cloud.admin(Topic::Checks, "pool_update", stricter).await;
    assert_eq!(made["flapping"], json!({ "limit": 2, "window_ms": 86_400_000, "hold_down_ms": 86_400_000 }));

    let becomes = async |cloud: &Cloud, level: &str| {
        cloud.oat.order(json!({ "level": { "node-1": level } })).await;
        cloud.attest().await;
    };
    becomes(&cloud, "untrusted").await;
    cloud.await_in_file("node-1", 'u').await;
    becomes(&cloud, "trusted").await;
    cloud.await_in_file("node-1", 't').await;
    becomes(&cloud, "untrusted").await;
    cloud.await_in_file("node-1", 'u').await;
    becomes(&cloud, "trusted").await;
    cloud.stop("nodes").await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    becomes(&cloud, "trusted").await;
    assert_eq!(cloud.level("node-1").await, "untrusted", "two passes, and a restart");
    let why = cloud.admin(Topic::Nodes, "node_why", json!({ "name": "node-1" })).await;
    let told = why["pools"]["default"]["reason"].as_str().unwrap_or_default();
    assert!(told.contains("it fell 2 times"), "{why}");

    // Nobody is let off by asking for less, unless an administrator has seen whom that raises.
    let looser = json!({ "name": "default", "flap_limit": 0 });
    let error = cloud.try_admin(Topic::Checks, "pool_update", looser).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("confirm"), "{error}");
    cloud.admin(Topic::Nodes, "node_release", json!({ "name": "node-1", "reason": "mended" })).await;
    cloud.await_in_file("node-1", 't').await;
}
