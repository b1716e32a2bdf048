//! The bus and the real oslo.messaging.

use std::time::Duration;

use serde_json::{Map, Value, json};
use spice::bus::{BusError, Declare, Notification, Request, Service, Target};
use spice::clock::Timestamp;

use crate::bus::{answering, args, recorded, request};
use crate::lab::{Lab, PATIENCE, Soon};

fn call(method: &str, arguments: Value) -> Value {
    json!({"do": "call", "exchange": "spice", "topic": "checks", "method": method, "args": arguments})
}

fn with(mut command: Value, more: Value) -> Value {
    command.as_object_mut().unwrap().extend(args(more));
    command
}

#[tokio::test]
async fn an_unmodified_oslo_client_drives_a_rust_server() {
    let lab = Lab::new().await;
    let bus = lab.bus("server");
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let mut peer = lab.peer(&[]).await;

    let everything =
        json!({"text": "grün \u{1f512}", "list": [1, 2.5, null, true], "big": i64::MAX, "nested": {"a": {"b": {}}}});
    assert_eq!(peer.succeed(call("echo", everything.clone())).await, everything);
    assert_eq!(requests.soon().await.request.args, args(everything));
    let context =
        peer.succeed(with(call("context", json!({})), json!({"context": {"user": "admin", "roles": ["a"]}}))).await;
    assert_eq!(context, json!({"user": "admin", "roles": ["a"]}));
    assert_eq!(peer.succeed(with(call("who", json!({})), json!({"server": "one", "version": "1.3"}))).await, "one");
    assert_eq!(peer.succeed(call("tell", json!({}))).await, Value::Null);

    // What a Python caller sees of failures.
    let known = peer.command(call("fail", json!({"message": "no such node"}))).await;
    assert_eq!(known["error"], "ValueError", "{known}");
    let ours = peer.command(call("refuse", json!({"message": "no such role"}))).await;
    assert_eq!(
        (&ours["error"], &ours["exc_type"], &ours["value"]),
        (&json!("RemoteError"), &json!("Forbidden"), &json!("no such role"))
    );
    let unknown = peer.command(call("nope", json!({}))).await;
    assert_eq!(
        (&unknown["exc_type"], &unknown["value"]),
        (&json!("NoSuchMethod"), &json!("Endpoint does not support RPC method nope"))
    );
    for wrong in [json!({"version": "9.9"}), json!({"namespace": "other", "version": "9.9"})] {
        let failure = peer.command(with(call("echo", json!({})), wrong)).await;
        assert_eq!(failure["exc_type"], "UnsupportedVersion");
        assert_eq!(failure["value"], "Endpoint does not support RPC version 9.9. Attempted method: echo");
    }
    for (number, seen) in [("<nan>", "NaN"), ("<infinity>", "Infinity"), ("<2**70>", "1180591620717411303424")] {
        assert_eq!(peer.succeed(call("echo", json!({"x": number}))).await, json!({"x": seen}));
    }
    // A method that takes longer than the monitor timeout: signs of life keep the caller waiting.
    let slow = with(call("slow", json!({"seconds": 4})), json!({"monitor": 2, "timeout": 20}));
    assert_eq!(peer.succeed(slow).await, "slept");
    lab.remove().await;
}

#[tokio::test]
async fn casts_and_fanout_from_oslo_arrive() {
    let lab = Lab::new().await;
    let bus = lab.bus("server");
    let (first, mut at_first) = recorded();
    let (second, mut at_second) = recorded();
    let _one = bus.serve(Service::rpc("spice", "checks", "one"), first).await.unwrap();
    let _two = bus.serve(Service::rpc("spice", "checks", "two"), second).await.unwrap();
    let mut peer = lab.peer(&[]).await;
    let cast = json!({"do": "cast", "exchange": "spice", "topic": "checks", "method": "tell", "args": {"n": 1}});
    peer.succeed(with(cast.clone(), json!({"server": "two"}))).await;
    let incoming = at_second.soon().await;
    assert!(incoming.via_server && incoming.msg_id.is_none());
    peer.succeed(with(cast, json!({"fanout": true}))).await;
    for requests in [&mut at_first, &mut at_second] {
        let incoming = requests.soon().await;
        assert!(incoming.fanout && !incoming.via_server);
        assert_eq!(incoming.request.args, args(json!({"n": 1})));
    }
    lab.remove().await;
}

