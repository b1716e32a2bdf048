//! What must still be sent: written in the transaction that made it true, sent in order, lane by lane, and only then
//! forgotten. A crash in between sends it again; whoever gets it recognises it by its id.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::bus::{Bus, BusError, Notification};
use crate::nodes::notify::StoredNotification;
use crate::nodes::pace::Pace;
use crate::nodes::storage::{self, Lane, Parcel};
use crate::rpc::table::Topic;
use crate::rpc::{Kind, RpcClient, RpcError};
use crate::store::Database;
use crate::telemetry::Sparingly;

/// How long a failed sending waits, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Most parcels forgotten in one transaction.
const FORGET_EVERY: i64 = 500;
/// What was sent is forgotten when nothing came for so long: a transaction for each parcel would cost as much as what it tells.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// Most notifications kept while nobody takes them.
const MAX_NOTIFICATIONS: usize = 20_000;

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
    /// How fast, where there is a limit.
    pub pace: Option<Pace>,
}

/// Where what must be sent is put, by lane.
pub struct Lanes([(Lane, mpsc::UnboundedSender<Parcel>); Lane::ALL.len()]);

/// Every lane: where parcels are put, and where its [`Sender`] finds them.
#[must_use]
pub fn lanes() -> (Lanes, [(Lane, mpsc::UnboundedReceiver<Parcel>); Lane::ALL.len()]) {
    let all = Lane::ALL.map(|lane| (lane, mpsc::unbounded_channel()));
    let to = all.each_ref().map(|(lane, (to, _))| (*lane, to.clone()));
    (Lanes(to), all.map(|(lane, (_, from))| (lane, from)))
}

impl Lanes {
    /// Puts a stored parcel into its lane. Where that is closed we are stopping, and the parcel is in the database.
    pub fn put(&self, lane: Lane, parcel: Parcel) {
        if let Some((_, to)) = self.0.iter().find(|(known, _)| *known == lane) {
            let _ = to.send(parcel);
        }
    }
}

/// What is in memory, in order.
struct Waiting {
    parcels: VecDeque<Parcel>,
    /// The last one sent or dropped that is still in the database.
    sent: Option<i64>,
    /// How many were dropped and not yet told of.
    dropped: usize,
    dropping: Sparingly,
}

impl Waiting {
    /// Drops the oldest notifications where there are too many; how many. `in_hand`: being sent, and not among them.
    fn bound(&mut self, lane: Lane, in_hand: usize) -> usize {
        let waiting = self.parcels.len();
        metrics::gauge!("spice_nodes_outbox_waiting", "lane" => lane.as_str()).set((waiting + in_hand) as f64);
        let surplus = waiting.saturating_sub(MAX_NOTIFICATIONS);
        if lane == Lane::Events || surplus == 0 {
            return 0;
        }
        // Nobody has listened for long. Trust does not depend on it, so the oldest go rather than the disk.
        self.sent = self.parcels.drain(..surplus).next_back().map(|parcel| parcel.id).max(self.sent);
        metrics::counter!("spice_nodes_outbox_dropped_total", "lane" => lane.as_str()).increment(surplus as u64);
        self.dropped += surplus;
        if self.dropping.log().is_some() {
            tracing::error!(
                dropped = std::mem::take(&mut self.dropped),
                "notifications were dropped: they come faster than they are taken, or nobody takes them; is Ceilometer listening on the exchange?"
            );
        }
        surplus
    }
}

impl Sender {
    /// Sends what `restored` and `parcels` hold until `stop`; at the end everything unsent is still in the database.
    pub async fn run(
        self,
        restored: Vec<Parcel>,
        mut parcels: mpsc::UnboundedReceiver<Parcel>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut waiting = Waiting { parcels: restored.into(), sent: None, dropped: 0, dropping: Sparingly::default() };
        let mut unforgotten = 0;
        loop {
            while let Ok(parcel) = parcels.try_recv() {
                waiting.parcels.push_back(parcel);
            }
            unforgotten += count(waiting.bound(self.lane, 0));
            if unforgotten >= FORGET_EVERY {
                self.forget(&mut waiting.sent, &mut unforgotten).await;
            }
            let Some(parcel) = waiting.parcels.pop_front() else {
                tokio::select! {
                    biased;
                    _ = stop.changed() => break,
                    () = tokio::time::sleep(FORGET_AFTER), if waiting.sent.is_some() => {
                        self.forget(&mut waiting.sent, &mut unforgotten).await;
                    }
                    parcel = parcels.recv() => match parcel {
                        Some(parcel) => waiting.parcels.push_back(parcel),
                        None => break,
                    },
                }
                continue;
            };
            let stopping = self.deliver_while(&parcel, &mut waiting, &mut unforgotten, &mut parcels, &mut stop).await;
            if stopping.is_break() {
                break;
            }
            waiting.sent = Some(parcel.id).max(waiting.sent);
            unforgotten += 1;
        }
        self.forget(&mut waiting.sent, &mut unforgotten).await;
    }

    /// Sends one parcel. More may come meanwhile, for as long as nobody takes it; break: it is time to stop.
    async fn deliver_while(
        &self,
        parcel: &Parcel,
        waiting: &mut Waiting,
        unforgotten: &mut i64,
        parcels: &mut mpsc::UnboundedReceiver<Parcel>,
        stop: &mut watch::Receiver<bool>,
    ) -> ControlFlow<()> {
        let mut delivering = pin!(self.deliver(parcel));
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => return ControlFlow::Break(()),
                () = &mut delivering => return ControlFlow::Continue(()),
                Some(parcel) = parcels.recv() => {
                    waiting.parcels.push_back(parcel);
                    *unforgotten += count(waiting.bound(self.lane, 1));
                    if *unforgotten >= FORGET_EVERY {
                        self.forget(&mut waiting.sent, unforgotten).await;
                    }
                }
            }
        }
    }

    /// Sends one parcel, trying until it is taken; what can never be taken is dropped, loudly.
    async fn deliver(&self, parcel: &Parcel) {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
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
            Lane::Notifications | Lane::Alarms => {
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

fn count(parcels: usize) -> i64 {
    i64::try_from(parcels).unwrap_or(i64::MAX)
}

fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, RpcError> {
    serde_json::from_str(body).map_err(RpcError::internal)
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
