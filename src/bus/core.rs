//! What the tasks of one server share: from a delivery to a dispatched request.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use lapin::BasicProperties;
use lapin::message::Delivery as AmqpDelivery;
use lapin::types::AMQPValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::envelope::{self, BodyKind, Refusal};
use super::message::{Incoming, Received};
use super::options::BusOptions;
use super::publisher::Publisher;
use super::service::{Dispatcher, Disposition, Service};
use crate::telemetry::Sparingly;
use crate::text::display_safe;

/// What everything in a server shares.
pub(crate) struct Core {
    pub service: Service,
    pub options: Arc<BusOptions>,
    pub publisher: Arc<Publisher>,
    pub dispatcher: Arc<dyn Dispatcher>,
    pub permits: Arc<Semaphore>,
    /// When refusals are logged.
    pub refused: Sparingly,
    pub tasks: TaskTracker,
    /// No more requests are taken.
    pub stop: CancellationToken,
    /// Requests under way are given up.
    pub abort: CancellationToken,
}

/// Which queue a message came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Topic,
    Server,
    Fanout,
}

impl Core {
    /// Takes the message out of its envelope.
    pub(crate) fn open(&self, delivery: &AmqpDelivery) -> Result<serde_json::Map<String, serde_json::Value>, Refusal> {
        envelope::decode_request(body_kind(&delivery.properties), &delivery.data, self.options.max_message_bytes)
    }

    /// The request as the dispatcher sees it.
    pub(crate) fn incoming(&self, received: Received, origin: Origin, redelivered: bool) -> Incoming {
        Incoming {
            msg_id: received.request.msg_id.clone(),
            request: received.request,
            namespace: received.namespace,
            version: received.version,
            exchange: self.service.exchange.clone(),
            topic: self.service.topic.clone(),
            server: self.service.server.clone(),
            fanout: origin == Origin::Fanout,
            via_server: origin == Origin::Server,
            unique_id: received.unique_id,
            redelivered,
        }
    }

    /// Carries the request out; `None` when the dispatcher panicked.
    pub(crate) async fn dispatch(&self, incoming: Incoming) -> Option<Disposition> {
        caught(self.dispatcher.dispatch(incoming), &self.service.topic).await
    }

    /// Counts a message that was not taken, and says why, at most once a second: whoever can send can send rubbish in masses.
    pub(crate) fn count_refused(&self, reason: &'static str, detail: &str) {
        metrics::counter!("spice_bus_messages_refused_total", "reason" => reason).increment(1);
        let Some(others) = self.refused.log() else { return };
        let topic = display_safe(&self.service.topic);
        tracing::warn!(bus.topic = %topic, bus.reason = reason, bus.others = others, "a message was refused: {}", display_safe(detail));
    }
}

async fn caught(work: impl Future<Output = Disposition>, topic: &str) -> Option<Disposition> {
    match std::panic::AssertUnwindSafe(work).catch_unwind().await {
        Ok(disposition) => Some(disposition),
        Err(_) => {
            metrics::counter!("spice_bus_panics_total").increment(1);
            tracing::error!(bus.topic = %display_safe(topic), "carrying out a request panicked; this is a fault of the program");
            None
        }
    }
}

/// What the properties say about the body.
pub(crate) fn body_kind(properties: &BasicProperties) -> BodyKind<'_> {
    let compression = properties.headers().as_ref().and_then(|headers| match headers.inner().get("compression") {
        Some(AMQPValue::LongString(name)) => Some(std::str::from_utf8(name.as_bytes()).unwrap_or("unreadable")),
        Some(AMQPValue::Void) | None => None,
        Some(_) => Some("unreadable"),
    });
    BodyKind {
        content_type: properties.content_type().as_ref().map(|text| text.as_str()),
        content_encoding: properties.content_encoding().as_ref().map(|text| text.as_str()),
        compression,
    }
}
