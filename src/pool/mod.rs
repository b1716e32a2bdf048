//! Role *pool*: beside every nova-scheduler, turns Nodes' publications into the file the filter reads.
//!
//! [`cache`] decides what to believe, [`mod@file`] writes. A heartbeat refreshes `pool.alive` only if it agrees with what is
//! held and written; when this role stops or hears nothing, nothing changes until the file's own limits say so.

pub mod cache;
pub mod file;
#[cfg(test)]
mod fuzz;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError};
use crate::clock::{Clock, Timestamp};
use crate::pool::cache::{Cache, Heard, MAX_SKEW};
use crate::pool::file::{Moment, PoolFolder};
use crate::protocol::{Delta, Heartbeat, Snapshot};
use crate::rpc::server::Serving;
use crate::rpc::table::{Method, Topic};
use crate::rpc::{Caller, Identity, RpcClient, RpcError, Secured, Service, typed};
use crate::security::{Role, SignedDocument, TrustedKey};

/// Publications waiting to be looked at; more are dropped, and a snapshot repairs the gap.
const QUEUE: usize = 256;
/// Changes that only extend trust are written at the latest after this time.
const LAZY: Duration = Duration::from_secs(1);
/// How long after a failed snapshot the next one is asked for.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(1);

/// What the role needs from outside.
pub struct Options {
    /// The bus.
    pub bus: Bus,
    /// Our key and whom we trust.
    pub identity: Arc<Identity>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The folder of the pool file.
    pub folder: PathBuf,
    /// Changes within this time are written together.
    pub coalesce: Duration,
}

/// The running role.
pub struct Running {
    serving: Serving,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Why the role could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The folder.
    #[error("[pool] run_dir {folder}: {error}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

enum Publication {
    Heartbeat(Heartbeat, Moment),
    Delta(Delta),
}

/// Starts the role; it listens when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options { bus, identity, clock, folder, coalesce } = options;
    let files = PoolFolder::open(&folder, identity.deployment.clone())
        .map_err(|error| StartError::Folder { folder: folder.clone(), error })?;
    let (queue, publications) = mpsc::channel(QUEUE);
    let listener = Listener { queue, identity: identity.clone(), clock: clock.clone() };
    let serving = Secured::listen(&bus, Topic::Pool, identity.clone(), Arc::new(listener)).await?;
    let keeper = Keeper {
        cache: Cache::not_before(files.last_epoch().unwrap_or(0)),
        rpc: RpcClient::new(bus, identity.clone()),
        identity,
        clock,
        files,
        coalesce,
        written: None,
        unwritten_since: None,
        hurry: false,
        agreed: None,
        alive: None,
        snapshot_due: Some(tokio::time::Instant::now()),
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(keeper.run(publications, stop.clone()));
    tracing::info!(role = "pool", folder = %folder.display(), "role started");
    Ok(Running { serving, stop, task })
}

impl Running {
    /// Stops listening and writes what is pending.
    pub async fn stop(self) {
        self.serving.stop().await;
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the pool cache ended badly");
        }
    }
}

/// Verifies publications and queues them.
struct Listener {
    queue: mpsc::Sender<Publication>,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    document: SignedDocument,
}

fn signed_by_nodes(key: &TrustedKey) -> bool {
    key.roles.contains(&Role::Nodes)
}

#[async_trait]
impl Service for Listener {
    async fn handle(
        &self,
        method: &'static Method,
        _caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        let Published { document } = typed(args)?;
        let trust = self.identity.trust.current();
        let refused = |error: crate::security::AuthError| {
            metrics::counter!("spice_pool_publications_refused_total", "reason" => error.kind()).increment(1);
            RpcError::unauthorized(error.to_string())
        };
        let publication = match method.name {
            "pool_heartbeat" => {
                let (heartbeat, _): (Heartbeat, _) =
                    document.open_for(&self.identity.deployment, &trust, signed_by_nodes).map_err(refused)?;
                let heard = Moment::now(self.clock.now()).map_err(RpcError::internal)?;
                Publication::Heartbeat(heartbeat, heard)
            }
            _ => {
                let (delta, _) =
                    document.open_for(&self.identity.deployment, &trust, signed_by_nodes).map_err(refused)?;
                Publication::Delta(delta)
            }
        };
        if self.queue.try_send(publication).is_err() {
            metrics::counter!("spice_pool_publications_dropped_total", "reason" => "queue_full").increment(1);
        }
        Ok(Value::Null)
    }
}

/// Holds the cache and the files in step.
struct Keeper {
    cache: Cache,
    rpc: RpcClient,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    files: PoolFolder,
    coalesce: Duration,
    /// The moment the pool file states.
    written: Option<Moment>,
    /// Since when the file is behind the cache.
    unwritten_since: Option<tokio::time::Instant>,
    /// Whether what is not yet written changes anybody's level.
    hurry: bool,
    /// The last heartbeat that agreed and is not yet in `pool.alive`.
    agreed: Option<Moment>,
    /// The moment `pool.alive` states.
    alive: Option<Moment>,
    /// When a snapshot is to be asked for.
    snapshot_due: Option<tokio::time::Instant>,
}

