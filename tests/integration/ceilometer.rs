//! A real Ceilometer notification agent, with its packaged definitions and those of etc/ceilometer, listens to SPICE.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cloud::Cloud;
use crate::lab::{Lab, eventually, root};

const PROJECT: &str = "4f0c1d2e3b4a59687786950a1b2c3d4e";

/// The agent; ends with this value, because its standard input does.
struct Agent {
    _child: Child,
    folder: tempfile::TempDir,
}

impl Agent {
    async fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(root().join("tools/ceilometer"))
            .arg("run")
            .arg(folder.path())
            .env("TRANSPORT_URL", lab.transport_url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(false)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(180), lines.next_line()).await.expect("the agent starts");
        assert!(line.unwrap().is_some_and(|line| line.starts_with("SPICE_CEILOMETER=")), "the agent does not listen");
        Self { _child: child, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("agent.log")).unwrap()
    }

    /// The events of a type about a node or a pool, with traits as an object, oldest first.
    fn events(&self, event_type: &str, resource: &str) -> Vec<Value> {
        let mut events: Vec<Value> = objects(&self.folder.path().join("events.jsonl"))
            .into_iter()
            .filter(|event| event["event_type"] == event_type)
            .map(|event| {
                let traits = event["traits"].as_array().unwrap().iter();
                let named = traits.map(|it| (it["name"].as_str().unwrap().to_owned(), it["value"].clone()));
                Value::Object(named.collect())
            })
            .filter(|traits| traits["resource_id"] == resource)
            .collect();
        // Notifications are read by many threads.
        events.sort_by_key(|traits| (traits["sequence"].as_i64(), traits["finished_at"].to_string()));
        events
    }

    /// The samples of a meter for a resource, oldest first.
    fn samples(&self, meter: &str, resource: &str) -> Vec<Value> {
        let mut samples = objects(&self.folder.path().join("samples.jsonl"));
        samples.retain(|sample| sample["name"] == meter && sample["resource_id"] == resource);
        samples.sort_by_key(|sample| sample["timestamp"].to_string());
        samples
    }
}

/// Whole lines only: the last one may be half written.
fn objects(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_changes_of_trust_are_events_with_traits_and_samples_also_those_from_before_anybody_listened() {
    let cloud = Cloud::in_one_process(&format!("[notifications]\nresults = all\nproject_id = {PROJECT}\n")).await;
    cloud.register_nodes(2).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    // Nobody listens and the exchange does not exist: what happened so far is kept.
    let agent = Agent::start(&cloud.lab).await;
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.attest().await;
    cloud.await_in_file("node-1", 'u').await;

    let changes = || agent.events("spice.node.trust.changed", "node-1");
    eventually("both changes of trust are events", async || changes().len() == 2).await;
    let changes = changes();
    assert_eq!(column(&changes, "trust"), ["trusted", "untrusted"]);
    assert_eq!(column(&changes, "previous_trust"), ["unknown", "trusted"]);
    assert_eq!(column(&changes, "severity"), ["info", "critical"]);
    assert_eq!(column(&changes, "pool"), ["default", "default"]);
    // What an Aodh event alarm looks for.
    assert_eq!(column(&changes, "project_id"), [PROJECT, PROJECT]);
    assert_eq!(changes[0]["service"], "spice.nodes");

    let results = || agent.events("spice.check.result", "node-1");
    eventually("both results are events", async || results().len() == 2).await;
    let results = results();
    assert_eq!(column(&results, "status"), ["pass", "fail"]);
    assert_eq!(column(&results, "check"), ["attestation", "attestation"]);
    assert!(results.iter().all(|it| it["latency_ms"].is_number() && it["evidence_at"].is_string()), "{results:?}");

    let trusted = || agent.samples("spice.node.trusted", "node-1:default");
    eventually("both changes are samples", async || trusted().len() == 2).await;
    assert_eq!(column(&trusted(), "volume"), [1, 0]);
    assert_eq!(column(&trusted(), "project_id"), [PROJECT, PROJECT]);
    assert_eq!(trusted()[1]["resource_metadata"]["trust"], "untrusted");
    for (meter, volumes) in [("spice.check.passed", [1, 0]), ("spice.check.failures", [0, 1])] {
        let samples = || agent.samples(meter, "node-1:attestation");
        eventually(&format!("both results are samples of {meter}"), async || samples().len() == 2).await;
        assert_eq!(column(&samples(), "volume"), volumes, "{meter}");
    }
    assert_eq!(agent.samples("spice.check.latency", "node-2:attestation").len(), 2);

    // One that it cannot take would come back for ever, with everybody else's.
    eventually("nothing is left over", async || cloud.lab.queue("notifications.info").await["messages"] == 0).await;
    assert!(!agent.log().contains("Callback raised"), "{}", agent.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_loses_many_nodes_at_once_is_one_event_ahead_of_those_of_its_nodes() {
    let slowly = "[notifications]\nresults = none\nmax_per_second = 1\n";
    let cloud = Cloud::in_one_process(slowly).await;
    let agent = Agent::start(&cloud.lab).await;
    cloud.register_nodes(20).await;
    cloud.register_attestation("1h", 7200).await;
    for number in 1..=20 {
        cloud.await_in_file(&format!("node-{number}"), 't').await;
    }
    let bad: serde_json::Map<_, _> = (1..=20).map(|number| (format!("node-{number}"), json!("untrusted"))).collect();
    cloud.oat.order(json!({ "level": bad })).await;
    cloud.attest().await;
    let degraded = || agent.events("spice.pool.degraded", "default");
    eventually("it is an event", async || !degraded().is_empty()).await;
    // A second for each of the changes: that the nodes were trusted is being told still.
    let untrusted = |number| agent.events("spice.node.trust.changed", &format!("node-{number}")).len() > 1;
    assert!(!(1..=20).any(untrusted), "the event of the pool waited behind those of nodes");
    let event = degraded().remove(0);
    let (lost, trusted) = (event["lost"].as_i64().unwrap(), event["trusted"].as_i64().unwrap());
    assert!(lost >= 10 && lost + trusted == 20, "{event}");
    assert_eq!((&event["severity"], &event["pool"]), (&json!("critical"), &json!("default")));
    assert!(agent.samples("spice.check.passed", "node-1:attestation").is_empty(), "results were not wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_a_node_or_a_person_made_up_does_not_trouble_the_agent() {
    let cloud = Cloud::in_one_process("[notifications]\nresults = all\n").await;
    let agent = Agent::start(&cloud.lab).await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    let odd = "\u{202e}$.payload {\"a\": 1}\n%s ${x} \u{0}\u{1f4a5}".to_owned() + &"x".repeat(400);
    cloud.admin(spice::rpc::table::Topic::Nodes, "node_quarantine", json!({ "name": "node-1", "reason": odd })).await;
    cloud.await_in_file("node-1", 'u').await;
    let changes = || agent.events("spice.node.trust.changed", "node-1");
    eventually("it arrives", async || changes().iter().any(|change| change["trust"] == "untrusted")).await;
    // Without a project there is no trait for it, rather than one that is wrong.
    assert!(changes().iter().all(|change| change.get("project_id").is_none()));
    let reason = changes().last().unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.chars().count() <= 255 && !reason.contains(['\n', '\u{0}', '\u{202e}']), "{reason:?}");
    eventually("nothing is left over", async || cloud.lab.queue("notifications.info").await["messages"] == 0).await;
    assert!(!agent.log().contains("Callback raised"), "{}", agent.log());
}
