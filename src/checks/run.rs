//! A run and its batches, as they are stored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::checks::endings::Ending;
use crate::checks::losses::Loss;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::RunOrder;
use crate::protocol::ticket::DEFAULT_RETRIES;
use crate::security::document::SignedDocument;

/// Why a run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its schedule.
    Schedule,
    /// An administrator asked.
    Request,
    /// Nodes that are new, released, back or rebooted.
    NodeChange,
}

/// One run of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id and place in the order of runs.
    pub order: RunOrder,
    /// Of which check.
    pub check: CheckName,
    /// Why.
    pub cause: Cause,
    /// When it began.
    pub started_at: Timestamp,
    /// How many nodes it covers; grows while a splayed run is being sent out.
    pub total: i64,
    /// Stored outcomes by status.
    pub outcomes: BTreeMap<String, i64>,
    /// When the last outcome was stored.
    pub finished_at: Option<Timestamp>,
    /// Whether more nodes may still be added to it.
    pub sending: bool,
    /// The highest attempt of any of its batches.
    #[serde(default = "first_attempt")]
    pub attempts: i64,
    /// How many batches were cast again, by reason.
    #[serde(default)]
    pub recasts: BTreeMap<Loss, i64>,
    /// How many outcomes Nodes never reported as stored, though it was asked again and again.
    #[serde(default)]
    pub unheard: i64,
}

fn first_attempt() -> i64 {
    1
}

fn default_retries() -> i64 {
    DEFAULT_RETRIES
}

impl Run {
    /// How many outcomes are stored.
    #[must_use]
    pub fn done(&self) -> i64 {
        self.outcomes.values().sum()
    }
}

/// One batch on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The run it belongs to.
    pub order: RunOrder,
    /// Which batch of the run.
    pub batch: i64,
    /// The check.
    pub check: CheckName,
    /// The adapter it was sent to.
    pub adapter: String,
    /// Which attempt this is: 1, and one more each time it is cast again.
    #[serde(default = "first_attempt")]
    pub attempt: i64,
    /// The signed ticket of this attempt.
    pub ticket: SignedDocument,
    /// The parameters sent.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// How often the adapter may ask again after a transport error.
    #[serde(default = "default_retries")]
    pub retries: i64,
    /// Until when an answer is awaited.
    pub deadline: Timestamp,
    /// Nodes whose outcome Nodes has not yet reported as stored.
    pub awaited: BTreeSet<NodeName>,
    /// Whether `run_check` of this attempt was handed to the bus.
    pub sent: bool,
    /// When that was.
    #[serde(default)]
    pub sent_at: Option<Timestamp>,
    /// When an outcome of it was last reported as stored.
    #[serde(default)]
    pub heard_at: Option<Timestamp>,
    /// Whoever held this attempt can no longer answer it. Found out anew after a restart.
    #[serde(skip)]
    pub lost: Option<Loss>,
    /// When it was last known not to be lost: something waited in its adapter's queue, or a living instance held it.
    #[serde(skip)]
    pub safe_at: Option<Timestamp>,
    /// Whether the time-out of the awaited nodes was handed to the bus.
    pub timed_out: bool,
    /// When it is over in steady time.
    #[serde(skip)]
    pub ending: Ending,
}
