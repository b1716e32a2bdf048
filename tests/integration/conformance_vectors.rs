//! The captured messages again, on the wire: sent to a live server of ours, and answered to a live client of ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::{BasicProperties, Channel};
use serde::Deserialize;
use serde_json::{Value, json};
use spice::bus::{BusError, Disposition, Failure, Incoming, Reply, Service, Target, version_is_compatible};

use crate::bus::{Does, request};
use crate::lab::{Lab, PATIENCE, eventually};

#[derive(Debug, Clone, Deserialize)]
struct Wire {
    content_type: Option<String>,
    content_encoding: Option<String>,
    body: String,
}

impl Wire {
    async fn publish(&self, channel: &Channel, key: &str, body: &str) {
        let mut properties = BasicProperties::default();
        if let Some(text) = &self.content_type {
            properties = properties.with_content_type(text.as_str().into());
        }
        if let Some(text) = &self.content_encoding {
            properties = properties.with_content_encoding(text.as_str().into());
        }
        channel.basic_publish("".into(), key.into(), Default::default(), body.as_bytes(), properties).await.unwrap();
    }
}

/// The inner message, with or without an envelope.
fn inner(body: &[u8]) -> Option<Value> {
    let outer: Value = serde_json::from_slice(body).ok()?;
    match outer.get("oslo.message").and_then(Value::as_str) {
        Some(inner) => serde_json::from_str(inner).ok(),
        None => Some(outer),
    }
}

#[derive(Debug, Deserialize)]
struct Request {
    scenario: String,
    #[serde(flatten)]
    wire: Wire,
    python: String,
    message: Option<String>,
}

/// The endpoints of the captured Python servers, as far as they decide about a request.
fn endpoint(incoming: Incoming) -> BoxFuture<'static, Disposition> {
    let (method, version) = (incoming.request.method, incoming.version);
    let nova = version.as_deref() == Some("6.0");
    let offered = match incoming.namespace.as_deref() {
        None if nova => Some("6.3"),
        None => Some("1.3"),
        Some("admin") => Some("2.0"),
        Some(_) => None,
    };
    let reply = if !offered.is_some_and(|offered| version_is_compatible(offered, version.as_deref())) {
        Reply::failure(Failure::unsupported_version(version.as_deref(), &method))
    } else if method == "nope" || method.starts_with('_') {
        Reply::failure(Failure::no_such_method(&method))
    } else {
        Reply::ok(incoming.request.args.get("payload").cloned().unwrap_or_default())
    };
    Box::pin(async { Disposition::Reply(reply) })
}

#[tokio::test]
async fn our_server_treats_every_captured_request_as_the_python_server_did() {
    const REPLIES: &str = "reply_rawpeer0001";
    let requests: Vec<Request> =
        serde_json::from_str(include_str!("../../src/bus/fixtures/oslo_requests.json")).unwrap();
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rpc_ping_enabled = true;
    let bus = spice::bus::Bus::start(options, "server").unwrap();
    let _serving = bus.serve(Service::rpc("openstack", "compute", "host1"), Arc::new(Does(endpoint))).await.unwrap();
    let channel = lab.channel().await;
    channel.queue_declare(REPLIES.into(), QueueDeclareOptions::default(), Default::default()).await.unwrap();
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(REPLIES.into(), "".into(), no_ack, Default::default()).await.unwrap();

    let mut expected: HashMap<String, &Request> = HashMap::new();
    for request in &requests {
        // All replies to one queue; clients had queues of their own.
        let message = inner(request.wire.body.as_bytes());
        let text = |name: &str| message.as_ref().and_then(|message| message[name].as_str()).map(str::to_owned);
        let body = match text("_reply_q") {
            Some(queue) => request.wire.body.replace(&queue, REPLIES),
            None => request.wire.body.clone(),
        };
        // We remember more than Python's 16 ids: what it ran again after those is still the same message.
        let dropped = request.python == "drops" || request.scenario == "inbound:dup_third_after_16_others";
        if let (Some(msg_id), Some(_), false) =
            (text("_msg_id"), text("_reply_q"), dropped || request.python == "refuses")
        {
            expected.insert(msg_id, request);
        }
        request.wire.publish(&channel, "compute", &body).await;
    }
    assert!(expected.len() > 50);
    while !expected.is_empty() {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next())
            .await
            .unwrap_or_else(|_| panic!("no answer to {:?}", expected.values()))
            .unwrap()
            .unwrap();
        let properties = &delivery.properties;
        assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("application/json"));
        let reply = inner(&delivery.data).unwrap();
        let members: Vec<&str> = reply.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["_msg_id", "_unique_id", "ending", "failure", "result"]);
        let request = expected.remove(reply["_msg_id"].as_str().unwrap()).expect("one answer to what Python answered");
        let failure: Option<Value> = reply["failure"].as_str().map(|text| serde_json::from_str(text).unwrap());
        match failure {
            None => assert_eq!(request.python, "runs", "{request:?}: {reply}"),
            Some(failure) => {
                assert_eq!(failure["class"], request.python.as_str(), "{request:?}");
                let dispatch = failure["module"] == "oslo_messaging.rpc.dispatcher";
                assert!(
                    !dispatch || failure["message"].as_str() == request.message.as_deref(),
                    "{failure} {request:?}"
                );
            }
        }
        assert_eq!(reply["ending"], true);
    }
    // Nothing else was answered, and everything was taken from the queue.
    lab.await_depth("compute", 0).await;
    let call = bus.call(&Target::topic("openstack", "compute"), crate::bus::request("echo", json!({})), PATIENCE).await;
    assert!(call.unwrap().result.is_ok());
    assert!(tokio::time::timeout(Duration::from_millis(300), consumer.next()).await.is_err());
    lab.remove().await;
}

