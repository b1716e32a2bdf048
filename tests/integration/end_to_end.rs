//! The main job, end to end: registered, scheduled, judged, published, refused, recovered.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use spice::rpc::table::Topic;

use crate::cloud::Cloud;
use crate::lab::eventually;
use crate::lab_mariadb::Fresh;

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

async fn a_compromised_node_leaves_the_pool_and_returns_when_it_passes_again(cloud: Cloud) {
    cloud.register_nodes(20).await;
    cloud.register_attestation("1h", 7200).await;
    for node in ["node-1", "node-7", "node-20"] {
        cloud.await_in_file(node, 't').await;
    }
    cloud.oat.order(json!({ "level": { "node-7": "untrusted" } })).await;
    let run = cloud.attest().await;
    assert_eq!(run["outcomes"], json!({ "pass": 19, "fail": 1 }));
    cloud.await_in_file("node-7", 'u').await;
    cloud.await_in_file("node-8", 't').await;
    let why = cloud.admin(Topic::Nodes, "node_why", json!({ "name": "node-7" })).await;
    assert!(why["pools"]["default"]["reason"].as_str().unwrap().contains("check attestation failed"), "{why}");

    cloud.oat.order(json!({ "level": { "node-7": "trusted" } })).await;
    cloud.attest().await;
    cloud.await_in_file("node-7", 't').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_a_compromised_node_leaves_the_pool_and_returns() {
    a_compromised_node_leaves_the_pool_and_returns_when_it_passes_again(Cloud::in_one_process("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_process_each_a_compromised_node_leaves_the_pool_and_returns() {
    a_compromised_node_leaves_the_pool_and_returns_when_it_passes_again(Cloud::one_process_each("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mariadb_a_compromised_node_leaves_the_pool_and_returns() {
    let database = Fresh::new().await.configuration();
    a_compromised_node_leaves_the_pool_and_returns_when_it_passes_again(Cloud::one_process_each(&database).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_and_restart_loses_no_registration_result_or_distrust() {
    a_kill_and_restart_loses_nothing(Cloud::in_one_process("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mariadb_a_kill_and_restart_loses_no_registration_result_or_distrust() {
    a_kill_and_restart_loses_nothing(Cloud::in_one_process(&Fresh::new().await.configuration()).await).await;
}

async fn a_kill_and_restart_loses_nothing(mut cloud: Cloud) {
    cloud.register_nodes(5).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;
    let before = cloud.admin(Topic::Nodes, "result_list", json!({})).await;
    let epoch = cloud.pool_header()["epoch"].as_i64().unwrap();

    cloud.kill("all").await;
    cloud.start("all", &[]).await;
    eventually("the pool file is of the new epoch", async || cloud.pool_header()["epoch"].as_i64() > Some(epoch)).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;
    assert_eq!(cloud.level("node-2").await, "untrusted");
    let checks = cloud.admin(Topic::Checks, "check_list", json!({})).await;
    assert_eq!(checks[0]["name"], "attestation");
    let after = cloud.admin(Topic::Nodes, "result_list", json!({})).await;
    // More may have come before the kill: a second run, where the news of the nodes reached Checks after the check.
    let after = after.as_array().unwrap();
    let lost: Vec<_> = before.as_array().unwrap().iter().filter(|result| !after.contains(result)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}, left: {after:?}");

    cloud.stop("all").await;
    cloud.await_in_file("node-2", 'u').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_down_lets_trust_decay_at_the_ttl_and_not_before() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1s", 6).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.oat.order(json!({ "up": false })).await;
    // From here no pass comes any more: the expiry in the file stands still.
    let expires = {
        let mut last = 0;
        eventually("the last pass is in", async || {
            let found = cloud.pool_file()["node-1"].1;
            found > last && now_ms() + 4500 > found
        })
        .await;
        last = cloud.pool_file()["node-1"].1;
        last
    };
    eventually("the node is unknown", async || {
        let unknown = cloud.level("node-1").await == "unknown";
        assert!(!unknown || now_ms() >= expires, "unknown {} ms too early", expires - now_ms());
        unknown
    })
    .await;
    // When it became so, the record says; a busy machine may tell us late.
    let why = cloud.admin(Topic::Nodes, "node_why", json!({ "name": "node-1" })).await;
    let entry =
        why["record"].as_array().unwrap().iter().find(|entry| entry["what"].as_str().unwrap().contains("-> unknown"));
    let at = chrono::DateTime::parse_from_rfc3339(entry.unwrap()["at"].as_str().unwrap()).unwrap().timestamp_millis();
    let at = u64::try_from(at).unwrap();
    assert!((expires..expires + 2000).contains(&at), "at {at}, the last pass expired at {expires}");
    cloud.await_in_file("node-1", '-').await;
    cloud.oat.order(json!({ "up": true })).await;
    cloud.await_in_file("node-1", 't').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_new_or_released_is_checked_at_once() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-2" })).await;
    cloud.await_in_file("node-2", 't').await;

    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "suspect" })).await;
    cloud.await_in_file("node-2", 'u').await;
    cloud.attest().await;
    assert_eq!(cloud.level("node-2").await, "untrusted", "no pass ends a quarantine");
    let released = cloud.admin(Topic::Nodes, "node_release", json!({ "name": "node-2", "reason": "examined" })).await;
    assert_eq!(released["pools"]["default"]["trust"], "unknown", "a release never leads to trusted at once");
    cloud.await_in_file("node-2", 't').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_inherits_its_distrust_when_it_comes_back() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(1).await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.admin(Topic::Nodes, "node_delete", json!({ "name": "node-1" })).await;
    eventually("it is gone from the file", async || !cloud.pool_file().contains_key("node-1")).await;
    let again = cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-1" })).await;
    assert_eq!(again["pools"]["default"]["trust"], "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_wait_while_nodes_is_down_count_when_it_is_back() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(4).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-4", 't').await;
    cloud.oat.order(json!({ "level": { "node-4": "untrusted" } })).await;
    cloud.kill("nodes").await;
    let run = cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;
    // The adapter has handed its results over, and they wait in the broker.
    eventually("results wait for Nodes", async || cloud.lab.depth("spice-nodes-results").await > 0).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.await_in_file("node-4", 'u').await;
    eventually("the run is finished", async || cloud.run(&run["run"]).await["finished"] == true).await;
    assert_eq!(cloud.run(&run["run"]).await["outcomes"], json!({ "pass": 3, "fail": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_a_timeout_and_leaves_trust_alone_until_its_ttl() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-2", 't').await;
    cloud.kill("adapter").await;
    let change = json!({ "name": "attestation", "changes": { "timeout_s": 1 } });
    cloud.admin(Topic::Checks, "check_update", change).await;
    let run = cloud.attest().await;
    assert_eq!(run["outcomes"], json!({ "timeout": 2 }));
    assert_eq!(cloud.level("node-2").await, "trusted", "could not ask is not: the answer was no");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_goes_and_returns_and_nobody_needs_a_restart() {
    let cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-3", 't').await;
    let cut = std::cell::Cell::new(0);
    eventually("every process lost its connections", async || {
        cut.set(cut.get() + cloud.lab.close_connections().await);
        cut.get() >= 8
    })
    .await;
    cloud.oat.order(json!({ "level": { "node-3": "untrusted" } })).await;
    eventually("Checks takes calls again", async || {
        cloud.try_admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await.is_ok()
    })
    .await;
    cloud.await_in_file("node-3", 'u').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_cache_that_was_away_takes_a_snapshot() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.stop("pool").await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.attest().await;
    assert_eq!(cloud.pool_file()["node-1"].0, 't', "a stopped cache changes nothing");
    cloud.start("pool", &["--role", "pool"]).await;
    cloud.await_in_file("node-1", 'u').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_changes_of_trust_reach_a_real_notification_listener() {
    let cloud = Cloud::in_one_process("[notifications]\ndeclare = active\nresults = all\n").await;
    let mut peer = cloud.lab.peer(&[]).await;
    peer.succeed(json!({ "do": "listen", "exchange": "spice", "topics": ["notifications"] })).await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(30), peer.event()).await.expect("a notification");
        seen.insert(event["event_type"].as_str().unwrap().to_owned(), event);
    }
    let result = &seen["spice.check.result"];
    // (That it arrived at all says that its priority is INFO: the listener has no other endpoint.)
    assert_eq!(result["payload"]["node"], "node-1");
    assert_eq!(result["payload"]["status"], "pass");
    assert!(result["payload"]["finished_at"].as_str().unwrap().ends_with('Z'));
    let change = &seen["spice.node.trust.changed"];
    assert_eq!(change["payload"]["trust"], "trusted");
    assert_eq!(change["payload"]["previous_trust"], "unknown");
    assert!(change["payload"]["sequence"].as_i64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitoring_plugin_of_debian_judges_nodes() {
    let cloud = Cloud::in_one_process("").await;
    let program = std::path::Path::new("/usr/lib/nagios/plugins/check_dummy");
    let sha256 = hex::encode(spice::security::keys::sha256(&std::fs::read(program).unwrap()));
    let manifest = json!({
        "name": "dummy", "program": program, "sha256": sha256, "style": "nagios", "timeout_s": 10, "exit_codes": { "1": "error" },
        "parameters": { "state": { "type": "integer", "required": true, "min": 0, "max": 3 } }, "argv": ["{state}", "{node}"],
    });
    std::fs::write(cloud.dir.path().join("plugins/dummy.json"), manifest.to_string()).unwrap();
    // The plugin's user must be able to reach nothing else of this folder, and the service nothing it does not own.
    cloud.register_nodes(3).await;
    cloud.await_adapter("command").await;
    for (name, state, trust) in [("good", 0, "trusted"), ("bad", 2, "untrusted")] {
        let parameters = json!({ "plugin": "dummy", "arguments": { "state": state } });
        let check =
            json!({ "name": name, "adapter": "command", "parameters": parameters, "schedule": { "every": "1h" } });
        cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
        eventually("it has run", async || {
            let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-3", "check": name })).await;
            stored.as_array().is_some_and(|stored| !stored.is_empty())
        })
        .await;
        let stored = cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-3", "check": name })).await;
        assert_eq!(cloud.level("node-3").await, trust, "{stored}");
    }
    let shown = cloud.admin(Topic::Nodes, "node_show", json!({ "name": "node-3" })).await;
    assert_eq!(shown["checks"]["bad"]["reason"], "CRITICAL: node-3", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_record_is_a_chain_that_shows_every_change_with_its_cause() {
    let mut cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-3", 't').await;
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-3", "reason": "suspect" })).await;
    let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
    cloud.stop("all").await;

    let file = cloud.state().join("spice-nodes.sqlite");
    let database = spice::store::Database::open(&format!("sqlite://{}", file.display()), "nodes").await.unwrap();
    let rows =
        sqlx::query("SELECT body, hash FROM nodes_record ORDER BY seq").fetch_all(database.reader()).await.unwrap();
    let mut previous = spice::nodes::record::BEGINNING.to_owned();
    let mut causes = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let (text, hash): (String, String) = (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1));
        let entry: spice::nodes::record::RecordEntry = serde_json::from_str(&text).unwrap();
        assert_eq!(entry.seq, i64::try_from(index).unwrap() + 1);
        assert_eq!(entry.previous, previous, "each entry covers the one before it");
        assert_eq!(spice::nodes::record::hash(&text), hash);
        previous = hash;
        causes.push(entry.cause);
    }
    assert_eq!(status["record_head"], previous.as_str(), "what the heartbeat names is the end of the chain");
    // Three registrations, three first passes, one quarantine with the change of trust it makes.
    assert_eq!(causes.len(), 8, "{causes:?}");
    assert!(causes.iter().any(|cause| cause.starts_with("check attestation run ")), "{causes:?}");
    assert_eq!(causes.last().unwrap(), "quarantined by admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_shows_an_unknown_node_as_trusted_and_says_so() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-2", 't').await;
    cloud.oat.order(json!({ "up": false })).await;
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-9" })).await;
    cloud.await_in_file("node-9", '-').await;
    let hours = json!({ "name": "node-9", "hours": 2, "reason": "verifier in repair" });
    cloud.admin(Topic::Nodes, "node_override", hours).await;
    cloud.await_in_file("node-9", 'o').await;
    let pool = cloud.admin(Topic::Nodes, "pool_show", json!({ "name": "default" })).await;
    assert_eq!(pool["overridden"], 1);
    cloud.admin(Topic::Nodes, "node_override_end", json!({ "name": "node-9" })).await;
    cloud.await_in_file("node-9", '-').await;
    let maintenance = json!({ "name": "node-9", "hours": 2, "reason": "new memory" });
    cloud.admin(Topic::Nodes, "node_maintenance", maintenance).await;
    assert_eq!(cloud.level("node-9").await, "unknown", "maintenance never makes a node trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_an_adapter_says_so_at_once_and_is_no_nodes_fault() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(1).await;
    let check = json!({
        "name": "lonely", "adapter": "absent", "schedule": { "every": "1h" }, "allow_missing_adapter": true,
    });
    let made = cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    assert!(made["warnings"][0].as_str().unwrap().contains("no living adapter named absent"), "{made}");
    let stored = async || cloud.admin(Topic::Nodes, "result_list", json!({ "check": "lonely" })).await;
    eventually("the result says what is missing", async || !stored().await.as_array().unwrap().is_empty()).await;
    let result = stored().await[0].clone();
    assert_eq!(result["status"], "error");
    assert!(result["reason"].as_str().unwrap().starts_with("no adapter: "), "{result}");
    assert_eq!(cloud.level("node-1").await, "unknown");
}
