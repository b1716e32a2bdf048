//! oslo.messaging's envelope: a JSON object around a JSON text. Pure.

use serde_json::{Map, Value};

use super::compression;
use super::python_json::{self, Unreadable};
use crate::text::display_safe;

/// The only content type that oslo.messaging's peers accept.
pub(crate) const CONTENT_TYPE: &str = "application/json";
/// The text encoding of every body.
pub(crate) const CONTENT_ENCODING: &str = "utf-8";
/// How many times the limit on a message's size the values in it may take of memory.
const ROOM_OF_REQUESTS: usize = 4;
const ROOM_OF_REPLIES: usize = 16;
/// The version of the envelope that is sent.
const VERSION: &str = "2.0";

/// Why a message was refused. Nobody is answered: where to is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A short stable word, for the counter.
    pub reason: &'static str,
    /// A sentence.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What the AMQP properties say about a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BodyKind<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    /// The header `compression`.
    pub compression: Option<&'a str>,
}

/// The body for an inner message.
pub(crate) fn encode(message: &Map<String, Value>) -> Vec<u8> {
    // A map of values always has a text, and so has a text.
    let inner = serde_json::to_string(message).and_then(|text| serde_json::to_string(&text)).unwrap_or_default();
    format!("{{\"oslo.version\": \"{VERSION}\", \"oslo.message\": {inner}}}").into_bytes()
}

/// Takes the inner message of a reply out of a body of at most `limit` bytes, before and after decompression. There is room for
/// what the largest answers hold: every node of a cloud.
pub(crate) fn decode(kind: BodyKind<'_>, body: &[u8], limit: usize) -> Result<Map<String, Value>, Refusal> {
    decode_within(kind, body, limit, limit.saturating_mul(ROOM_OF_REPLIES))
}

/// Takes the inner message of a request out of a body of at most `limit` bytes, before and after decompression. Anybody may send
/// one, so it is given less room than a reply.
pub(crate) fn decode_request(kind: BodyKind<'_>, body: &[u8], limit: usize) -> Result<Map<String, Value>, Refusal> {
    decode_within(kind, body, limit, limit.saturating_mul(ROOM_OF_REQUESTS))
}

/// `room`: the memory that the message's values may take, in bytes, their texts not counted.
fn decode_within(kind: BodyKind<'_>, body: &[u8], limit: usize, room: usize) -> Result<Map<String, Value>, Refusal> {
    if body.len() > limit {
        let detail = format!("it has {} bytes, more than the limit of {limit}; send less at a time", body.len());
        return Err(Refusal::new("too_large", detail));
    }
    if kind.content_type != Some(CONTENT_TYPE) {
        return Err(Refusal::new("content_type", format!("its content type is not exactly {CONTENT_TYPE}")));
    }
    let unpacked;
    let body = match kind.compression {
        None | Some("") => body,
        Some(codec) => {
            unpacked = compression::unpack(codec, body, limit)?;
            &unpacked
        }
    };
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new("not_json", "it is not UTF-8 text"))?;
    // Python escapes everything beyond ASCII, so that any encoding it may name says the same.
    let is_utf8 = matches!(kind.content_encoding, None | Some("" | "utf-8" | "utf8" | "UTF-8" | "binary" | "us-ascii"));
    if !is_utf8 && !text.is_ascii() {
        return Err(Refusal::new("content_encoding", "its content encoding is not utf-8"));
    }
    let mut outer = object(text, room)?;
    if !(outer.contains_key("oslo.version") && outer.contains_key("oslo.message")) {
        return Ok(outer);
    }
    match outer.get("oslo.version") {
        Some(Value::String(version)) if version_is_accepted(version) => {}
        _ => return Err(Refusal::new("envelope_version", "its envelope is not of version 2.0")),
    }
    match outer.remove("oslo.message") {
        Some(Value::String(inner)) => object(&inner, room),
        _ => Err(Refusal::new("envelope", "its oslo.message is not a string")),
    }
}

/// Major 2, minor and revision at most 0.
fn version_is_accepted(version: &str) -> bool {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    matches!(parts.as_deref(), Some([2, 0] | [2, 0, 0]))
}

fn object(text: &str, room: usize) -> Result<Map<String, Value>, Refusal> {
    match python_json::parse(text, room) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Refusal::new("not_object", "it is not a JSON object")),
        Err(Unreadable::TooMuch) => {
            let detail = format!("its values would take more than {room} bytes of memory; send less at a time");
            Err(Refusal::new("too_large", detail))
        }
        Err(Unreadable::Syntax(error)) => {
            Err(Refusal::new("not_json", format!("it is not JSON: {}", display_safe(&error))))
        }
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