#[tokio::test]
async fn a_rust_client_drives_an_unmodified_oslo_server() {
    let lab = Lab::new().await;
    let mut peer = lab.peer(&[]).await;
    peer.succeed(json!({"do": "serve", "exchange": "spice", "topic": "checks", "server": "py"})).await;
    let bus = lab.bus("client");
    let target = Target::topic("spice", "checks").version("1.0");
    let ask = async |target: &Target, request: Request| bus.call(target, request, PATIENCE).await.unwrap().result;

    let everything = json!({"text": "grün \u{1f512}", "list": [1, 2.5, null, true], "big": i64::MAX});
    assert_eq!(ask(&target, request("echo", everything.clone())).await, Ok(everything));
    let seen = ask(&target, request("context", json!({})).context(args(json!({"user": "admin"})))).await.unwrap();
    assert_eq!(seen["user"], "admin");
    let special = Target::topic("spice", "checks").server("py").namespace("special").version("2.3");
    assert_eq!(ask(&special, request("where", json!({}))).await, Ok(json!("special")));

    let failure = ask(&target, request("fail", json!({"message": "no"}))).await.unwrap_err();
    assert_eq!(
        (failure.class.as_str(), failure.module.as_str(), failure.message.as_str()),
        ("ValueError", "builtins", "no")
    );
    assert!(failure.tb.iter().any(|line| line.contains("Traceback")));
    assert_eq!(ask(&target, request("lookup", json!({"key": "k"}))).await.unwrap_err().class, "KeyError");
    assert!(ask(&target, request("nope", json!({}))).await.unwrap_err().is_no_such_method());
    assert!(
        ask(&target.clone().version("1.4"), request("echo", json!({}))).await.unwrap_err().is_unsupported_version()
    );

    let timeout =
        bus.call(&target, request("slow", json!({"seconds": 1})), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(timeout, BusError::Timeout { .. }), "{timeout}");
    assert_eq!(ask(&target, request("nan", json!({}))).await, Ok(json!("NaN")));
    assert_eq!(ask(&target, request("huge", json!({}))).await, Ok(json!("1180591620717411303424")));
    bus.cast(&target, request("tell", json!({"n": 1}))).await.unwrap();
    assert_eq!(peer.event().await["args"], json!({"n": 1}));
    bus.cast(&target.clone().fanout(), request("tell", json!({"n": 2}))).await.unwrap();
    assert_eq!(peer.event().await["args"], json!({"n": 2}));
    lab.remove().await;
}

#[tokio::test]
async fn a_foreign_adapter_serves_work_and_hands_over_results() {
    let lab = Lab::new().await;
    let bus = lab.bus("rust");
    let (dispatcher, mut requests) = recorded();
    let _nodes = bus.serve(Service::work("spice_work", "spice-nodes-results", 4), dispatcher).await.unwrap();
    let (ours, mut at_ours) = recorded();
    let mut peer = lab.peer(&["amqp_durable_queues=true"]).await;
    peer.succeed(json!({"do": "serve", "exchange": "spice_work", "topic": "spice-adapter-py", "server": "one"})).await;
    let adapter = Target::topic("spice_work", "spice-adapter-py");
    bus.work(&adapter, request("tell", json!({"nodes": ["n1"]})), Some(PATIENCE)).await.unwrap();
    assert_eq!(peer.event().await["args"], json!({"nodes": ["n1"]}));
    // The same queue, served by an adapter of our own beside the foreign one.
    let _adapter = bus.serve(Service::work("spice_work", "spice-adapter-py", 1), ours).await.unwrap();
    for n in 0..2 {
        bus.work(&adapter, request("tell", json!({"n": n})), Some(PATIENCE)).await.unwrap();
    }
    at_ours.soon().await;
    let results = json!({"do": "cast", "exchange": "spice_work", "topic": "spice-nodes-results", "method": "record_results", "args": {"n": 1}});
    peer.succeed(results).await;
    assert_eq!(requests.soon().await.request.method, "record_results");
    lab.remove().await;
}

