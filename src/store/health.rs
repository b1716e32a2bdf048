//! Whether the database can be used: one alarm for every spell of trouble, and its end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Reason, StoreError};

/// The state of one role's database.
#[derive(Debug)]
pub struct Health {
    role: &'static str,
    /// How long somebody waits for a connection.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    last_success: Option<Instant>,
}

/// A spell in which nothing can be stored.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What sort.
    pub reason: Reason,
    /// In words.
    pub error: String,
    began: Instant,
}

impl Health {
    pub(super) fn new(role: &'static str, patience: Duration) -> Self {
        metrics::gauge!("spice_database_up", "role" => role).set(1.0);
        Self { role, patience, state: Mutex::default() }
    }

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// As `status` shows it.
    #[must_use]
    pub fn as_json(&self) -> serde_json::Value {
        match self.trouble() {
            None => serde_json::json!({ "up": true }),
            Some(Trouble { reason, error, began }) => serde_json::json!({
                "up": false, "reason": reason.as_str(), "error": crate::text::display_safe(&error), "for_s": began.elapsed().as_secs(),
            }),
        }
    }

    /// Takes note of a failure.
    pub(super) fn failed(&self, error: &StoreError) {
        if matches!(error, StoreError::LeaseLost | StoreError::Over) {
            return;
        }
        let reason = error.reason();
        metrics::counter!("spice_database_failures_total", "role" => self.role, "reason" => reason.as_str())
            .increment(1);
        if !reason.is_outage() {
            return;
        }
        let State { trouble, last_success } = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited in vain began to wait before the last success: the trouble is over.
        let waited = matches!(error, StoreError::Database(sqlx::Error::PoolTimedOut));
        if waited && last_success.is_some_and(|at| at.elapsed() < self.patience) {
            return;
        }
        if trouble.as_ref().is_some_and(|trouble| trouble.reason == reason) {
            return;
        }
        metrics::gauge!("spice_database_up", "role" => self.role).set(0.0);
        tracing::error!(role = self.role, reason = reason.as_str(), %error, "the database cannot be used; work stays in its queue and is tried again");
        let began = trouble.as_ref().map_or_else(Instant::now, |before| before.began);
        *trouble = Some(Trouble { reason, error: error.to_string(), began });
    }

    /// Something was stored, or read where reading was the trouble.
    pub(super) fn recovered(&self) {
        let ended = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.last_success = Some(Instant::now());
            state.trouble.take()
        };
        let Some(trouble) = ended else { return };
        metrics::gauge!("spice_database_up", "role" => self.role).set(1.0);
        let duration_ms = u64::try_from(trouble.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            role = self.role,
            reason = trouble.reason.as_str(),
            duration_ms,
            "the database can be used again"
        );
    }
}
