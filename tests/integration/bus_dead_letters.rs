//! Dead letters: seen, counted, put back, dropped; nothing of it loses one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use serde_json::json;
use spice::bus::{Bus, BusError, Disposition, Incoming, Ordered, Service, Target};
use tokio::sync::mpsc;

use crate::bus::{Does, request};
use crate::counters::{counted, start as count};
use crate::lab::{Lab, PATIENCE, Soon, eventually};

const WORK: &str = "spice_work";
const RESULTS: &str = "spice-nodes-results";
const DEAD: &str = "spice_work.dead";

fn results() -> Target {
    Target::topic(WORK, RESULTS)
}

/// Refuses everything until it is `mended`; tells what it carries out then.
async fn refusing(bus: &Bus, mended: &Arc<AtomicBool>) -> (spice::bus::Server, mpsc::UnboundedReceiver<u64>) {
    let (sender, done) = mpsc::unbounded_channel();
    let mended = Arc::clone(mended);
    let dispatcher = Arc::new(Does(move |incoming: Incoming| {
        let n = incoming.request.args["n"].as_u64().unwrap();
        let disposition = if mended.load(Ordering::SeqCst) {
            sender.send(n).unwrap();
            Disposition::Done
        } else {
            Disposition::Poison(format!("no sense in {n}"))
        };
        Box::pin(async move { disposition }) as BoxFuture<'static, Disposition>
    }));
    (bus.serve(Service::work(WORK, RESULTS, 1), dispatcher).await.unwrap(), done)
}

#[tokio::test]
async fn dead_letters_are_listed_in_order_shown_put_back_and_dropped() {
    count();
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.rabbit.heartbeat_timeout_threshold = 1;
    let bus = Bus::start(options, "both").unwrap();
    assert_eq!(bus.dead_letter_count(WORK).await.unwrap(), 0);
    assert_eq!(bus.dead_letters(WORK, 10).await.unwrap(), []);
    let mended = Arc::new(AtomicBool::new(false));
    let (serving, mut done) = refusing(&bus, &mended).await;
    for n in 0..5_u64 {
        bus.work(&results(), request("record_results", json!({ "n": n })), None).await.unwrap();
    }
    lab.await_depth(DEAD, 5).await;
    eventually("the depth is on the gauge", async || gauge() >= 5.0).await;

    let letters = bus.dead_letters(WORK, 100).await.unwrap();
    let details: Vec<&str> = letters.iter().map(|letter| letter.detail.as_str()).collect();
    assert_eq!(details, ["no sense in 0", "no sense in 1", "no sense in 2", "no sense in 3", "no sense in 4"]);
    assert!(
        letters.iter().all(|letter| letter.reason == "poison" && letter.topic == RESULTS && letter.exchange == WORK)
    );
    assert!(String::from_utf8_lossy(&letters[3].body).contains("record_results"));
    // Looking changes nothing, also not the order or what they are called by.
    assert_eq!(bus.dead_letters(WORK, 100).await.unwrap(), letters);
    assert_eq!(bus.dead_letters(WORK, 2).await.unwrap(), letters[..2]);
    assert_eq!(bus.dead_letter_count(WORK).await.unwrap(), 5);
    assert_eq!(bus.dead_letter(WORK, &letters[3].id).await.unwrap().as_ref(), Some(&letters[3]));
    assert_eq!(bus.dead_letter(WORK, "0000").await.unwrap(), None);

    mended.store(true, Ordering::SeqCst);
    assert_eq!(bus.requeue_dead_letter(WORK, &letters[3].id).await.unwrap(), Ordered::Done);
    assert_eq!(done.soon().await, 3);
    assert_eq!(bus.requeue_dead_letter(WORK, &letters[3].id).await.unwrap(), Ordered::Absent);
    assert_eq!(bus.drop_dead_letter(WORK, &letters[0].id).await.unwrap(), Ordered::Done);
    let rest = bus.dead_letters(WORK, 100).await.unwrap();
    assert_eq!(rest, [letters[1].clone(), letters[2].clone(), letters[4].clone()]);
    serving.stop(PATIENCE).await;
    assert_eq!(lab.depth(DEAD).await, 3);
    lab.remove().await;
}

fn gauge() -> f64 {
    counted("spice_bus_dead_letters", &["queue=\"spice_work.dead\""])
}

#[tokio::test]
async fn a_letter_that_cannot_be_put_back_stays_and_one_whose_body_was_not_kept_says_so() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let mended = Arc::new(AtomicBool::new(false));
    let (serving, _done) = refusing(&bus, &mended).await;
    bus.work(&results(), request("record_results", json!({ "n": 1 })), None).await.unwrap();
    lab.await_depth(DEAD, 1).await;
    let channel = lab.channel().await;
    let properties = lapin::BasicProperties::default().with_content_type("application/json".into());
    let huge = vec![b'x'; (16 << 20) + 1];
    channel.basic_publish(WORK.into(), RESULTS.into(), Default::default(), &huge, properties).await.unwrap();
    lab.await_depth(DEAD, 2).await;
    serving.stop(PATIENCE).await;

    let letters = bus.dead_letters(WORK, 10).await.unwrap();
    assert_eq!((letters[1].reason.as_str(), letters[1].body.len()), ("too_large", 0));
    let error = bus.requeue_dead_letter(WORK, &letters[1].id).await.unwrap_err();
    assert!(error.to_string().contains("not kept"), "{error}");

    // The queue it belongs to takes nothing: it is full.
    lab.delete_queue(RESULTS).await;
    let mut options = lab.options();
    options.work_queue_max_length = 1;
    let narrow = Bus::start(options, "narrow").unwrap();
    narrow.work(&results(), request("record_results", json!({ "n": 2 })), None).await.unwrap();
    let full = narrow.requeue_dead_letter(WORK, &letters[0].id).await.unwrap_err();
    assert!(matches!(full, BusError::Rejected { .. }), "{full}");
    assert_eq!(bus.dead_letters(WORK, 10).await.unwrap(), letters);
    lab.take(RESULTS).await.unwrap();
    assert_eq!(narrow.requeue_dead_letter(WORK, &letters[0].id).await.unwrap(), Ordered::Done);
    assert_eq!(lab.depth(RESULTS).await, 1);
    assert_eq!(bus.dead_letters(WORK, 10).await.unwrap(), letters[1..]);
    lab.remove().await;
}

