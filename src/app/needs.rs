//! What roles need from outside, watched for [`crate::telemetry::health`]: their buses and their databases.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Broker, Bus};
use crate::store::Database;
use crate::telemetry::health::RoleHealth;
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

/// `role` needs `database`, which is asked until `stop`.
pub fn database(role: &RoleHealth, name: &'static str, database: Database, stop: CancellationToken) {
    let (told, fault) = watch::channel(None::<String>);
    role.needs("database", move || fault.borrow().clone());
    tokio::spawn(async move {
        loop {
            let asked = std::time::Instant::now();
            let answer = tokio::time::timeout(ASK_EVERY, database.probe()).await;
            let fault = match answer {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(display_safe(&error.to_string())),
                Err(_) => Some(format!("it does not answer within {} s", ASK_EVERY.as_secs())),
            };
            metrics::gauge!("spice_database_up", "role" => name).set(f64::from(fault.is_none()));
            metrics::gauge!("spice_database_answer_seconds", "role" => name).set(asked.elapsed().as_secs_f64());
            if told.borrow().is_none() != fault.is_none() {
                match &fault {
                    Some(fault) => tracing::error!(role = name, "the database does not answer: {fault}"),
                    None => tracing::info!(role = name, "the database answers again"),
                }
            }
            told.send_replace(fault);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    });
}
