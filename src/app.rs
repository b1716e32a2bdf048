//! One process: its roles started in order, watched, and stopped in reverse within a time limit.

mod adapters;
mod cloud;
pub mod leader;
mod led;
pub(crate) mod needs;
mod own_keys;
mod transports;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::leader::{Led, Phase};
use crate::app::led::Who;
use crate::app::needs::Vitals;
use crate::bus::{Bus, Transport};
use crate::clock::{Clock, SystemClock};
use crate::config::{Settings, Sources};
use crate::rpc::Identity;
use crate::security::{SharedTrustStore, SigningKey};
use crate::store::Database;
use crate::telemetry::health::{Health, RoleHealth, Standing};
use crate::{adapter, nova, pool};

pub use transports::Transports;

/// How long stopping may take before the process ends anyway.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A role of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Nodes, results, trust, pools.
    Nodes,
    /// Checks, schedules, runs.
    Checks,
    /// Carries checks out.
    Adapter,
    /// Writes the pool file beside nova-scheduler.
    Pool,
    /// Tells which compute nodes Nova has.
    Nova,
}

impl Role {
    /// Those that need nothing but SPICE's own bus. All of them in one process may make their own keys.
    pub const ALL: [Role; 4] = [Role::Nodes, Role::Checks, Role::Adapter, Role::Pool];

    /// What a process runs that is not told otherwise: [`Role::ALL`], and what asks OpenStack where it is said how.
    #[must_use]
    pub fn usual(settings: &Settings) -> BTreeSet<Role> {
        let asks = settings.openstack.account.is_some();
        Self::ALL.into_iter().chain(asks.then_some(Role::Nova)).collect()
    }
}

enum Running {
    Led(Led),
    Adapter(adapter::service::Running),
    Pool(pool::Running),
    Nova(nova::Running),
}

/// A started process.
pub struct App {
    bus: Bus,
    transports: Transports,
    running: Vec<Running>,
    databases: Vec<Database>,
    identities: Vec<(String, Arc<Identity>)>,
    stop_watching: CancellationToken,
    health: Health,
    standing: Vec<RoleHealth>,
}

/// Starts `roles`. What was started before a failure is stopped again. `sources` are the files `settings` came from: no
/// plugin is run that could read them. What becomes of the roles is told to `health`.
///
/// # Errors
/// What was being done, and why it failed.
pub async fn start(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    sources: &Sources,
    health: Health,
) -> anyhow::Result<App> {
    use anyhow::Context;
    let clock = SystemClock::shared();
    let all_in_one = Role::ALL.iter().all(|role| roles.contains(role));
    own_keys::make_first(settings, all_in_one).context("making the first keys")?;
    let trust = SharedTrustStore::open(&settings.security.trust_dir)
        .with_context(|| format!("reading the trust store {}", settings.security.trust_dir.display()))?;
    let mut transports = Transports::new("spiced");
    let mut app = App {
        bus: transports.bus(settings, Transport::Control)?,
        transports,
        running: Vec::new(),
        databases: Vec::new(),
        identities: Vec::new(),
        stop_watching: CancellationToken::new(),
        health,
        standing: Vec::new(),
    };
    let started = app.start_roles(settings, roles, sources, &clock, &trust).await;
    if let Err(error) = started {
        app.stop().await;
        return Err(error);
    }
    tokio::spawn(own_keys::watch(std::mem::take(&mut app.identities), app.stop_watching.clone()));
    Ok(app)
}

