//! A network in trouble: every kind is noticed within two heartbeat intervals, counted by its reason and repaired without a restart; what is
//! asked meanwhile ends in time, and work is stored or reported.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::json;
use spice::bus::{Broker, Bus, Dispatcher, Disposition, Incoming, Service, Target};

use crate::bus::{Does, answering, request};
use crate::counters::{counted, start as count};
use crate::lab::{Lab, PATIENCE, eventually};
use crate::proxy::Proxy;

const WORK: &str = "spice_work";
const RESULTS: &str = "spice-nodes-results";
/// Seconds between heartbeats.
const INTERVAL: u16 = 3;
/// What a busy machine may add to the two intervals within which a loss is noticed.
const SLACK: Duration = Duration::from_secs(2);

/// Remembers the numbers of the work that it did.
fn doing(done: &Arc<Mutex<HashSet<u64>>>) -> Arc<dyn Dispatcher> {
    let done = Arc::clone(done);
    Arc::new(Does(move |incoming: Incoming| {
        let done = Arc::clone(&done);
        Box::pin(async move {
            done.lock().unwrap().insert(incoming.request.args["n"].as_u64().unwrap());
            Disposition::Done
        }) as BoxFuture<'static, Disposition>
    }))
}

async fn becomes(bus: &Bus, what: &str, holds: impl Fn(&Broker) -> bool) -> Broker {
    let mut broker = bus.broker();
    let state = tokio::time::timeout(PATIENCE, broker.wait_for(holds)).await;
    state.unwrap_or_else(|_| panic!("the broker is still not {what}: {:?}", bus.broker().borrow())).unwrap().clone()
}

/// Hands over `n`, again and again until the broker has it, as an adapter does.
async fn hand_over(bus: &Bus, n: u64) {
    let results = Target::topic(WORK, RESULTS);
    while bus.work(&results, request("record_results", json!({ "n": n })), None).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A service behind the network that gets into `trouble`, and its peer with a network of its own.
async fn trouble_is_noticed_and_repaired(trouble: impl Fn(&Proxy), reason: &str, seconds_until_noticed: u64) {
    count();
    let lab = Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    let (member, peer) = (proxy.bus(&lab, "member", INTERVAL), lab.bus("peer"));
    let done: Arc<Mutex<HashSet<u64>>> = Arc::default();
    let _work = member.serve(Service::work(WORK, RESULTS, 4), doing(&done)).await.unwrap();
    let _rpc = member.serve(Service::rpc("spice", "checks", "member"), answering()).await.unwrap();
    let _peers = peer.serve(Service::rpc("spice", "nodes", "peer"), answering()).await.unwrap();
    let (checks, nodes) = (Target::topic("spice", "checks"), Target::topic("spice", "nodes"));
    member.call(&nodes, request("who", json!({})), PATIENCE).await.unwrap();
    becomes(&member, "reached", |broker| *broker == Broker::Reached).await;
    let before = counted("spice_bus_connections_lost_total", &[&format!("reason=\"{reason}\"")]);

    trouble(&proxy);
    let begun = Instant::now();
    // Asked in both directions while nobody knows yet: ended in time, one way or the other.
    let limit = Duration::from_secs(2);
    let asked = async |bus: &Bus, target: &Target| {
        let outcome = tokio::time::timeout(limit + SLACK, bus.call(target, request("who", json!({})), limit)).await;
        if let Err(error) = outcome.expect("a call ends within its timeout") {
            assert!(error.is_temporary(), "{error}");
        }
    };
    let working = async {
        for n in 0..20 {
            hand_over(&member, n).await;
            hand_over(&peer, 100 + n).await;
        }
    };
    let noticing = async {
        let away = becomes(&member, "away", |broker| matches!(broker, Broker::Away(_))).await;
        let after = begun.elapsed();
        assert!(after < Duration::from_secs(seconds_until_noticed) + SLACK, "noticed after {after:?}");
        let counter = || counted("spice_bus_connections_lost_total", &[&format!("reason=\"{reason}\"")]);
        assert!(counter() > before, "no loss was counted as {reason}; the reason shown is {away:?}");
        proxy.heal();
        becomes(&member, "reached", |broker| *broker == Broker::Reached).await;
    };
    tokio::join!(asked(&member, &nodes), asked(&peer, &checks), working, noticing);

    eventually("all work is done", async || done.lock().unwrap().len() == 40).await;
    for (bus, target) in [(&member, &nodes), (&peer, &checks)] {
        eventually("calls are answered again", async || {
            bus.call(target, request("who", json!({})), Duration::from_secs(3)).await.is_ok()
        })
        .await;
    }
    lab.remove().await;
}

const TWO_INTERVALS: u64 = 2 * INTERVAL as u64;

#[tokio::test]
async fn connections_that_are_open_and_carry_nothing_are_replaced() {
    trouble_is_noticed_and_repaired(Proxy::freeze, "no_answer", TWO_INTERVALS).await;
}

#[tokio::test]
async fn connections_on_which_nothing_arrives_at_the_broker_are_replaced() {
    trouble_is_noticed_and_repaired(Proxy::block_up, "no_answer", TWO_INTERVALS).await;
}

#[tokio::test]
async fn connections_on_which_nothing_comes_from_the_broker_are_replaced() {
    trouble_is_noticed_and_repaired(Proxy::block_down, "no_answer", TWO_INTERVALS).await;
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced_although_the_next_ones_are_never_answered() {
    let mute_and_cut = |proxy: &Proxy| {
        proxy.mute();
        proxy.cut();
    };
    trouble_is_noticed_and_repaired(mute_and_cut, "cut", 1).await;
}

#[tokio::test]
async fn a_slow_network_is_no_reason_to_give_up_a_connection() {
    count();
    let lab = Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    let bus = proxy.bus(&lab, "member", 2);
    let _rpc = bus.serve(Service::rpc("spice", "checks", "member"), answering()).await.unwrap();
    let mut broker = bus.broker();
    broker.wait_for(|broker| *broker == Broker::Reached).await.unwrap();
    proxy.delay(Duration::from_millis(300));
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        bus.call(&Target::topic("spice", "checks"), request("who", json!({})), PATIENCE).await.unwrap();
        assert_eq!(*broker.borrow_and_update(), Broker::Reached);
    }
    assert_eq!(proxy.open(), 2, "the connections are still the first ones");
    lab.remove().await;
}

#[tokio::test]
async fn a_broker_that_accepts_and_never_answers_is_tried_again_and_nothing_piles_up() {
    let lab = Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    proxy.mute();
    let bus = proxy.bus(&lab, "early", INTERVAL);
    let limit = Duration::from_secs(3);
    let checks = Target::topic("spice", "checks");
    let call = bus.call(&checks, request("who", json!({})), limit);
    let error = tokio::time::timeout(limit + SLACK, call).await.expect("within its timeout").unwrap_err();
    assert!(error.is_temporary(), "{error}");
    // Long enough for attempts to have been given up: each lives for 10 s, two connections begin one every 2 s.
    let away = becomes(
        &bus,
        "known not to answer",
        |broker| matches!(broker, Broker::Away(why) if why.contains("no answer within 10 s")),
    );
    away.await;
    assert!(proxy.open() <= 14, "{} connections are open", proxy.open());
    proxy.heal();
    let healed = Instant::now();
    becomes(&bus, "reached", |broker| *broker == Broker::Reached).await;
    assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
    eventually("what was given up is closed", async || proxy.open() == 2).await;
    bus.close().await;
    eventually("and what was used, too", async || proxy.open() == 0).await;
    lab.remove().await;
}
