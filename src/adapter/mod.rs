//! Role *adapter*: carries out a check on a batch of nodes through a provider.
//!
//! # How to add a provider
//! Make a folder beside this file, implement [`Provider`], add one line to `registry.rs`. Deadline, retries, concurrency, panics,
//! answers that are missing and answers nobody asked for are handled around it, once (`runner.rs`).

mod batches;
pub mod command;
pub mod open_attestation;
mod presence;
pub mod registry;
pub mod runner;
pub(crate) mod schema;
pub mod secret;
pub mod service;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::names::{AdapterName, CheckName, NodeName};
use crate::protocol::NodeResult;

/// One batch to be judged.
#[derive(Clone)]
pub struct CheckRequest {
    /// The check's name, for logs.
    pub check: CheckName,
    /// The check's parameters; they match the provider's schema.
    pub parameters: Value,
    /// The nodes, each once, at most 200.
    pub nodes: Vec<NodeName>,
    /// The provider is stopped at this moment; what it reported before counts.
    pub deadline: Instant,
    /// How often is asked again after a transport error, 0 to 10. The runner does so; a provider that asks in parts may for its parts.
    pub retries: u32,
    /// For time stamps in results.
    pub clock: Arc<dyn Clock>,
}

impl CheckRequest {
    /// How long is left; zero when the deadline has passed.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Now, for `requested_at` and `finished_at`.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Where a provider puts results as it has them, so that one silent node does not hold up the others.
pub type Results = tokio::sync::mpsc::Sender<NodeResult>;

/// Why a whole batch could not be carried out. Nodes not yet reported become `error` with this text, after the last attempt.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The other end could not be reached or broke off: the runner asks again about the nodes not yet reported, with a back-off, as often
    /// as the check allows and its deadline.
    #[error("{0}")]
    Transport(String),
    /// Asking again will not help: bad configuration, a refused plugin, a verifier that answers garbage.
    #[error("{0}")]
    Fault(String),
}

/// One way to judge nodes.
///
/// Contract: report each node of the request at most once through `results`, before `request.deadline`; nodes left
/// unreported are recorded as `error` (if an `Err` is returned) or `timeout`. A result is `Fail` only where the verifier
/// said no about *that node*; whatever could not be asked or understood is `Error` or `Timeout`.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The adapter's name: the same word in configuration, queues, roles and logs.
    fn name(&self) -> AdapterName;

    /// JSON Schema of the parameters; checked when a check is registered.
    fn parameter_schema(&self) -> Value;

    /// Faults in parameters that a schema cannot express (an unknown plugin, a contradiction), as a sentence that says what
    /// to do. Called when a check is about to run, and by `spicectl`-visible announcements.
    ///
    /// # Errors
    /// The sentence.
    fn validate(&self, parameters: &Value) -> Result<(), String> {
        let _ = parameters;
        Ok(())
    }

    /// Judges the batch.
    ///
    /// # Errors
    /// [`ProviderError`] when nothing (more) can be said about any node of the batch.
    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError>;
}
