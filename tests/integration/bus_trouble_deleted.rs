//! Things that somebody deletes while the connection is healthy.

use std::time::{Duration, Instant};

use serde_json::json;
use spice::bus::{Broker, Bus, BusError, Incoming, Service, Target};
use tokio::sync::mpsc;

use crate::bus::{answering, recorded, request};
use crate::bus_trouble_broker::{answers, becomes};
use crate::counters::{counted, start as count};
use crate::lab::{Lab, OwnBroker, PATIENCE, Soon, eventually};

const WORK: &str = "spice_work";
const SECOND: Duration = Duration::from_secs(1);

/// A member that looks after its queues every second.
fn watchful(lab: &Lab, name: &str) -> Bus {
    let mut options = lab.options();
    options.rabbit.heartbeat_timeout_threshold = 1;
    Bus::start(options, name).unwrap()
}

/// Deletes a queue under its consumers, also an exclusive one, as the broker itself does when it gives up a queue.
async fn delete_queue(broker: &OwnBroker, lab: &Lab, name: &str) {
    let resource = format!("rabbit_misc:r(<<\"{}\">>, queue, <<\"{name}\">>)", lab.vhost);
    let delete = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup({resource}), rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)."
    );
    broker.ctl(&["eval", &delete]).await;
}

/// The name of the queue with this in it, as soon as there is one.
async fn queue_named(lab: &Lab, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let queues = lab.queues().await;
        let mut names = queues.iter().filter_map(|queue| queue["name"].as_str());
        if let Some(name) = names.find(|name| name.contains(part)) {
            return name.to_owned();
        }
        assert!(Instant::now() < deadline, "no queue is called {part}");
    }
}

/// Casts to all servers until one of them took it from its fanout queue.
async fn cast_arrives(client: &Bus, requests: &mut mpsc::UnboundedReceiver<Incoming>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = Target::topic("spice", "checks").fanout();
        client.cast(&all, request("tell", json!({}))).await.unwrap();
        match tokio::time::timeout(SECOND, requests.recv()).await {
            Ok(Some(incoming)) if incoming.fanout => return,
            _ => assert!(Instant::now() < deadline, "no cast arrives"),
        }
    }
}

#[tokio::test]
async fn a_deleted_reply_queue_is_made_again_while_the_connection_is_healthy() {
    count();
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    let (server, client) = (lab.bus("server"), lab.bus("client"));
    let (dispatcher, mut requests) = recorded();
    let _serving = server.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let target = Target::topic("spice", "checks");
    answers(&client, &target).await;
    requests.soon().await;
    let before = counted("spice_bus_reply_queues_lost_total", &["reason=\"consumer_cancelled\""]);
    // Under a call that is being carried out: its reply waits for the queue and finds it under the same name.
    let call = tokio::spawn({
        let (client, target) = (client.clone(), target.clone());
        async move { client.call(&target, request("slow", json!({ "seconds": 4 })), PATIENCE).await }
    });
    requests.soon().await;
    let name = queue_named(&lab, "reply_").await;
    delete_queue(&broker, &lab, &name).await;
    assert_eq!(call.await.unwrap().unwrap().result, Ok(json!("slept")));
    assert!(counted("spice_bus_reply_queues_lost_total", &["reason=\"consumer_cancelled\""]) > before);
    assert_eq!(queue_named(&lab, "reply_").await, name);
}

#[tokio::test]
async fn exchanges_bindings_and_queues_that_somebody_deletes_are_there_again() {
    count();
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    let (server, client) = (watchful(&lab, "server"), lab.bus("client"));
    let (rpc, mut at_rpc) = recorded();
    let (work, mut at_work) = recorded();
    let adapter = Target::topic(WORK, "spice-adapter-test");
    let _rpc = server.serve(Service::rpc("spice", "checks", "one"), rpc).await.unwrap();
    let _work = server.serve(Service::work(WORK, "spice-adapter-test", 2), work).await.unwrap();
    let target = Target::topic("spice", "checks");
    answers(&client, &target).await;

    // The adapter's queue, which nobody but the adapter makes.
    lab.delete_queue("spice-adapter-test").await;
    eventually("work reaches the adapter", async || {
        client.work(&adapter, request("run_check", json!({})), None).await.is_ok()
    })
    .await;
    at_work.soon().await;

    // Its binding, which nothing tells anybody of.
    lab.manage("DELETE", &format!("bindings/{}/e/{WORK}/q/spice-adapter-test/spice-adapter-test", lab.vhost), None)
        .await;
    let unbound = client.work(&adapter, request("run_check", json!({})), None).await;
    assert!(matches!(unbound, Ok(()) | Err(BusError::Unroutable { .. })), "{unbound:?}");
    eventually("it is bound again", async || {
        client.work(&adapter, request("run_check", json!({})), None).await.is_ok()
    })
    .await;

    // The control exchange with all its bindings; and the fanout exchange.
    let repaired = counted("spice_bus_repaired_total", &["what=\"exchange\""]);
    for exchange in ["spice", "checks_fanout"] {
        lab.manage("DELETE", &format!("exchanges/{}/{exchange}", lab.vhost), None).await;
    }
    for exchange in ["spice", "checks_fanout"] {
        let path = format!("exchanges/{}/{exchange}", lab.vhost);
        eventually("the server makes it again", async || !lab.manage("GET", &path, None).await.is_null()).await;
    }
    answers(&client, &target).await;
    while at_rpc.try_recv().is_ok() {}
    cast_arrives(&client, &mut at_rpc).await;
    assert!(counted("spice_bus_repaired_total", &["what=\"exchange\""]) >= repaired + 2.0);

    // The server's own fanout queue.
    delete_queue(&broker, &lab, &queue_named(&lab, "_fanout_").await).await;
    cast_arrives(&client, &mut at_rpc).await;
}

#[tokio::test]
async fn a_virtual_host_that_is_deleted_and_made_again_is_used_again() {
    let lab = Lab::new().await;
    let bus = watchful(&lab, "both");
    let _rpc = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    answers(&bus, &target).await;
    lab.manage("DELETE", &format!("vhosts/{}", lab.vhost), None).await;
    becomes(&bus, "away", |broker| matches!(broker, Broker::Away(_))).await;
    let call = bus.call(&target, request("who", json!({})), SECOND).await.unwrap_err();
    assert!(call.is_temporary(), "{call}");
    lab.manage("PUT", &format!("vhosts/{}", lab.vhost), None).await;
    let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    lab.manage("PUT", &format!("permissions/{}/guest", lab.vhost), Some(all)).await;
    answers(&bus, &target).await;
    lab.remove().await;
}
