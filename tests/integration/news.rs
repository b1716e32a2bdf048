//! News of changed nodes that come more than once.

use serde_json::{Value, json};
use spice::rpc::table::Topic;

use crate::cloud::Cloud;
use crate::lab::eventually;

const NEWS: &str = "spice-checks-events";

async fn runs(cloud: &Cloud) -> Vec<Value> {
    let runs = cloud.admin(Topic::Checks, "run_list", json!({ "check": "attestation", "limit": 100 })).await;
    runs.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn news_delivered_again_while_they_are_acted_upon_have_nodes_checked_once() {
    let mut cloud = Cloud::one_process_each("").await;
    cloud.register_nodes(1).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 't').await;
    eventually("the first run is finished", async || runs(&cloud).await.iter().all(|run| run["finished"] == true))
        .await;
    let before = runs(&cloud).await.len();
    cloud.kill("checks").await;
    cloud.lab.await_depth(NEWS, 0).await;
    cloud.admin(Topic::Nodes, "node_import", json!({ "nodes": [{ "name": "node-2" }] })).await;
    cloud.lab.await_depth(NEWS, 1).await;
    // Checks lost its connection while it asked Nodes for them, again and again: it has the same message several times.
    let channel = cloud.lab.channel().await;
    let got = channel.basic_get(NEWS.into(), Default::default()).await.unwrap().unwrap();
    for _ in 0..4 {
        let (body, properties) = (&got.delivery.data, got.delivery.properties.clone());
        channel.basic_publish("".into(), NEWS.into(), Default::default(), body, properties).await.unwrap();
    }
    got.delivery.ack(Default::default()).await.unwrap();
    cloud.lab.await_depth(NEWS, 4).await;
    cloud.start("checks", &["--role", "checks"]).await;

    cloud.await_in_file("node-2", 't').await;
    eventually("all are acknowledged, and all runs finished", async || {
        let queue = cloud.lab.queue(NEWS).await;
        queue["messages"] == 0 && runs(&cloud).await.iter().all(|run| run["finished"] == true)
    })
    .await;
    let after = runs(&cloud).await;
    assert_eq!(after.len(), before + 1, "{after:?}");
}
