//! Notifications: what Ceilometer and other listeners are told.

use serde_json::{Map, Value};

use crate::clock::Timestamp;

/// The only priority SPICE sends: Ceilometer makes no sample of anything else.
pub const PRIORITY: &str = "INFO";

/// One notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Stable id of what is notified, as a UUID with dashes: the same when it is sent again.
    pub message_id: String,
    /// Who says it, such as `spice.nodes`.
    pub publisher_id: String,
    /// What happened, such as `spice.node.trust.changed`.
    pub event_type: String,
    /// The facts. Numbers must be finite (JSON has no others).
    pub payload: Map<String, Value>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Context members, such as `project_id`; no secrets.
    pub context: Map<String, Value>,
}

/// The inner message of `notification`.
pub(crate) fn encode(notification: &Notification, unique_id: &str) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("message_id".into(), notification.message_id.as_str().into());
    message.insert("publisher_id".into(), notification.publisher_id.as_str().into());
    message.insert("event_type".into(), notification.event_type.as_str().into());
    message.insert("priority".into(), PRIORITY.into());
    message.insert("payload".into(), Value::Object(notification.payload.clone()));
    message.insert("timestamp".into(), oslo_timestamp(notification.timestamp).into());
    message.insert("_unique_id".into(), unique_id.into());
    for (key, value) in &notification.context {
        message.insert(format!("_context_{key}"), value.clone());
    }
    message
}

/// `str(utcnow())`: a space between date and time, no zone, microseconds left out when zero.
fn oslo_timestamp(at: Timestamp) -> String {
    let Some(at) = at.to_utc() else {
        return "1970-01-01 00:00:00".to_owned();
    };
    let format = if at.timestamp_subsec_micros() == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.6f" };
    at.format(format).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_notification_has_every_member_ceilometer_needs() {
        let notification = Notification {
            message_id: "11111111-2222-4333-8444-555555555555".into(),
            publisher_id: "spice.nodes".into(),
            event_type: "spice.node.trust.changed".into(),
            payload: Map::from_iter([("node".to_owned(), json!("n1"))]),
            timestamp: Timestamp(1_795_316_612_395),
            context: Map::from_iter([("project_id".to_owned(), json!("p"))]),
        };
        assert_eq!(
            Value::Object(encode(&notification, "u")),
            json!({"message_id": "11111111-2222-4333-8444-555555555555", "publisher_id": "spice.nodes",
                   "event_type": "spice.node.trust.changed", "priority": "INFO", "payload": {"node": "n1"},
                   "timestamp": "2026-11-22 03:03:32.395000", "_unique_id": "u", "_context_project_id": "p"})
        );
    }

    #[test]
    fn whole_seconds_have_no_fraction() {
        assert_eq!(oslo_timestamp(Timestamp(0)), "1970-01-01 00:00:00");
    }
}
