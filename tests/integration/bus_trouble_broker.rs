//! A broker in trouble, or in somebody's hands: alarms, deleted things, closed channels, changed passwords.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use spice::bus::{Broker, Bus, BusError, Incoming, Service, Target};
use tokio::sync::mpsc;

use crate::bus::{answering, recorded, request};
use crate::counters::{counted, start as count};
use crate::lab::{Lab, OwnBroker, PATIENCE, Soon, eventually};

const WORK: &str = "spice_work";
const RESULTS: &str = "spice-nodes-results";
const SECOND: Duration = Duration::from_secs(1);

fn results() -> Target {
    Target::topic(WORK, RESULTS)
}

/// A member that looks after its queues every second.
fn watchful(lab: &Lab, name: &str) -> Bus {
    let mut options = lab.options();
    options.rabbit.heartbeat_timeout_threshold = 1;
    Bus::start(options, name).unwrap()
}

async fn becomes(bus: &Bus, what: &str, holds: impl Fn(&Broker) -> bool) -> Broker {
    let mut broker = bus.broker();
    let state = tokio::time::timeout(PATIENCE, broker.wait_for(holds)).await;
    state.unwrap_or_else(|_| panic!("the broker is still not {what}: {:?}", bus.broker().borrow())).unwrap().clone()
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

async fn answers(bus: &Bus, target: &Target) {
    eventually("calls are answered", async || {
        bus.call(target, request("who", json!({})), Duration::from_secs(5)).await.is_ok()
    })
    .await;
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
async fn while_an_alarm_blocks_publishers_they_wait_and_consumers_go_on() {
    count();
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    let mut options = lab.options();
    options.publish_timeout = 3 * SECOND;
    options.rabbit.heartbeat_timeout_threshold = 2;
    let bus = Bus::start(options, "both").unwrap();
    for n in 0..3 {
        bus.work(&results(), request("record_results", json!({ "n": n })), None).await.unwrap();
    }
    let mut connected = bus.connected();
    assert!(*connected.borrow_and_update());
    let times_blocked = counted("spice_bus_blocked_total", &[]);

    broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    // The first publish is what the broker answers with "blocked"; it is on its way, so it will be stored.
    let first = bus.work(&results(), request("record_results", json!({ "n": 3 })), None).await.unwrap_err();
    assert!(matches!(&first, BusError::Blocked(why) if why.contains("memory")), "{first}");
    assert!(first.is_temporary() && first.to_string().contains("blocks publishers"), "{first}");
    assert!(matches!(&*bus.broker().borrow(), Broker::Blocked(why) if why.contains("memory")));
    assert!(counted("spice_bus_blocked_total", &[]) > times_blocked);
    // All later ones were never sent, whatever becomes of them.
    let second = bus.work(&results(), request("record_results", json!({ "n": 99 })), None).await.unwrap_err();
    assert!(matches!(second, BusError::Blocked(_)), "{second}");
    let call = bus.call(&Target::topic("spice", "nobody"), request("who", json!({})), SECOND).await.unwrap_err();
    assert!(matches!(call, BusError::Blocked(_)), "{call}");

    // What was there before is delivered and acknowledged.
    let (dispatcher, mut requests) = recorded();
    let serving = bus.serve(Service::work(WORK, RESULTS, 1), dispatcher).await.unwrap();
    for n in 0..3 {
        assert_eq!(requests.soon().await.request.args["n"], n);
    }
    // Longer than after which a lost connection is given up: it is still the same.
    let until = Instant::now() + 6 * SECOND;
    eventually("time has passed", async || Instant::now() > until).await;
    assert!(matches!(&*bus.broker().borrow(), Broker::Blocked(_)));
    assert!(!connected.has_changed().unwrap(), "blocked is not lost");

    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move {
            let results = results();
            while bus.work(&results, request("record_results", json!({ "n": 4 })), None).await.is_err() {}
        }
    });
    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    becomes(&bus, "reached", |broker| *broker == Broker::Reached).await;
    waiting.await.unwrap();
    let mut seen =
        vec![requests.soon().await.request.args["n"].clone(), requests.soon().await.request.args["n"].clone()];
    seen.sort_by_key(|n| n.as_u64());
    assert_eq!(seen, [json!(3), json!(4)], "the one on its way, the one that waited, and not the ones given up");
    serving.stop(PATIENCE).await;
    assert_eq!(lab.depth(RESULTS).await, 0);
}

