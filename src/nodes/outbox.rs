//! What must still be sent: written in the transaction that made it true, sent in order, lane by lane, and only then
//! forgotten. A crash in between sends it again; whoever gets it recognises it by its id.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::bus::{Bus, BusError, Notification};
use crate::nodes::notify::StoredNotification;
use crate::nodes::storage::{self, Lane, Parcel};
use crate::rpc::table::Topic;
use crate::rpc::{Kind, RpcClient, RpcError};
use crate::store::Database;

/// How long a failed sending waits, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Most parcels forgotten in one transaction.
const FORGET_EVERY: i64 = 500;
/// What was sent is forgotten when nothing came for so long: a transaction for each parcel would cost as much as what it tells.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// Most notifications kept while nobody takes them.
const MAX_NOTIFICATIONS: usize = 50_000;

/// What a sender needs.
pub struct Sender {
    /// Its lane.
    pub lane: Lane,
    /// For work.
    pub rpc: RpcClient,
    /// For notifications.
    pub bus: Bus,
    /// For forgetting what was sent.
    pub database: Database,
}

impl Sender {
    /// Sends what `restored` and `parcels` hold until `stop`; at the end everything unsent is still in the database.
    pub async fn run(
        self,
        restored: Vec<Parcel>,
        mut parcels: mpsc::UnboundedReceiver<Parcel>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut waiting: VecDeque<Parcel> = restored.into();
        let mut sent: Option<i64> = None;
        let mut unforgotten = 0;
        loop {
            while let Ok(parcel) = parcels.try_recv() {
                waiting.push_back(parcel);
            }
            if self.lane == Lane::Notifications && waiting.len() > MAX_NOTIFICATIONS {
                // Nobody has listened for long. Trust does not depend on it, so the oldest go rather than the disk.
                let surplus = waiting.len() - MAX_NOTIFICATIONS;
                sent = waiting.drain(..surplus).next_back().map(|parcel| parcel.id).max(sent);
                metrics::counter!("spice_nodes_outbox_dropped_total", "lane" => self.lane.as_str())
                    .increment(surplus as u64);
                tracing::error!(
                    dropped = surplus,
                    "notifications were dropped: no listener has taken them; is Ceilometer listening on the exchange?"
                );
                unforgotten = FORGET_EVERY;
            }
            metrics::gauge!("spice_nodes_outbox_waiting", "lane" => self.lane.as_str()).set(waiting.len() as f64);
            let Some(parcel) = waiting.front() else {
                tokio::select! {
                    biased;
                    _ = stop.changed() => break,
                    () = tokio::time::sleep(FORGET_AFTER), if sent.is_some() => {
                        self.forget(&mut sent, &mut unforgotten).await;
                    }
                    parcel = parcels.recv() => match parcel {
                        Some(parcel) => waiting.push_back(parcel),
                        None => break,
                    },
                }
                continue;
            };
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                () = self.deliver(parcel) => {}
            }
            sent = Some(parcel.id);
            unforgotten += 1;
            waiting.pop_front();
            if unforgotten >= FORGET_EVERY {
                self.forget(&mut sent, &mut unforgotten).await;
            }
        }
        self.forget(&mut sent, &mut unforgotten).await;
    }

    /// Sends one parcel, trying until it is taken; what can never be taken is dropped, loudly.
    async fn deliver(&self, parcel: &Parcel) {
        let mut pause = RETRY.0;
        loop {
            let error = match self.send(parcel).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if error.kind == Kind::BadRequest || error.kind == Kind::Internal {
                metrics::counter!("spice_nodes_outbox_dropped_total", "lane" => self.lane.as_str()).increment(1);
                tracing::error!(lane = self.lane.as_str(), %error, "something can never be sent and is dropped");
                return;
            }
            metrics::counter!("spice_nodes_outbox_retries_total", "lane" => self.lane.as_str()).increment(1);
            tracing::debug!(lane = self.lane.as_str(), %error, "sending is tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn send(&self, parcel: &Parcel) -> Result<(), RpcError> {
        match self.lane {
            Lane::Events => {
                let (method, args): (String, Map<String, Value>) = parse(&parcel.body)?;
                self.rpc.work(Topic::Events, None, &method, args, None).await
            }
            Lane::Notifications => {
                let stored: StoredNotification = parse(&parcel.body)?;
                let notification: Notification = stored.into();
                match self.bus.notify(&notification).await {
                    // Nobody listens yet: it is kept until somebody does.
                    Err(error @ (BusError::Unroutable { .. } | BusError::Refused { .. })) => {
                        Err(RpcError::unavailable(error.to_string()))
                    }
                    other => Ok(other?),
                }
            }
        }
    }

    async fn forget(&self, sent: &mut Option<i64>, unforgotten: &mut i64) {
        let Some(up_to) = *sent else { return };
        let forgotten = async {
            let mut changes = self.database.begin().await?;
            storage::forget_sent(&mut changes, self.lane.as_str(), up_to).await?;
            changes.commit().await
        };
        match forgotten.await {
            Ok(()) => (*sent, *unforgotten) = (None, 0),
            Err(error) => tracing::warn!(%error, "what was sent could not be forgotten; it may be sent again"),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, RpcError> {
    serde_json::from_str(body).map_err(RpcError::internal)
}
