//! Work: nothing is lost, nothing blocks, nothing poisonous stays in the way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use spice::bus::{BusError, Dispatcher, Disposition, Incoming, Service, Target};
use tokio::sync::{Notify, mpsc};

use crate::bus::{Does, recorded, request};
use crate::lab::{Lab, PATIENCE, Soon, eventually};

const EXCHANGE: &str = "spice_work";
const RESULTS: &str = "spice-nodes-results";
const DEAD: &str = "spice_work.dead";

fn results() -> Target {
    Target::topic(EXCHANGE, RESULTS)
}

fn does(work: impl Fn(Incoming) -> Disposition + Send + Sync + 'static) -> Arc<dyn Dispatcher> {
    Arc::new(Does(move |incoming| {
        let disposition = work(incoming);
        Box::pin(async move { disposition }) as BoxFuture<'static, Disposition>
    }))
}

#[tokio::test]
async fn work_is_acknowledged_after_it_was_done_and_retried_until_then() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let count = AtomicU32::new(0);
    let dispatcher = does(move |incoming| {
        sender.send(incoming.redelivered).unwrap();
        if count.fetch_add(1, Ordering::SeqCst) < 2 {
            Disposition::Retry(Duration::from_millis(100))
        } else {
            Disposition::Done
        }
    });
    let serving = bus.serve(Service::work(EXCHANGE, RESULTS, 1), dispatcher).await.unwrap();
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(attempts.soon().await);
    }
    assert_eq!(seen, [false, true, true]);
    serving.stop(PATIENCE).await;
    assert_eq!(lab.depth(RESULTS).await, 0);
    lab.remove().await;
}

#[tokio::test]
async fn work_that_waits_for_a_retry_goes_back_to_the_broker_when_its_server_stops_or_dies() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let later = does(move |_| {
        sender.send(()).unwrap();
        Disposition::Retry(PATIENCE)
    });
    let stopped = bus.serve(Service::work(EXCHANGE, RESULTS, 1), Arc::clone(&later)).await.unwrap();
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    attempts.soon().await;
    stopped.stop(PATIENCE).await;
    lab.await_depth(RESULTS, 1).await;

    let dropped = bus.serve(Service::work(EXCHANGE, RESULTS, 1), later).await.unwrap();
    attempts.soon().await;
    drop(dropped);
    lab.await_depth(RESULTS, 1).await;

    let (dispatcher, mut requests) = recorded();
    let _other = bus.serve(Service::work(EXCHANGE, RESULTS, 1), dispatcher).await.unwrap();
    assert!(requests.soon().await.redelivered);
    lab.remove().await;
}

#[tokio::test]
async fn poison_and_what_cannot_be_read_are_put_aside_with_the_reason() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let adapter = Target::topic(EXCHANGE, "spice-adapter-command");
    let dispatcher = does(|incoming| match incoming.request.method.as_str() {
        "panic" => panic!("as asked"),
        "poison" => Disposition::Poison("ticket of another deployment\u{1b}[2J".to_owned()),
        _ => Disposition::Done,
    });
    let _results = bus.serve(Service::work(EXCHANGE, RESULTS, 2), Arc::clone(&dispatcher)).await.unwrap();
    let _adapter = bus.serve(Service::work(EXCHANGE, "spice-adapter-command", 2), dispatcher).await.unwrap();

    for target in [&results(), &adapter] {
        bus.work(target, request("poison", json!({"n": 1})), None).await.unwrap();
        lab.await_depth(DEAD, 1).await;
        let (headers, body) = lab.take(DEAD).await.unwrap();
        assert_eq!(headers["x-spice-reason"], "poison");
        assert_eq!(headers["x-spice-detail"], "ticket of another deployment\\u{1b}[2J");
        assert_eq!(headers["x-spice-topic"], target.topic);
        assert!(String::from_utf8(body).unwrap().contains("poison"));
    }
    bus.work(&results(), request("panic", json!({})), None).await.unwrap();
    lab.await_depth(DEAD, 1).await;
    assert_eq!(lab.take(DEAD).await.unwrap().0["x-spice-reason"], "panic");

    let channel = lab.channel().await;
    let properties = lapin::BasicProperties::default().with_content_type("application/json".into());
    for body in [&b"nonsense"[..], &vec![b'x'; (16 << 20) + 1]] {
        channel
            .basic_publish(EXCHANGE.into(), RESULTS.into(), Default::default(), body, properties.clone())
            .await
            .unwrap();
        lab.await_depth(DEAD, 1).await;
        let (headers, kept) = lab.take(DEAD).await.unwrap();
        let expected = if body.len() > 100 { "too_large" } else { "not_json" };
        assert_eq!(headers["x-spice-reason"], expected);
        assert!(kept.len() < 100);
    }
    eventually("the queues are empty", async || {
        lab.depth(RESULTS).await == 0 && lab.depth("spice-adapter-command").await == 0
    })
    .await;
    lab.remove().await;
}

