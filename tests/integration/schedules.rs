//! When checks run, and how often they ask: retries that the check says, and maintenance windows.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;

use crate::cloud::{Cloud, object};
use crate::lab::eventually;

async fn spicectl(cloud: &Cloud, arguments: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_spicectl"));
    command.arg("--config-file").arg(cloud.dir.path().join("spice.conf")).args(arguments);
    command.output().await.unwrap()
}

/// What it prints, as JSON; it has to succeed.
async fn told(cloud: &Cloud, arguments: &[&str]) -> Value {
    let output = spicectl(cloud, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Waits until `held` nodes are held, over all checks.
async fn await_held(cloud: &Cloud, held: i64) {
    eventually(&format!("{held} nodes are held"), async || {
        cloud.try_admin(Topic::Checks, "status", json!({})).await.is_ok_and(|status| status["held"] == held)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapter_asks_again_as_often_as_the_check_says() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.await_adapter("openattestation").await;
    eventually("Checks knows the nodes", async || {
        cloud.admin(Topic::Checks, "status", json!({})).await["known_nodes"] == 2
    })
    .await;
    for (name, retries, requests) in [("never", json!(0), 1), ("usual", Value::Null, 3), ("often", json!(4), 5)] {
        let mut check = json!({
            "name": name, "adapter": "openattestation", "schedule": { "every": "7d" }, "timeout_s": 60, "ttl_s": 864_000,
        });
        if !retries.is_null() {
            check["retries"] = retries;
        }
        cloud.oat.order(json!({ "reset": true })).await;
        cloud.oat.order(json!({ "mode": "unavailable" })).await;
        let shown = cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
        assert_eq!(shown["retries"], requests - 1);
        let latest = async || cloud.admin(Topic::Checks, "run_list", json!({ "check": name })).await[0].clone();
        eventually("the run is finished", async || latest().await["finished"] == true).await;
        assert_eq!(latest().await["outcomes"], json!({ "error": 2 }));
        assert_eq!(cloud.oat.state().await["requests"].as_array().unwrap().len(), requests, "{name}");
    }
    let eleven = json!({ "name": "often", "changes": { "retries": 11 } });
    let refused = cloud.try_admin(Topic::Checks, "check_update", eleven).await.unwrap_err();
    assert!(refused.message.contains("retries is 11; use 0 to 10"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_holds_what_is_scheduled_trusts_nobody_and_lets_go_when_it_ends() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1s", 15).await;
    cloud.await_in_file("node-1", 't').await;
    let until = ["--until", "2099-01-01T00:00:00Z"];
    let create =
        ["window", "create", "patches", "--target", "pattern:node-[124]", "--reason", "kernel update", "-f", "json"];
    let too_long = spicectl(&cloud, &[&create[..], &until].concat()).await;
    assert!(
        !too_long.status.success() && String::from_utf8_lossy(&too_long.stderr).contains("366 days"),
        "{too_long:?}"
    );
    let window = told(&cloud, &[&create[..], &["--for", "2h"]].concat()).await;
    assert_eq!((&window["nodes"], &window["checks"]), (&json!(2), &Value::Null));
    let warned = window["warnings"][0].as_str().unwrap();
    assert!(warned.contains("a pass counts for 15 s and the window is open for 7"), "{warned}");

    // Held; what they passed before runs out all the same, and the other node goes on.
    await_held(&cloud, 2).await;
    cloud.await_in_file("node-1", '-').await;
    assert_eq!((cloud.level("node-2").await.as_str(), cloud.level("node-3").await.as_str()), ("unknown", "trusted"));
    let shown = told(&cloud, &["check", "show", "attestation", "-f", "json"]).await;
    assert_eq!(shown["held"], 2);
    assert!(shown["slots"]["skipped"]["window"]["nodes"].as_i64() >= Some(2), "{shown}");
    let status = cloud.admin(Topic::Checks, "status", json!({})).await;
    assert!(status["windows_open"]["patches"].is_string(), "{status}");

    // A node that is new is not asked either. A person who asks is answered.
    let asks = async |cloud: &Cloud| cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-2" })).await;
    let before = asks(&cloud).await.as_array().unwrap().len();
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-4" })).await;
    await_held(&cloud, 3).await;
    assert_eq!(cloud.level("node-4").await, "unknown");
    assert_eq!(cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-4" })).await, json!([]));
    cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation", "nodes": ["node-2"] })).await;
    cloud.await_in_file("node-2", 't').await;
    assert_eq!(asks(&cloud).await.as_array().unwrap().len(), before + 1);

    // Killed and started again, it holds on; the schedule's slots since then hold nobody else.
    cloud.kill("checks").await;
    cloud.start("checks", &["--role", "checks"]).await;
    await_held(&cloud, 3).await;
    assert_eq!(asks(&cloud).await.as_array().unwrap().len(), before + 1);
    let output = spicectl(&cloud, &["window", "delete", "patches"]).await;
    assert!(output.status.success(), "{output:?}");
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-4", 't').await;
    await_held(&cloud, 0).await;
    let entries = cloud.admin(Topic::Checks, "audit_list", json!({})).await["entries"].clone();
    let told: Vec<String> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_str::<Value>(entry["text"].as_str().unwrap()).unwrap())
        .filter(|entry| entry["kind"] == "window")
        .map(|entry| {
            format!(
                "{} {} by {}",
                entry["action"].as_str().unwrap(),
                entry["name"].as_str().unwrap(),
                entry["sender"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("created patches by ") && told[1].starts_with("deleted patches by "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_made_by_those_who_may_have_an_end_and_travel_in_files() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    let created = std::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .args(["--deployment", "test-cloud", "key", "create", "rita", "--role", "reader", "--dir"])
        .arg(cloud.state())
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    let reader = cloud.as_holder_of("rita");
    let ask = async |method: &str, args: Value| reader.call(Topic::Checks, method, object(args)).await;
    eventually("the trust store has the new key", async || ask("window_list", json!({})).await.is_ok()).await;
    let set = |more: Value| {
        let mut window = json!({ "name": "w", "reason": "r", "targets": { "all": true } });
        window.as_object_mut().unwrap().extend(object(more));
        window
    };
    let nightly = set(json!({ "schedule": { "cron": "0 2 * * *", "zone": "Europe/Berlin" }, "duration_s": 7200 }));
    // Whoever only reads could blind the checks of a node that is about to be attacked.
    assert_eq!(ask("window_set", nightly.clone()).await.unwrap_err().kind, Kind::Forbidden);
    for (more, told) in [
        (json!({}), "either until"),
        (json!({ "until": "tomorrow" }), "is no time"),
        (json!({ "until": "2020-01-01T00:00:00Z" }), "is over"),
        (json!({ "schedule": { "cron": "* * * * *" }, "duration_s": 60 }), "comes again after 60 s"),
        (json!({ "schedule": { "cron": "0 2 * * *" }, "duration_s": 7200, "checks": ["gone"] }), "no check named gone"),
        (json!({ "schedule": { "cron": "0 2 * * *" }, "duration_s": 7200, "targets": {} }), "name the nodes"),
        (json!({ "schedule": { "cron": "0 2 * * *" }, "duration_s": 7200, "reason": " " }), "why nothing is checked"),
    ] {
        let refused = cloud.try_admin(Topic::Checks, "window_set", set(more)).await.unwrap_err();
        assert!(refused.kind == Kind::BadRequest && refused.message.contains(told), "{told}: {refused:?}");
    }
    cloud.admin(Topic::Checks, "window_set", nightly).await;
    assert_eq!(ask("window_delete", json!({ "name": "w" })).await.unwrap_err().kind, Kind::Forbidden);
    let shown = ask("window_show", json!({ "name": "w" })).await.unwrap();
    assert_eq!((shown["opens"].as_array().unwrap().len(), &shown["held"]), (5, &json!(0)));

    let file = cloud.dir.path().join("cloud.yaml");
    let file = file.to_str().unwrap();
    assert!(spicectl(&cloud, &["export", "-f", file]).await.status.success());
    let steps = told(&cloud, &["apply", "-f", file, "--prune", "--format", "json"]).await;
    assert!(steps.as_array().unwrap().iter().all(|step| step["action"] == "leave"), "{steps}");
    assert!(spicectl(&cloud, &["window", "delete", "w"]).await.status.success());
    let steps = told(&cloud, &["apply", "-f", file, "--prune", "--format", "json"]).await;
    let made = steps.as_array().unwrap().iter().filter(|step| step["action"] == "create");
    assert_eq!(made.map(|step| format!("{} {}", step["kind"], step["name"])).collect::<Vec<_>>(), ["\"window\" \"w\""]);
}
