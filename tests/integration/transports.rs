//! Transports of their own: what goes to the agents of compute nodes does not pass SPICE's own virtual host.

use std::time::Duration;

use serde_json::{Value, json};
use spice::app::Transports;
use spice::bus::{Broker, Bus, Request, Target, Transport};
use spice::config::{Settings, Sources};
use spice::rpc::table::Topic;

use crate::cloud::{Cloud, object};
use crate::lab::{Lab, PATIENCE, eventually};

/// The settings of a process whose agents are on `agents`.
fn settings(own: &Lab, agents: &str) -> Settings {
    let text = format!(
        "[DEFAULT]\ntransport_url = {}\n[spice]\ndeployment = test-cloud\n[agents]\ntransport_url = {agents}\n",
        own.transport_url()
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let sources = Sources { files: vec![file.path().to_owned()], ..Sources::default() };
    Settings::load(&sources).unwrap().0
}

async fn names(lab: &Lab, what: &str) -> Vec<String> {
    let found = lab.manage("GET", &format!("{what}/{}", lab.vhost), None).await;
    let name = |one: &Value| one["name"].as_str().map(str::to_owned);
    found.as_array().into_iter().flatten().filter_map(name).collect()
}

/// Asks the agent of node-1.
async fn evidence(bus: &Bus, node: &str) -> Value {
    let target = Target::topic("spice", "spice-agent").server(node).version("1.0");
    let args = object(json!({ "payload": { "nonce": "7" } }));
    bus.call(&target, Request::new("echo", args), PATIENCE).await.unwrap().result.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_asked_in_its_own_virtual_host_and_nothing_of_it_is_seen_in_ours() {
    let (own, apart) = (Lab::new().await, Lab::new().await);
    let mut agent = apart.peer(&[]).await;
    agent.succeed(json!({"do": "serve", "exchange": "spice", "topic": "spice-agent", "server": "node-1"})).await;
    let settings = settings(&own, &apart.transport_url());
    let mut transports = Transports::new("adapters");
    let control = transports.bus(&settings, Transport::Control).unwrap();
    let agents = transports.bus(&settings, Transport::Agents).unwrap();
    control.reached(PATIENCE).await.unwrap();

    assert_eq!(evidence(&agents, "node-1").await, json!({ "payload": { "nonce": "7" } }));
    assert!(names(&apart, "queues").await.iter().any(|queue| queue.starts_with("reply_")), "answers come there, too");
    assert_eq!(names(&own, "queues").await, Vec::<String>::new());
    assert!(!names(&own, "exchanges").await.contains(&"spice".to_owned()));
    transports.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transports_with_one_url_share_their_connections() {
    let own = Lab::new().await;
    let settings = settings(&own, &own.transport_url());
    let mut transports = Transports::new("all");
    for transport in Transport::ALL {
        transports.bus(&settings, transport).unwrap().reached(PATIENCE).await.unwrap();
    }
    let connections = async || {
        let found = own.manage("GET", &format!("vhosts/{}/connections", own.vhost), None).await;
        found.as_array().map_or(0, Vec::len)
    };
    eventually("one bus is connected", async || connections().await == 2).await;
    transports.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_to_the_agents_that_leads_nowhere_is_told_in_the_status_and_everything_else_works_on() {
    let lab = Lab::new().await;
    let missing = &format!("{}-agents", lab.vhost);
    let nowhere = format!("rabbit://guest:guest@127.0.0.1:{}/{missing}", lab.ports.amqp);
    let url = lab.transport_url();
    let port = free_port();
    let more = format!("[agents]\ntransport_url = {nowhere}\n[metrics]\nlisten = 127.0.0.1:{port}\n");
    let mut cloud = Cloud::prepare_on(lab, &url, &more);
    cloud.start("all", &[]).await;
    cloud.await_adapter("openattestation").await;

    let faults = async || cloud.admin(Topic::Checks, "status", json!({})).await["adapter_faults"].to_string();
    eventually("the fault is told", async || faults().await.contains("the bus of the agents cannot be reached")).await;
    let told = faults().await;
    assert!(told.contains("adapter openattestation") && told.contains(missing.as_str()), "{told}");
    assert!(!told.contains("guest:guest"), "{told}");
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
    for (transport, up) in [("agents", 0), ("control", 1)] {
        let line = format!("spice_bus_connected{{transport=\"{transport}\",role=\"consume\"}} {up}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }

    // Somebody makes it: the fault goes by itself.
    cloud.lab.manage("PUT", &format!("vhosts/{missing}"), None).await;
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    cloud.lab.manage("PUT", &format!("permissions/{missing}/guest"), Some(all)).await;
    eventually("the fault is gone", async || faults().await == "[]").await;
    cloud.lab.manage("DELETE", &format!("vhosts/{missing}"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_url_is_named_by_its_section() {
    let own = Lab::new().await;
    let settings = settings(&own, &format!("{}-not-there", own.transport_url()));
    let mut transports = Transports::new("adapters");
    let agents = transports.bus(&settings, Transport::Agents).unwrap();
    let error = agents.reached(Duration::from_secs(5)).await.unwrap_err().to_string();
    assert!(error.contains("not-there") && !error.contains("guest:guest"), "{error}");
    assert!(matches!(&*agents.broker().borrow(), Broker::Away(_)));
    transports.close().await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
