//! The bus and the real oslo.messaging.

use serde_json::{Map, Value, json};
use spice::bus::{BusError, Notification, Service, Target};
use spice::clock::Timestamp;

use crate::bus::{args, recorded, request};
use crate::lab::{Lab, PATIENCE, Soon};

fn call(method: &str, arguments: Value) -> Value {
    json!({"do": "call", "exchange": "spice", "topic": "checks", "method": method, "args": arguments})
}

fn with(mut command: Value, more: Value) -> Value {
    command.as_object_mut().unwrap().extend(args(more));
    command
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
