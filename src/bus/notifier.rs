//! Notifications: what Ceilometer and other listeners are told.

use serde_json::{Map, Value};

use super::message::{CONTEXT, Received, Request};
use crate::clock::Timestamp;

/// The only priority SPICE sends: Ceilometer makes no sample of anything else.
pub const PRIORITY: &str = "INFO";

/// Priorities that oslo.messaging's notifiers have, in lower case.
pub(crate) const PRIORITIES: &[&str] = &["audit", "debug", "info", "warn", "error", "critical", "sample"];

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

/// A notification of anybody's, as a request whose method is its priority; `None` where that is missing or unknown. The routing key says nothing:
/// oslo.messaging's listener goes by the priority too.
pub(crate) fn decode(mut message: Map<String, Value>) -> Option<Received> {
    let priority = message.get("priority").and_then(Value::as_str)?.to_ascii_lowercase();
    let method = PRIORITIES.iter().find(|known| **known == priority)?;
    let mut args = Map::new();
    for name in ["publisher_id", "event_type", "payload", "message_id", "timestamp"] {
        args.insert(name.to_owned(), message.remove(name).unwrap_or_default());
    }
    let unique_id = match message.remove("_unique_id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    };
    let context = message.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(CONTEXT)?.to_owned(), value)));
    let request = Request::new(*method, args).context(context.collect());
    Some(Received { request, namespace: None, version: None, unique_id, reply_to: None })
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
    use super::super::envelope::{self, BodyKind, CONTENT_TYPE};
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
    fn what_was_captured_is_heard_as_pythons_listener_of_info_heard_it() {
        let captured: Vec<Value> = serde_json::from_str(include_str!("fixtures/oslo_notifications.json")).unwrap();
        let (mut judged, mut heard) = (0, 0);
        for capture in &captured {
            let Some(body) = capture["body"].as_str() else { continue };
            let kind = BodyKind { content_type: Some(CONTENT_TYPE), ..BodyKind::default() };
            let message = envelope::decode_request(kind, body.as_bytes(), 1 << 20).unwrap();
            let decoded = decode(message.clone());
            if let Some(decoded) = &decoded {
                heard += 1;
                assert_eq!(decoded.request.args["event_type"], message["event_type"]);
                assert_eq!(decoded.request.args["payload"], message.get("payload").cloned().unwrap_or_default());
            }
            if let Some(handled) = capture["handled"].as_u64() {
                judged += 1;
                let info = decoded.is_some_and(|decoded| decoded.request.method == "info");
                assert_eq!(u64::from(info), handled, "{}", capture["scenario"]);
            }
        }
        assert!(judged >= 7 && heard > 20, "{judged} judged, {heard} heard");
    }

    #[test]
    fn whole_seconds_have_no_fraction() {
        assert_eq!(oslo_timestamp(Timestamp(0)), "1970-01-01 00:00:00");
    }
}