fn notification(n: u32) -> Notification {
    Notification {
        message_id: format!("11111111-2222-4333-8444-{n:012}"),
        publisher_id: "spice.nodes".to_owned(),
        event_type: "spice.node.trust.changed".to_owned(),
        payload: Map::from_iter([("node".to_owned(), json!("n1")), ("n".to_owned(), json!(n))]),
        timestamp: Timestamp(1_795_316_612_395),
        context: Map::new(),
    }
}

#[tokio::test]
async fn notifications_reach_a_real_listener_once_there_is_one() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.notifications.topics = vec!["notifications".to_owned(), "spice_notifications".to_owned()];
    let bus = spice::bus::Bus::start(options, "notifier").unwrap();
    let early = bus.notify(&notification(0)).await.unwrap_err();
    assert!(matches!(early, BusError::Refused { code: 404, .. }) && early.is_temporary(), "{early}");

    let mut peer = lab.peer(&[]).await;
    peer.succeed(json!({"do": "listen", "exchange": "ceilometer", "topics": ["notifications", "spice_notifications"]}))
        .await;
    // Python consumes a moment after it says so; its queues are there before.
    crate::lab::eventually("the queues are there", async || bus.notify(&notification(1)).await.is_ok()).await;
    bus.notify(&notification(2)).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < 4 {
        let event = peer.event().await;
        assert_eq!(event["publisher_id"], "spice.nodes");
        assert_eq!(event["event_type"], "spice.node.trust.changed");
        assert_eq!(event["payload"]["node"], "n1");
        assert_eq!(event["metadata"]["timestamp"], "2026-11-22 03:03:32.395000");
        let id = event["metadata"]["message_id"].as_str().unwrap().to_owned();
        // A first attempt may have reached one topic before the other's queue was there.
        if ids.iter().filter(|known| **known == id).count() < 2 {
            ids.push(id);
        }
    }
    ids.sort();
    assert_eq!(
        ids,
        [
            notification(1).message_id,
            notification(1).message_id,
            notification(2).message_id,
            notification(2).message_id
        ]
    );
    lab.remove().await;
}

#[tokio::test]
async fn an_active_notifier_makes_the_queue_that_a_later_listener_finds() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.notifications.exchange = "spice".to_owned();
    options.notifications.declare = Declare::Active;
    options.rabbit.amqp_durable_queues = true;
    let bus = spice::bus::Bus::start(options, "notifier").unwrap();
    bus.notify(&notification(7)).await.unwrap();
    assert_eq!(lab.depth("notifications.info").await, 1);
    let mut peer = lab.peer(&["amqp_durable_queues=true"]).await;
    peer.succeed(json!({"do": "listen", "exchange": "spice", "topics": ["notifications"]})).await;
    assert_eq!(peer.event().await["payload"]["n"], 7);
    lab.remove().await;
}

#[tokio::test]
async fn oslos_ping_works_when_it_is_enabled_and_not_otherwise() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rpc_ping_enabled = true;
    let bus = spice::bus::Bus::start(options, "server").unwrap();
    let _pinged = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let mut peer = lab.peer(&[]).await;
    assert_eq!(peer.succeed(with(call("oslo_rpc_server_ping", json!({})), json!({"server": "one"}))).await, "pong");
    let silent = lab.bus("silent");
    let _silent = silent.serve(Service::rpc("spice", "checks", "two"), answering()).await.unwrap();
    let failure = peer.command(with(call("oslo_rpc_server_ping", json!({})), json!({"server": "two"}))).await;
    assert_eq!(failure["exc_type"], "NoSuchMethod");
    lab.remove().await;
}
