//! Role *nodes*: which nodes are trusted, since when, on what grounds.
//!
//! [`crate::trust`] holds the rules, pure. [`world`] is what is in force; every change is a stage that [`commit`] writes in one
//! transaction (node, results, record, outbox, seen ids) before it is installed, published and acknowledged. [`results`] verifies
//! what adapters report, [`recorder`] takes it in, [`policy`] what Checks decides (`preview`: what it would change), `judging` judges them all, [`timers`] what time alone changes, [`revocation`] what a stolen
//! key takes along, [`reconcile`] what Nova has, [`service`] what people ask, [`views`] and `why` what they are shown. [`kept`] is how nodes are held between changes. [`rows`] are written while those after them are made,
//! [`history`] keeps results. [`publisher`] and [`outbox`] tell the others, at the [`pace`] that Ceilometer keeps; [`degraded`] notices that a pool loses many nodes.

mod adopt;
pub mod commit;
pub mod degraded;
pub mod entry;
mod epoch;
pub mod examine;
pub mod figures;
pub mod history;
mod inventory;
mod judging;
pub mod kept;
pub mod notify;
pub mod outbox;
pub mod pace;
pub mod policy;
mod preview;
pub mod publisher;
pub mod reconcile;
pub mod record;
pub mod recorder;
pub mod registry;
pub mod results;
pub mod revocation;
pub mod rows;
pub mod service;
pub mod storage;
pub mod timers;
mod traits;
pub mod views;
mod why;
pub mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, BusError};
use crate::clock::Clock;
use crate::nodes::notify::Publisher;
use crate::nodes::outbox::{Lanes, Sender};
use crate::nodes::publisher::Publication;
use crate::nodes::recorder::Recorder;
use crate::nodes::storage::Lane;
use crate::nodes::world::World;
use crate::protocol::digest::PoolsDigest;
use crate::rpc::server::Serving;
use crate::rpc::table::Topic;
use crate::rpc::{Identity, RpcClient, Secured};
use crate::store::lease::Tenure;
use crate::store::{Database, StoreError};
use crate::telemetry::Sparingly;
use crate::telemetry::health::{RoleHealth, TURN_LIMIT};
use crate::trust::Rules;

/// What the role needs from outside.
pub struct Options {
    /// SPICE's bus.
    pub bus: Bus,
    /// The bus notifications go to; often the same.
    pub notification_bus: Bus,
    /// Our key and whom we trust.
    pub identity: Arc<Identity>,
    /// The database.
    pub database: Database,
    /// The lease of the role: while it lasts this instance is the active one, under its epoch.
    pub tenure: Tenure,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How this instance is called on the bus.
    pub server: String,
    /// Who notifies, and what; `None`: nothing is notified.
    pub publisher: Option<Publisher>,
    /// How often a heartbeat is published.
    pub heartbeat: Duration,
    /// How long results are kept.
    pub history: Duration,
    /// Where the role shows that it lives.
    pub health: RoleHealth,
}

/// The role, shared by its tasks and its service.
pub struct Nodes {
    rpc: RpcClient,
    identity: Arc<Identity>,
    database: Database,
    clock: Arc<dyn Clock>,
    epoch: i64,
    /// Our lease, and the database for what gives it up; `None` where nobody else could be active.
    leading: Option<(Tenure, Database)>,
    /// The highest epoch that a reader has told of: beyond ours nobody believes us.
    readers_epoch: std::sync::atomic::AtomicI64,
    publisher: Option<Publisher>,
    world: Mutex<World>,
    lanes: Lanes,
    publications: mpsc::Sender<Publication>,
    timers_changed: Notify,
    policy_wanted: Notify,
    /// When contradicting results are logged: the holder of an adapter's key can send them in masses.
    contradictions: Sparingly,
    /// The same for results of nodes that are not in their ticket.
    not_in_ticket: Sparingly,
    /// The policy of a restored Checks, which is asked for every minute.
    policies_refused: Sparingly,
    recorder: Recorder,
    figures: figures::Figures,
    health: RoleHealth,
}

/// Batches of results taken from the bus at once: those that are being stored, and as many that are being verified meanwhile.
const RESULTS_AT_ONCE: u16 = 2 * recorder::MAX_GROUP as u16;

/// The running role.
pub struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
    stop_lanes: watch::Sender<bool>,
    serving: Vec<Serving>,
}

