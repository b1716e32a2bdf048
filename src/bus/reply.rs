//! Replies, to the JSON objects inside the envelope and back. Pure.

use serde_json::{Map, Value};

use super::failure::Failure;

/// Members of a reply that are the protocol's own and never extras.
const REPLY_MEMBERS: &[&str] = &["result", "failure", "ending", "_msg_id", "_unique_id"];

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What the method returned, or how it failed.
    pub result: Result<Value, Failure>,
    /// Further members of the reply beside `result`; oslo.messaging's clients ignore them.
    pub extras: Map<String, Value>,
}

impl Reply {
    /// A plain result.
    #[must_use]
    pub fn ok(result: Value) -> Self {
        Self { result: Ok(result), extras: Map::new() }
    }

    /// A plain failure.
    #[must_use]
    pub fn failure(failure: Failure) -> Self {
        Self { result: Err(failure), extras: Map::new() }
    }

    /// The same reply with one more member beside `result`. The protocol's own members cannot be replaced this way.
    #[must_use]
    pub fn extra(mut self, name: impl Into<String>, value: Value) -> Self {
        self.extras.insert(name.into(), value);
        self
    }
}

/// The one final message that answers a call.
pub(crate) fn encode_reply(reply: Reply, msg_id: &str, unique_id: &str) -> Map<String, Value> {
    let mut message = reply.extras;
    let (result, failure) = match reply.result {
        Ok(result) => (result, Value::Null),
        Err(failure) => (Value::Null, Value::String(failure.to_wire())),
    };
    message.insert("result".into(), result);
    message.insert("failure".into(), failure);
    message.insert("ending".into(), true.into());
    message.insert("_msg_id".into(), msg_id.into());
    message.insert("_unique_id".into(), unique_id.into());
    message
}

/// A sign of life for a caller that asked for it.
pub(crate) fn encode_heartbeat(msg_id: &str, unique_id: &str) -> Map<String, Value> {
    let mut message = encode_reply(Reply::ok(Value::Null), msg_id, unique_id);
    message.insert("ending".into(), false.into());
    message
}

/// One message on the reply queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplyPart {
    pub msg_id: String,
    pub ending: bool,
    pub reply: Reply,
}

/// Reads a reply as oslo.messaging's client does: `ending` absent means more follows, a failure wins over a result.
pub(crate) fn decode_reply(mut message: Map<String, Value>) -> Option<ReplyPart> {
    let Some(Value::String(msg_id)) = message.remove("_msg_id") else {
        return None;
    };
    let ending = truthy(message.get("ending"));
    let failure = message.remove("failure").filter(|failure| truthy(Some(failure)));
    let result = message.remove("result").unwrap_or(Value::Null);
    message.retain(|name, _| !REPLY_MEMBERS.contains(&name.as_str()));
    let result = match failure {
        Some(failure) => Err(Failure::from_wire(&failure)),
        None => Ok(result),
    };
    Some(ReplyPart { msg_id, ending, reply: Reply { result, extras: message } })
}

/// Python's idea of truth.
fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn replies_carry_every_member_python_needs_and_extras_cannot_replace_them() {
        let reply = Reply::ok(json!(1))
            .extra("signature", json!("s"))
            .extra("ending", json!(false))
            .extra("failure", json!("f"));
        assert_eq!(
            Value::Object(encode_reply(reply, "mid", "uid")),
            json!({"result": 1, "failure": null, "ending": true, "_msg_id": "mid", "_unique_id": "uid", "signature": "s"})
        );
        let failed = encode_reply(Reply::failure(Failure::spice("A", "b")), "mid", "uid");
        assert!(failed["failure"].is_string() && failed["result"].is_null());
        assert_eq!(encode_heartbeat("mid", "uid")["ending"], json!(false));
    }

    #[test]
    fn replies_are_read_by_oslos_rules() {
        let part = |value: Value| decode_reply(object(value));
        assert_eq!(part(json!({"result": 1})), None);
        assert!(!part(json!({"_msg_id": "m", "result": 1, "failure": null})).unwrap().ending);
        assert_eq!(part(json!({"_msg_id": "m", "ending": true, "failure": ""})).unwrap().reply, Reply::ok(Value::Null));
        let both = part(json!({"_msg_id": "m", "ending": true, "result": 1, "failure": "{\"class\": \"E\"}"})).unwrap();
        assert_eq!(both.reply.result.unwrap_err().class, "E");
        let extras =
            part(json!({"_msg_id": "m", "ending": 1, "result": 1, "_unique_id": "u", "sig": 2})).unwrap().reply.extras;
        assert_eq!(extras, object(json!({"sig": 2})));
    }
}
