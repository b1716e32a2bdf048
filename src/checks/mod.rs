//! Role *checks*: what is to be run, where and when.
//!
//! [`registry`] holds the definitions and makes the policy Nodes judges by, [`planner`] says what is due, [`runs`] what is
//! awaited, [`losses`] what of that was lost on its way; all four are values. [`dispatch`] moves them with the clock: it
//! stores a batch, signs its ticket, and casts it to the adapter; [`recast`] casts it again when it was lost; [`overdue`]
//! reports as `timeout` what Nodes has not stored by the deadline, and [`endings`] gives every batch an end. [`window`] holds runs back for a time. [`service`] is what people and
//! other roles call (`changes`, `pools`, `events`, `views`, `dead_letters`). `consent` stands before every change of what pools require,
//! [`audit`] keeps who made it.

pub mod adapters;
pub mod audit;
mod begin;
mod changes;
mod consent;
mod dead_letters;
pub mod definition;
pub mod dispatch;
pub mod due;
pub mod endings;
mod events;
pub mod examine;
mod figures;
pub mod inventory;
pub mod lateness;
pub mod ledger;
pub mod losses;
mod news;
pub mod overdue;
pub mod planner;
mod pools;
pub mod prerequisites;
pub mod profile;
pub mod recast;
pub mod registry;
pub mod run;
mod run_now;
pub mod runs;
pub mod schedule;
pub mod service;
pub mod silence;
pub mod storage;
mod views;
pub mod waiting;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use crate::bus::Bus;
use crate::checks::adapters::Adapters;
use crate::checks::audit::Author;
use crate::checks::consent::Previews;
use crate::checks::news::News;
use crate::checks::planner::{Inventory, Now, Planner};
use crate::checks::registry::Registry;
use crate::checks::runs::Runs;
use crate::clock::{Clock, Timestamp};
use crate::names::CheckName;
use crate::protocol::{RunOrder, Ticket};
use crate::rpc::server::Serving;
use crate::rpc::table::Topic;
use crate::rpc::{Identity, RpcClient, RpcError, Secured};
use crate::security::document::{DocumentKind, SignedDocument};
use crate::store::lease::Tenure;
use crate::store::{Database, StoreError};
use crate::telemetry::health::{RoleHealth, TURN_LIMIT};

/// What the role needs from outside.
pub struct Options {
    /// The bus.
    pub bus: Bus,
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
    /// Where the role shows that it lives.
    pub health: RoleHealth,
}

/// The role, shared by its loop and its service.
pub struct Checks {
    bus: Bus,
    rpc: RpcClient,
    identity: Arc<Identity>,
    database: Database,
    clock: Arc<dyn Clock>,
    epoch: i64,
    state: Mutex<State>,
    /// What administrators were shown and may confirm.
    previews: Previews,
    /// Something changed that the loop should look at before its next tick.
    wake: Notify,
    health: RoleHealth,
}

/// All that changes. A change is committed to the database before it is made here.
struct State {
    registry: Registry,
    policy_number: i64,
    next_run: i64,
    planner: Planner,
    runs: Runs,
    inventory: Inventory,
    inventory_version: Option<i64>,
    adapters: Adapters,
    news: News,
    last_slots: BTreeMap<CheckName, Timestamp>,
}

/// The running role.
pub struct Running {
    tasks: tokio_util::task::TaskTracker,
    stop: tokio_util::sync::CancellationToken,
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
    Bus(#[from] crate::bus::BusError),
}

/// Starts the role; it serves when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options { bus, identity, database, tenure, clock, server, health } = options;
    let (identity, database) = (Arc::new(identity.under(&tenure)), tenure.over_database(&database));
    let mut restored = storage::restore(&database).await?;
    if restored.policy_number == 0 {
        first_definitions(&mut restored.registry);
        let mut changes = database.begin().await?;
        let nothing = Registry::default();
        storage::save_registry(&mut changes, &nothing, &restored.registry, 1).await?;
        let author = Author::of_the_service();
        audit::save(&database, &mut changes, (&nothing, &restored.registry), &author, 1, clock.now()).await?;
        changes.commit().await?;
        restored.policy_number = 1;
    }
    let now = Now { utc: clock.now(), monotonic: clock.monotonic() };
    let mut planner = Planner::default();
    planner.follow(&restored.registry, &restored.last_slots, now);
    planner.holding.restore(restored.marks, &restored.registry, now);
    let checks = Arc::new(Checks {
        bus: bus.clone(),
        rpc: RpcClient::new(bus.clone(), identity.clone()),
        identity: identity.clone(),
        database,
        clock,
        epoch: tenure.epoch(),
        state: Mutex::new(State {
            registry: restored.registry,
            policy_number: restored.policy_number,
            next_run: 1,
            planner,
            runs: restored.runs,
            inventory: Inventory::new(),
            inventory_version: None,
            adapters: Adapters::restore(restored.schemas),
            news: News::restore(restored.news),
            last_slots: restored.last_slots,
        }),
        previews: Previews::default(),
        wake: Notify::new(),
        health: health.clone(),
    });
    tracing::info!(role = "checks", epoch = checks.epoch, "role started");

