//! Who may do everything in the virtual host can break what is in it. That denies service, which is noticed and mended, or
//! said; it never makes anybody trusted.

use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use spice::rpc::table::Topic;

use super::attacker::{Attacker, request_text};
use super::*;
use crate::cloud::object;

const WORK_QUEUES: [&str; 4] =
    ["spice-nodes-results", "spice-checks-events", "spice-adapter-openattestation", "spice-adapter-command"];

/// Waits until a run can be made and everything of it arrives.
async fn comes_back(cloud: &Cloud, what: &str) {
    let finished = async |run: &Value| {
        let shown = cloud.try_admin(Topic::Checks, "run_show", json!({ "run": run })).await;
        shown.is_ok_and(|shown| shown["outcomes"] == json!({ "pass": 1, "fail": 1 }))
    };
    let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "{what}: no run is complete again");
        let Ok(begun) = cloud.try_admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await else {
            continue;
        };
        for _ in 0..100 {
            if finished(&begun["run"]).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_unbound_or_purged_is_made_again() {
    let cloud = cloud_with_a_compromised_node("").await;
    let attacker = Attacker::let_in(&cloud).await;
    for queue in WORK_QUEUES.iter().chain(&["spice-nodes", "spice-checks"]) {
        attacker.channel.queue_purge((*queue).into(), QueuePurgeOptions::default()).await.unwrap();
        attacker.channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await.unwrap();
    }
    comes_back(&cloud, "queues that were deleted").await;

    // Their consumers hear nothing of this.
    for queue in WORK_QUEUES {
        let from = "spice_work".into();
        attacker.channel.queue_unbind(queue.into(), from, queue.into(), FieldTable::default()).await.unwrap();
    }
    for queue in ["spice-nodes", "spice-checks"] {
        attacker.channel.queue_unbind(queue.into(), "spice".into(), queue.into(), FieldTable::default()).await.unwrap();
    }
    comes_back(&cloud, "queues that were unbound").await;

    for exchange in ["spice", "spice_work", "spice_work.dead", "spice-pool_fanout"] {
        attacker.channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    comes_back(&cloud, "exchanges that were deleted").await;
    let before = cloud.sign_of_life();
    eventually("the pool cache hears Nodes again", async || cloud.sign_of_life() > before).await;
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_stolen_from_their_queue_make_nobody_trusted_and_the_thief_is_noticed() {
    let (configuration, address) = metrics();
    let cloud = cloud_with_a_compromised_node(&configuration).await;
    let thief = cloud.lab.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = thief.basic_consume("spice-nodes-results".into(), "thief".into(), options, FieldTable::default());
    let _stolen = consumer.await.unwrap();
    for _ in 0..6 {
        cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;
    }
    eventually("it is counted", async || counted(&address, "spice_bus_tampered_total", "consumers").await > 0).await;
    let log = cloud.logged("all");
    assert!(log.contains("queue spice-nodes-results has 2 consumers and should have one"), "{log}");
    assert_eq!(cloud.level("node-1").await, "untrusted");
    assert!(cloud.pool_file().values().all(|(level, _)| *level != 'o'));
    let _ = thief.close(200, "caught".into()).await;
    comes_back(&cloud, "a queue with a thief").await;
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_declared_first_otherwise_stops_a_role_with_a_word_and_holds_no_result() {
    let mut cloud = Cloud::before_any_start("").await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let text = |name: &str, value: &str| (name.into(), AMQPValue::LongString(value.into()));
    let number = |name: &str, value: i32| (name.into(), AMQPValue::LongInt(value));
    for (queue, arguments) in [
        ("spice-nodes-results", vec![number("x-message-ttl", 1)]),
        ("spice-nodes-results", vec![number("x-max-length", 1), text("x-overflow", "drop-head")]),
        ("spice-nodes-results", vec![text("x-dead-letter-exchange", "amq.fanout")]),
        ("spice-nodes", vec![number("x-max-length", 0)]),
    ] {
        let channel = cloud.lab.channel().await;
        // What an earlier try left.
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        let hostile: FieldTable = arguments.into_iter().collect::<std::collections::BTreeMap<_, _>>().into();
        let flags = if queue == "spice-nodes" { QueueDeclareOptions::default() } else { durable };
        channel.queue_declare(queue.into(), flags, hostile).await.unwrap();
        let said = cloud.fail_to_start("nodes", &["--role", "nodes"]).await;
        let last = said.lines().last().unwrap_or_default().to_owned();
        assert!(last.contains(queue) && last.contains("it exists with x-"), "{said}");
        assert!(last.contains("remove it") && last.contains("--check"), "it says what to do: {last}");
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    let channel = cloud.lab.channel().await;
    let fanout = lapin::ExchangeKind::Fanout;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_delete("spice_work".into(), ExchangeDeleteOptions::default()).await.unwrap();
    channel.exchange_declare("spice_work".into(), fanout, options, FieldTable::default()).await.unwrap();
    let said = cloud.fail_to_start("nodes", &["--role", "nodes"]).await;
    assert!(said.lines().last().unwrap().contains("spice_work"), "{said}");
    channel.exchange_delete("spice_work".into(), ExchangeDeleteOptions::default()).await.unwrap();

    // What is only locked may be free in a moment: an old connection of ours looks the same.
    let locked = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("spice-checks".into(), locked, FieldTable::default()).await.unwrap();
    cloud.start("nodes", &["--role", "nodes"]).await;
    let unlocked = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        channel.queue_delete("spice-checks".into(), QueueDeleteOptions::default()).await.unwrap();
    });
    for role in ["checks", "adapter", "pool"] {
        cloud.start(role, &["--role", role]).await;
    }
    unlocked.await.unwrap();
    let cloud = compromise(cloud).await;
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rubbish_is_counted_to_the_last_and_logged_in_a_few_lines() {
    const FLOOD: u64 = 1500;
    let (configuration, address) = metrics();
    let cloud = cloud_with_a_compromised_node(&configuration).await;
    let attacker = Attacker::let_in(&cloud).await;
    let forged = || request_text("node_release", &object(json!({ "name": "node-1", "reason": "flood" })), &json!({}));
    for _ in 0..FLOOD / 3 {
        attacker.send_text("spice", "spice-nodes", &forged()).await;
        attacker.send_text("spice", "spice-nodes", "no JSON at all").await;
        attacker.send_text("spice_work", "spice-nodes-results", &forged()).await;
    }
    // A body larger than anything SPICE sends.
    let huge = vec![b'x'; 17 * 1024 * 1024];
    attacker.send("spice_work", "spice-nodes-results", &super::attacker::properties(), &huge).await;
    eventually("every one is counted", async || {
        let requests = counted(&address, "spice_requests_refused_total", "").await;
        let messages = counted(&address, "spice_bus_messages_refused_total", "").await;
        let at_least = requests >= FLOOD * 2 / 3 && messages > FLOOD * 2 / 3;
        at_least && cloud.lab.depth("spice-nodes-results").await == 0
    })
    .await;
    let log = cloud.logged("all");
    let lines = log.lines().filter(|line| line.contains("was refused")).count();
    assert!((1..200).contains(&lines), "{lines} lines");
    goes_on_unimpressed(&cloud).await;
}
