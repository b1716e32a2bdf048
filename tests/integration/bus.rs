//! The bus between Rust peers: calls, casts, fanout, and what stops or cannot begin.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use spice::bus::{BusError, BusOptions, Dispatcher, Disposition, Failure, Incoming, Reply, Request, Service, Target};
use tokio::sync::mpsc;

use crate::lab::{Lab, PATIENCE, Soon, eventually};

/// A dispatcher made of a function.
pub struct Does<F>(pub F);

#[async_trait::async_trait]
impl<F> Dispatcher for Does<F>
where
    F: Fn(Incoming) -> BoxFuture<'static, Disposition> + Send + Sync,
{
    async fn dispatch(&self, incoming: Incoming) -> Disposition {
        (self.0)(incoming).await
    }
}

/// A dispatcher that hands every request to the test and answers like [`answer`].
pub fn recorded() -> (Arc<dyn Dispatcher>, mpsc::UnboundedReceiver<Incoming>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let dispatcher = Does(move |incoming: Incoming| {
        let _ = sender.send(incoming.clone());
        Box::pin(answer(incoming)) as BoxFuture<'static, Disposition>
    });
    (Arc::new(dispatcher), receiver)
}

/// A dispatcher that answers like [`answer`].
pub fn answering() -> Arc<dyn Dispatcher> {
    Arc::new(Does(|incoming| Box::pin(answer(incoming)) as BoxFuture<'static, Disposition>))
}

/// What the Rust server of these tests offers, the same as the Python one.
async fn answer(incoming: Incoming) -> Disposition {
    let Request { method, args, context, .. } = incoming.request;
    let text = |name: &str| args.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let special = incoming.namespace.as_deref() == Some("special");
    let offered = if special { "2.3" } else { "1.3" };
    let known = special || incoming.namespace.is_none();
    if !known || !spice::bus::version_is_compatible(offered, incoming.version.as_deref()) {
        return Disposition::Reply(Reply::failure(Failure::unsupported_version(incoming.version.as_deref(), &method)));
    }
    Disposition::Reply(match method.as_str() {
        "where" if special => Reply::ok(json!("special")),
        "add" => Reply::ok(json!(args["a"].as_i64().unwrap() + args["b"].as_i64().unwrap())),
        "lookup" => Reply::failure(Failure::builtin("KeyError", text("key"))),
        "echo" => Reply::ok(Value::Object(args)).extra("signature", json!("signed")),
        "context" => Reply::ok(Value::Object(context)),
        "who" => Reply::ok(json!(incoming.server)),
        "fail" => Reply::failure(Failure::builtin("ValueError", text("message"))),
        "refuse" => Reply::failure(Failure::spice("Forbidden", text("message"))),
        "slow" => {
            tokio::time::sleep(Duration::from_secs_f64(args["seconds"].as_f64().unwrap())).await;
            Reply::ok(json!("slept"))
        }
        "panic" => panic!("as asked"),
        "large" => Reply::ok(json!("x".repeat(17 * 1024 * 1024))),
        "tell" => return Disposition::Done,
        other => Reply::failure(Failure::no_such_method(other)),
    })
}

/// Arguments from a JSON object.
pub fn args(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

/// A request.
pub fn request(method: &str, arguments: Value) -> Request {
    Request::new(method, args(arguments))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_call_returns_result_and_extras_and_carries_context_and_a_chosen_message_id() {
    let lab = Lab::new().await;
    let (server, client) = (lab.bus("server"), lab.bus("client"));
    let (dispatcher, mut requests) = recorded();
    let serving = server.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let target = Target::topic("spice", "checks").version("1.2");

    let mut asked =
        request("echo", json!({"text": "grün \u{1f512}", "n": u64::MAX})).context(args(json!({"user": "admin"})));
    asked.msg_id = Some("0123456789abcdef0123456789abcdef".to_owned());
    let reply = client.call(&target, asked, PATIENCE).await.unwrap();
    assert_eq!(reply.result, Ok(json!({"text": "grün \u{1f512}", "n": u64::MAX})));
    assert_eq!(reply.extras, args(json!({"signature": "signed"})));

    let incoming = requests.soon().await;
    assert_eq!(incoming.request.context, args(json!({"user": "admin"})));
    assert_eq!(incoming.msg_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    assert_eq!(
        (incoming.exchange.as_str(), incoming.topic.as_str(), incoming.server.as_deref()),
        ("spice", "checks", Some("one"))
    );
    assert_eq!((incoming.version.as_deref(), incoming.namespace), (Some("1.2"), None));
    assert!(!incoming.fanout && !incoming.via_server && !incoming.redelivered && incoming.unique_id.is_some());

    client.call(&target.server("one"), request("who", json!({})), PATIENCE).await.unwrap();
    assert!(requests.soon().await.via_server);

    serving.stop(SECOND).await;
    server.close().await;
    client.close().await;
    lab.remove().await;
}

#[tokio::test]
async fn calls_run_at_once_and_replies_find_their_callers() {
    let lab = Lab::new().await;
    let (server, client) = (lab.bus("server"), lab.bus("client"));
    let _serving = server.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    let began = tokio::time::Instant::now();
    let calls = (0..48).map(|n| {
        let (client, target) = (client.clone(), target.clone());
        async move {
            client.call(&target, request("slow", json!({"seconds": 0.3})), PATIENCE).await.unwrap();
            let reply = client.call(&target, request("echo", json!({"n": n})), PATIENCE).await.unwrap();
            assert_eq!(reply.result, Ok(json!({"n": n})));
        }
    });
    futures_util::future::join_all(calls).await;
    assert!(began.elapsed() < Duration::from_secs(7), "48 calls of 0.3 s took {:?}", began.elapsed());
    lab.remove().await;
}

#[tokio::test]
async fn a_panic_an_oversized_reply_and_an_unknown_method_are_failures_and_the_server_lives_on() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    for (method, class) in
        [("panic", "InternalError"), ("large", "ReplyTooLarge"), ("nope", "NoSuchMethod"), ("fail", "ValueError")]
    {
        let failure = bus.call(&target, request(method, json!({})), PATIENCE).await.unwrap().result.unwrap_err();
        assert_eq!(failure.class, class);
    }
    let unsupported = bus.call(&target.clone().version("9.9"), request("echo", json!({})), PATIENCE).await.unwrap();
    assert!(unsupported.result.unwrap_err().is_unsupported_version());
    assert!(bus.call(&target, request("echo", json!({})), PATIENCE).await.unwrap().result.is_ok());
    lab.remove().await;
}

#[tokio::test]
async fn a_call_nobody_serves_is_unroutable_and_one_nobody_answers_times_out() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let target = Target::topic("spice", "checks");
    let nobody = bus.call(&target, request("echo", json!({})), PATIENCE).await.unwrap_err();
    assert_eq!(nobody, BusError::Unroutable { exchange: "spice".into(), routing_key: "checks".into() });

    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let slow = bus.call(&target, request("slow", json!({"seconds": 3})), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(slow, BusError::Timeout { .. }), "{slow}");
    // The late reply of the first call disturbs nobody.
    assert!(bus.call(&target, request("slow", json!({"seconds": 3})), PATIENCE).await.unwrap().result.is_ok());
    lab.remove().await;
}

#[tokio::test]
async fn a_fanout_cast_reaches_every_server_in_order_and_it_is_fine_when_there_is_none() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let everybody = Target::topic("spice", "spice-pool").fanout();
    bus.cast(&everybody, request("tell", json!({"n": -1}))).await.unwrap();

    let (first, mut at_first) = recorded();
    let (second, mut at_second) = recorded();
    let one = bus.serve(Service::fanout_only("spice", "spice-pool"), first).await.unwrap();
    let two = bus.serve(Service::fanout_only("spice", "spice-pool"), second).await.unwrap();
    for n in 0..50 {
        bus.cast(&everybody, request("tell", json!({"n": n}))).await.unwrap();
    }
    for n in 0..50 {
        for requests in [&mut at_first, &mut at_second] {
            let incoming = requests.soon().await;
            assert!(incoming.fanout);
            assert_eq!(incoming.request.args["n"], json!(n));
        }
    }
    // With its last queue the exchange goes; the next cast makes it again.
    one.stop(SECOND).await;
    two.stop(SECOND).await;
    eventually("the queues went with their servers", async || lab.queues().await.is_empty()).await;
    bus.cast(&everybody, request("tell", json!({}))).await.unwrap();
    lab.remove().await;
}

#[tokio::test]
async fn a_message_id_in_use_and_a_call_to_everybody_are_refused() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    let mut slow = request("slow", json!({"seconds": 1}));
    slow.msg_id = Some("same".to_owned());
    let (first, second) = tokio::join!(bus.call(&target, slow.clone(), PATIENCE), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bus.call(&target, slow.clone(), PATIENCE).await
    });
    assert!(first.unwrap().result.is_ok());
    assert!(matches!(second, Err(BusError::Options(_))));
    let everybody = bus.call(&target.fanout(), request("echo", json!({})), PATIENCE).await;
    assert!(matches!(everybody, Err(BusError::Options(_))));
    lab.remove().await;
}