impl App {
    async fn start_roles(
        &mut self,
        settings: &Settings,
        roles: &BTreeSet<Role>,
        sources: &Sources,
        clock: &Arc<dyn Clock>,
        trust: &Arc<SharedTrustStore>,
    ) -> anyhow::Result<()> {
        use anyhow::Context;
        let server = host_name();
        let leads = roles.iter().any(|role| matches!(role, Role::Nodes | Role::Checks));
        let who = if leads { Who::here(&server, &settings.state_dir) } else { Who::nameless(&server) };
        let mut identities = Vec::new();
        let mut identity = |name: &str| -> anyhow::Result<Arc<Identity>> {
            let path = settings.security.key_dir.join(format!("{name}.pem"));
            let key = SigningKey::load(&path).with_context(|| own_keys::how_to_replace(name))?;
            let identity = Identity::new(settings.deployment.clone(), name, key, trust.clone(), clock.clone());
            let identity = Arc::new(identity.unsigned_admin(settings.security.unsigned_admin));
            identities.push((name.to_owned(), identity.clone()));
            Ok(identity)
        };
        for role in roles {
            match role {
                Role::Nodes => {
                    let bus = self.bus.clone();
                    let notifications = self.transports.bus(settings, Transport::Notifications)?;
                    let database = self.database(settings, crate::config::Role::Nodes, "nodes").await?;
                    let vitals = self.vitals("nodes", &database);
                    let role = led::nodes(settings, (bus, notifications), identity("nodes")?, database, &who, vitals);
                    self.running.push(Running::Led(role.await.context("starting role nodes")?));
                }
                Role::Checks => {
                    let bus = self.bus.clone();
                    let database = self.database(settings, crate::config::Role::Checks, "checks").await?;
                    let vitals = self.vitals("checks", &database);
                    let role = led::checks(bus, identity("checks")?, database, &who, vitals);
                    self.running.push(Running::Led(role.await.context("starting role checks")?));
                }
                Role::Adapter => self.start_adapters(settings, sources, clock, &server, &mut identity).await?,
                Role::Pool => {
                    let health = self.watched("pool");
                    let options = pool::Options {
                        bus: self.bus.clone(),
                        identity: identity("pool")?,
                        clock: clock.clone(),
                        folder: settings.pool.run_dir.clone(),
                        memory: settings.state_dir.join("pool-cache.json"),
                        coalesce: settings.pool.coalesce,
                        health: health.clone(),
                    };
                    self.running.push(Running::Pool(pool::start(options).await.context("starting role pool")?));
                    health.stands(Standing::Active);
                }
                Role::Nova => self.start_nova(settings, identity("nova")?).context("starting role nova")?,
            }
        }
        self.identities = identities;
        Ok(())
    }

    async fn database(
        &mut self,
        settings: &Settings,
        role: crate::config::Role,
        name: &'static str,
    ) -> anyhow::Result<Database> {
        use anyhow::Context;
        let opened = Database::open(settings.database.connection(role).reveal(), name).await;
        let database = opened.with_context(|| format!("opening the database of {name}"))?;
        self.databases.push(database.clone());
        Ok(database)
    }

    /// What this process is in each role of which only one process is active.
    #[must_use]
    pub fn phases(&self) -> Vec<(&'static str, tokio::sync::watch::Receiver<Phase>)> {
        let led = self.running.iter().filter_map(|running| match running {
            Running::Led(role) => Some((role.role, role.phase.clone())),
            _ => None,
        });
        led.collect()
    }

    /// How the health of a role is watched that is led by one process at a time.
    fn vitals(&self, role: &'static str, database: &Database) -> Vitals {
        Vitals::new(&self.health, role, &self.bus, database, self.stop_watching.clone())
    }

    /// A role whose health is watched, and that needs SPICE's bus.
    fn watched(&mut self, name: &str) -> RoleHealth {
        let role = self.health.role(name);
        needs::bus(&role, "broker", &self.bus);
        self.standing.push(role.clone());
        role
    }

    /// Stops every role, the last started first, then the bus and the databases; within a time limit.
    pub async fn stop(self) {
        let Self { bus: _, transports, running, databases, identities: _, stop_watching, health: _, standing } = self;
        for role in standing {
            role.stands(Standing::Stopping);
        }
        stop_watching.cancel();
        let stopping = async {
            for role in running.into_iter().rev() {
                match role {
                    Running::Led(role) => role.stop().await,
                    Running::Adapter(role) => role.stop().await,
                    Running::Pool(role) => role.stop().await,
                    Running::Nova(role) => role.stop().await,
                }
            }
            transports.close().await;
            for database in databases {
                database.close().await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, stopping).await.is_err() {
            tracing::error!("stopping took too long; what was in hand is done again after the next start");
        }
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '-' }).collect();
    if safe.is_empty() { "localhost".to_owned() } else { safe }
}