#[derive(Debug, Clone, Deserialize)]
struct Answers {
    scenario: String,
    sent: Vec<Wire>,
    python: Value,
    #[serde(default)]
    msg_id: String,
    #[serde(default)]
    timeout_ms: u64,
    monitor: Option<u64>,
}

/// Where Python's own client stumbles over an answer (or guesses), ours tells its caller what the server meant.
const BETTER: &[(&str, Result<i64, &str>)] = &[
    ("reply:no_failure_key", Ok(5)),
    ("reply:heartbeat_unrequested", Ok(5)),
    ("reply:failure_tb_null", Err("Plain")),
    ("reply:failure_message_null_remote_error", Err("Plain")),
    ("reply:failure_is_object_not_string", Err("Plain")),
    ("reply:failure_not_json", Err("UnreadableFailure")),
];

/// What our caller must get, from what Python's got: the value, or the class of the failure, or `timeout`.
fn expected(answers: &Answers) -> Result<Value, String> {
    if let Some((_, outcome)) = BETTER.iter().find(|(scenario, _)| *scenario == answers.scenario) {
        return outcome.map(Value::from).map_err(str::to_owned);
    }
    let python = &answers.python;
    match python["raised"].as_str() {
        None => Ok(python["returned"].clone()),
        Some("MessagingTimeout") => Err("timeout".to_owned()),
        Some("RemoteError") => Err(python["exc_type"].as_str().unwrap_or_default().to_owned()),
        Some(class) => Err(class.trim_end_matches("_Remote").to_owned()),
    }
}

#[tokio::test]
async fn our_client_makes_of_every_captured_answer_what_the_python_client_did() {
    let answers: Vec<Answers> = serde_json::from_str(include_str!("../../src/bus/fixtures/oslo_replies.json")).unwrap();
    let answers: Arc<Vec<Answers>> =
        Arc::new(answers.into_iter().filter(|answers| answers.scenario.starts_with("reply:")).collect());
    assert!(answers.len() > 40);
    let lab = Lab::new().await;
    let channel = lab.channel().await;
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare("openstack".into(), kind, Default::default(), Default::default()).await.unwrap();
    channel.queue_declare("compute".into(), QueueDeclareOptions::default(), Default::default()).await.unwrap();
    channel
        .queue_bind("compute".into(), "openstack".into(), "compute".into(), Default::default(), Default::default())
        .await
        .unwrap();
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume("compute".into(), "".into(), no_ack, Default::default()).await.unwrap();
    let asked: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    // A server made by hand: answers each request with what was captured for the scenario that the method names.
    tokio::spawn({
        let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
        async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let message = inner(&delivery.data).unwrap();
                let scenario = message["method"].as_str().unwrap();
                asked.lock().unwrap().insert(scenario.to_owned(), message["_timeout"].clone());
                let captured = answers.iter().find(|answers| answers.scenario == scenario).unwrap().clone();
                let (msg_id, queue) = (message["_msg_id"].clone(), message["_reply_q"].clone());
                let channel = channel.clone();
                tokio::spawn(async move {
                    if captured.scenario == "reply:monitor_1_no_heartbeat" {
                        tokio::time::sleep(Duration::from_millis(1500)).await;
                    }
                    for wire in &captured.sent {
                        let body = wire.body.replace(&captured.msg_id, msg_id.as_str().unwrap());
                        wire.publish(&channel, queue.as_str().unwrap(), &body).await;
                        if captured.sent.len() > 3 {
                            tokio::time::sleep(Duration::from_millis(400)).await;
                        }
                    }
                });
            }
        }
    });
    let client = lab.bus("client");
    let target = Target::topic("openstack", "compute");
    let calls = answers.iter().map(|captured| {
        let (client, target, asked) = (&client, &target, Arc::clone(&asked));
        async move {
            let mut call = request(&captured.scenario, json!({}));
            if let Some(seconds) = captured.monitor {
                call = call.monitored(Duration::from_secs(seconds));
            }
            let expected = expected(captured);
            // Only where nothing must come is it not waited for long.
            let timeout = match &expected {
                Err(class) if class == "timeout" => Duration::from_millis(captured.timeout_ms),
                _ => PATIENCE,
            };
            let got = match client.call(target, call, timeout).await {
                Ok(reply) => reply.result.map_err(|failure| failure.class),
                Err(BusError::Timeout { .. }) => Err("timeout".to_owned()),
                Err(error) => panic!("{}: {error}", captured.scenario),
            };
            assert_eq!(got, expected, "{}", captured.scenario);
            assert_eq!(asked.lock().unwrap()[&captured.scenario], json!(captured.monitor), "{}", captured.scenario);
        }
    });
    futures_util::future::join_all(calls).await;
    eventually("the client is as good as new", async || *client.connected().borrow()).await;
    lab.remove().await;
}