#[tokio::test]
async fn what_the_broker_itself_put_aside_goes_back_to_where_it_came_from() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    bus.work(&results(), request("record_results", json!({ "n": 7 })), None).await.unwrap();
    let channel = lab.channel().await;
    let taken = channel.basic_get(RESULTS.into(), Default::default()).await.unwrap().unwrap();
    taken.delivery.reject(lapin::options::BasicRejectOptions { requeue: false }).await.unwrap();
    lab.await_depth(DEAD, 1).await;
    let letters = bus.dead_letters(WORK, 10).await.unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].topic.as_str()), ("rejected", RESULTS));

    // Nobody takes it, as when an adapter's queue is gone: refused, and kept.
    lab.manage("DELETE", &format!("exchanges/{}/{WORK}", lab.vhost), None).await;
    let other = lab.bus("other");
    let adapters = Target::topic(WORK, "spice-adapter-none");
    let unroutable = other.work(&adapters, request("run_check", json!({})), None).await.unwrap_err();
    assert!(matches!(unroutable, BusError::Unroutable { .. }), "{unroutable}");
    assert_eq!(bus.dead_letter_count(WORK).await.unwrap(), 1);

    assert_eq!(bus.requeue_dead_letter(WORK, &letters[0].id).await.unwrap(), Ordered::Done);
    let mended = Arc::new(AtomicBool::new(true));
    let (_serving, mut done) = refusing(&bus, &mended).await;
    assert_eq!(done.soon().await, 7);
    assert_eq!(bus.dead_letter_count(WORK).await.unwrap(), 0);
    lab.remove().await;
}

/// Everything about a message but who delivered it.
fn as_sent(got: &lapin::message::BasicGetMessage) -> (lapin::BasicProperties, Vec<u8>) {
    (got.delivery.properties.clone(), got.delivery.data.clone())
}

#[tokio::test]
async fn a_compressed_message_goes_back_byte_for_byte_and_is_carried_out() {
    let lab = Lab::new().await;
    let bus = lab.bus("both");
    let mended = Arc::new(AtomicBool::new(false));
    let (serving, _done) = refusing(&bus, &mended).await;
    serving.stop(PATIENCE).await;
    let mut peer = lab.peer(&["kombu_compression=gzip", "amqp_durable_queues=true"]).await;
    let cast = |n: u64| {
        json!({
            "do": "cast", "exchange": WORK, "topic": RESULTS, "method": "record_results", "args": { "n": n },
        })
    };
    peer.succeed(cast(7)).await;
    lab.await_depth(RESULTS, 1).await;
    let channel = lab.channel().await;
    let got = channel.basic_get(RESULTS.into(), Default::default()).await.unwrap().unwrap();
    let original = as_sent(&got);
    assert!(!original.1.starts_with(b"{"), "it is compressed");
    got.delivery.reject(lapin::options::BasicRejectOptions { requeue: true }).await.unwrap();

    // Put aside by us, then by the broker: both times it comes back as it was.
    for by_broker in [false, true] {
        if by_broker {
            let got = channel.basic_get(RESULTS.into(), Default::default()).await.unwrap().unwrap();
            got.delivery.reject(lapin::options::BasicRejectOptions { requeue: false }).await.unwrap();
            lab.await_depth(DEAD, 1).await;
        } else {
            let (serving, _done) = refusing(&bus, &mended).await;
            lab.await_depth(DEAD, 1).await;
            serving.stop(PATIENCE).await;
        }
        let letters = bus.dead_letters(WORK, 10).await.unwrap();
        assert_eq!(letters[0].reason, if by_broker { "rejected" } else { "poison" });
        assert_eq!(letters[0].message().unwrap()["method"], "record_results", "it can be shown");
        assert_eq!(bus.requeue_dead_letter(WORK, &letters[0].id).await.unwrap(), Ordered::Done);
        let got = channel.basic_get(RESULTS.into(), Default::default()).await.unwrap().unwrap();
        assert_eq!(as_sent(&got), original, "put aside by the broker: {by_broker}");
        got.delivery.reject(lapin::options::BasicRejectOptions { requeue: true }).await.unwrap();
    }
    mended.store(true, Ordering::SeqCst);
    let (_serving, mut done) = refusing(&bus, &mended).await;
    assert_eq!(done.soon().await, 7);
    assert_eq!(bus.dead_letter_count(WORK).await.unwrap(), 0);
    lab.remove().await;
}
