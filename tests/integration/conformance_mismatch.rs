//! Peers of different options on one broker: who can go on, and what the one that cannot is told.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use spice::bus::{Bus, BusError, Service, Target};

use crate::bus::{answering, args, request};
use crate::lab::{Lab, Oslo, PATIENCE, Peer};

/// What was captured with Python on both sides: `ok` or `fails`.
#[derive(Debug, Deserialize)]
struct Mismatch {
    name: String,
    exists: Map<String, Value>,
    second: Map<String, Value>,
    server: String,
    client_call: String,
    client_fanout: String,
}

fn captured() -> Vec<Mismatch> {
    let captured: Vec<Mismatch> =
        serde_json::from_str(include_str!("../../src/bus/fixtures/oslo_mismatches.json")).unwrap();
    assert_eq!(captured.len(), 12);
    captured
}

fn bus(lab: &Lab, options: &Map<String, Value>) -> Bus {
    let mut ours = lab.options();
    for (name, value) in options {
        ours.rabbit.set(name, &value.to_string()).unwrap();
    }
    Bus::start(ours, "second").unwrap()
}

fn serve(lab: &Lab, options: &Map<String, Value>, server: &str) -> Value {
    json!({"do": "serve", "exchange": "spice", "topic": "checks", "server": server, "url": lab.transport_url(), "options": options})
}

/// Whether it went as it went for Python; a refusal must say what differs and what to do.
fn judge<T>(outcome: Result<T, BusError>, python: &str, what: &str) {
    match (outcome, python) {
        (Ok(_), "ok") => {}
        (Err(error @ BusError::Refused { code: 406, .. }), "fails") => {
            let text = error.to_string();
            assert!(text.contains("it exists with ") && text.contains("; set "), "{what}: {text}");
            assert!(text.contains("exchange \"") || text.contains("queue \""), "{what}: {text}");
        }
        (Ok(_), _) => panic!("{what}: succeeded, Python {python}"),
        (Err(error), _) => panic!("{what}: {error}, Python {python}"),
    }
}

#[tokio::test]
async fn second_to_python_we_go_on_where_python_would_and_say_why_not_elsewhere() {
    let mut peer = Peer::start_as(Oslo::Newest, "rabbit://", &[]).await;
    for Mismatch { name, exists, second, server, client_call, client_fanout } in captured() {
        let lab = Lab::new().await;
        peer.succeed(serve(&lab, &exists, "py")).await;
        let bus = bus(&lab, &second);
        // Python's fallback forgets a flag of the fanout exchange and fails; ours does not.
        let server = if name == "fanout_default_exists__transient_quorum_peer" { "ok" } else { server.as_str() };
        let serving = bus.serve(Service::rpc("spice", "checks", "rs"), answering()).await;
        judge(serving, server, &format!("{name}: serve"));
        let target = Target::topic("spice", "checks");
        let call = bus.call(&target.clone().server("py"), request("add", json!({"a": 1, "b": 2})), PATIENCE).await;
        judge(call, &client_call, &format!("{name}: call"));
        let cast = bus.cast(&target.fanout(), request("tell", json!({}))).await;
        judge(cast, &client_fanout, &format!("{name}: fanout"));
        bus.close().await;
        peer.succeed(json!({"do": "stop"})).await;
        lab.remove().await;
    }
}

#[tokio::test]
async fn second_to_us_python_fares_as_second_to_python() {
    let mut peer = Peer::start_as(Oslo::Newest, "rabbit://", &[]).await;
    for Mismatch { name, exists, second, server, .. } in captured() {
        let lab = Lab::new().await;
        let bus = bus(&lab, &exists);
        let _serving = bus.serve(Service::rpc("spice", "checks", "rs"), answering()).await.unwrap();
        let line = peer.command(serve(&lab, &second, "py")).await;
        match server.as_str() {
            "ok" => assert_eq!(line.get("error"), None, "{name}: {line}"),
            _ => assert!(line["message"].as_str().is_some_and(|text| text.contains("406")), "{name}: {line}"),
        }
        peer.succeed(json!({"do": "stop"})).await;
        lab.remove().await;
    }
}

#[tokio::test]
async fn work_that_somebody_declared_transient_is_refused_in_words_that_help() {
    let lab = Lab::new().await;
    let mut peer = Peer::start_as(Oslo::Newest, &lab.transport_url(), &[]).await;
    peer.succeed(json!({"do": "serve", "exchange": "spice_work", "topic": "spice-adapter-py", "server": "one"})).await;
    let bus = bus(&lab, &args(json!({})));
    let refused = bus.serve(Service::work("spice_work", "spice-adapter-py", 1), answering()).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("exchange \"spice_work\": it exists with durable = false, wanted is true"), "{text}");
    assert!(text.contains("set amqp_durable_queues = true for whoever else declares it"), "{text}");
    lab.remove().await;
}
