//! How the roles are started of which one process at a time is active.

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
use crate::telemetry::health::RoleHealth;
use crate::{checks, nodes};

/// Role nodes, on SPICE's bus and that of notifications.
pub async fn nodes(
    settings: &Settings,
    (bus, notification_bus): (Bus, Bus),
    identity: Arc<Identity>,
    database: Database,
    server: &str,
    vitals: Vitals,
) -> anyhow::Result<Led> {
    let candidate = candidate("nodes", &identity, &database, server);
    let (db, server, publisher) = (database.clone(), server.to_owned(), publisher(settings, server));
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
    server: &str,
    vitals: Vitals,
) -> anyhow::Result<Led> {
    let candidate = candidate("checks", &identity, &database, server);
    let (db, server) = (database.clone(), server.to_owned());
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

/// Two processes on one host, or two lives of one, are not the same.
fn candidate(role: &'static str, identity: &Identity, database: &Database, server: &str) -> Candidate {
    let life = uuid::Uuid::new_v4().simple().to_string();
    let holder = format!("{server}:{}:{}", std::process::id(), &life[..8]);
    Candidate::new(role, holder, database.clone(), identity.clock.clone())
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
