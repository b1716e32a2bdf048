//! Failures as they travel: what a Python caller gets to see when a method did not succeed, and the reverse.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::room::room_for;
use crate::text::display_safe;

/// The module name of SPICE's own failures. No caller allows it, so a Python caller gets `RemoteError` with
/// `exc_type` = the class and `value` = the message.
pub const SPICE_ERRORS: &str = "spice.errors";
/// Where oslo.messaging's own dispatch failures live.
pub const OSLO_DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";
/// Python's built-in exceptions; every oslo.messaging client rebuilds them as themselves.
pub const BUILTINS: &str = "builtins";

/// Most traceback lines kept of a peer's failure.
const MAX_TRACEBACK_LINES: usize = 200;

/// Most memory that the values in a peer's failure may take, in bytes.
const MAX_FAILURE_BYTES: usize = 4 * 1024 * 1024;

/// A method that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exception's class name, such as `ValueError`.
    pub class: String,
    /// The Python module of the class; [`SPICE_ERRORS`] for our own.
    pub module: String,
    /// What went wrong, as a sentence.
    pub message: String,
    /// The traceback, one or more lines per item; may be empty.
    pub tb: Vec<String>,
    /// Positional arguments that a caller rebuilds the exception with.
    pub args: Vec<Value>,
    /// Keyword arguments that a caller rebuilds the exception with.
    pub kwargs: Map<String, Value>,
}

impl Failure {
    /// A failure of SPICE's own: a Python caller gets `RemoteError(exc_type=class, value=message)`.
    #[must_use]
    pub fn spice(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(SPICE_ERRORS, class, message)
    }

    /// One of Python's built-in exceptions, such as `ValueError`: a Python caller gets exactly that class.
    #[must_use]
    pub fn builtin(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(BUILTINS, class, message)
    }

    /// The endpoint has no such method, in oslo.messaging's words.
    #[must_use]
    pub fn no_such_method(method: &str) -> Self {
        Self::new(
            OSLO_DISPATCHER,
            "NoSuchMethod",
            format!("Endpoint does not support RPC method {}", display_safe(method)),
        )
    }

    /// No endpoint has this namespace and version, in oslo.messaging's words. An absent version is 1.0.
    #[must_use]
    pub fn unsupported_version(version: Option<&str>, method: &str) -> Self {
        let version = display_safe(version.unwrap_or("1.0"));
        let method = display_safe(method);
        Self::new(
            OSLO_DISPATCHER,
            "UnsupportedVersion",
            format!("Endpoint does not support RPC version {version}. Attempted method: {method}"),
        )
    }

    fn new(module: &str, class: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class: class.into(),
            module: module.to_owned(),
            args: vec![Value::String(message.clone())],
            message,
            tb: Vec::new(),
            kwargs: Map::new(),
        }
    }

    /// Whether the endpoint did not know the method.
    #[must_use]
    pub fn is_no_such_method(&self) -> bool {
        self.class == "NoSuchMethod"
    }

    /// Whether the endpoint did not know the namespace or version.
    #[must_use]
    pub fn is_unsupported_version(&self) -> bool {
        self.class == "UnsupportedVersion"
    }

    /// The text for the reply's `failure` member: JSON inside JSON, every member present and of the type Python expects.
    pub(crate) fn to_wire(&self) -> String {
        json!({
            "class": without_remote(&self.class),
            "module": without_remote(&self.module),
            "message": self.message,
            "tb": self.tb,
            "args": self.args,
            "kwargs": self.kwargs,
        })
        .to_string()
    }

    /// Reads the `failure` member of a reply. Whatever it holds, the caller learns that the call failed.
    pub(crate) fn from_wire(member: &Value) -> Self {
        let decoded = match member {
            Value::String(text) if room_for(text) > MAX_FAILURE_BYTES => None,
            Value::String(text) => serde_json::from_str::<WireFailure>(text).ok(),
            other => WireFailure::deserialize(other).ok(),
        };
        let Some(wire) = decoded else {
            return Self::spice("UnreadableFailure", "the server reported a failure that could not be read");
        };
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let mut tb: Vec<String> = match wire.tb {
            Value::Array(lines) => lines.into_iter().map(text).collect(),
            Value::String(whole) => vec![whole],
            _ => Vec::new(),
        };
        tb.truncate(MAX_TRACEBACK_LINES);
        Self {
            class: text(wire.class),
            module: text(wire.module),
            message: text(wire.message),
            tb,
            args: if let Value::Array(args) = wire.args { args } else { Vec::new() },
            kwargs: if let Value::Object(kwargs) = wire.kwargs { kwargs } else { Map::new() },
        }
    }
}

/// A failure that a Python hop rebuilt and passed on carries oslo's suffix; it is taken off before it goes further, as oslo does.
fn without_remote(name: &str) -> &str {
    name.strip_suffix("_Remote").unwrap_or(name)
}

#[derive(Deserialize)]
struct WireFailure {
    #[serde(default)]
    class: Value,
    #[serde(default)]
    module: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    tb: Value,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    kwargs: Value,
}

/// The class and the message; safe to show.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.class.is_empty(), self.message.is_empty()) {
            (false, false) => write!(f, "{}: {}", display_safe(&self.class), display_safe(&self.message)),
            (false, true) => f.write_str(&display_safe(&self.class)),
            (true, _) => f.write_str(&display_safe(&self.message)),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_member_a_python_caller_needs_is_there() {
        let wire: Value = serde_json::from_str(&Failure::spice("Forbidden", "no").to_wire()).unwrap();
        assert_eq!(
            wire,
            json!({"class": "Forbidden", "module": "spice.errors", "message": "no", "tb": [], "args": ["no"], "kwargs": {}})
        );
    }

    #[test]
    fn dispatch_failures_have_oslos_exact_texts() {
        assert_eq!(Failure::no_such_method("nope").message, "Endpoint does not support RPC method nope");
        assert_eq!(
            Failure::unsupported_version(Some("9.9"), "echo").message,
            "Endpoint does not support RPC version 9.9. Attempted method: echo"
        );
    }

    #[test]
    fn a_failure_survives_the_wire() {
        let mut failure = Failure::builtin("KeyError", "k");
        failure.kwargs.insert("code".into(), json!(404));
        failure.tb = vec!["Traceback\n".into()];
        assert_eq!(Failure::from_wire(&Value::String(failure.to_wire())), failure);
    }

    #[test]
    fn damaged_failures_are_still_failures() {
        for member in [
            json!("not json"),
            json!(7),
            json!([]),
            json!("[1]"),
            json!({}),
            json!("{\"class\": 5, \"tb\": null, \"args\": null}"),
        ] {
            let failure = Failure::from_wire(&member);
            assert!(!failure.to_string().contains('\u{1b}'), "{failure}");
        }
        assert_eq!(Failure::from_wire(&json!("not json")).class, "UnreadableFailure");
    }

    #[test]
    fn a_rebuilt_class_that_is_passed_on_loses_oslos_suffix() {
        let mut failure = Failure::builtin("InstanceNotFound_Remote", "no");
        failure.module = "nova.exception_Remote".to_owned();
        let passed_on = Failure::from_wire(&Value::String(failure.to_wire()));
        assert_eq!((passed_on.class.as_str(), passed_on.module.as_str()), ("InstanceNotFound", "nova.exception"));
    }

    #[test]
    fn shown_text_is_escaped() {
        assert_eq!(Failure::spice("A\u{1b}[2J", "b\u{202e}").to_string(), "A\\u{1b}[2J: b\\u{202e}");
    }
}
