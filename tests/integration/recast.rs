//! Batches and results that are lost, late or held up on their way, and a Checks that is killed in between: every node ends
//! with one outcome, and a failure is never lost.
//!
//! The adapter `plain` is this file: it takes batches off its queue, as a foreign adapter that acknowledges first does, and
//! answers when and what a story wants.

use serde_json::{Value, json};
use spice::names::NodeName;
use spice::protocol::{NodeResult, Status, Ticket};
use spice::rpc::Kind;
use spice::rpc::table::Topic;
use spice::security::{Role, SignedDocument, bootstrap};
use spice::store::Database;

use crate::cloud::{Cloud, deployment, object};
use crate::lab::eventually;

const QUEUE: &str = "spice-adapter-plain";

/// A batch taken off the queue.
struct Taken {
    ticket: Ticket,
    document: SignedDocument,
}

/// Gives the cloud an adapter `plain`: a key, and the queue such an adapter would have declared.
async fn prepare(cloud: &Cloud) {
    bootstrap::create_key(&cloud.state(), &deployment(), "adapter-plain", [Role::Adapter("plain".parse().unwrap())])
        .unwrap();
    let channel = cloud.lab.channel().await;
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), durable, Default::default()).await.unwrap();
    channel
        .queue_bind(QUEUE.into(), "spice_work".into(), QUEUE.into(), Default::default(), Default::default())
        .await
        .unwrap();
    // Trust stores are read again within seconds. A key that is known, and may not ask this, is refused as forbidden.
    let holder = cloud.as_holder_of("adapter-plain");
    eventually("the key is known", async || {
        let known = async |topic| {
            let refused = holder.call(topic, "status", object(json!({}))).await;
            refused.is_err_and(|error| error.kind == Kind::Forbidden)
        };
        known(Topic::Checks).await && known(Topic::Nodes).await
    })
    .await;
}