    let mut serving = Vec::new();
    serving.push(Secured::serve_rpc(&bus, Topic::Checks, &server, identity.clone(), Arc::new(checks.clone())).await?);
    serving.push(Secured::serve_work(&bus, Topic::Events, None, 8, identity, Arc::new(checks.clone())).await?);
    let stop = tokio_util::sync::CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    let watched = Some(TURN_LIMIT);
    let work = inventory::keep(checks.clone(), stop.clone());
    tasks.spawn(health.watched("inventory", watched, stop.clone(), work));
    let work = dispatch::run(checks.clone(), stop.clone());
    tasks.spawn(health.watched("dispatch", watched, stop.clone(), work));
    let work = recast::run(checks.clone(), stop.clone());
    tasks.spawn(health.watched("recast", watched, stop.clone(), work));
    let work = figures::keep(checks.clone(), stop.clone());
    tasks.spawn(health.watched("figures", watched, stop.clone(), work));
    tasks.spawn(async move { checks.publish_policy().await });
    tasks.close();
    Ok(Running { tasks, stop, serving })
}

impl Running {
    /// Stops at once, because the lease is over: what is under way is cut off, and what is not acknowledged goes back to the broker.
    pub async fn abandon(self) {
        drop(self.serving);
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Stops serving, lets what is in hand finish, and returns.
    pub async fn stop(self) {
        for serving in self.serving {
            serving.stop().await;
        }
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What a new deployment begins with: the pool `default` and the usual profiles.
fn first_definitions(registry: &mut Registry) {
    for shipped in schedule::SHIPPED_PROFILES {
        if let (Ok(name), Ok(schedule)) = (shipped.name.parse::<crate::names::ProfileName>(), shipped.schedule()) {
            let profile = profile::Profile { name: name.clone(), schedule, description: "shipped".to_owned() };
            registry.profiles.insert(name, profile);
        }
    }
    if let Some(pool) = registry::default_pool() {
        registry.pools.insert(pool.name.clone(), pool);
    }
}

impl Checks {
    fn now(&self) -> Now {
        Now { utc: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    /// The policy in force, signed.
    async fn signed_policy(&self) -> Result<SignedDocument, RpcError> {
        let state = self.state.lock().await;
        let policy =
            state.registry.policy(&self.identity.deployment, self.epoch, state.policy_number, self.clock.now());
        drop(state);
        self.identity.sign(DocumentKind::Policy, &policy)
    }

    /// Tells Nodes of the policy. Should it be lost, Nodes asks for it.
    async fn publish_policy(&self) {
        let Ok(document) = self.signed_policy().await else { return };
        let args = serde_json::Map::from_iter([("document".to_owned(), serde_json::json!(document))]);
        if let Err(error) = self.rpc.cast(Topic::Nodes, "policy_publish", args).await {
            tracing::info!(%error, "the policy could not be published; nodes will ask for it");
        }
    }

    /// Replaces the registry: stored first, with who did it, then in force, then told to Nodes.
    async fn install(self: &Arc<Self>, state: &mut State, next: Registry, author: &Author) -> Result<(), RpcError> {
        if next == state.registry {
            return Ok(());
        }
        let number = state.policy_number + 1;
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        storage::save_registry(&mut changes, &state.registry, &next, number).await.map_err(RpcError::from)?;
        let difference = (&state.registry, &next);
        audit::save(&self.database, &mut changes, difference, author, number, self.clock.now())
            .await
            .map_err(RpcError::from)?;
        let now = self.now();
        // Stored, so that a restart before the first slot does not begin to count anew.
        let scheduled_anew = next.scheduled_anew(&state.registry);
        for check in &scheduled_anew {
            storage::save_slot(&mut changes, check, now.utc).await.map_err(RpcError::from)?;
        }
        changes.commit().await.map_err(RpcError::from)?;
        state.last_slots.extend(scheduled_anew.into_iter().map(|check| (check, now.utc)));
        state.registry = next;
        state.policy_number = number;
        state.last_slots.retain(|check, _| state.registry.checks.contains_key(check));
        state.planner.follow(&state.registry, &state.last_slots, now);
        let checks = self.clone();
        tokio::spawn(async move { checks.publish_policy().await });
        self.wake.notify_one();
        Ok(())
    }

    fn sign_ticket(&self, ticket: &Ticket) -> Result<SignedDocument, RpcError> {
        self.identity.sign(DocumentKind::Ticket, ticket)
    }
}

impl State {
    fn next_order(&mut self, epoch: i64) -> RunOrder {
        let order = RunOrder { epoch, run: self.next_run };
        self.next_run += 1;
        order
    }
}
