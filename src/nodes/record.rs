//! The trust record: every change of trust with its cause, append-only, each entry's hash covering the one before it.

use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::chain::Link;
pub use crate::chain::{BEGINNING, hash};
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, PoolName};
use crate::protocol::Level;
use crate::store::{Database, StoreError, settled};

/// Most entries in one answer.
const MAX_LINKS: i64 = 1000;

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
    /// The number of the policy that was in force; absent in entries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<i64>,
    /// The result that decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultRef>,
    /// Hash of the entry before.
    pub previous: String,
}

/// Which result decided, and who vouched for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRef {
    /// The check.
    pub check: CheckName,
    /// The run's id.
    pub run: String,
    /// Which attempt.
    pub attempt: i64,
    /// Who reported it.
    pub sender: String,
    /// With which key; empty where unsigned.
    pub key_id: String,
    /// With which key Checks signed the ticket.
    pub ticket_key_id: String,
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
        /// For `trusted`: until when, as it was known then; passes made later move it on without an entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What would change it, as it was known then.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        outlook: String,
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

/// Which entries of the record are wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordFilter {
    /// Of this node.
    pub node: Option<NodeName>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// With higher numbers only.
    pub after: i64,
    /// At most so many.
    pub limit: Option<i64>,
}

/// Entries of the record as they are stored, in their order; at most 1000.
///
/// # Errors
/// [`StoreError`].
pub async fn links(database: &Database, filter: &RecordFilter) -> Result<Vec<Link>, StoreError> {
    let query = match filter.node {
        Some(_) => {
            "SELECT seq, node, at, body, hash FROM nodes_record WHERE seq > ? AND at >= ? AND at <= ? AND node = ? \
             ORDER BY seq LIMIT ?"
        }
        None => {
            "SELECT seq, node, at, body, hash FROM nodes_record WHERE seq > ? AND at >= ? AND at <= ? ORDER BY seq LIMIT ?"
        }
    };
    let since = filter.since.map_or(i64::MIN, |at| at.0);
    let until = filter.until.map_or(i64::MAX, |at| at.0);
    let mut query = sqlx::query(query).bind(filter.after).bind(since).bind(until);
    if let Some(node) = &filter.node {
        query = query.bind(node.as_str().to_owned());
    }
    let limit = filter.limit.unwrap_or(MAX_LINKS).clamp(1, MAX_LINKS);
    let rows = settled(query.bind(limit).fetch_all(database.reader())).await?;
    let link = |row: &sqlx::any::AnyRow| {
        Ok(Link {
            seq: row.try_get(0)?,
            node: Some(row.try_get(1)?),
            at: row.try_get(2)?,
            text: row.try_get(3)?,
            hash: row.try_get(4)?,
        })
    };
    rows.iter().map(link).collect()
}
