//! `spicectl db`, and a service whose database goes and returns.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::{Value, json};
use spice::rpc::table::Topic;

use crate::cloud::Cloud;
use crate::lab::eventually;
use crate::lab_mariadb::{Fresh, OwnMariaDb};

async fn db(cloud: &Cloud, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .arg("--config-file")
        .arg(cloud.dir.path().join("spice.conf"))
        .arg("db")
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap()
}

fn found(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn with_a_distrusted_node(configuration: &str) -> Cloud {
    let cloud = Cloud::in_one_process(configuration).await;
    cloud.register_nodes(5).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_checked_and_backed_up_and_a_forged_record_is_found() {
    let cloud = with_a_distrusted_node("").await;
    let checked = db(&cloud, &["check", "-f", "json"], &[]).await;
    assert!(checked.status.success(), "{checked:?}");
    let checked = found(&checked);
    assert_eq!((&checked[1]["role"], &checked[1]["rows"]["nodes_node"]), (&json!("nodes"), &json!(5)), "{checked}");
    assert!(checked[1]["rows"]["nodes_record"].as_i64() > Some(4), "{checked}");

    let to = cloud.dir.path().join("copy-{role}.sqlite").display().to_string();
    let done = db(&cloud, &["backup", "--to", &to], &[]).await;
    assert!(done.status.success(), "{done:?}");
    let copy = cloud.dir.path().join("copy-nodes.sqlite");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let again = db(&cloud, &["backup", "--to", &to], &[]).await;
    assert!(!again.status.success(), "a backup that is there was written over");
    let alone = cloud.dir.path().join("alone").display().to_string();
    assert!(!db(&cloud, &["backup", "--to", &alone], &[]).await.status.success(), "two databases in one file");

    // The copy is as good as the database, until somebody makes node-2 trusted in it.
    let other = [("OS_DATABASE__CONNECTION", format!("sqlite://{}", to))];
    let other = other.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert!(db(&cloud, &["check"], &other).await.status.success());
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", copy.display())).await.unwrap();
    let forged = "UPDATE nodes_record SET body = replace(body, '\"to\":\"untrusted\"', '\"to\":\"trusted\"') WHERE node = 'node-2'";
    assert!(sqlx::query(forged).execute(&pool).await.unwrap().rows_affected() > 0);
    sqlx::query("UPDATE nodes_node SET body = '{' WHERE name = 'node-3'").execute(&pool).await.unwrap();
    pool.close().await;
    let checked = db(&cloud, &["check", "-f", "json"], &other).await;
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let faults = found(&checked)[1]["faults"].to_string();
    assert!(faults.contains("of the record was changed") && faults.contains("node-3"), "{faults}");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_mariadb_the_check_is_the_same_and_the_backup_is_its_own_tools() {
    let fresh = Fresh::new().await;
    let cloud = with_a_distrusted_node(&fresh.configuration()).await;
    let checked = db(&cloud, &["check", "-f", "json"], &[]).await;
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(found(&checked)[1]["rows"]["nodes_node"], 5);
    let told = db(&cloud, &["backup", "--to", "/tmp/it's.sql"], &[]).await;
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.starts_with("mariadb-dump --single-transaction") && told.contains(&fresh.name), "{told}");
    assert!(!told.contains("p@ss") && told.lines().count() == 1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_wait_while_the_database_is_away_and_count_when_it_is_back() {
    let server = OwnMariaDb::start().await;
    let fresh = server.fresh().await;
    let cloud = with_a_distrusted_node(&fresh.configuration()).await;
    let run = cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;
    server.order("kill").await;
    eventually("both roles say so", async || {
        let nodes = cloud.try_admin(Topic::Nodes, "status", json!({})).await;
        let checks = cloud.try_admin(Topic::Checks, "status", json!({})).await;
        [nodes, checks].iter().all(|status| status.as_ref().is_ok_and(|status| status["database"]["reason"] == "lost"))
    })
    .await;
    server.order("restart").await;
    eventually("the run is finished", async || {
        let shown = cloud.try_admin(Topic::Checks, "run_show", json!({ "run": run["run"] })).await;
        shown.is_ok_and(|shown| shown["finished"] == true)
    })
    .await;
    cloud.await_in_file("node-1", 't').await;
    assert_eq!(cloud.level("node-2").await, "untrusted");
    eventually("the alarm is over", async || {
        cloud.admin(Topic::Nodes, "status", json!({})).await["database"] == json!({ "up": true })
    })
    .await;
    assert_eq!(cloud.admin(Topic::Checks, "status", json!({})).await["dead_letters"], 0);
    assert_eq!(cloud.logged("all").matches("the database cannot be used").count(), 2, "once for each role");
}
