//! Role *pool*: beside every nova-scheduler, turns Nodes' publications into the file the filter reads.
//!
//! [`cache`] decides what to believe, [`memory`] keeps what a restart must not forget, [`mod@file`] writes. A heartbeat refreshes `pool.alive` only if it agrees with what is
//! held and written; when this role stops or hears nothing, nothing changes until the file's own limits say so.

pub mod cache;
pub mod file;
#[cfg(test)]
mod fuzz;
mod keeper;
pub mod lateness;
mod listener;
pub mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError};
use crate::clock::Clock;
use crate::pool::cache::Cache;
use crate::pool::file::{Moment, PoolFolder};
use crate::pool::keeper::Keeper;
use crate::pool::lateness::Received;
use crate::pool::listener::Listener;
use crate::pool::memory::Memory;
use crate::protocol::{Delta, Heartbeat};
use crate::rpc::server::Serving;
use crate::rpc::table::Topic;
use crate::rpc::{Identity, RpcClient, Secured};
use crate::security::Vouch;
use crate::telemetry::health::{RoleHealth, TURN_LIMIT};

/// Publications waiting to be looked at; more are dropped, and a snapshot repairs the gap.
const QUEUE: usize = 256;
/// Nodes says every two seconds that it lives; a cache that agreed with nothing for so long shows it.
const SILENCE: Duration = Duration::from_secs(30);

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
    /// The file with what must not be forgotten, on a disk that outlives the machine's restart.
    pub memory: PathBuf,
    /// Changes within this time are written together.
    pub coalesce: Duration,
    /// Where the role shows that it lives.
    pub health: RoleHealth,
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
    /// The memory.
    #[error("the memory of the pool cache, {file}: {error}")]
    Memory {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

enum Publication {
    Heartbeat(Heartbeat, Moment),
    Delta(Delta, Vouch, Received),
}

/// Starts the role; it listens when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options { bus, identity, clock, folder, memory, coalesce, health } = options;
    let files = PoolFolder::open(&folder, identity.deployment.clone())
        .map_err(|error| StartError::Folder { folder: folder.clone(), error })?;
    let (queue, publications) = mpsc::channel(QUEUE);
    let listener = Listener { queue, identity: identity.clone(), clock: clock.clone() };
    let serving = Secured::listen(&bus, Topic::Pool, identity.clone(), Arc::new(listener)).await?;
    let memory_fault = |error| StartError::Memory { file: memory.clone(), error };
    let last = files.last_epoch();
    let memory = Memory::open(&memory, &identity.deployment, last.map(|(epoch, _)| epoch)).map_err(memory_fault)?;
    let mut keeper = Keeper {
        cache: Cache::not_before(memory.floor()),
        memory,
        last_word: last.map(|(_, written_at)| written_at).unwrap_or_default(),
        honoured: 0,
        rpc: RpcClient::new(bus, identity.clone()),
        identity,
        clock,
        files,
        coalesce,
        written: None,
        unwritten_since: None,
        wrote_at: None,
        hurry: false,
        agreed: None,
        snapshot_due: Some(tokio::time::Instant::now()),
        tell_from: tokio::time::Instant::now(),
        tells: false,
    };
    keeper.honour_revocations();
    let stop = CancellationToken::new();
    health.expects_heartbeat(SILENCE);
    let work = keeper.run(publications, stop.clone());
    let task = tokio::spawn(health.watched("keeper", Some(TURN_LIMIT), stop.clone(), work));
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
