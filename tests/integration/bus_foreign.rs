//! Peers made by hand: what is sent twice, cannot be read, comes from nowhere or answers in odd ways.

use std::time::Duration;

use serde_json::{Value, json};
use spice::bus::{BusError, Service, Target};

use crate::bus::{recorded, request};
use crate::lab::{Lab, PATIENCE, Soon, eventually};

#[tokio::test]
async fn the_same_message_sent_twice_is_carried_out_once() {
    let lab = Lab::new().await;
    let bus = lab.bus("server");
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let body = enveloped(r#"{"method": "tell", "args": {}, "_unique_id": "u1"}"#);
    for _ in 0..3 {
        publish(&lab, "spice", "checks", "application/json", &body).await;
    }
    bus.call(&Target::topic("spice", "checks"), request("echo", json!({})), PATIENCE).await.unwrap();
    assert_eq!(requests.soon().await.request.method, "tell");
    assert_eq!(requests.soon().await.request.method, "echo");
    lab.remove().await;
}

fn enveloped(inner: &str) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": inner}).to_string().into_bytes()
}

async fn publish(lab: &Lab, exchange: &str, key: &str, content_type: &str, body: &[u8]) {
    let channel = lab.channel().await;
    let confirm = lapin::options::ConfirmSelectOptions::default();
    channel.confirm_select(confirm).await.unwrap();
    let properties = lapin::BasicProperties::default().with_content_type(content_type.into());
    let options = lapin::options::BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap().await.unwrap();
}

/// Asks for an echo whose answer goes to a queue of that name.
async fn ask_for_reply_in(lab: &Lab, queue: &str, msg_id: &str) {
    let inner = json!({"method": "echo", "args": {}, "_msg_id": msg_id, "_reply_q": queue}).to_string();
    publish(lab, "spice", "checks", "application/json", &enveloped(&inner)).await;
}

#[tokio::test]
async fn a_reply_waits_for_its_queue_and_is_given_up_in_the_end_while_service_goes_on() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rabbit.kombu_missing_consumer_retry_timeout = 3;
    let bus = spice::bus::Bus::start(options, "server").unwrap();
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let channel = lab.channel().await;
    let declare = async |queue: &str| {
        channel.queue_declare(queue.into(), Default::default(), Default::default()).await.unwrap();
    };
    ask_for_reply_in(&lab, "reply_late", "m1").await;
    ask_for_reply_in(&lab, "reply_never", "m2").await;
    for _ in 0..2 {
        requests.soon().await;
    }
    declare("reply_late").await;
    lab.await_depth("reply_late", 1).await;
    let target = Target::topic("spice", "checks");
    assert!(bus.call(&target, request("echo", json!({})), PATIENCE).await.unwrap().result.is_ok());

    // Given up after its three seconds, and from then on for a minute, as oslo.messaging does.
    tokio::time::sleep(Duration::from_secs(5)).await;
    declare("reply_never").await;
    ask_for_reply_in(&lab, "reply_never", "m3").await;
    ask_for_reply_in(&lab, "reply_late", "m4").await;
    lab.await_depth("reply_late", 2).await;
    assert_eq!(lab.depth("reply_never").await, 0);
    lab.remove().await;
}

#[tokio::test]
async fn malformed_messages_and_oversized_bodies_are_refused_while_service_goes_on() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"[1, 2]".to_vec(),
        b"\xff\xfe".to_vec(),
        "[".repeat(200_000).into_bytes(),
        br#"{"oslo.version": "3.0", "oslo.message": "{}"}"#.to_vec(),
        br#"{"oslo.version": "2.0", "oslo.message": {}}"#.to_vec(),
        br#"{"oslo.version": "2.0", "oslo.message": "nonsense"}"#.to_vec(),
        enveloped("{}"),
        enveloped(r#"{"method": 5}"#),
        enveloped(r#"{"method": "tell", "args": [1]}"#),
        enveloped(r#"{"method": "tell", "_msg_id": "m", "_reply_q": "nowhere", "args": 7}"#),
        vec![b'x'; 16 * 1024 * 1024 + 1],
    ];
    for body in &bodies {
        publish(&lab, "spice", "checks", "application/json", body).await;
    }
    publish(&lab, "spice", "checks", "text/plain", &enveloped(r#"{"method": "tell", "args": {}}"#)).await;

    let reply =
        bus.call(&Target::topic("spice", "checks"), request("echo", json!({"ok": true})), PATIENCE).await.unwrap();
    assert_eq!(reply.result, Ok(json!({"ok": true})));
    assert_eq!(requests.soon().await.request.method, "echo", "nothing malformed reached the dispatcher");
    lab.await_depth("checks", 0).await;

    let too_large =
        bus.cast(&Target::topic("spice", "checks"), request("tell", json!({"x": "x".repeat(17 << 20)}))).await;
    assert!(matches!(too_large, Err(BusError::TooLarge { .. })), "{too_large:?}");
    lab.remove().await;
}

/// A server made by hand: answers each request on `checks` with the bodies that `answers` makes of its message id.
async fn hand_made_server(
    lab: &Lab,
    answers: impl Fn(&str) -> Vec<Vec<u8>> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    use futures_util::StreamExt;
    use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions};
    let channel = lab.channel().await;
    let topic = lapin::ExchangeKind::Topic;
    channel
        .exchange_declare("spice".into(), topic, ExchangeDeclareOptions::default(), Default::default())
        .await
        .unwrap();
    channel.queue_declare("checks".into(), Default::default(), Default::default()).await.unwrap();
    channel
        .queue_bind("checks".into(), "spice".into(), "checks".into(), Default::default(), Default::default())
        .await
        .unwrap();
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume("checks".into(), "".into(), no_ack, Default::default()).await.unwrap();
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            let envelope: Value = serde_json::from_slice(&delivery.data).unwrap();
            let message: Value = serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap();
            for body in answers(message["_msg_id"].as_str().unwrap()) {
                let properties = lapin::BasicProperties::default().with_content_type("application/json".into());
                let reply_queue = message["_reply_q"].as_str().unwrap();
                channel
                    .basic_publish("".into(), reply_queue.into(), Default::default(), &body, properties)
                    .await
                    .unwrap();
            }
        }
    })
}