impl Keeper {
    async fn run(mut self, mut publications: mpsc::Receiver<Publication>, stop: CancellationToken) {
        loop {
            let write_at = self.unwritten_since.map(|since| since + if self.hurry { self.coalesce } else { LAZY });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = at(self.snapshot_due) => self.take_snapshot().await,
                () = at(write_at) => self.write().await,
                publication = publications.recv() => match publication {
                    Some(publication) => self.hear(publication).await,
                    None => break,
                },
            }
        }
        self.write().await;
    }

    async fn hear(&mut self, publication: Publication) {
        let now = self.clock.now();
        let heard = match publication {
            Publication::Heartbeat(heartbeat, moment) => {
                self.watch_skew(heartbeat.sent_at, moment.utc);
                let heard = self.cache.heartbeat(&heartbeat, now);
                if heard == Heard::Agrees {
                    self.agreed = Some(moment);
                    // The file must hold what the heartbeat agrees with before `pool.alive` says so.
                    self.write().await;
                }
                heard
            }
            Publication::Delta(delta) => self.cache.delta(&delta, now),
        };
        self.take_note(heard);
    }

    fn take_note(&mut self, heard: Heard) {
        match heard {
            Heard::Agrees => {}
            Heard::Extended | Heard::Changed => {
                self.hurry |= heard == Heard::Changed;
                self.unwritten_since.get_or_insert_with(tokio::time::Instant::now);
            }
            Heard::Differs => {
                self.snapshot_due.get_or_insert_with(tokio::time::Instant::now);
            }
            Heard::Dropped(reason) => {
                metrics::counter!("spice_pool_publications_dropped_total", "reason" => reason).increment(1);
                tracing::debug!(reason, "a publication was dropped");
            }
        }
    }

    fn watch_skew(&self, sent_at: Timestamp, heard_at: Timestamp) {
        let skew = sent_at.0.abs_diff(heard_at.0);
        metrics::gauge!("spice_pool_clock_skew_seconds").set(skew as f64 / 1000.0);
        if u128::from(skew) > MAX_SKEW.as_millis() {
            tracing::error!(
                skew_ms = skew,
                "this machine's clock and Nodes' differ: set both (NTP); trust ends by the stricter reading"
            );
        }
    }

    async fn take_snapshot(&mut self) {
        // Whatever happens, not again before the pause; success clears it.
        self.snapshot_due = Some(tokio::time::Instant::now() + SNAPSHOT_RETRY);
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let args = Map::from_iter([("nonce".to_owned(), json!(nonce))]);
        let answer = self.rpc.call_within(Topic::Nodes, "pool_snapshot", args, Duration::from_secs(10)).await;
        let snapshot = answer.and_then(|answer| {
            let Published { document } = serde_json::from_value(answer).map_err(RpcError::internal)?;
            let opened = document.open_for::<Snapshot>(
                &self.identity.deployment,
                &self.identity.trust.current(),
                signed_by_nodes,
            );
            opened.map_err(|error| RpcError::unauthorized(error.to_string()))
        });
        match snapshot {
            Ok((snapshot, _)) => {
                let heard = self.cache.snapshot(snapshot, &nonce, self.clock.now());
                if heard == Heard::Changed {
                    self.snapshot_due = None;
                    metrics::counter!("spice_pool_snapshots_total").increment(1);
                }
                self.take_note(heard);
            }
            Err(error) => tracing::info!(%error, "no snapshot of the pools could be had; it is asked for again"),
        }
    }

    /// Writes `pool` if it is behind, then `pool.alive` if a heartbeat agreed with it.
    async fn write(&mut self) {
        let version = self.cache.version();
        if self.unwritten_since.is_some()
            && let Some(pools) = self.cache.pools()
        {
            let Ok(moment) = Moment::now(self.clock.now()) else { return };
            let moment = moment.not_before(self.written.as_ref());
            let written = tokio::task::block_in_place(|| self.files.write_pool(version, pools, &moment));
            if let Err(error) = written {
                metrics::counter!("spice_pool_write_failures_total").increment(1);
                tracing::error!(%error, "the pool file cannot be written; the old one stays until its limits end it");
                self.unwritten_since = Some(tokio::time::Instant::now());
                self.hurry = false;
                return;
            }
            self.written = Some(moment);
            self.unwritten_since = None;
            self.hurry = false;
            metrics::counter!("spice_pool_writes_total").increment(1);
        }
        if let Some(heard) = self.agreed.take() {
            let heard = heard.not_after(self.alive.as_ref());
            match tokio::task::block_in_place(|| self.files.write_alive(version, &heard)) {
                Ok(()) => self.alive = Some(heard),
                Err(error) => {
                    metrics::counter!("spice_pool_write_failures_total").increment(1);
                    tracing::error!(%error, "pool.alive cannot be written");
                }
            }
        }
    }
}

/// Waits until `moment`; for ever if there is none.
async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
