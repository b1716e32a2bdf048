//! The trust record: every change of trust with its cause, append-only, each entry's hash covering the one before it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::protocol::Level;
use crate::security::keys::sha256;

/// The head of an empty record.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// Counts entries, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Which node.
    pub node: NodeName,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// What caused it: a run, an administrator, a policy, time.
    pub cause: String,
    /// Hash of the entry before.
    pub previous: String,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The node's level in a pool changed.
    Trust {
        /// The pool.
        pool: PoolName,
        /// Before.
        from: Level,
        /// After.
        to: Level,
        /// Whether an override made it so.
        overridden: bool,
        /// Why, as a sentence.
        reason: String,
    },
    /// Somebody did something to the node.
    Action {
        /// What was done.
        action: String,
        /// The reason given.
        reason: String,
    },
}

impl RecordEntry {
    /// The text that is stored and hashed.
    #[must_use]
    pub fn text(&self) -> String {
        crate::store::to_body(self)
    }
}

/// The hash of an entry's text; the text holds the hash before it, so that nothing can be taken out or changed unseen.
#[must_use]
pub fn hash(text: &str) -> String {
    hex::encode(sha256(text.as_bytes()))
}