#[tokio::test]
async fn quorum_deployments_work_throughout() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rabbit.rabbit_quorum_queue = true;
    options.rabbit.rabbit_transient_quorum_queue = true;
    options.rabbit.rabbit_quorum_delivery_limit = 5;
    let bus = spice::bus::Bus::start(options, "quorum").unwrap();
    let (dispatcher, mut requests) = recorded();
    let _rpc = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let _work = bus.serve(Service::work("spice_work", "spice-nodes-results", 4), dispatcher).await.unwrap();
    assert!(
        bus.call(&Target::topic("spice", "checks"), request("who", json!({})), PATIENCE).await.unwrap().result.is_ok()
    );
    bus.cast(&Target::topic("spice", "checks").fanout(), request("tell", json!({}))).await.unwrap();
    bus.work(&Target::topic("spice_work", "spice-nodes-results"), request("tell", json!({})), None).await.unwrap();
    assert_eq!(requests.soon().await.request.method, "tell");
    let queue = lab.queue("spice-nodes-results").await;
    assert_eq!(queue["type"], "quorum", "{queue}");
    assert_eq!(queue["arguments"]["x-delivery-limit"], Value::Null);
    lab.remove().await;
}

#[tokio::test]
async fn unusable_options_are_refused_at_the_start_and_an_unreachable_broker_is_waited_for() {
    let refused = spice::bus::Bus::start(BusOptions::new("amqps://u:geheim@h"), "x").err().unwrap();
    assert!(!refused.to_string().contains("geheim"), "{refused}");

    let mut options = BusOptions::new("rabbit://guest:geheim@127.0.0.1:1/");
    options.publish_timeout = Duration::from_millis(300);
    let bus = spice::bus::Bus::start(options, "x").unwrap();
    let error = bus.cast(&Target::topic("spice", "checks"), request("tell", json!({}))).await.unwrap_err();
    assert!(matches!(error, BusError::Disconnected(_)) && !error.to_string().contains("geheim"), "{error}");
    let error = bus
        .call(&Target::topic("spice", "checks"), request("tell", json!({})), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::Disconnected(_)), "{error}");
    assert!(!*bus.connected().borrow());
    bus.close().await;
    let closed = bus.cast(&Target::topic("spice", "checks"), request("tell", json!({}))).await.unwrap_err();
    assert_eq!(closed, BusError::Closed);
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way_and_leaves_the_rest_to_others() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (dispatcher, mut requests) = recorded();
    let serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let target = Target::topic("spice", "checks");
    let call = tokio::spawn({
        let (bus, target) = (bus.clone(), target.clone());
        async move { bus.call(&target, request("slow", json!({"seconds": 1})), PATIENCE).await }
    });
    requests.soon().await;
    let status = serving.serving();
    assert!(*status.borrow());
    serving.stop(PATIENCE).await;
    assert!(!*status.borrow());
    assert_eq!(call.await.unwrap().unwrap().result, Ok(json!("slept")));
    // Nobody listens, but the queue stays, as in oslo.messaging.
    bus.cast(&target, request("tell", json!({}))).await.unwrap();
    lab.await_depth("checks", 1).await;
    let (dispatcher, mut requests) = recorded();
    let _next = bus.serve(Service::rpc("spice", "checks", "two"), dispatcher).await.unwrap();
    assert_eq!(requests.soon().await.request.method, "tell");
    eventually("the connection is reported", async || *bus.connected().borrow()).await;
    lab.remove().await;
}
