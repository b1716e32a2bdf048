//! Outages: connections cut in the middle of a call, and a broker that is killed and comes back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use spice::bus::{Bus, Disposition, Incoming, Service, Target};

use crate::bus::{Does, answering, recorded, request};
use crate::lab::{Lab, OwnBroker, PATIENCE, Soon, eventually};

#[tokio::test]
async fn a_call_survives_that_all_connections_are_cut_while_it_is_carried_out() {
    let lab = Lab::new().await;
    let (server, client) = (lab.bus("server"), lab.bus("client"));
    let (dispatcher, mut requests) = recorded();
    let _serving = server.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let target = Target::topic("spice", "checks");
    let call = tokio::spawn({
        let (client, target) = (client.clone(), target.clone());
        async move { client.call(&target, request("slow", json!({"seconds": 2})), PATIENCE).await }
    });
    requests.soon().await;
    eventually("the connections are cut", async || lab.close_connections().await >= 4).await;
    assert_eq!(call.await.unwrap().unwrap().result, Ok(json!("slept")));
    eventually("both are connected", async || *server.connected().borrow() && *client.connected().borrow()).await;
    assert!(client.call(&target, request("who", json!({})), PATIENCE).await.unwrap().result.is_ok());
    lab.remove().await;
}

#[tokio::test]
async fn a_python_caller_gets_its_reply_although_the_connections_were_cut() {
    let lab = Lab::new().await;
    let bus = lab.bus("server");
    let (dispatcher, mut requests) = recorded();
    let _serving = bus.serve(Service::rpc("spice", "checks", "one"), dispatcher).await.unwrap();
    let mut peer = lab.peer(&[]).await;
    peer.send(json!({"do": "call", "exchange": "spice", "topic": "checks", "method": "slow", "args": {"seconds": 2}}))
        .await;
    requests.soon().await;
    eventually("the connections are cut", async || lab.close_connections().await >= 4).await;
    assert_eq!(peer.answer().await["answer"], "slept");
    lab.remove().await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_broker_is_killed_and_comes_back() {
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    let (sender, receiver) = (lab.bus("sender"), lab.bus("receiver"));
    let done: Arc<Mutex<HashSet<u64>>> = Arc::default();
    let dispatcher = Arc::new(Does({
        let done = Arc::clone(&done);
        move |incoming: Incoming| {
            let done = Arc::clone(&done);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                done.lock().unwrap().insert(incoming.request.args["n"].as_u64().unwrap());
                Disposition::Done
            }) as BoxFuture<'static, Disposition>
        }
    }));
    let work = receiver.serve(Service::work("spice_work", "spice-nodes-results", 8), dispatcher).await.unwrap();
    let _rpc = receiver.serve(Service::rpc("spice", "checks", "one"), answering()).await.unwrap();

    let sending = tokio::spawn({
        let sender = sender.clone();
        async move {
            let mut handed_over = 0;
            for n in 0..600_u64 {
                let results = Target::topic("spice_work", "spice-nodes-results");
                // What an adapter does: keep the result until it was handed over.
                while sender.work(&results, request("record_results", json!({"n": n})), None).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                handed_over += 1;
            }
            handed_over
        }
    });
    eventually("a good part is done", async || done.lock().unwrap().len() > 100).await;
    broker.kill().await;
    let mut connected = receiver.connected();
    tokio::time::timeout(PATIENCE, connected.wait_for(|connected| !connected)).await.unwrap().unwrap();
    broker.restart().await;
    tokio::time::timeout(PATIENCE, connected.wait_for(|connected| *connected)).await.unwrap().unwrap();
    assert_eq!(sending.await.unwrap(), 600);
    eventually("everything is done", async || done.lock().unwrap().len() == 600).await;

    // Calls are served again without a restart of either side.
    let reply = sender.call(&Target::topic("spice", "checks"), request("who", json!({})), PATIENCE).await.unwrap();
    assert_eq!(reply.result, Ok(json!("one")));
    work.stop(PATIENCE).await;
    assert_eq!(lab.depth("spice-nodes-results").await, 0);
}

#[tokio::test]
async fn a_service_started_before_its_broker_serves_once_that_is_there() {
    let broker = OwnBroker::start().await;
    let lab = broker.lab().await;
    broker.kill().await;
    let bus = lab.bus("early");
    let serve = tokio::spawn({
        let bus: Bus = bus.clone();
        async move { bus.serve(Service::rpc("spice", "checks", "one"), answering()).await }
    });
    let call = tokio::spawn({
        let bus = bus.clone();
        async move { bus.call(&Target::topic("spice", "checks"), request("who", json!({})), 4 * PATIENCE).await }
    });
    broker.restart().await;
    let _serving = serve.await.unwrap().unwrap();
    // The call waited for the broker, too; it may have come before the server and says so then.
    match call.await.unwrap() {
        Ok(reply) => assert_eq!(reply.result, Ok(json!("one"))),
        Err(error) => assert!(error.is_temporary(), "{error}"),
    }
    assert!(
        bus.call(&Target::topic("spice", "checks"), request("who", json!({})), PATIENCE).await.unwrap().result.is_ok()
    );
}