#[tokio::test]
async fn a_full_queue_pushes_back_and_loses_nothing() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.work_queue_max_length = 3;
    let bus = spice::bus::Bus::start(options, "both").unwrap();
    let mut taken = 0;
    let refused = loop {
        match bus.work(&results(), request("record_results", json!({"n": taken})), None).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, BusError::Rejected { exchange: EXCHANGE.into(), routing_key: RESULTS.into() });
    assert!(refused.is_temporary());
    assert_eq!(lab.depth(RESULTS).await, taken);

    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::work(EXCHANGE, RESULTS, 1), dispatcher).await.unwrap();
    for n in 0..taken {
        assert_eq!(requests.soon().await.request.args["n"], json!(n));
    }
    eventually("room again", async || bus.work(&results(), request("record_results", json!({})), None).await.is_ok())
        .await;
    lab.remove().await;
}

#[tokio::test]
async fn work_for_an_adapter_that_never_ran_is_unroutable_and_expired_work_is_dropped() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let adapter = Target::topic(EXCHANGE, "spice-adapter-none");
    let nobody = bus.work(&adapter, request("run_check", json!({})), None).await.unwrap_err();
    assert!(matches!(nobody, BusError::Unroutable { .. }), "{nobody}");

    let (dispatcher, _requests) = recorded();
    bus.serve(Service::work(EXCHANGE, "spice-adapter-none", 1), dispatcher).await.unwrap().stop(PATIENCE).await;
    bus.work(&adapter, request("run_check", json!({"late": true})), Some(Duration::from_millis(50))).await.unwrap();
    lab.await_depth("spice-adapter-none", 0).await;
    bus.work(&adapter, request("run_check", json!({"late": false})), Some(PATIENCE)).await.unwrap();
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::work(EXCHANGE, "spice-adapter-none", 1), dispatcher).await.unwrap();
    assert_eq!(requests.soon().await.request.args["late"], json!(false));
    // A queue that foreign adapters declare too has oslo's arguments and no others.
    assert_eq!(lab.queue("spice-adapter-none").await["arguments"], json!({}));
    lab.remove().await;
}

#[tokio::test]
async fn work_survives_the_loss_of_its_connection_while_it_is_carried_out() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let done: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
    let gate = Arc::new(Notify::new());
    let (sender, mut entered) = mpsc::unbounded_channel();
    let dispatcher = Arc::new(Does({
        let (done, gate) = (Arc::clone(&done), Arc::clone(&gate));
        move |incoming: Incoming| {
            let (done, gate, sender) = (Arc::clone(&done), Arc::clone(&gate), sender.clone());
            Box::pin(async move {
                let n = incoming.request.args["n"].as_u64().unwrap();
                if n == 0 && !incoming.redelivered {
                    sender.send(()).unwrap();
                    gate.notified().await;
                }
                *done.lock().unwrap().entry(n).or_default() += 1;
                Disposition::Done
            }) as BoxFuture<'static, Disposition>
        }
    }));
    let _serving = bus.serve(Service::work(EXCHANGE, RESULTS, 2), dispatcher).await.unwrap();
    for n in 0..20 {
        bus.work(&results(), request("record_results", json!({"n": n})), None).await.unwrap();
    }
    entered.soon().await;
    eventually("the connections are cut", async || lab.close_connections().await >= 2).await;
    eventually("everything is done, the interrupted work once more", async || done.lock().unwrap().len() == 20).await;
    gate.notify_one();
    eventually("the first attempt ends too", async || done.lock().unwrap()[&0] == 2).await;
    lab.await_depth(RESULTS, 0).await;
    lab.remove().await;
}

