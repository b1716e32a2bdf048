//! We hear what oslo.messaging's notifiers say, as its own listeners do.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use spice::bus::{Bus, BusError, Disposition, Incoming, Server, Service};
use tokio::sync::mpsc;

use crate::bus::Does;
use crate::lab::{Lab, Oslo, Peer, Soon, eventually};

/// The exchange of oslo.messaging's notifiers unless they are told otherwise.
const EXCHANGE: &str = "openstack";

/// Hears; an event called `again` is given back the first time.
async fn listening(bus: &Bus, priorities: &[&str], pool: Option<&str>) -> (Server, mpsc::UnboundedReceiver<Incoming>) {
    let (sender, heard) = mpsc::unbounded_channel();
    let dispatcher = Arc::new(Does(move |incoming: Incoming| {
        let give_back = incoming.request.args["event_type"] == "again" && !incoming.redelivered;
        sender.send(incoming).unwrap();
        let disposition = if give_back { Disposition::Retry(Duration::from_millis(20)) } else { Disposition::Done };
        Box::pin(async move { disposition }) as BoxFuture<'static, Disposition>
    }));
    let service = Service::notifications(EXCHANGE, "notifications", priorities, pool);
    (bus.serve(service, dispatcher).await.unwrap(), heard)
}

fn said(priority: &str, event: &str, driver: &str) -> Value {
    json!({
        "do": "notify", "topic": "notifications", "publisher_id": "compute.host1", "event_type": event,
        "payload": {"host": "host1", "n": 1}, "priority": priority, "driver": driver,
    })
}

async fn we_hear_python(oslo: Oslo) {
    let lab = Lab::new().await;
    let bus = lab.bus("listener");
    let mut peer = Peer::start_as(oslo, &lab.transport_url(), &[]).await;
    // Before anybody listened: the notifier made the queue.
    peer.succeed(said("info", "early", "messagingv2")).await;
    let (_serving, mut heard) = listening(&bus, &["info", "error"], None).await;
    for (priority, event, driver) in
        [("error", "bad", "messagingv2"), ("info", "old", "messaging"), ("info", "again", "messagingv2")]
    {
        peer.succeed(said(priority, event, driver)).await;
    }
    let mut events = Vec::new();
    for _ in 0..5 {
        let incoming = heard.soon().await;
        let args = &incoming.request.args;
        assert_eq!((&args["publisher_id"], &args["payload"]["host"]), (&json!("compute.host1"), &json!("host1")));
        assert!(args["message_id"].is_string() && args["timestamp"].is_string(), "{args:?}");
        let event = args["event_type"].as_str().unwrap().to_owned();
        events.push((incoming.request.method, event, incoming.redelivered));
    }
    events.sort();
    let expected = [
        ("error", "bad", false),
        ("info", "again", false),
        ("info", "again", true),
        ("info", "early", false),
        ("info", "old", false),
    ];
    assert_eq!(events, expected.map(|(priority, event, again)| (priority.to_owned(), event.to_owned(), again)));

    // A pool has a copy of its own, of both priorities through one queue.
    let (_pooled, mut copies) = listening(&bus, &["info", "error"], Some("spice-watch")).await;
    peer.succeed(said("info", "both", "messagingv2")).await;
    peer.succeed(said("error", "worse", "messagingv2")).await;
    for heard in [&mut heard, &mut copies] {
        let events: std::collections::BTreeSet<String> =
            [heard.soon().await, heard.soon().await].map(|one| one.request.args["event_type"].to_string()).into();
        assert_eq!(events, ["\"both\"", "\"worse\""].map(ToOwned::to_owned).into());
    }
    // What nobody asked for stays in its queue for whoever does.
    peer.succeed(said("warn", "unheard", "messagingv2")).await;
    lab.await_depth("notifications.warn", 1).await;
    for queue in ["notifications.info", "notifications.error", "spice-watch"] {
        eventually("all is acknowledged", async || {
            lab.queue(queue).await["messages"].as_u64().is_some_and(|messages| messages == 0)
        })
        .await;
    }
    lab.remove().await;
}

#[tokio::test]
async fn our_listeners_hear_pythons_notifications() {
    futures_util::future::join_all(Oslo::ALL.map(we_hear_python)).await;
}

#[tokio::test]
async fn what_cannot_be_read_or_has_no_priority_is_dropped_and_the_listener_goes_on() {
    let lab = Lab::new().await;
    let bus = lab.bus("listener");
    let (_serving, mut heard) = listening(&bus, &["info"], Some("spice-watch")).await;
    let channel = lab.channel().await;
    let send = async |content_type: &str, body: &str| {
        let properties = lapin::BasicProperties::default().with_content_type(content_type.into());
        let sent = channel.basic_publish(
            EXCHANGE.into(),
            "notifications.info".into(),
            Default::default(),
            body.as_bytes(),
            properties,
        );
        sent.await.unwrap().await.unwrap();
    };
    send("text/plain", "{}").await;
    for body in [
        "",
        "[]",
        "{\"priority\": ",
        "{}",
        "{\"priority\": 7}",
        "{\"priority\": \"LOUD\"}",
        "{\"priority\": \"ERROR\"}",
    ] {
        send("application/json", body).await;
    }
    send("application/json", "{\"priority\": \"Info\"}").await;
    let incoming = heard.soon().await;
    assert_eq!((incoming.request.method.as_str(), &incoming.request.args["payload"]), ("info", &Value::Null));
    assert!(heard.try_recv().is_err());
    eventually("nothing is left", async || lab.queue("spice-watch").await["messages"] == 0).await;
    lab.remove().await;
}

#[tokio::test]
async fn a_listener_to_nothing_is_refused() {
    let lab = Lab::new().await;
    let bus = lab.bus("listener");
    for priorities in [&[][..], &["warning"], &["info", "INFO"]] {
        let service = Service::notifications(EXCHANGE, "notifications", priorities, None);
        let dispatcher = Arc::new(Does(|_| Box::pin(async { Disposition::Done }) as BoxFuture<'static, Disposition>));
        assert!(matches!(bus.serve(service, dispatcher).await, Err(BusError::Options(_))), "{priorities:?}");
    }
    lab.remove().await;
}
