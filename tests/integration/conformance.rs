//! One table of calls, made in every pairing of Python and Rust, with the newest oslo.messaging and that of Debian 12.

use std::time::Duration;

use serde_json::{Value, json};
use spice::bus::{Bus, BusError, Declare, Notification, Service, Target};
use spice::clock::Timestamp;

use crate::bus::{answering, args, recorded, request};
use crate::lab::{Lab, Oslo, PATIENCE, Peer, Soon, eventually};

/// How a call ends.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Returns(Value),
    /// Class of the exception, and a part of its text.
    Fails(&'static str, &'static str),
    TimesOut,
}

use Outcome::{Fails, Returns, TimesOut};

/// A call: method, arguments, how it is asked for, and how it must end.
type Story = (&'static str, Value, Value, Outcome);

fn stories() -> Vec<Story> {
    let everything = json!({"text": "grün \u{1f512} \u{0}\"\\", "list": [1, -2.5, null, true, []], "big": u64::MAX, "nested": {"a": {"b": {}}}});
    let context = json!({"user": "admin", "roles": ["a"], "request_id": "req-1"});
    let long = json!({"text": "é".repeat(300_000)});
    vec![
        ("echo", everything.clone(), json!({}), Returns(everything)),
        ("echo", long.clone(), json!({}), Returns(long)),
        ("echo", json!({}), json!({"version": "1.3"}), Returns(json!({}))),
        ("context", json!({}), json!({"context": context}), Returns(context)),
        ("add", json!({"a": 2, "b": 40}), json!({}), Returns(json!(42))),
        ("tell", json!({"n": 0}), json!({}), Returns(Value::Null)),
        ("where", json!({}), json!({"namespace": "special", "version": "2.3"}), Returns(json!("special"))),
        ("fail", json!({"message": "no such node"}), json!({}), Fails("ValueError", "no such node")),
        ("lookup", json!({"key": "k"}), json!({}), Fails("KeyError", "k")),
        ("nope", json!({}), json!({}), Fails("NoSuchMethod", "Endpoint does not support RPC method nope")),
        ("_private", json!({}), json!({}), Fails("NoSuchMethod", "Endpoint does not support RPC method _private")),
        (
            "echo",
            json!({}),
            json!({"version": "1.4"}),
            Fails("UnsupportedVersion", "Endpoint does not support RPC version 1.4. Attempted method: echo"),
        ),
        (
            "echo",
            json!({}),
            json!({"namespace": "ghost"}),
            Fails("UnsupportedVersion", "Endpoint does not support RPC version 1.0. Attempted method: echo"),
        ),
        ("echo", json!({}), json!({"version": "1"}), Fails("IndexError", "")),
        ("echo", json!({}), json!({"version": "one"}), Fails("ValueError", "")),
        ("slow", json!({"seconds": 3}), json!({"timeout": 0.7}), TimesOut),
        // Longer than the monitor allows without signs of life: the server shows some.
        ("slow", json!({"seconds": 8}), json!({"monitor": 6, "timeout": 30}), Returns(json!("slept"))),
        // After such an answer a Python server goes on with signs of life, for ever.
        ("nope", json!({}), json!({"monitor": 8}), Fails("NoSuchMethod", "Endpoint does not support RPC method nope")),
        // Signs of life do not extend the timeout.
        ("slow", json!({"seconds": 5}), json!({"monitor": 2, "timeout": 2.5}), TimesOut),
    ]
}

fn call_command(topic: &str, server: &str, (method, arguments, how, _): &Story) -> Value {
    let mut command = args(
        json!({"do": "call", "exchange": "spice", "topic": topic, "server": server, "method": method, "args": arguments}),
    );
    command.extend(args(how.clone()));
    Value::Object(command)
}

/// As `expected` is written, so that they can be compared.
fn seen(outcome: Result<Value, (String, String)>, expected: &Outcome, what: &str) -> Outcome {
    match (outcome, expected) {
        (Ok(value), _) => Returns(value),
        (Err((class, _)), TimesOut) if class == "timeout" => TimesOut,
        (Err((class, text)), Fails(expected, part)) if class == *expected && text.contains(part) => {
            Fails(expected, part)
        }
        (Err(other), _) => panic!("{what}: {other:?} instead of {expected:?}"),
    }
}

async fn python_calls(peer: &mut Peer, topic: &str, server: &str) {
    for story in stories() {
        let mut line = peer.command(call_command(topic, server, &story)).await;
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let outcome = match line.get("error").and_then(Value::as_str) {
            None => Ok(line["answer"].take()),
            Some("RemoteError") => Err((text("exc_type"), text("value"))),
            Some("MessagingTimeout") => Err(("timeout".to_owned(), String::new())),
            Some(class) => Err((class.to_owned(), text("message"))),
        };
        assert_eq!(seen(outcome, &story.3, &format!("Python asks {server}: {}", story.0)), story.3, "{:?}", story.2);
    }
}

/// A Python endpoint finds one more member in its context.
fn without_client_timeout(mut value: Value) -> Value {
    if let Some(context) = value.as_object_mut() {
        context.remove("client_timeout");
    }
    value
}

async fn rust_calls(bus: &Bus, topic: &str, server: &str) {
    let calls = stories().into_iter().map(|story| async move {
        let (method, arguments, how, expected) = &story;
        let text = |name: &str| how.get(name).and_then(Value::as_str).map(str::to_owned);
        let target = Target {
            namespace: text("namespace"),
            version: text("version"),
            ..Target::topic("spice", topic).server(server)
        };
        let mut asked = request(method, arguments.clone());
        if let Some(context) = how.get("context") {
            asked = asked.context(args(context.clone()));
        }
        if let Some(seconds) = how.get("monitor").and_then(Value::as_u64) {
            asked = asked.monitored(Duration::from_secs(seconds));
        }
        let timeout = how.get("timeout").and_then(Value::as_f64).map_or(PATIENCE, Duration::from_secs_f64);
        let outcome = match bus.call(&target, asked, timeout).await {
            Ok(reply) => reply.result.map(without_client_timeout).map_err(|failure| (failure.class, failure.message)),
            Err(BusError::Timeout { .. }) => Err(("timeout".to_owned(), String::new())),
            Err(error) => panic!("{method}: {error}"),
        };
        assert_eq!(seen(outcome, expected, &format!("Rust asks {server}: {method}")), *expected, "{how}");
    });
    futures_util::future::join_all(calls).await;
}

async fn every_pairing(oslo: Oslo) {
    let lab = Lab::new().await;
    let mut peer = Peer::start_as(oslo, &lab.transport_url(), &[]).await;
    peer.succeed(json!({"do": "serve", "exchange": "spice", "topic": "checks", "server": "py"})).await;
    let (server, client) = (lab.bus("server"), lab.bus("client"));
    let (dispatcher, mut requests) = recorded();
    let _serving = server.serve(Service::rpc("spice", "checks", "rs"), dispatcher).await.unwrap();

    // The Python server runs its calls in threads, so that both callers can be at work.
    tokio::join!(rust_calls(&client, "checks", "py"), rust_calls(&client, "checks", "rs"));
    python_calls(&mut peer, "checks", "rs").await;
    while requests.try_recv().is_ok() {}
    peer.forget_events();

    // What only one of the two languages can say.
    for (number, seen) in [("<nan>", "NaN"), ("<infinity>", "Infinity"), ("<2**70>", "1180591620717411303424")] {
        let story = ("echo", json!({"x": number}), json!({}), TimesOut);
        assert_eq!(peer.succeed(call_command("checks", "rs", &story)).await, json!({"x": seen}));
        requests.soon().await;
    }
    let python = Target::topic("spice", "checks").server("py");
    for (method, seen) in [("nan", "NaN"), ("huge", "1180591620717411303424")] {
        let reply = client.call(&python, request(method, json!({})), PATIENCE).await.unwrap();
        assert_eq!(reply.result, Ok(json!(seen)));
    }

    // A cast to one server reaches that one, a fanout cast both, whoever sends it.
    client.cast(&python, request("tell", json!({"n": 1}))).await.unwrap();
    assert_eq!(peer.event().await["args"], json!({"n": 1}));
    let cast = json!({"do": "cast", "exchange": "spice", "topic": "checks", "server": "rs", "method": "tell", "args": {"n": 2}});
    peer.succeed(cast).await;
    let incoming = requests.soon().await;
    assert!(incoming.via_server && incoming.request.args == args(json!({"n": 2})));
    client.cast(&python.fanout(), request("tell", json!({"n": 3}))).await.unwrap();
    let cast = json!({"do": "cast", "exchange": "spice", "topic": "checks", "fanout": true, "method": "tell", "args": {"n": 4}});
    peer.succeed(cast).await;
    for n in [3, 4] {
        assert_eq!(peer.event().await["args"], json!({"n": n}));
        let incoming = requests.soon().await;
        assert!(incoming.fanout && incoming.request.args == args(json!({"n": n})));
    }

    // A server that is not asked for signs of life sends none: an unmodified caller would stumble over them.
    let unmonitored = ("slow", json!({"seconds": 1.2}), json!({"timeout": 20}), TimesOut);
    assert_eq!(peer.succeed(call_command("checks", "rs", &unmonitored)).await, "slept");
    lab.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_means_the_same_whoever_makes_it_and_whoever_serves_it() {
    futures_util::future::join_all(Oslo::ALL.map(every_pairing)).await;
}

#[tokio::test]
async fn a_monitored_call_is_given_up_when_the_server_has_gone_silent() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (dispatcher, mut requests) = recorded();
    let serving = bus.serve(Service::rpc("spice", "checks", "rs"), dispatcher).await.unwrap();
    let target = Target::topic("spice", "checks");
    let call = tokio::spawn({
        let client = lab.bus("client");
        async move {
            let asked = request("slow", json!({"seconds": 3600})).monitored(Duration::from_secs(2));
            client.call(&target, asked, 10 * PATIENCE).await
        }
    });
    assert_eq!(requests.soon().await.request.monitor, Some(Duration::from_secs(2)));
    drop(serving);
    // Long before its own timeout.
    let error = tokio::time::timeout(PATIENCE, call).await.expect("it is given up").unwrap().unwrap_err();
    assert!(matches!(error, BusError::Timeout { waited, .. } if waited < PATIENCE), "{error}");
    lab.remove().await;
}

fn notification(n: u32) -> Notification {
    Notification {
        message_id: format!("11111111-2222-4333-8444-{n:012}"),
        publisher_id: "spice.nodes".to_owned(),
        event_type: format!("spice.event.{n}"),
        payload: args(json!({"node": "n1", "n": n})),
        timestamp: Timestamp(1_795_316_612_395),
        context: args(json!({"project_id": "p"})),
    }
}

async fn python_hears_us(oslo: Oslo) {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.notifications.exchange = "spice".to_owned();
    options.notifications.declare = Declare::Active;
    let bus = Bus::start(options, "notifier").unwrap();
    // Before anybody listens, as oslo's own notifier.
    bus.notify(&notification(0)).await.unwrap();
    let mut peer = Peer::start_as(oslo, &lab.transport_url(), &[]).await;
    let listen =
        json!({"do": "listen", "exchange": "spice", "topics": ["notifications"], "requeue": ["spice.event.1"]});
    peer.succeed(listen).await;
    bus.notify(&notification(1)).await.unwrap();
    for n in [0, 1, 1] {
        let event = peer.event().await;
        assert_eq!((&event["priority"], &event["publisher_id"]), (&json!("info"), &json!("spice.nodes")));
        assert_eq!(event["event_type"], notification(n).event_type);
        assert_eq!(event["payload"], json!({"node": "n1", "n": n}));
        assert_eq!(event["metadata"]["message_id"], notification(n).message_id);
        assert_eq!(event["metadata"]["timestamp"], "2026-11-22 03:03:32.395000");
        assert_eq!(event["context"]["project_id"], "p");
    }
    // A pool has a copy of its own.
    peer.succeed(json!({"do": "stop"})).await;
    peer.succeed(json!({"do": "listen", "exchange": "spice", "topics": ["notifications"], "pool": "audit"})).await;
    bus.notify(&notification(2)).await.unwrap();
    assert_eq!(peer.event().await["event_type"], "spice.event.2");
    eventually("nobody took the copy of those without a pool", async || lab.depth("notifications.info").await == 1)
        .await;
    lab.remove().await;
}

#[tokio::test]
async fn python_listeners_hear_our_notifications() {
    futures_util::future::join_all(Oslo::ALL.map(python_hears_us)).await;
}

#[tokio::test]
async fn ping_is_answered_where_it_is_enabled_and_otherwise_unknown_on_either_side() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rpc_ping_enabled = true;
    let pinged = Bus::start(options, "pinged").unwrap();
    let _pinged = pinged.serve(Service::rpc("spice", "checks", "pinged"), answering()).await.unwrap();
    let silent = lab.bus("silent");
    let _silent = silent.serve(Service::rpc("spice", "checks", "silent"), answering()).await.unwrap();
    for oslo in Oslo::ALL {
        let mut peer = Peer::start_as(oslo, &lab.transport_url(), &[]).await;
        let name = format!("{oslo:?}");
        peer.succeed(json!({"do": "serve", "exchange": "spice", "topic": "checks", "server": name, "ping": true}))
            .await;
        for (server, expected) in [
            ("pinged", Returns(json!("pong"))),
            ("silent", Fails("NoSuchMethod", "oslo_rpc_server_ping")),
            (name.as_str(), Returns(json!("pong"))),
        ] {
            let story = ("oslo_rpc_server_ping", json!({}), json!({}), expected);
            let mut line = peer.command(call_command("checks", server, &story)).await;
            let python = match line.get("exc_type").and_then(Value::as_str) {
                Some(class) => Err((class.to_owned(), line["value"].to_string())),
                None => Ok(line["answer"].take()),
            };
            assert_eq!(seen(python, &story.3, server), story.3, "{server}");
            let target = Target::topic("spice", "checks").server(server);
            let reply = silent.call(&target, request("oslo_rpc_server_ping", json!({})), PATIENCE).await.unwrap();
            let rust = reply.result.map_err(|failure| (failure.class, failure.message));
            assert_eq!(seen(rust, &story.3, server), story.3, "{server}");
        }
    }
    lab.remove().await;
}
