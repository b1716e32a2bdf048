//! Requests, to the JSON objects inside the envelope and back. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::failure::Failure;
use super::target::{Target, version_fault};
use crate::text::display_safe;

/// Prefix of the members that carry the request's context.
pub(crate) const CONTEXT: &str = "_context_";

/// What is asked of an endpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The endpoint's method.
    pub method: String,
    /// Its keyword arguments.
    pub args: Map<String, Value>,
    /// The request context; each member travels as `_context_<key>`.
    pub context: Map<String, Value>,
    /// The message id of a call, 32 hexadecimal digits, when the caller must know it beforehand (to sign over it, say);
    /// `None`: made on sending. Casts and work have none.
    pub msg_id: Option<String>,
    /// oslo.messaging's `call_monitor_timeout`, in whole seconds: a call is given up when the server shows no sign of life for so long, and a
    /// server that still works on it sends one twice in that time (it must be at least 2 s for that). It never extends the call's timeout.
    /// `None`: only the timeout counts. At a server: what the caller asked for. Casts and work have none.
    pub monitor: Option<Duration>,
}

impl Request {
    /// A request without context.
    #[must_use]
    pub fn new(method: impl Into<String>, args: Map<String, Value>) -> Self {
        Self { method: method.into(), args, ..Self::default() }
    }

    /// The same request with a context.
    #[must_use]
    pub fn context(mut self, context: Map<String, Value>) -> Self {
        self.context = context;
        self
    }

    /// The same request, given up when the server shows no sign of life for `limit`; see [`Request::monitor`].
    #[must_use]
    pub fn monitored(mut self, limit: Duration) -> Self {
        self.monitor = Some(limit);
        self
    }
}

/// A request as a server receives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Method, arguments, context and, for a call, its message id.
    pub request: Request,
    /// The endpoint namespace asked for.
    pub namespace: Option<String>,
    /// The endpoint version asked for; `None` means 1.0.
    pub version: Option<String>,
    /// The exchange served.
    pub exchange: String,
    /// The topic served.
    pub topic: String,
    /// The name this server serves under.
    pub server: Option<String>,
    /// Arrived through the fanout queue.
    pub fanout: bool,
    /// Arrived through the queue of this one server.
    pub via_server: bool,
    /// The message id of a call; `None` for casts and work.
    pub msg_id: Option<String>,
    /// The sender's id of this one message, the same when it was sent twice.
    pub unique_id: Option<String>,
    /// It may have been delivered before.
    pub redelivered: bool,
}

/// Where the reply to a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub msg_id: String,
    pub queue: String,
    /// Seconds after which the caller gives up unless it hears from us; at least 2.
    pub monitor_secs: Option<u64>,
}

/// A request taken out of its envelope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub request: Request,
    pub namespace: Option<String>,
    pub version: Option<String>,
    pub unique_id: Option<String>,
    pub reply_to: Option<ReplyTo>,
}

/// The inner message of a request. `reply_queue` makes it a call.
pub(crate) fn encode_request(
    target: &Target,
    request: Request,
    unique_id: &str,
    reply: Option<(&str, &str)>,
) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("method".into(), request.method.into());
    message.insert("args".into(), Value::Object(request.args));
    if let Some(version) = &target.version {
        message.insert("version".into(), version.as_str().into());
    }
    if let Some(namespace) = &target.namespace {
        message.insert("namespace".into(), namespace.as_str().into());
    }
    if let Some((msg_id, reply_queue)) = reply {
        message.insert("_msg_id".into(), msg_id.into());
        message.insert("_reply_q".into(), reply_queue.into());
        message
            .insert("_timeout".into(), request.monitor.map_or(Value::Null, |limit| whole_seconds_above(limit).into()));
    }
    message.insert("_unique_id".into(), unique_id.into());
    for (key, value) in request.context {
        message.insert(format!("{CONTEXT}{key}"), value);
    }
    message
}

/// Where to answer, read from however much of the message is usable.
pub(crate) fn reply_to(message: &Map<String, Value>) -> Option<ReplyTo> {
    let (Some(Value::String(msg_id)), Some(Value::String(queue))) = (message.get("_msg_id"), message.get("_reply_q"))
    else {
        return None;
    };
    // AMQP routing keys are at most 255 bytes.
    if msg_id.is_empty() || queue.is_empty() || queue.len() > 255 || msg_id.len() > 255 {
        return None;
    }
    Some(ReplyTo {
        msg_id: msg_id.clone(),
        queue: queue.clone(),
        monitor_secs: message.get("_timeout").and_then(whole_seconds).filter(|secs| *secs >= 2),
    })
}

/// In whole seconds, rounded up: servers in Python cut off fractions.
fn whole_seconds_above(limit: Duration) -> u64 {
    limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
}

/// `int(value)` as Python would take it; anything else means no monitoring.
fn whole_seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to lie in range
            (0.0..=1e9).contains(&float).then_some(float as u64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Reads a request. What Python's server would answer with a failure is an `Err` here, as the failure to answer with.
pub(crate) fn decode_request(mut message: Map<String, Value>) -> Result<Received, Box<Failure>> {
    let reply_to = reply_to(&message);
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        _ => {
            return Err(Box::new(Failure::builtin(
                "TypeError",
                "the request has no method, or one that is not a string",
            )));
        }
    };
    let args = match message.remove("args") {
        Some(Value::Object(args)) => args,
        None => Map::new(),
        Some(_) => return Err(Box::new(Failure::builtin("AttributeError", "the request's args are not an object"))),
    };
    let namespace = match message.remove("namespace") {
        Some(Value::String(namespace)) => Some(namespace),
        None | Some(Value::Null) => None,
        Some(_) => return Err(Box::new(Failure::unsupported_version(None, &method))),
    };
    let version = match message.remove("version") {
        None => None,
        Some(Value::String(version)) => match version_fault(&version) {
            None => Some(version),
            Some(class) => {
                let why = format!("the version {} is not MAJOR.MINOR", display_safe(&version));
                return Err(Box::new(Failure::builtin(class, why)));
            }
        },
        // As Python: absent means 1.0, null means a version nobody has.
        Some(Value::Null) => return Err(Box::new(Failure::unsupported_version(Some("None"), &method))),
        Some(_) => return Err(Box::new(Failure::builtin("AttributeError", "the version is not a text"))),
    };
    let unique_id = match message.remove("_unique_id") {
        Some(Value::String(id)) if !id.is_empty() && id.len() <= 255 => Some(id),
        _ => None,
    };
    let context =
        message.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(CONTEXT)?.to_owned(), value))).collect();
    let msg_id = reply_to.as_ref().map(|reply_to| reply_to.msg_id.clone());
    let monitor = reply_to.as_ref().and_then(|reply_to| reply_to.monitor_secs).map(Duration::from_secs);
    Ok(Received {
        request: Request { method, args, context, msg_id, monitor },
        namespace,
        version,
        unique_id,
        reply_to,
    })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
