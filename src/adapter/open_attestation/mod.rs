//! Provider `openattestation`: asks an OpenAttestation verifier (1.x or 2.x, told apart by its answers) about hosts.
//!
//! `trusted` is a pass and `untrusted` a fail, as old as the time the verifier gives (`vtime`); every other level, and
//! whatever cannot be asked or understood, is an error or a timeout with its reason. How batches are cut so that one silent
//! host does not hold up the others is in `batch.rs`.

mod batch;
mod client;
mod culprits;
#[cfg(test)]
mod fuzz;
mod reply;
mod report;
mod settings;
mod unreached;
mod vtime;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use settings::{MAX_BATCH, Settings};

use crate::names::AdapterName;
use crate::text::display_safe;

use super::{CheckRequest, Provider, ProviderError, Results};
use client::Poller;
use culprits::Culprits;

/// The adapter's name.
pub const NAME: &str = "openattestation";
/// Longest `max_age_s`: 30 days.
const MAX_AGE_S: u64 = 30 * 24 * 3600;

/// Makes the provider.
///
/// # Errors
/// A sentence, when the settings are not valid or a file they name cannot be read.
pub fn build(settings: Settings) -> Result<Arc<dyn Provider>, String> {
    let name = AdapterName::new(NAME).map_err(|error| error.to_string())?;
    let poller = Poller::new(&settings)?;
    Ok(Arc::new(OpenAttestation {
        name,
        poller,
        culprits: Culprits::new(settings.culprit_memory),
        for_batches: Semaphore::new(settings.concurrency),
        for_alone: Semaphore::new(settings.concurrency),
        settings,
    }))
}

struct OpenAttestation {
    name: AdapterName,
    poller: Poller,
    culprits: Culprits,
    /// Requests for batches and for hosts asked alone do not wait for each other.
    for_batches: Semaphore,
    for_alone: Semaphore,
    settings: Settings,
}

/// The parameters of a check.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    max_age_s: Option<u64>,
}

#[async_trait]
impl Provider for OpenAttestation {
    fn name(&self) -> AdapterName {
        self.name.clone()
    }

    fn parameter_schema(&self) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "max_age_s": {
                    "description": "A verdict `trusted` that the verifier reached longer ago than this many seconds is an error.",
                    "type": "integer", "minimum": 1, "maximum": MAX_AGE_S
                }
            }
        })
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let parameters: Parameters = match &request.parameters {
            Value::Null => Parameters::default(),
            given => Parameters::deserialize(given)
                .map_err(|error| ProviderError::Fault(display_safe(&error.to_string())))?,
        };
        let max_age = parameters.max_age_s.map(Duration::from_secs);
        batch::Run::new(self, &request, results, max_age).carry_out().await
    }
}