#[tokio::test]
async fn a_deleted_queue_is_made_again_and_served_again() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (work, mut at_work) = recorded();
    let (rpc, mut at_rpc) = recorded();
    let _work = bus.serve(Service::work(EXCHANGE, RESULTS, 1), work).await.unwrap();
    let served = bus.serve(Service::rpc("spice", "checks", "one"), rpc).await.unwrap();
    for queue in [RESULTS, "checks.one"] {
        lab.delete_queue(queue).await;
    }
    let mut serving = served.serving();
    tokio::time::timeout(PATIENCE, serving.wait_for(|serving| *serving)).await.unwrap().unwrap();
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    assert_eq!(at_work.soon().await.request.method, "record_results");
    let target = Target::topic("spice", "checks").server("one");
    eventually("calls are taken again", async || {
        bus.call(&target, request("who", json!({})), Duration::from_secs(5))
            .await
            .is_ok_and(|reply| reply.result == Ok(json!("one")))
    })
    .await;
    assert!(at_rpc.soon().await.via_server);
    let queue = lab.queue(RESULTS).await;
    assert_eq!(queue["arguments"]["x-overflow"], Value::String("reject-publish".into()), "{queue}");
    lab.remove().await;
}

#[tokio::test]
async fn each_of_many_publishes_at_once_learns_its_own_fate() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.work_queue_max_length = 1;
    let bus = spice::bus::Bus::start(options, "both").unwrap();
    bus.work(&results(), request("record_results", json!({})), None).await.unwrap();
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::work(EXCHANGE, "spice-adapter-here", 100), dispatcher).await.unwrap();
    for _ in 0..3 {
        // One of three is taken, one returned, one refused, and all are on their way at once.
        let sendings = (0..300).map(|n| {
            let bus = bus.clone();
            async move {
                let topic = [RESULTS, "spice-adapter-gone", "spice-adapter-here"][n % 3];
                let target = Target::topic(EXCHANGE, topic);
                let outcome = bus.work(&target, request("run_check", json!({"n": n})), None).await;
                let fate = match &outcome {
                    Err(BusError::Rejected { .. }) => 0,
                    Err(BusError::Unroutable { .. }) => 1,
                    Ok(()) => 2,
                    Err(_) => 3,
                };
                assert_eq!(fate, n % 3, "{n}: {outcome:?}");
            }
        });
        futures_util::future::join_all(sendings).await;
        let mut arrived = std::collections::BTreeSet::new();
        for _ in 0..100 {
            arrived.insert(requests.soon().await.request.args["n"].as_u64().unwrap());
        }
        assert_eq!(arrived.len(), 100);
    }
    assert_eq!(lab.depth(RESULTS).await, 1);
    lab.remove().await;
}

#[tokio::test]
async fn work_given_up_in_the_middle_of_sending_disturbs_no_other() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let (dispatcher, _requests) = recorded();
    let _serving = bus.serve(Service::work(EXCHANGE, "spice-adapter-here", 100), dispatcher).await.unwrap();
    for n in 0..100_u64 {
        let gone = Target::topic(EXCHANGE, "spice-adapter-gone");
        // Dropped at some moment between the publish and its confirmation.
        let _ =
            tokio::time::timeout(Duration::from_micros(n * 30), bus.work(&gone, request("run_check", json!({})), None))
                .await;
        let here = Target::topic(EXCHANGE, "spice-adapter-here");
        bus.work(&here, request("run_check", json!({})), None).await.unwrap();
    }
    lab.remove().await;
}
