//! What roles need from outside, watched for [`crate::telemetry::health`]: their buses and their databases.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Broker, Bus};
use crate::store::Database;
use crate::telemetry::health::{Health, RoleHealth, Standing};
use crate::text::display_safe;

/// How often a database is asked whether it answers, and how long it may take.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// `role` needs `bus`.
pub fn bus(role: &RoleHealth, what: &'static str, bus: &Bus) {
    let broker = bus.broker();
    role.needs(what, move || match &*broker.borrow() {
        Broker::Reached => None,
        Broker::Away(why) => Some(format!("away: {why}")),
        Broker::Blocked(why) => Some(format!("takes no messages: {why}")),
    });
}

/// The health of a role that is led by one process at a time: every tenure, and the standing by between them, is a life of its own, and each
/// needs the bus and the database.
pub struct Vitals {
    health: Health,
    role: &'static str,
    bus: Bus,
    database_fault: watch::Receiver<Option<String>>,
}

impl Vitals {
    /// Asks `database` from time to time whether it answers, until `stop`.
    pub fn new(health: &Health, role: &'static str, bus: &Bus, database: &Database, stop: CancellationToken) -> Self {
        let database_fault = ask(role, database.clone(), stop);
        Self { health: health.clone(), role, bus: bus.clone(), database_fault }
    }

    /// The role's name.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// A new life of the role, which stands by.
    pub fn life(&self) -> RoleHealth {
        let role = self.health.role(self.role);
        bus(&role, "broker", &self.bus);
        let fault = self.database_fault.clone();
        role.needs("database", move || fault.borrow().clone());
        role.stands(Standing::Standby);
        role
    }
}

/// Asks a database whether it answers, until `stop`; tells what is wrong.
fn ask(name: &'static str, database: Database, stop: CancellationToken) -> watch::Receiver<Option<String>> {
    let (told, fault) = watch::channel(None::<String>);
    tokio::spawn(async move {
        loop {
            let asked = std::time::Instant::now();
            let answer = tokio::time::timeout(ASK_EVERY, database.probe()).await;
            let fault = match answer {
                // Reading works where the disk is full; what was last tried to store says more.
                Ok(Ok(())) => database.health().trouble().map(|trouble| {
                    display_safe(&format!("it takes nothing ({}): {}", trouble.reason.as_str(), trouble.error))
                }),
                Ok(Err(error)) => Some(display_safe(&error.to_string())),
                Err(_) => Some(format!("it does not answer within {} s", ASK_EVERY.as_secs())),
            };
            metrics::gauge!("spice_database_answer_seconds", "role" => name).set(asked.elapsed().as_secs_f64());
            if told.borrow().is_none() != fault.is_none() {
                match &fault {
                    Some(fault) => tracing::error!(role = name, "the database does not answer: {fault}"),
                    None => tracing::info!(role = name, "the database answers again"),
                }
            }
            told.send_replace(fault);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    });
    fault
}
