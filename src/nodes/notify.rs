//! Notifications for Ceilometer: built from types that cannot be wrong, because one malformed notification is requeued by
//! its agent for ever, at hundreds a second.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bus::Notification;
use crate::clock::Timestamp;
use crate::names::PoolName;
use crate::nodes::degraded::{Degraded, WINDOW};
use crate::nodes::entry::{StoredResult, TrustChange};

/// Which results are notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResultVolume {
    /// Every one.
    #[default]
    All,
    /// Those whose status differs from the one before.
    Changes,
    /// None.
    None,
}

/// Who says it, on which service and host.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// `spice.nodes:<host>`.
    pub publisher_id: String,
    /// The project samples and events belong to; none where absent.
    pub project_id: Option<String>,
    /// Which results.
    pub results: ResultVolume,
    /// Most notifications a second.
    pub per_second: NonZeroU32,
}

/// A notification as it is kept until it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredNotification {
    message_id: String,
    publisher_id: String,
    event_type: String,
    payload: Map<String, Value>,
    timestamp: Timestamp,
    context: Map<String, Value>,
}

impl From<StoredNotification> for Notification {
    fn from(stored: StoredNotification) -> Self {
        let StoredNotification { message_id, publisher_id, event_type, payload, timestamp, context } = stored;
        Self { message_id, publisher_id, event_type, payload, timestamp, context }
    }
}

impl Publisher {
    /// `spice.check.result`.
    #[must_use]
    pub fn result(&self, result: &StoredResult, adapter: &str) -> StoredNotification {
        let started_at = Timestamp(result.stored_at.0.saturating_sub(result.latency_ms));
        self.build(
            "spice.check.result",
            result.stored_at,
            json!({
                "node": result.node,
                "check": result.check,
                "adapter": adapter,
                "status": result.status,
                "reason": result.reason,
                "run": result.run,
                "revision": result.revision,
                "counted": result.counted,
                "latency_ms": result.latency_ms,
                "evidence_at": rfc3339(result.evidence_at),
                "started_at": rfc3339(started_at),
                "finished_at": rfc3339(result.stored_at),
            }),
        )
    }

    /// `spice.node.trust.changed`. `seq` lets a listener order changes, which arrive in any order.
    #[must_use]
    pub fn trust_change(&self, change: &TrustChange) -> StoredNotification {
        let severity = match change.to {
            crate::protocol::Level::Untrusted => "critical",
            crate::protocol::Level::Unknown => "warning",
            crate::protocol::Level::Trusted => "info",
        };
        self.build(
            "spice.node.trust.changed",
            change.at,
            json!({
                "node": change.node,
                "pool": change.pool,
                "trust": change.to,
                "previous_trust": change.from,
                "reason": change.reason,
                "severity": severity,
                "sequence": change.seq,
                "started_at": rfc3339(change.at),
                "finished_at": rfc3339(change.at),
            }),
        )
    }

    /// `spice.pool.degraded`: many nodes of a pool lost trust at once.
    #[must_use]
    pub fn degraded(&self, pool: &PoolName, degraded: Degraded, at: Timestamp) -> StoredNotification {
        let Degraded { lost, trusted } = degraded;
        let seconds = WINDOW.as_secs();
        self.build(
            "spice.pool.degraded",
            at,
            json!({
                "pool": pool,
                "lost": lost,
                "trusted": trusted,
                "window_s": seconds,
                "reason": format!("{lost} nodes of pool {pool} lost trust within {seconds} s, {trusted} are left"),
                "severity": "critical",
                "started_at": rfc3339(at),
                "finished_at": rfc3339(at),
            }),
        )
    }

    fn build(&self, event_type: &str, at: Timestamp, payload: Value) -> StoredNotification {
        let payload = match payload {
            Value::Object(payload) => payload,
            _ => Map::new(),
        };
        let mut context = Map::from_iter([("request_id".to_owned(), json!(format!("req-{}", uuid::Uuid::new_v4())))]);
        if let Some(project) = &self.project_id {
            context.insert("project_id".to_owned(), json!(project));
        }
        StoredNotification {
            message_id: uuid::Uuid::new_v4().to_string(),
            publisher_id: self.publisher_id.clone(),
            event_type: event_type.to_owned(),
            payload,
            timestamp: at,
            context,
        }
    }
}

/// RFC 3339, UTC, microseconds, `Z`: the one form Ceilometer takes everywhere.
fn rfc3339(at: Timestamp) -> String {
    at.to_utc().unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
