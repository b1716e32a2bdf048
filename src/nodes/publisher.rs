//! Publication of the pools: deltas in order, a heartbeat every 2 s, snapshots on request. All signed.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;
use crate::nodes::world::World;
use crate::protocol::{Delta, Heartbeat, Snapshot};
use crate::rpc::RpcError;
use crate::security::{DocumentKind, SignedDocument};
use crate::telemetry::health;

/// How long after it was said a publication may still be believed, at most; never beyond the lease.
pub const VALID_FOR: Duration = Duration::from_secs(10);
/// Publications waiting to be sent; when the bus cannot take them they are dropped, and caches ask for a snapshot.
const QUEUE: usize = 1024;

/// Something to be published.
#[derive(Debug)]
pub enum Publication {
    /// A change.
    Delta(Delta),
    /// A sign of life.
    Heartbeat(Heartbeat),
}

/// The queue's two ends.
#[must_use]
pub fn queue() -> (mpsc::Sender<Publication>, mpsc::Receiver<Publication>) {
    mpsc::channel(QUEUE)
}

/// Sends publications until `stop`.
pub async fn run(nodes: Arc<Nodes>, mut publications: mpsc::Receiver<Publication>, stop: CancellationToken) {
    loop {
        health::turn();
        let publication = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            publication = publications.recv() => publication,
        };
        let published = match publication {
            None => return,
            Some(Publication::Delta(delta)) => nodes.publish("pool_delta", DocumentKind::Delta, &delta).await,
            Some(Publication::Heartbeat(heartbeat)) => {
                let said = nodes.publish("pool_heartbeat", DocumentKind::Heartbeat, &heartbeat).await;
                if said.is_ok() {
                    health::heartbeat();
                }
                said
            }
        };
        if let Err(error) = published {
            metrics::counter!("spice_nodes_publication_failures_total").increment(1);
            tracing::info!(%error, "a publication was lost; caches will ask for a snapshot");
        }
    }
}

/// Says every `interval` that Nodes lives, until `stop`.
pub async fn heartbeats(nodes: Arc<Nodes>, interval: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        health::turn();
        let world = nodes.world.lock().await;
        nodes.say_heartbeat(&world);
    }
}

impl Nodes {
    /// Queues a heartbeat of the world as it is.
    pub(super) fn say_heartbeat(&self, world: &World) {
        let now = self.clock.now();
        self.say(Publication::Heartbeat(Heartbeat {
            deployment: self.identity.deployment.clone(),
            epoch: self.epoch,
            version: world.version,
            digest: world.digest.hex(),
            policy_number: world.rules.number(),
            record_head: world.record_head.1.clone(),
            sent_at: now,
            not_after: self.identity.not_after(now, VALID_FOR),
        }));
    }

    pub(super) fn say(&self, publication: Publication) {
        if self.publications.try_send(publication).is_err() {
            metrics::counter!("spice_nodes_publication_failures_total").increment(1);
        }
    }

    async fn publish<T: Serialize>(&self, method: &str, kind: DocumentKind, content: &T) -> Result<(), RpcError> {
        let document = self.identity.sign(kind, content)?;
        let args = Map::from_iter([("document".to_owned(), json!(document))]);
        self.rpc.publish(method, args).await
    }

    /// All pools, signed, in answer to `nonce`.
    pub(super) fn snapshot(&self, world: &World, nonce: String) -> Result<SignedDocument, RpcError> {
        let now = self.clock.now();
        let snapshot = Snapshot {
            deployment: self.identity.deployment.clone(),
            epoch: self.epoch,
            version: world.version,
            nonce,
            pools: world.pools.clone(),
            sent_at: now,
            not_after: self.identity.not_after(now, VALID_FOR),
        };
        self.identity.sign(DocumentKind::Snapshot, &snapshot)
    }
}
