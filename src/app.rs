//! One process: its roles started in order, watched, and stopped in reverse within a time limit.

mod needs;
mod own_keys;
mod transports;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::adapter::registry;
use crate::bus::{Bus, Transport};
use crate::clock::{Clock, SystemClock};
use crate::config::{ResultsSetting, Settings, Sources};
use crate::nodes::notify::{Publisher, ResultVolume};
use crate::rpc::Identity;
use crate::security::{SharedTrustStore, SigningKey};
use crate::store::Database;
use crate::telemetry::health::{Health, RoleHealth, Standing};
use crate::{adapter, checks, nodes, pool};

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
}

impl Role {
    /// All of them: what a process runs that is not told otherwise.
    pub const ALL: [Role; 4] = [Role::Nodes, Role::Checks, Role::Adapter, Role::Pool];
}

enum Running {
    Nodes(nodes::Running),
    Checks(checks::Running),
    Adapter(adapter::service::Running),
    Pool(pool::Running),
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
                    let connection = settings.database.connection(crate::config::Role::Nodes);
                    let database =
                        Database::open(connection.reveal(), "nodes").await.context("opening the database of nodes")?;
                    self.databases.push(database.clone());
                    let notification_bus = self.transports.bus(settings, Transport::Notifications)?;
                    let health = self.watched("nodes");
                    needs::database(&health, "nodes", database.clone(), self.stop_watching.clone());
                    let options = nodes::Options {
                        bus: self.bus.clone(),
                        notification_bus,
                        identity: identity("nodes")?,
                        database,
                        clock: clock.clone(),
                        server: server.clone(),
                        publisher: publisher(settings, &server),
                        heartbeat: settings.nodes.heartbeat_interval,
                        history: settings.nodes.history,
                        health: health.clone(),
                    };
                    self.running.push(Running::Nodes(nodes::start(options).await.context("starting role nodes")?));
                    health.stands(Standing::Active);
                }
                Role::Checks => {
                    let connection = settings.database.connection(crate::config::Role::Checks);
                    let database = Database::open(connection.reveal(), "checks")
                        .await
                        .context("opening the database of checks")?;
                    self.databases.push(database.clone());
                    let health = self.watched("checks");
                    needs::database(&health, "checks", database.clone(), self.stop_watching.clone());
                    let options = checks::Options {
                        bus: self.bus.clone(),
                        identity: identity("checks")?,
                        database,
                        clock: clock.clone(),
                        server: server.clone(),
                        health: health.clone(),
                    };
                    self.running.push(Running::Checks(checks::start(options).await.context("starting role checks")?));
                    health.stands(Standing::Active);
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
            }
        }
        self.identities = identities;
        Ok(())
    }

    async fn start_adapters(
        &mut self,
        settings: &Settings,
        sources: &Sources,
        clock: &Arc<dyn Clock>,
        server: &str,
        identity: &mut dyn FnMut(&str) -> anyhow::Result<Arc<Identity>>,
    ) -> anyhow::Result<()> {
        use anyhow::Context;
        let agents = self.transports.bus(settings, Transport::Agents)?;
        for (name, built) in registry::build_all(&provider_settings(settings, sources)) {
            if !settings.adapter.names.iter().any(|wanted| wanted.as_str() == name) {
                continue;
            }
            let concurrency = u16::try_from(settings.adapter.concurrency).unwrap_or(u16::MAX).max(1);
            let runner = match built.and_then(|provider| adapter::service::wrap(provider, concurrency)) {
                Ok(runner) => runner,
                Err(reason) => {
                    // The others work on; checks of this one say that no adapter lives.
                    tracing::error!(adapter = name, reason, "this adapter cannot be offered here");
                    continue;
                }
            };
            let health = self.watched(&format!("adapter:{name}"));
            needs::bus(&health, "agents' broker", &agents);
            let options = adapter::service::Options {
                bus: self.bus.clone(),
                agents: agents.clone(),
                identity: identity(&format!("adapter-{name}"))?,
                clock: clock.clone(),
                runner,
                batches: concurrency,
                instance: format!("{server}:{}", std::process::id()),
                health: health.clone(),
            };
            let started = adapter::service::start(options).await;
            self.running.push(Running::Adapter(started.with_context(|| format!("starting adapter {name}"))?));
            health.stands(Standing::Active);
        }
        Ok(())
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
                    Running::Nodes(role) => role.stop().await,
                    Running::Checks(role) => role.stop().await,
                    Running::Adapter(role) => role.stop().await,
                    Running::Pool(role) => role.stop().await,
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

fn publisher(settings: &Settings, host: &str) -> Option<Publisher> {
    let notifications = &settings.notifications;
    notifications.enabled.then(|| Publisher {
        publisher_id: format!("spice.nodes:{host}"),
        project_id: notifications.project_id.clone(),
        results: match notifications.results {
            ResultsSetting::All => ResultVolume::All,
            ResultsSetting::Changes => ResultVolume::Changes,
            ResultsSetting::None => ResultVolume::None,
        },
    })
}

/// Providers as the settings have them.
fn provider_settings(settings: &Settings, sources: &Sources) -> registry::Settings {
    let oat = &settings.openattestation;
    let openattestation = oat.url.clone().map(|url| adapter::open_attestation::Settings {
        url,
        insecure_loopback_http: oat.insecure_http,
        ca_file: oat.ca_file.clone(),
        client_cert: oat.client_cert_file.clone(),
        client_key: oat.client_key_file.clone(),
        auth_blob: oat.auth_blob.as_ref().map(|blob| adapter::secret::Secret::new(blob.reveal().clone())),
        request_timeout: oat.timeout,
        max_reply_bytes: oat.max_reply_bytes,
        batch: oat.batch_size,
        concurrency: oat.concurrency,
        ..adapter::open_attestation::Settings::default()
    });
    let listed = |folder: &PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let secret_files = listed(&settings.security.key_dir)
        .chain(sources.files.iter().cloned())
        .chain(sources.dirs.iter().flat_map(listed))
        .chain(oat.client_key_file.clone())
        .collect();
    let command = adapter::command::Settings {
        plugin_dir: settings.command.plugin_dir.clone(),
        user: settings.command.user.clone(),
        concurrency: settings.command.max_processes,
        secret_files,
        launcher: None,
    };
    registry::Settings { openattestation, command: Some(command) }
}