async fn register(cloud: &Cloud, timeout_s: i64) {
    let check = json!({
        "name": "plain", "adapter": "plain", "schedule": { "every": "1h" }, "timeout_s": timeout_s, "ttl_s": 7200,
        "allow_missing_adapter": true,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
}

/// Takes the next batch, and with that takes it from everybody else.
async fn take(cloud: &Cloud) -> Taken {
    let found = std::cell::RefCell::new(None);
    eventually("a batch is cast", async || {
        let taken = cloud.lab.take(QUEUE).await;
        found.replace(taken).is_some() || found.borrow().is_some()
    })
    .await;
    let (_, body) = found.into_inner().unwrap();
    read(&body)
}

fn read(body: &[u8]) -> Taken {
    let envelope: Value = serde_json::from_slice(body).unwrap();
    let message: Value = serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap();
    let document: SignedDocument = serde_json::from_value(message["args"]["ticket"].clone()).unwrap();
    Taken { ticket: serde_json::from_str(&document.body).unwrap(), document }
}

impl Taken {
    fn nodes(&self) -> Vec<&str> {
        self.ticket.nodes.iter().map(NodeName::as_str).collect()
    }

    async fn answer(&self, cloud: &Cloud, said: &[(&str, Status)]) {
        let results: Vec<NodeResult> = said
            .iter()
            .map(|(node, status)| NodeResult {
                node: node.parse().unwrap(),
                status: *status,
                reason: "as the story wants".to_owned(),
                requested_at: self.ticket.issued_at,
                finished_at: self.ticket.issued_at,
                verified_at: None,
                boot: None,
                self_reported: false,
            })
            .collect();
        let args = object(json!({ "ticket": self.document, "results": results }));
        cloud.as_holder_of("adapter-plain").work(Topic::Results, None, "record_results", args, None).await.unwrap();
    }
}

/// An instance says that it lives; `holding` are the tickets it names.
async fn announce(cloud: &Cloud, adapter: &str, incarnation: &str, holding: &[&Taken]) {
    let holding: Vec<Value> = holding.iter().map(|taken| json!(taken.ticket.name())).collect();
    let args = json!({
        "adapter": adapter, "instance": "host-1", "schema": { "type": "object" }, "incarnation": incarnation,
        "holding": holding,
    });
    let holder = cloud.as_holder_of(&format!("adapter-{adapter}"));
    holder.cast(Topic::Checks, "adapter_announce", object(args)).await.unwrap();
}

/// Somebody takes a batch, says so, and begins anew without it.
async fn lose(cloud: &Cloud, taken: &Taken) {
    let (attempt, adapter) = (taken.ticket.attempt, taken.ticket.adapter.as_str());
    announce(cloud, adapter, &format!("had attempt {attempt}"), &[taken]).await;
    eventually("Checks knows who holds it", async || {
        let adapters = cloud.admin(Topic::Checks, "adapter_list", json!({})).await;
        let mut adapters = adapters.as_array().unwrap().iter();
        adapters.any(|known| known["name"] == adapter && known["instances"]["host-1"] == 1)
    })
    .await;
    announce(cloud, adapter, &format!("lost attempt {attempt}"), &[]).await;
}

async fn latest_run(cloud: &Cloud, check: &str) -> Value {
    cloud.admin(Topic::Checks, "run_list", json!({ "check": check, "limit": 1 })).await[0].clone()
}

async fn finished(cloud: &Cloud, check: &str) -> Value {
    eventually("the run is finished", async || latest_run(cloud, check).await["finished"] == true).await;
    latest_run(cloud, check).await
}

async fn results_of(cloud: &Cloud, node: &str, check: &str) -> Vec<Value> {
    let found = cloud.admin(Topic::Nodes, "result_list", json!({ "node": node, "check": check })).await;
    found.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_only_answers_is_asked_again_when_it_is_silent_and_hides_no_failure_by_that() {
    let cloud = Cloud::in_one_process("").await;
    prepare(&cloud).await;
    cloud.register_nodes(2).await;
    register(&cloud, 40).await;
    let first = take(&cloud).await;
    assert_eq!((first.ticket.attempt, first.nodes()), (1, vec!["node-1", "node-2"]));
    first.answer(&cloud, &[("node-1", Status::Pass)]).await;
    // Another adapter's key cannot keep the batch from being asked again by saying it holds it.
    announce(&cloud, "command", "thief", &[&first]).await;

    let second = take(&cloud).await;
    assert_eq!((second.ticket.attempt, second.nodes()), (2, vec!["node-2"]), "only what is still awaited");
    assert_eq!((second.ticket.order, second.ticket.deadline), (first.ticket.order, first.ticket.deadline));
    assert!(second.ticket.issued_at > first.ticket.issued_at);
    second.answer(&cloud, &[("node-2", Status::Pass)]).await;
    let run = finished(&cloud, "plain").await;
    assert_eq!((&run["attempts"], &run["recasts"]), (&json!(2), &json!({ "silence": 1 })));
    assert_eq!(run["outcomes"], json!({ "pass": 2 }));
    cloud.await_in_file("node-2", 't').await;

    // The first attempt was not lost but slow, and says otherwise: the worse counts, whoever was asked again.
    first.answer(&cloud, &[("node-2", Status::Fail)]).await;
    cloud.await_in_file("node-2", 'u').await;
    assert_eq!(finished(&cloud, "plain").await["outcomes"], json!({ "pass": 2 }), "counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_whose_queue_cannot_be_looked_at_keeps_no_other_from_being_asked_again() {
    let cloud = Cloud::in_one_process("").await;
    bootstrap::create_key(&cloud.state(), &deployment(), "adapter-locked", [Role::Adapter("locked".parse().unwrap())])
        .unwrap();
    prepare(&cloud).await;
    cloud.register_nodes(1).await;
    // Its queue belongs to one connection, and the broker tells nobody else of it.
    let owner = cloud.lab.channel().await;
    let exclusive = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    let locked = "spice-adapter-locked";
    owner.queue_declare(locked.into(), exclusive, Default::default()).await.unwrap();
    owner
        .queue_bind(locked.into(), "spice_work".into(), locked.into(), Default::default(), Default::default())
        .await
        .unwrap();
    let check = json!({
        "name": "locked", "adapter": "locked", "schedule": { "every": "1h" }, "timeout_s": 600, "ttl_s": 7200,
        "allow_missing_adapter": true,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    let taken = std::cell::RefCell::new(None);
    eventually("its batch is cast", async || {
        let got = owner.basic_get(locked.into(), lapin::options::BasicGetOptions { no_ack: true }).await.unwrap();
        taken.replace(got.map(|got| read(&got.delivery.data)));
        taken.borrow().is_some()
    })
    .await;
    // Its batch is lost, and comes before the other's.
    lose(&cloud, &taken.into_inner().unwrap()).await;

    register(&cloud, 16).await;
    let first = take(&cloud).await;
    let second = take(&cloud).await;
    assert_eq!((first.ticket.attempt, second.ticket.attempt), (1, 2));
}

/// The state a crash leaves in which the cast of a batch was not noted yet; Checks must be down.
async fn unnote_the_cast(cloud: &Cloud) {
    let file = cloud.state().join("spice-checks.sqlite");
    let database = Database::open(&format!("sqlite://{}", file.display()), "checks").await.unwrap();
    let body: String = sqlx::query_scalar("SELECT body FROM checks_batch").fetch_one(database.reader()).await.unwrap();
    let mut batch: Value = serde_json::from_str(&body).unwrap();
    batch["sent"] = json!(false);
    batch["sent_at"] = Value::Null;
    let mut changes = database.begin().await.unwrap();
    let body = batch.to_string();
    changes.execute("UPDATE checks_batch SET body = ?", &[(&body).into()]).await.unwrap();
    changes.commit().await.unwrap();
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_killed_around_a_cast_casts_the_same_attempt_again_and_counts_each_node_once() {
    let mut cloud = Cloud::one_process_each("").await;
    prepare(&cloud).await;
    cloud.register_nodes(2).await;
    register(&cloud, 600).await;
    let first = take(&cloud).await;

    // Stored, and killed before it was cast (or before the cast was noted: nobody can tell the two apart).
    cloud.kill("checks").await;
    unnote_the_cast(&cloud).await;
    cloud.start("checks", &["--role", "checks"]).await;
    let again = take(&cloud).await;
    assert_eq!(again.document, first.document, "the very same ticket");
    for taken in [&first, &again] {
        taken.answer(&cloud, &[("node-1", Status::Pass)]).await;
    }
    eventually("node-1 is counted", async || latest_run(&cloud, "plain").await["done"] == 1).await;

    // The holder begins anew: its batch is cast again, and Checks is killed around that too.
    lose(&cloud, &first).await;
    let second = take(&cloud).await;
    assert_eq!((second.ticket.attempt, second.nodes()), (2, vec!["node-2"]));
    cloud.kill("checks").await;
    unnote_the_cast(&cloud).await;
    cloud.start("checks", &["--role", "checks"]).await;
    let again = take(&cloud).await;
    assert_eq!(again.document, second.document, "not a third attempt");
    for taken in [&again, &second, &first] {
        taken.answer(&cloud, &[("node-2", Status::Pass)]).await;
    }
    let run = finished(&cloud, "plain").await;
    assert_eq!((&run["outcomes"], &run["attempts"]), (&json!({ "pass": 2 }), &json!(2)));
    assert_eq!(run["recasts"], json!({ "adapter_restarted": 1 }));
    assert_eq!(cloud.lab.depth(QUEUE).await, 0);
    for node in ["node-1", "node-2"] {
        cloud.await_in_file(node, 't').await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_lost_again_and_again_is_cast_three_times() {
    let cloud = Cloud::in_one_process("").await;
    prepare(&cloud).await;
    cloud.register_nodes(1).await;
    register(&cloud, 30).await;
    for attempt in 1..=3 {
        let taken = take(&cloud).await;
        assert_eq!(taken.ticket.attempt, attempt);
        lose(&cloud, &taken).await;
    }
    eventually("the run is finished", async || {
        // It lives, so what is missing at the deadline is a time-out.
        announce(&cloud, "plain", "lost attempt 3", &[]).await;
        latest_run(&cloud, "plain").await["finished"] == true
    })
    .await;
    let run = latest_run(&cloud, "plain").await;
    assert_eq!((&run["outcomes"], &run["attempts"]), (&json!({ "timeout": 1 }), &json!(3)));
    assert_eq!(cloud.lab.depth(QUEUE).await, 0, "and not a fourth time");
    let results = results_of(&cloud, "node-1", "plain").await;
    assert!(results[0]["reason"].as_str().unwrap().contains("asked for 3 times"), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_deadline_a_failure_counts_and_a_pass_does_not() {
    let cloud = Cloud::in_one_process("").await;
    prepare(&cloud).await;
    cloud.register_nodes(2).await;
    register(&cloud, 2).await;
    let first = take(&cloud).await;
    let run = finished(&cloud, "plain").await;
    assert_eq!(run["outcomes"], json!({ "error": 2 }), "no adapter ever announced itself");
    first.answer(&cloud, &[("node-1", Status::Pass), ("node-2", Status::Fail)]).await;
    cloud.await_in_file("node-2", 'u').await;
    let results = results_of(&cloud, "node-1", "plain").await;
    assert_eq!((&results[0]["status"], &results[0]["counted"]), (&json!("pass"), &json!(false)), "{results:?}");
    assert_eq!(cloud.level("node-1").await, "unknown");
    assert_eq!(finished(&cloud, "plain").await["outcomes"], json!({ "error": 2 }), "each node is counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_wait_past_the_deadline_while_nodes_is_down_count_as_what_they_are() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(4).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-4", 't').await;
    finished(&cloud, "attestation").await;
    cloud.oat.order(json!({ "level": { "node-4": "untrusted" } })).await;
    cloud.kill("nodes").await;
    let run = cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;
    eventually("results wait for Nodes", async || cloud.lab.depth("spice-nodes-results").await > 0).await;
    // Checks gives up on it; its time-outs wait behind the results.
    let started = cloud.run(&run["run"]).await["started_at"].as_str().unwrap().to_owned();
    let deadline = chrono::DateTime::parse_from_rfc3339(&started).unwrap() + chrono::Duration::seconds(10);
    eventually("the time-outs wait, too", async || {
        let status = cloud.admin(Topic::Checks, "status", json!({})).await;
        chrono::Utc::now() > deadline + chrono::Duration::seconds(1) && status["overdue"] == 0
    })
    .await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.await_in_file("node-4", 'u').await;
    eventually("the run is finished", async || cloud.run(&run["run"]).await["finished"] == true).await;
    assert_eq!(cloud.run(&run["run"]).await["done"], 4, "each node is counted once");
    assert_eq!(cloud.run(&run["run"]).await["recasts"], json!({}), "what waits for Nodes is not asked again");
    let shown = cloud.admin(Topic::Nodes, "node_show", json!({ "name": "node-4" })).await;
    assert_eq!(shown["checks"]["attestation"]["status"], "fail", "a time-out hides no failure");
    assert_eq!(cloud.level("node-1").await, "trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_results_queue_holds_the_adapter_back_and_nothing_is_lost() {
    let mut cloud = Cloud::one_process_each("[adapter]\nconcurrency = 2\n").await;
    cloud.register_nodes(8).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-8", 't').await;
    finished(&cloud, "attestation").await;
    let smaller = json!({ "name": "attestation", "changes": { "batch_size": 1, "timeout_s": 600 } });
    cloud.admin(Topic::Checks, "check_update", smaller).await;
    cloud.kill("nodes").await;
    let policy = format!("policies/{}/tiny", cloud.lab.vhost);
    let tiny = json!({ "pattern": "^spice-nodes-results$", "definition": { "max-length": 1 }, "apply-to": "queues" });
    cloud.lab.manage("PUT", &policy, Some(tiny)).await;
    cloud.oat.order(json!({ "level": { "node-8": "untrusted" } })).await;
    let run = cloud.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;

    // One or two results fit; two batches are held with theirs, the rest is not taken.
    let kept = async || {
        let log = std::fs::read_to_string(cloud.dir.path().join("adapter.log")).unwrap();
        log.lines().filter(|line| line.contains("they are kept and tried again")).count()
    };
    eventually("results are kept again and again", async || kept().await >= 6).await;
    let (stored, waiting) =
        (cloud.lab.depth("spice-nodes-results").await, cloud.lab.depth("spice-adapter-openattestation").await);
    assert!(stored >= 1 && stored + waiting + 2 == 8, "{stored} stored, {waiting} not taken");
    cloud.lab.manage("DELETE", &policy, None).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    eventually("the run is finished", async || cloud.run(&run["run"]).await["finished"] == true).await;
    assert_eq!(cloud.run(&run["run"]).await["outcomes"], json!({ "pass": 7, "fail": 1 }));
    cloud.await_in_file("node-8", 'u').await;
}