#[tokio::test]
async fn a_channel_closed_because_work_took_too_long_is_opened_again_and_the_work_comes_again() {
    count();
    let broker = OwnBroker::start().await;
    let settings =
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 500).";
    broker.ctl(&["eval", settings]).await;
    let lab = broker.lab().await;
    let bus = lab.bus("both");
    let (sender, mut attempts) = tokio::sync::mpsc::unbounded_channel();
    let dispatcher = Arc::new(crate::bus::Does(move |incoming: spice::bus::Incoming| {
        let sender = sender.clone();
        Box::pin(async move {
            sender.send(incoming.redelivered).unwrap();
            if !incoming.redelivered {
                std::future::pending::<()>().await;
            }
            spice::bus::Disposition::Done
        }) as futures_util::future::BoxFuture<'static, spice::bus::Disposition>
    }));
    let _serving = bus.serve(Service::work(WORK, RESULTS, 2), dispatcher).await.unwrap();
    let before = counted("spice_bus_sessions_lost_total", &["reason=\"channel_closed\""]);
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    assert!(!attempts.soon().await);
    assert!(attempts.soon().await, "it comes again");
    assert!(counted("spice_bus_sessions_lost_total", &["reason=\"channel_closed\""]) > before);
    assert_eq!(*bus.broker().borrow(), Broker::Reached);
    lab.await_depth(RESULTS, 0).await;
}

#[tokio::test]
async fn replies_do_not_wait_behind_work_that_is_not_confirmed() {
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    let bus = lab.bus("both");
    let _rpc = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    // The process of the queue sleeps: nothing sent to it is confirmed.
    let queue = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"{RESULTS}\">>)), sys:suspend(amqqueue:get_pid(Q)).",
        lab.vhost
    );
    broker.ctl(&["eval", &queue]).await;
    let stuck: Vec<_> = (0..60)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.work(&results(), request("record_results", json!({ "n": n })), None).await })
        })
        .collect();
    for _ in 0..50 {
        let target = Target::topic("spice", "checks");
        let reply = bus.call(&target, request("who", json!({})), Duration::from_secs(5)).await.unwrap();
        assert_eq!(reply.result, Ok(json!("one")));
    }
    assert!(stuck.iter().all(|work| !work.is_finished()), "the work really waited meanwhile");
    broker.ctl(&["eval", &queue.replace("suspend", "resume")]).await;
    for work in stuck {
        work.await.unwrap().unwrap();
    }
    assert_eq!(lab.depth(RESULTS).await, 61);
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

#[tokio::test]
async fn a_password_that_is_refused_is_said_so_and_tried_until_it_is_right() {
    let lab = Lab::new().await;
    let user = format!("user-{}", lab.vhost);
    let password = async |password: &str| {
        let body = json!({ "password": password, "tags": "" });
        lab.manage("PUT", &format!("users/{user}"), Some(body)).await;
    };
    password("first").await;
    let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    lab.manage("PUT", &format!("permissions/{}/{user}", lab.vhost), Some(all)).await;
    let mut options = lab.options();
    options.transport_url = lab.transport_url().replace("guest:guest", &format!("{user}:first"));
    let bus = Bus::start(options, "member").unwrap();
    let _rpc = bus.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    answers(&bus, &target).await;

    password("second").await;
    lab.close_connections().await;
    // The connections appear in the management API only after a while; until then there is nothing to close.
    let refused = |broker: &Broker| matches!(broker, Broker::Away(why) if why.contains("ACCESS_REFUSED"));
    eventually("the password is refused, and that is said", async || {
        lab.close_connections().await;
        refused(&bus.broker().borrow())
    })
    .await;
    let call = bus.call(&target, request("who", json!({})), SECOND).await.unwrap_err();
    assert!(call.is_temporary(), "{call}");
    password("first").await;
    answers(&bus, &target).await;
    lab.manage("DELETE", &format!("users/{user}"), None).await;
    lab.remove().await;
}
