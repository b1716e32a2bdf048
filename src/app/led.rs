//! How the roles are started of which one process at a time is active.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::app::leader::{Led, Running, Start};
use crate::app::needs::Vitals;
use crate::bus::Bus;
use crate::config::{ResultsSetting, Settings};
use crate::nodes::notify::{Publisher, ResultVolume};
use crate::rpc::Identity;
use crate::store::Database;
use crate::store::lease::{Candidate, Tenure};
use crate::store::life::{self, Life};
use crate::telemetry::health::RoleHealth;
use crate::{checks, nodes};

/// Role nodes, on SPICE's bus and that of notifications.
pub async fn nodes(
    settings: &Settings,
    (bus, notification_bus): (Bus, Bus),
    identity: Arc<Identity>,
    database: Database,
    who: &Who,
    vitals: Vitals,
) -> anyhow::Result<Led> {
    let candidate = candidate("nodes", &identity, &database, who);
    let (db, server, publisher) = (database.clone(), who.server.clone(), publisher(settings, &who.server));
    let (heartbeat, history) = (settings.nodes.heartbeat_interval, settings.nodes.history);
    let start: Start = Box::new(move |tenure: Tenure, health: RoleHealth| {
        let options = nodes::Options {
            bus: bus.clone(),
            notification_bus: notification_bus.clone(),
            identity: identity.clone(),
            database: db.clone(),
            tenure,
            clock: identity.clock.clone(),
            server: server.clone(),
            publisher: publisher.clone(),
            heartbeat,
            history,
            health,
        };
        Box::pin(async move { Ok(Running::Nodes(nodes::start(options).await.context("role nodes")?)) })
    });
    Led::begin(vitals, candidate, database, start).await
}

/// Role checks.
pub async fn checks(
    bus: Bus,
    identity: Arc<Identity>,
    database: Database,
    who: &Who,
    vitals: Vitals,
) -> anyhow::Result<Led> {
    let candidate = candidate("checks", &identity, &database, who);
    let (db, server) = (database.clone(), who.server.clone());
    let start: Start = Box::new(move |tenure: Tenure, health: RoleHealth| {
        let options = checks::Options {
            bus: bus.clone(),
            identity: identity.clone(),
            database: db.clone(),
            tenure,
            clock: identity.clock.clone(),
            server: server.clone(),
            health,
        };
        Box::pin(async move { Ok(Running::Checks(checks::start(options).await.context("role checks")?)) })
    });
    Led::begin(vitals, candidate, database, start).await
}

fn candidate(role: &'static str, identity: &Identity, database: &Database, who: &Who) -> Candidate {
    let holder = life::holder(&who.server, &uuid::Uuid::new_v4().simple().to_string());
    let candidate = Candidate::new(role, holder, database.clone(), identity.clock.clone());
    match &who.life {
        Some(life) => candidate.living(Arc::clone(life)),
        None => candidate,
    }
}

/// The process that wants to lead roles.
pub struct Who {
    /// How it is called on the bus.
    pub server: String,
    life: Option<Arc<Life>>,
}

impl Who {
    /// This process, called `server`; in `state_dir` others of this machine see whether it lives.
    #[must_use]
    pub fn here(server: &str, state_dir: &Path) -> Self {
        let life = Life::begin(&state_dir.join("lives"), server);
        let life = life.inspect_err(|error| {
            tracing::warn!(%error, folder = %state_dir.join("lives").display(), "after a crash of this process the lease of its roles has to run out");
        });
        Self { server: server.to_owned(), life: life.ok().map(Arc::new) }
    }

    /// A process that leads nothing.
    #[must_use]
    pub fn nameless(server: &str) -> Self {
        Self { server: server.to_owned(), life: None }
    }
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
        per_second: notifications.per_second,
    })
}
