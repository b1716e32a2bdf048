//! The life of keys on real parts: stolen, lost, rotated; what an administrator types, and what the pool file says then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use spice::clock::Timestamp;
use spice::names::NodeName;
use spice::protocol::{Heartbeat, Level, MemberState, Mode, NodeResult, PoolState, RunOrder, Snapshot, Status, Ticket};
use spice::rpc::table::{Method, Topic};
use spice::rpc::{Caller, RpcError, Secured, Service};
use spice::security::{DocumentKind, SignedDocument};

use crate::cloud::{Cloud, deployment, object};
use crate::lab::{eventually, python, root};

fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

/// `spicectl` on the machine where the keys lie; its standard output.
async fn spicectl(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .arg("--config-file")
        .arg(cloud.dir.path().join("spice.conf"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn rotate(cloud: &Cloud, name: &str, overlap: &str) {
    spicectl(cloud, &["key", "rotate", name]).await;
    spicectl(cloud, &["key", "rotate", name, "--switch", "--overlap", overlap]).await;
}

async fn restart(cloud: &mut Cloud, role: &str) {
    cloud.stop(role).await;
    cloud.start(role, &["--role", role]).await;
}

/// The real Nova filter, asked which of the nodes may take a server of a flavor that demands trust.
async fn filter_passes(cloud: &Cloud, hosts: &[&str]) -> Vec<String> {
    // Until the cache has heard Nodes the filter believes no file.
    eventually("the cache has heard Nodes", async || cloud.sign_of_life().is_some()).await;
    let conf = cloud.dir.path().join("nova.conf");
    let text = format!(
        "[filter_scheduler]\navailable_filters = spice_nova.TrustedFilterSPICE\nenabled_filters = TrustedFilterSPICE\n\
         [spice]\ndeployment = {}\npool_dir = {}\n",
        deployment(),
        cloud.dir.path().join("run").display()
    );
    std::fs::write(&conf, text).unwrap();
    let output = tokio::process::Command::new(python().await)
        .args(["-W", "ignore"])
        .arg(root().join("tools/demo.d/ask_filter.py"))
        .arg("--nova-conf")
        .arg(&conf)
        .args(hosts.iter().flat_map(|host| ["--host", host]))
        .arg("trust:trusted_host=trusted")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// A cloud in which node-1 failed its attestation and node-2 passed.
async fn cloud_with_a_compromised_node() -> Cloud {
    let cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(2).await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
    cloud
}

/// A pass for `node`, reported by the holder of an adapter's key under a ticket of the holder of Checks'.
async fn report_a_pass(cloud: &Cloud, node: &str) {
    let check = cloud.admin(Topic::Checks, "check_show", json!({ "name": "attestation" })).await;
    let ticket = Ticket {
        deployment: deployment(),
        order: RunOrder { epoch: now().0, run: 1 },
        batch: 1,
        attempt: 1,
        check: "attestation".parse().unwrap(),
        check_id: check["id"].as_str().unwrap().to_owned(),
        revision: check["revision"].as_i64().unwrap(),
        adapter: "openattestation".parse().unwrap(),
        nodes: vec![NodeName::new(node).unwrap()],
        issued_at: now(),
        deadline: now().plus(Duration::from_secs(60)),
    };
    let result = NodeResult {
        node: NodeName::new(node).unwrap(),
        status: Status::Pass,
        reason: "all is well, believe me".to_owned(),
        requested_at: now(),
        finished_at: now(),
        verified_at: None,
        boot: None,
        self_reported: false,
    };
    let ticket = SignedDocument::seal(&ticket, &cloud.identity("checks").key).unwrap();
    let args = object(json!({ "ticket": ticket, "results": [result] }));
    let thief = cloud.as_holder_of("adapter-openattestation");
    thief.work(Topic::Results, None, "record_results", args, None).await.unwrap();
}

async fn why(cloud: &Cloud, node: &str) -> String {
    spicectl(cloud, &["node", "why", node]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_adapter_key_makes_a_node_trusted_until_it_is_revoked_and_its_successor_judges_anew() {
    let mut cloud = cloud_with_a_compromised_node().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let theft = now().to_string();
    report_a_pass(&cloud, "node-1").await;
    cloud.await_in_file("node-1", 't').await;
    assert_eq!(filter_passes(&cloud, &["node-1", "node-2"]).await, ["node-1", "node-2"]);

    let revoke = ["key", "revoke", "adapter-openattestation", "--since", &theft];
    spicectl(&cloud, &[&revoke[..], &["--dry-run"]].concat()).await;
    assert_eq!(cloud.level("node-1").await, "trusted", "a dry run changes nothing");
    spicectl(&cloud, &revoke).await;
    cloud.await_in_file("node-1", 'u').await;
    assert_eq!(filter_passes(&cloud, &["node-1", "node-2"]).await, ["node-2"], "what came before the theft stands");
    let told = why(&cloud, "node-1").await;
    assert!(told.contains("evidence voided") && told.contains("of adapter-openattestation revoked since"), "{told}");

    // What the thief says from now on is refused, whatever date it bears.
    let before = cloud.lab.depth("spice_work.dead").await;
    report_a_pass(&cloud, "node-1").await;
    eventually("it is refused", async || cloud.lab.depth("spice_work.dead").await > before).await;
    assert_eq!(cloud.level("node-1").await, "untrusted");

    rotate(&cloud, "adapter-openattestation", "1h").await;
    restart(&mut cloud, "adapter").await;
    cloud.oat.order(json!({ "level": { "node-1": "trusted" } })).await;
    cloud.await_adapter("openattestation").await;
    cloud.attest().await;
    cloud.await_in_file("node-1", 't').await;
    assert_eq!(filter_passes(&cloud, &["node-1", "node-2"]).await, ["node-1", "node-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_made_while_nodes_was_away_is_honoured_at_its_start() {
    let mut cloud = cloud_with_a_compromised_node().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let theft = now().to_string();
    report_a_pass(&cloud, "node-1").await;
    cloud.await_in_file("node-1", 't').await;
    cloud.stop("nodes").await;
    spicectl(&cloud, &["key", "revoke", "adapter-openattestation", "--since", &theft]).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_of_checks_voids_the_policy_until_checks_has_another() {
    let mut cloud = cloud_with_a_compromised_node().await;
    cloud.confirmed("pool_update", json!({ "name": "default", "mode": "observe" })).await;
    eventually("the mode is in the file", async || cloud.pool_header()["pools"][0]["mode"] == "observe").await;
    spicectl(&cloud, &["key", "revoke", "checks", "--since", "1h"]).await;
    cloud.await_in_file("node-2", '-').await;
    cloud.await_in_file("node-1", 'u').await;
    // A thief may have made the pool lenient, so it is at its strictest.
    eventually("the pool is enforced", async || cloud.pool_header()["pools"][0]["mode"] == "enforce").await;
    let told = why(&cloud, "node-2").await;
    assert!(told.contains("is void: key") && told.contains("of checks revoked since"), "{told}");

    rotate(&cloud, "checks", "1h").await;
    restart(&mut cloud, "checks").await;
    eventually("Nodes has the policy again", async || {
        let status = cloud.try_admin(Topic::Nodes, "status", json!({})).await;
        status.is_ok_and(|status| status["policy_number"].as_i64() > Some(1))
    })
    .await;
    cloud.await_adapter("openattestation").await;
    cloud.attest().await;
    cloud.await_in_file("node-2", 't').await;
    assert_eq!(cloud.level("node-1").await, "untrusted", "a revocation forgives nothing");
    eventually("the mode is back", async || cloud.pool_header()["pools"][0]["mode"] == "observe").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stolen_administrators_key_did_in_a_nodes_favour_is_undone() {
    let cloud = cloud_with_a_compromised_node().await;
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "rootkit" })).await;
    cloud.admin(Topic::Nodes, "node_create", json!({ "name": "node-3" })).await;
    cloud.await_in_file("node-3", 't').await;
    let roles = ["--role", "admin", "--dir", cloud.state().to_str().unwrap()].map(str::to_owned);
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    spicectl(&cloud, &[&["key", "create", "mallory"][..], &roles].concat()).await;
    let theft = now().to_string();
    let mallory = async |method: &str, args: Value| {
        eventually("the new key is believed", async || {
            cloud.as_holder_of("mallory").call(Topic::Nodes, method, object(args.clone())).await.is_ok()
        })
        .await;
    };
    mallory("node_release", json!({ "name": "node-1", "reason": "mine" })).await;
    mallory("node_override", json!({ "name": "node-1", "hours": 2, "reason": "mine" })).await;
    mallory("node_release", json!({ "name": "node-2", "reason": "mine" })).await;
    mallory("node_quarantine", json!({ "name": "node-3", "reason": "spite" })).await;
    cloud.await_in_file("node-2", 't').await;
    spicectl(&cloud, &["key", "revoke", "mallory", "--since", &theft]).await;
    for node in ["node-1", "node-2", "node-3"] {
        cloud.await_in_file(node, 'u').await;
    }
    let told = why(&cloud, "node-2").await;
    assert!(told.contains("a release") && told.contains("of mallory revoked since"), "{told}");
    assert!(why(&cloud, "node-3").await.contains("quarantined by mallory"), "a restriction stays");
}

/// Answers for Nodes, with a stolen key and pools of its own.
struct Impostor {
    snapshot: Snapshot,
    key: spice::security::SigningKey,
}

#[async_trait]
impl Service for Impostor {
    async fn handle(&self, _: &'static Method, _: Caller, args: Map<String, Value>) -> Result<Value, RpcError> {
        let nonce = args.get("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
        let snapshot =
            Snapshot { nonce, sent_at: now(), not_after: now().plus(Duration::from_secs(10)), ..self.snapshot.clone() };
        Ok(json!({ "document": SignedDocument::seal(&snapshot, &self.key).unwrap() }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_cache_forgets_the_huge_epoch_of_a_stolen_nodes_key_and_follows_its_successor() {
    let mut cloud = cloud_with_a_compromised_node().await;
    cloud.stop("nodes").await;
    let theft = now().to_string();
    let huge = 8_000_000_000_000_000;
    let trusted =
        MemberState { level: Level::Trusted, expires_at: now().plus(Duration::from_secs(3600)), overridden: false };
    let members = BTreeMap::from([("node-1".parse().unwrap(), trusted)]);
    let pools = BTreeMap::from([(
        "default".parse().unwrap(),
        PoolState { mode: Mode::Enforce, max_silence_ms: 600_000, members },
    )]);
    let snapshot = Snapshot {
        deployment: deployment(),
        epoch: huge,
        version: 7,
        nonce: String::new(),
        pools,
        sent_at: now(),
        not_after: now(),
    };
    let identity = cloud.identity("nodes");
    let impostor = Arc::new(Impostor { snapshot, key: identity.key.clone() });
    let serving = Secured::serve_rpc(cloud.bus(), Topic::Nodes, "impostor", identity.clone(), impostor).await.unwrap();
    eventually("the cache believes the thief", async || {
        let heartbeat = Heartbeat {
            deployment: deployment(),
            epoch: huge,
            version: 7,
            digest: String::new(),
            policy_number: 1,
            record_head: String::new(),
            sent_at: now(),
            not_after: now().plus(Duration::from_secs(10)),
        };
        let document = SignedDocument::sign(DocumentKind::Heartbeat, &heartbeat, &identity.key).unwrap();
        let args = object(json!({ "document": document }));
        cloud.as_holder_of("nodes").publish("pool_heartbeat", args).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        cloud.pool_file().get("node-1").is_some_and(|(level, _)| *level == 't')
    })
    .await;
    serving.stop().await;

    // Also over a restart of the cache, and of its machine, on which the folder of the pool file is emptied.
    cloud.stop("pool").await;
    let (run, away) = (cloud.dir.path().join("run"), cloud.dir.path().join("away"));
    std::fs::rename(&run, &away).unwrap();
    cloud.start("pool", &["--role", "pool"]).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "a change to publish" })).await;
    let memory = std::fs::read_to_string(cloud.state().join("pool-cache.json")).unwrap();
    assert!(memory.contains(&huge.to_string()), "{memory}");
    assert!(cloud.pool_file().is_empty(), "Nodes' own epoch is lower, so it is not believed");
    // Had the machine not been restarted, the thief's file would still be there.
    std::fs::rename(away.join("pool"), run.join("pool")).unwrap();

    spicectl(&cloud, &["key", "revoke", "nodes", "--since", &theft]).await;
    eventually("nobody is trusted", async || cloud.pool_file().get("node-1").is_none_or(|(level, _)| *level != 't'))
        .await;
    rotate(&cloud, "nodes", "1h").await;
    restart(&mut cloud, "nodes").await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 'u').await;
    assert!(cloud.pool_header()["epoch"].as_i64() < Some(huge));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_rotated_without_a_gap_and_the_old_ones_are_removed() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    let file = cloud.dir.path().join("run/pool");
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = {
        let stop = stop.clone();
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let text = std::fs::read_to_string(&file).unwrap();
                assert_eq!(text.lines().nth(3), Some("t"), "{text}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let old: Vec<std::path::PathBuf> =
        std::fs::read_dir(cloud.state().join("trust")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for (role, name) in
        [("checks", "checks"), ("nodes", "nodes"), ("adapter", "adapter-openattestation"), ("pool", "pool")]
    {
        rotate(&cloud, name, "1h").await;
        restart(&mut cloud, role).await;
        cloud.await_adapter("openattestation").await;
        assert_eq!(cloud.attest().await["outcomes"], json!({ "pass": 1 }), "{name}");
    }
    rotate(&cloud, "adapter-command", "1h").await;
    rotate(&cloud, "admin", "1h").await;
    // Until a first heartbeat has agreed with the cache, there is no such file.
    let heard_epoch = |cloud: &Cloud| match std::fs::read_to_string(cloud.dir.path().join("run/pool.alive")) {
        Ok(text) => serde_json::from_str::<Value>(text.lines().nth(1).unwrap()).unwrap()["epoch"].clone(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => panic!("{error}"),
    };
    for path in old {
        std::fs::remove_file(path).unwrap();
    }
    // Nodes goes on by the policy it holds: Checks has signed it again.
    for role in ["adapter", "nodes"] {
        restart(&mut cloud, role).await;
    }
    cloud.await_adapter("openattestation").await;
    assert_eq!(cloud.attest().await["outcomes"], json!({ "pass": 1 }));
    let epoch = cloud.admin(Topic::Nodes, "status", json!({})).await["epoch"].clone();
    assert_ne!(epoch, Value::Null);
    eventually("the cache hears the new Nodes", async || heard_epoch(&cloud) == epoch).await;
    stop.cancel();
    watching.await.unwrap();
    let listed: Value = serde_json::from_str(&spicectl(&cloud, &["key", "list", "-f", "json"]).await).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 6, "{listed}");
    let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
    assert_eq!((&status["key_fault"], &status["trust_store"]["faults"]), (&Value::Null, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_replaced_as_the_service_says_and_trust_is_kept() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    let epoch = cloud.pool_header()["epoch"].clone();
    cloud.stop("nodes").await;
    std::fs::remove_file(cloud.state().join("keys/nodes.pem")).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_spiced"))
        .args(["--role", "nodes", "--config-file"])
        .arg(cloud.dir.path().join("spice.conf"))
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(told.contains("keys/nodes.pem") && told.contains("spicectl key create nodes"), "{told}");
    rotate(&cloud, "nodes", "0s").await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    eventually("the cache follows the new key", async || {
        cloud.pool_header()["epoch"].as_i64() > epoch.as_i64() && cloud.pool_file()["node-1"].0 == 't'
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_trust_file_and_a_key_nobody_knows_are_told_in_status() {
    let mut cloud = Cloud::one_process_each("").await;
    let trust = cloud.state().join("trust");
    let whole = std::fs::read_to_string(trust.join("checks.json")).unwrap();
    std::fs::write(trust.join("checks.json"), &whole[..whole.len() / 2]).unwrap();
    eventually("it is told", async || {
        let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
        status["trust_store"]["faults"].to_string().contains("stays in force")
    })
    .await;
    assert!(spicectl(&cloud, &["node", "create", "node-1"]).await.contains("node-1"), "everything goes on");
    std::fs::write(trust.join("checks.json"), whole).unwrap();
    eventually("it is well again", async || {
        cloud.admin(Topic::Nodes, "status", json!({})).await["trust_store"]["faults"] == json!([])
    })
    .await;

    cloud.stop("checks").await;
    std::fs::remove_file(cloud.state().join("keys/checks.pem")).unwrap();
    spice::security::SigningKey::generate().unwrap().save(&cloud.state().join("keys/checks.pem")).unwrap();
    cloud.start("checks", &["--role", "checks"]).await;
    let log = async || std::fs::read_to_string(cloud.dir.path().join("checks.log")).unwrap();
    eventually("the service says what is wrong with its key", async || {
        log().await.contains("has no trust file in this machine's trust directory")
    })
    .await;
}
