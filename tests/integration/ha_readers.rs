//! What a reader of the pools believes while more than one Nodes speaks, or one speaks too late.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use spice::rpc::table::Topic;

use crate::cloud::Cloud;
use crate::ha::{copy_database, lease, pause};
use crate::lab::{Lab, eventually};
use crate::proxy::Proxy;

fn alive(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("run/pool.alive")).unwrap_or_default();
    text.lines().nth(1).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// The nodes that were quarantined according to a database.
async fn quarantined(database: &Path) -> BTreeSet<String> {
    use sqlx::Row;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let rows = sqlx::query("SELECT DISTINCT node FROM nodes_record WHERE body LIKE '%quarantined%'");
    let found = rows.fetch_all(&pool).await.unwrap().iter().map(|row| row.get(0)).collect();
    pool.close().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_active_nodes_on_two_copies_of_a_database_readers_believe_one() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(8).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-8", 't').await;
    cloud.stop("nodes").await;
    let (original, copy) = (cloud.state().join("spice-nodes.sqlite"), cloud.dir.path().join("copy.sqlite"));
    copy_database(&original, &copy);
    let second = cloud.dir.path().join("second.conf");
    std::fs::write(&second, format!("[database]\nconnection = sqlite://{}\n", copy.display())).unwrap();
    std::fs::set_permissions(&second, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.start("copy", &["--role", "nodes", "--config-file", second.to_str().unwrap()]).await;
    let lower = lease(&cloud, "nodes").await.1;
    eventually("readers take the higher epoch", async || cloud.pool_header()["epoch"].as_i64() > Some(lower)).await;
    let higher = cloud.pool_header()["epoch"].clone();
    // Each of the two is told something in turn.
    for n in 1..=4 {
        let action = json!({ "name": format!("node-{n}"), "reason": "a story" });
        cloud.admin(Topic::Nodes, "node_quarantine", action).await;
    }
    let believed = quarantined(&copy).await;
    let ignored = quarantined(&original).await;
    assert!(!believed.is_empty() && !ignored.is_empty(), "{believed:?} {ignored:?}");
    for node in &believed {
        cloud.await_in_file(node, 'u').await;
    }
    // Also over a restart of the reader, and several heartbeats of both.
    cloud.kill("pool").await;
    cloud.start("pool", &["--role", "pool"]).await;
    let restarted = cloud.sign_of_life();
    eventually("the reader hears the one it believes", async || cloud.sign_of_life() > restarted).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cloud.pool_header()["epoch"], higher);
    for node in &ignored {
        assert_eq!(cloud.pool_file()[node].0, 't', "{node} was quarantined by the one that is not believed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_a_reader_after_its_lease_is_no_sign_of_life() {
    let lab = Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    let (url, through) = (lab.transport_url(), proxy.transport_url(&lab));
    let mut cloud = Cloud::prepare_on(lab, &url, "");
    let adapters = ["openattestation".parse().unwrap()];
    spice::security::bootstrap::create_keys(&cloud.state(), &crate::cloud::deployment(), &adapters).unwrap();
    for role in ["nodes", "checks"] {
        cloud.start(role, &["--role", role]).await;
    }
    cloud.start_standby("nodes-2", &["--role", "nodes"]).await;
    cloud.start_as("pool", &["--role", "pool"], &through).await;
    cloud.register_nodes(2).await;
    eventually("the reader hears Nodes", async || cloud.pool_file().len() == 2 && !alive(cloud.dir.path()).is_null())
        .await;
    // The network holds back what Nodes says, and then Nodes is paused.
    proxy.block_down();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (held, old) = (alive(cloud.dir.path()), lease(&cloud, "nodes").await.1);
    assert_eq!(held["epoch"], old);
    pause(&cloud, "nodes", "nodes").await;
    eventually("another is active", async || cloud.times_active("nodes-2", "nodes") > 0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = lease(&cloud, "nodes").await.1;
    let folder = cloud.dir.path().to_owned();
    let watching = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + crate::lab::PATIENCE;
        let mut seen = Vec::new();
        while std::time::Instant::now() < deadline {
            let now = alive(&folder);
            if now["epoch"] == new {
                return seen;
            }
            if !now.is_null() && seen.last() != Some(&now) {
                seen.push(now);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the reader never heard the new Nodes");
    });
    proxy.heal();
    let seen = watching.join().unwrap();
    assert_eq!(seen, [held], "heartbeats that came after the end of their lease counted");
    // The paused one wakes, and adds nothing.
    cloud.signal("nodes", Signal::SIGCONT);
    eventually("it stands by", async || cloud.logged("nodes").contains("role is not active any more")).await;
    assert_eq!(alive(cloud.dir.path())["epoch"], new);
}
