//! A message to be sent, and what the broker is told of it.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use tokio::sync::Notify;

use super::declare::short;
use super::envelope::{CONTENT_ENCODING, CONTENT_TYPE};
use super::error::BusError;
use super::topology::Object;

/// What a message must not wait behind: a queue that confirms slowly holds up its own kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody waits for it: requests and replies.
    Talk,
    /// It is to be kept: work, dead letters, notifications.
    Store,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
    pub body: &'a [u8],
    pub lane: Lane,
    /// It is an error when no queue takes it.
    pub mandatory: bool,
    /// It survives the broker where its queue does.
    pub persistent: bool,
    /// The broker drops it when nobody took it for so long.
    pub expiration: Option<Duration>,
    pub headers: &'a [(&'static str, String)],
    /// A message that is passed on keeps these; `headers` are added to its own.
    pub kept: Option<BasicProperties>,
    /// What must be there before it is sent.
    pub needs: &'a [Object],
    /// Told when it was answered, where an answer is expected at once.
    pub answered: Option<&'a Notify>,
}

impl<'a> Outgoing<'a> {
    /// A message that somebody waits for, neither mandatory nor persistent.
    pub(crate) fn new(exchange: &'a str, routing_key: &'a str, body: &'a [u8]) -> Self {
        Self {
            exchange,
            routing_key,
            body,
            lane: Lane::Talk,
            mandatory: false,
            persistent: false,
            expiration: None,
            headers: &[],
            kept: None,
            needs: &[],
            answered: None,
        }
    }

    /// What travels beside the body.
    pub(crate) fn properties(&self) -> Result<BasicProperties, BusError> {
        let kept = match &self.kept {
            Some(kept) => kept.clone(),
            None => BasicProperties::default()
                .with_content_type(short(CONTENT_TYPE)?)
                .with_content_encoding(short(CONTENT_ENCODING)?)
                .with_priority(0),
        };
        let mut headers = kept.headers().clone().unwrap_or_default();
        for (name, value) in self.headers {
            headers.insert(short(name)?, AMQPValue::LongString(value.as_str().into()));
        }
        let properties = kept.with_headers(headers).with_delivery_mode(if self.persistent { 2 } else { 1 });
        Ok(match self.expiration {
            Some(expiration) => {
                // RabbitMQ takes at most 2^32 - 1 ms.
                let millis = expiration.as_millis().min(u128::from(u32::MAX));
                properties.with_expiration(short(&millis.to_string())?)
            }
            None => properties,
        })
    }
}
