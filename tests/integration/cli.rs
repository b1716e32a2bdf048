//! `spicectl` as an administrator uses it, against a running cloud.

use std::process::Output;

use serde_json::{Value, json};

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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Must succeed; its standard output.
async fn done(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = spicectl(cloud, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Must end with `code` and say `says` on standard error.
async fn refused(cloud: &Cloud, arguments: &[&str], code: i32, says: &str) {
    let output = spicectl(cloud, arguments).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(told.contains(says), "{arguments:?}: {told}");
    assert!(told.lines().count() <= 4, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_registers_runs_asks_why_and_releases() {
    let cloud = Cloud::in_one_process("").await;
    cloud.await_adapter("openattestation").await;
    for node in ["node-1", "node-2"] {
        done(&cloud, &["node", "create", node, "--label", "rack=r1"]).await;
    }
    let create = ["check", "create", "boot", "--adapter", "openattestation", "--every", "1h", "--hold-down", "0"];
    assert!(done(&cloud, &create).await.contains("boot"));
    done(&cloud, &["check", "run", "boot", "--wait"]).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    let run = spicectl(&cloud, &["check", "run", "boot", "--wait"]).await;
    assert_eq!(run.status.code(), Some(2), "some node failed: {}", text(&run.stdout));

    let listed = done(&cloud, &["node", "list", "-f", "value", "-c", "name", "-c", "trust"]).await;
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["node-1\ttrusted", "node-2\tuntrusted"]);
    let shown: Value = serde_json::from_str(&done(&cloud, &["pool", "list", "-f", "json"]).await).unwrap();
    assert_eq!((&shown[0]["trusted"], &shown[0]["untrusted"]), (&json!(1), &json!(1)));
    let why = done(&cloud, &["node", "why", "node-2"]).await;
    assert!(why.contains("UNTRUSTED") && why.contains("check boot failed"), "{why}");
    let results = done(&cloud, &["result", "list", "--node", "node-2", "-f", "yaml"]).await;
    assert!(results.contains("status: fail"), "{results}");

    cloud.oat.order(json!({ "level": { "node-2": "trusted" } })).await;
    done(&cloud, &["node", "release", "node-2", "--reason", "reinstalled"]).await;
    cloud.await_in_file("node-2", 't').await;
    assert!(done(&cloud, &["status"]).await.contains("openattestation"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_is_applied_elsewhere_and_a_second_time_changes_nothing() {
    let cloud = Cloud::in_one_process("").await;
    cloud.await_adapter("openattestation").await;
    done(&cloud, &["profile", "create", "weekly", "--cron", "0 3 * * 1"]).await;
    done(&cloud, &["node", "create", "node-1"]).await;
    let create = ["check", "create", "boot", "--adapter", "openattestation", "--profile", "weekly", "--disabled"];
    done(&cloud, &create).await;
    let file = cloud.dir.path().join("all.yaml");
    let file = file.to_str().unwrap();
    done(&cloud, &["export", "-f", file]).await;

    let other = Cloud::in_one_process("").await;
    other.await_adapter("openattestation").await;
    done(&other, &["apply", "-f", file, "--dry-run"]).await;
    assert!(!done(&other, &["check", "list"]).await.contains("boot"), "a dry run changes nothing");
    done(&other, &["apply", "-f", file]).await;
    let of = async |cloud: &Cloud| {
        done(cloud, &["check", "show", "boot", "-f", "json", "-c", "schedule", "-c", "targets"]).await
    };
    assert_eq!(of(&other).await, of(&cloud).await);
    let again = done(&other, &["apply", "-f", file]).await;
    assert!(!again.to_lowercase().contains("created "), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_with_what_to_do_and_an_exit_code() {
    let cloud = Cloud::in_one_process("").await;
    cloud.await_adapter("openattestation").await;
    refused(&cloud, &["node", "show", "ghost"], 2, "no node named ghost").await;
    refused(&cloud, &["node", "create", "--", "-rf"], 1, "node name").await;
    let cron = ["check", "create", "c", "--adapter", "openattestation", "--cron", "61 * * * *"];
    refused(&cloud, &cron, 1, "minute").await;
    refused(&cloud, &["check", "create", "c", "--adapter", "nosuch", "--every", "1h"], 2, "no adapter named nosuch")
        .await;
    let create = ["check", "create", "c", "--adapter", "openattestation", "--every", "1h"];
    done(&cloud, &create).await;
    refused(&cloud, &create, 2, "already").await;
    refused(&cloud, &["check", "delete", "c"], 2, "--confirm").await;
    refused(&cloud, &["check", "delete", "c", "--confirm", "0123456789ab"], 2, "is not known").await;
    let shown: Value =
        serde_json::from_str(&done(&cloud, &["check", "delete", "c", "--dry-run", "-f", "json"]).await).unwrap();
    done(&cloud, &["check", "delete", "c", "--confirm", shown["confirm"].as_str().unwrap()]).await;
    let adapter_key = cloud.state().join("keys/adapter-command.pem");
    refused(&cloud, &["--key", adapter_key.to_str().unwrap(), "node", "list"], 3, "role").await;
    refused(&cloud, &["--key", "/nowhere.pem", "node", "list"], 1, "/nowhere.pem").await;
    let wrong = cloud.dir.path().join("wrong.conf");
    std::fs::write(&wrong, "[DEFAULT]\ntransport_url = rabbit://\n[spice]\ndeploiment = x\n").unwrap();
    let output = spicectl(&cloud, &["config", "check", "--config-file", wrong.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(told.contains("deploiment") && told.contains("deployment") && told.contains("wrong.conf"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_is_listed_put_back_and_dropped() {
    let cloud = Cloud::in_one_process("").await;
    cloud.await_adapter("openattestation").await;
    assert_eq!(done(&cloud, &["dead-letter", "list", "-f", "value"]).await, "");
    // Somebody hands over results without a signature.
    let forged =
        spice::bus::Request::new("record_results", crate::cloud::object(json!({ "ticket": {}, "results": [] })));
    let target = spice::bus::Target::topic("spice_work", "spice-nodes-results").version("1.0");
    cloud.bus().work(&target, forged, None).await.unwrap();
    cloud.lab.await_depth("spice_work.dead", 1).await;

    assert!(done(&cloud, &["status"]).await.contains("dead-letter list"));
    let listed: Value = serde_json::from_str(&done(&cloud, &["dead-letter", "list", "-f", "json"]).await).unwrap();
    let letter = &listed[0];
    assert_eq!((&letter["method"], &letter["queue"]), (&json!("record_results"), &json!("spice-nodes-results")));
    assert!(letter["detail"].as_str().unwrap().contains("sign"), "{letter}");
    let id = letter["id"].as_str().unwrap();
    assert!(done(&cloud, &["dead-letter", "show", id]).await.contains("results"));

    // It is judged again like any other message, and comes back.
    done(&cloud, &["dead-letter", "requeue", id]).await;
    cloud.lab.await_depth("spice_work.dead", 1).await;
    done(&cloud, &["dead-letter", "drop", id]).await;
    assert_eq!(cloud.lab.depth("spice_work.dead").await, 0);
    refused(&cloud, &["dead-letter", "drop", id], 2, "no dead letter").await;
    let adapter_key = cloud.state().join("keys/adapter-command.pem");
    refused(&cloud, &["--key", adapter_key.to_str().unwrap(), "dead-letter", "list"], 3, "role").await;
}