/// Why the role could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Starts the role; it serves when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options {
        bus,
        notification_bus,
        identity,
        database,
        tenure,
        clock,
        server,
        publisher,
        heartbeat,
        history,
        health,
    } = options;
    let leading = Some((tenure.clone(), database.clone()));
    let (identity, database) = (Arc::new(identity.under(&tenure)), tenure.over_database(&database));
    let restored = storage::restore(&database, clock.now()).await?;
    let (lanes, parcels) = outbox::lanes();
    let per_second = publisher.as_ref().map(|publisher| publisher.per_second);
    let (publications, to_publish) = publisher::queue();
    let stored_policy = restored.policy;
    let nodes = Arc::new(Nodes {
        rpc: RpcClient::new(bus.clone(), identity.clone()),
        identity: identity.clone(),
        database: database.clone(),
        clock,
        epoch: tenure.epoch(),
        leading,
        readers_epoch: std::sync::atomic::AtomicI64::new(0),
        publisher,
        world: Mutex::new(World {
            nodes: std::collections::BTreeMap::new(),
            keeper: kept::Keeper::default(),
            packed: 0,
            policy: None,
            refused: None,
            policy_floors: restored.policy_floors,
            rules: Rules::default(),
            is_judged: true,
            pools: std::collections::BTreeMap::new(),
            digest: PoolsDigest::new(),
            version: 1,
            inventory_version: tenure.epoch(),
            timers: BTreeSet::new(),
            last_result: restored.last_result,
            last_outbox: restored.last_outbox,
            record_head: restored.record_head,
            losses: degraded::Losses::default(),
            departures: reconcile::Departures::default(),
        }),
        lanes,
        publications,
        timers_changed: Notify::new(),
        policy_wanted: Notify::new(),
        contradictions: Sparingly::default(),
        not_in_ticket: Sparingly::default(),
        policies_refused: Sparingly::default(),
        recorder: Recorder::default(),
        figures: figures::Figures::default(),
        health: health.clone(),
    });
    nodes.resume(stored_policy).await?;
    nodes.honour_revocations().await?;
    tracing::info!(role = "nodes", epoch = nodes.epoch, "role started");

    let stop = CancellationToken::new();
    let (stop_lanes, lanes_stopping) = watch::channel(false);
    let tasks = TaskTracker::new();
    for (lane, parcels) in parcels {
        let bus = if lane == Lane::Events { &bus } else { &notification_bus };
        let pace = per_second.filter(|_| lane == Lane::Notifications).map(pace::Pace::new);
        let waiting = restored.outbox.iter().filter(|parcel| parcel.lane == lane.as_str()).cloned().collect();
        let sender = Sender { lane, rpc: nodes.rpc.clone(), bus: bus.clone(), database: database.clone(), pace };
        let work = sender.run(waiting, parcels, lanes_stopping.clone());
        // It may wait for something to send, or for whoever takes it, as long as that takes.
        tasks.spawn(health.watched(lane.loop_name(), None, stop.clone(), work));
    }
    let mut serving = Vec::new();
    serving.push(Secured::serve_rpc(&bus, Topic::Nodes, &server, identity.clone(), Arc::new(nodes.clone())).await?);
    serving.push(
        Secured::serve_work(&bus, Topic::Results, None, RESULTS_AT_ONCE, identity, Arc::new(nodes.clone())).await?,
    );
    let watched = Some(TURN_LIMIT);
    health.expects_heartbeat(heartbeat * 15);
    let work = publisher::run(nodes.clone(), to_publish, stop.clone());
    tasks.spawn(health.watched("publications", watched, stop.clone(), work));
    let work = publisher::heartbeats(nodes.clone(), heartbeat, stop.clone());
    tasks.spawn(health.watched("heartbeats", watched, stop.clone(), work));
    let work = policy::keep_asking(nodes.clone(), stop.clone());
    tasks.spawn(health.watched("policy", Some(TURN_LIMIT * 2), stop.clone(), work));
    let work = revocation::watch(nodes.clone(), stop.clone());
    tasks.spawn(health.watched("revocations", watched, stop.clone(), work));
    let work = timers::run(nodes.clone(), stop.clone());
    tasks.spawn(health.watched("timers", watched, stop.clone(), work));
    let work = figures::keep(nodes.clone(), stop.clone());
    tasks.spawn(health.watched("figures", watched, stop.clone(), work));
    let work = timers::trim(nodes, history, stop.clone());
    tasks.spawn(health.watched("trim", None, stop.clone(), work));
    tasks.close();
    Ok(Running { tasks, stop, stop_lanes, serving })
}

impl Running {
    /// Stops at once, because the lease is over: what is under way is cut off, and what is not acknowledged goes back to the broker.
    pub async fn abandon(self) {
        drop(self.serving);
        self.stop.cancel();
        let _ = self.stop_lanes.send(true);
        self.tasks.wait().await;
    }

    /// Stops serving, lets what is in hand finish, and returns.
    pub async fn stop(self) {
        for serving in self.serving {
            serving.stop().await;
        }
        self.stop.cancel();
        let _ = self.stop_lanes.send(true);
        self.tasks.wait().await;
    }
}
