//! What a dead letter is: a message as it was sent, and headers that say where it belongs and why it is here.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use serde::Serialize;
use serde_json::{Map, Value};

use super::core::body_kind;
use super::envelope::{self, BodyKind};
use crate::text::display_safe;

/// Headers that are not passed on: what was added when a message was put aside, by us or by the broker, and the broker's orders
/// to deliver copies elsewhere.
const NOT_PASSED_ON: [&str; 3] = ["x-death", "CC", "BCC"];
const NOT_PASSED_ON_PREFIXES: [&str; 3] = ["x-spice-", "x-first-death-", "x-last-death-"];
/// Most headers passed on, and most bytes of a text among them: more would not fit beside ours into a frame.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_TEXT: usize = 1024;

/// Work that was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// What it is called by. Two letters with equal content have the same.
    pub id: String,
    /// Why, as a word: `poison`, `panic`, `request`, `too_large`, `not_json` and others; the broker's own words are `rejected`, `expired`,
    /// `maxlen` and `delivery_limit`.
    pub reason: String,
    /// Why, as a sentence, made safe to show; empty when nobody said.
    pub detail: String,
    /// The exchange it was sent to.
    pub exchange: String,
    /// The queue it was taken from.
    pub topic: String,
    /// The body as it was sent; empty where it was larger than the limit in force, and was not kept.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// How the body is compressed.
    #[serde(skip)]
    compression: Option<String>,
    /// Most bytes it may unpack to.
    #[serde(skip)]
    limit: usize,
}

impl DeadLetter {
    /// The message in its envelope, if it can be read.
    #[must_use]
    pub fn message(&self) -> Option<Map<String, Value>> {
        let compression = self.compression.as_deref();
        let kind = BodyKind { content_type: Some(envelope::CONTENT_TYPE), compression, ..BodyKind::default() };
        envelope::decode_request(kind, &self.body, self.limit).ok()
    }
}

/// A message taken from the dead ones of `work_exchange`, whose body unpacks to at most `limit` bytes.
pub(super) fn read(delivery: &Delivery, work_exchange: &str, limit: usize) -> DeadLetter {
    let fields = Fields::of(&delivery.properties);
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let exchange = fields.exchange.unwrap_or_else(|| work_exchange.to_owned());
    let topic = fields.topic.unwrap_or_default();
    for part in [exchange.as_bytes(), topic.as_bytes(), fields.detail.as_bytes(), &delivery.data] {
        digest.update(part);
        digest.update(&[0]);
    }
    DeadLetter {
        id: hex::encode(&digest.finish().as_ref()[..16]),
        reason: display_safe(&fields.reason),
        detail: display_safe(&fields.detail),
        exchange,
        topic,
        body: delivery.data.clone(),
        compression: body_kind(&delivery.properties).compression.map(str::to_owned),
        limit,
    }
}

/// The properties under which a message is passed on, to the dead letters or back: those it came with, so that its body is read
/// as before (`compression`). Not its expiration, since a dead letter is kept and what is put back is meant to be carried out,
/// nor the broker's user who sent it, whom the broker would not believe us.
pub(super) fn passed_on(properties: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    macro_rules! keep {
        ($($field:ident: $set:ident),*) => {
            $(if let Some(value) = properties.$field() {
                kept = kept.$set(value.clone());
            })*
        };
    }
    keep!(
        content_type: with_content_type,
        content_encoding: with_content_encoding,
        priority: with_priority,
        correlation_id: with_correlation_id,
        reply_to: with_reply_to,
        message_id: with_message_id,
        timestamp: with_timestamp,
        kind: with_type,
        app_id: with_app_id
    );
    let mut headers = FieldTable::default();
    let theirs = properties.headers().iter().flat_map(|headers| headers.inner().iter());
    let own = |name: &str| {
        !NOT_PASSED_ON.contains(&name) && !NOT_PASSED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, value) in theirs.filter(|(name, value)| own(name.as_str()) && is_small(value)).take(MAX_HEADERS) {
        headers.insert(name.clone(), value.clone());
    }
    kept.with_headers(headers)
}

fn is_small(value: &AMQPValue) -> bool {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len() <= MAX_HEADER_TEXT,
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len() <= MAX_HEADER_TEXT,
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => false,
        _ => true,
    }
}

/// What the headers say: ours, or those of a broker that put the message aside itself.
#[derive(Default)]
struct Fields {
    reason: String,
    detail: String,
    exchange: Option<String>,
    topic: Option<String>,
}

impl Fields {
    fn of(properties: &BasicProperties) -> Self {
        let Some(headers) = properties.headers() else { return Self::default() };
        if text(headers, "x-spice-reason").is_some() {
            return Self {
                reason: text(headers, "x-spice-reason").unwrap_or_default(),
                detail: text(headers, "x-spice-detail").unwrap_or_default(),
                exchange: text(headers, "x-spice-exchange"),
                topic: text(headers, "x-spice-topic"),
            };
        }
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Self::default() };
        // The latest death comes first.
        let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else { return Self::default() };
        let key = match death.inner().get("routing-keys") {
            Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(as_text),
            _ => None,
        };
        Self {
            reason: text(death, "reason").unwrap_or_default(),
            detail: String::new(),
            exchange: text(death, "exchange"),
            topic: key.or_else(|| text(death, "queue")),
        }
    }
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    table.inner().get(name).and_then(as_text)
}

fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
