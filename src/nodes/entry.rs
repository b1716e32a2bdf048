//! One registered node, as it is held and stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, PoolName};
use crate::protocol::{InNova, Level, Placement};
use crate::trust::{NodeTrust, Verdict};

/// A node's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: NodeName,
    /// What targets can ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where it is: as Nova has it, or as an administrator says.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
    /// What Nova has of it, where the role *nova* told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova: Option<Box<InNova>>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// All that trust depends on.
    pub trust: NodeTrust,
    /// What was last decided, pool by pool; a change against it is a change of trust.
    pub verdicts: BTreeMap<PoolName, Box<Verdict>>,
    /// The checks that target it under the policy in force; derived.
    #[serde(skip)]
    pub targeting: Vec<CheckName>,
}

impl Entry {
    /// When time alone changes its verdicts.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        self.verdicts.values().filter_map(|verdict| verdict.next_change).min()
    }
}

/// What a deleted node leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The deleted node's name.
    pub name: NodeName,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// What sticks.
    pub trust: NodeTrust,
}

/// A stored result, for the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredResult {
    /// The node.
    pub node: NodeName,
    /// The check.
    pub check: CheckName,
    /// The run's id.
    pub run: String,
    /// Which attempt.
    pub attempt: i64,
    /// The revision of the check.
    pub revision: i64,
    /// The outcome.
    pub status: crate::protocol::Status,
    /// The reason given, safe to show.
    pub reason: String,
    /// How old the evidence is.
    pub evidence_at: Timestamp,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Who signed it.
    pub sender: String,
    /// With which key.
    pub key_id: String,
    /// With which key Checks signed the ticket; empty for results stored before that was noted.
    #[serde(default)]
    pub ticket_key_id: String,
    /// Whether it counted.
    pub counted: bool,
    /// How long it took, in milliseconds.
    pub latency_ms: i64,
}

/// A change of one node's trust in one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustChange {
    /// The node.
    pub node: NodeName,
    /// The pool.
    pub pool: PoolName,
    /// Before.
    pub from: Level,
    /// After.
    pub to: Level,
    /// Why, as a sentence.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// The entry's number in the record.
    pub seq: i64,
}