#[tokio::test]
async fn replies_of_any_server_are_taken_by_oslos_rules() {
    type Answers = fn(&str) -> Vec<Vec<u8>>;
    let cases: [(&str, Answers, Result<Value, &str>); 8] = [
        (
            "no envelope",
            |id| vec![json!({"_msg_id": id, "result": 1, "failure": null, "ending": true}).to_string().into()],
            Ok(json!(1)),
        ),
        (
            "the old form of two messages",
            |id| {
                let first = json!({"_msg_id": id, "result": "first", "failure": null, "ending": false});
                let last = json!({"_msg_id": id, "failure": null, "ending": true});
                vec![enveloped(&first.to_string()), enveloped(&last.to_string())]
            },
            Ok(json!("first")),
        ),
        (
            "signs of life, replies to others and rubbish first",
            |id| {
                let alive = json!({"_msg_id": id, "result": null, "failure": null, "ending": false}).to_string();
                let other = json!({"_msg_id": "other", "result": 2, "failure": null, "ending": true}).to_string();
                let last = json!({"_msg_id": id, "result": 3, "failure": null, "ending": true}).to_string();
                vec![
                    enveloped(&alive),
                    enveloped(&other),
                    b"rubbish".to_vec(),
                    enveloped("[]"),
                    enveloped("{}"),
                    enveloped(&last),
                ]
            },
            Ok(json!(3)),
        ),
        (
            "twice, and signs of life that never stop",
            |id| {
                let last = json!({"_msg_id": id, "result": 4, "failure": null, "ending": true}).to_string();
                let alive = json!({"_msg_id": id, "result": null, "failure": null, "ending": false}).to_string();
                vec![enveloped(&last), enveloped(&last), enveloped(&alive), enveloped(&alive)]
            },
            Ok(json!(4)),
        ),
        (
            "a failure that is an object",
            |id| {
                vec![enveloped(
                    &json!({"_msg_id": id, "failure": {"class": "E", "module": "m"}, "ending": true}).to_string(),
                )]
            },
            Err("E"),
        ),
        (
            "a failure that cannot be read",
            |id| vec![enveloped(&json!({"_msg_id": id, "failure": "???", "ending": true}).to_string())],
            Err("UnreadableFailure"),
        ),
        (
            "a number that Rust cannot hold",
            |id| vec![enveloped(&format!(r#"{{"_msg_id": "{id}", "result": NaN, "ending": true}}"#))],
            Ok(json!("NaN")),
        ),
        ("never the end", |id| vec![enveloped(&json!({"_msg_id": id, "result": 5}).to_string())], Err("timeout")),
    ];
    let lab = Lab::new().await;
    let bus = lab.bus("client");
    for (what, answers, expected) in cases {
        let server = hand_made_server(&lab, answers).await;
        let wait = if expected == Err("timeout") { Duration::from_millis(500) } else { PATIENCE };
        let got = match bus.call(&Target::topic("spice", "checks"), request("echo", json!({})), wait).await {
            Ok(reply) => reply.result.map_err(|failure| failure.class),
            Err(error) => Err(error.kind().to_owned()),
        };
        assert_eq!(got, expected.map_err(str::to_owned), "{what}");
        server.abort();
        let _ = server.await;
        eventually("the server is gone", async || lab.queue("checks").await["consumers"].as_u64().unwrap_or(0) == 0)
            .await;
        lab.delete_queue("checks").await;
    }
    lab.remove().await;
}
