//! Whether what a session consumes is still there, although its connection is.
//!
//! What lapin and RabbitMQ give: a consumer whose queue is deleted, or whose quorum queue lost its leader, is cancelled, and its stream ends; a
//! channel that the broker closes ends all of its consumers with an error. What neither gives, and is looked for here once in a heartbeat interval, and at least every 10 s:
//! - a queue that expired or was made again by somebody else, with the cancellation lost on its way: the queue is not there, or nobody consumes it;
//! - an exchange that was deleted and a binding that was removed: nothing tells a consumer, whose queue then stays empty for ever. AMQP cannot be asked
//!   for bindings; but to bind again what is bound costs nothing, so that is done without asking;
//! - a second consumer of a queue that has one: whoever has rights on the virtual host can take messages out of it. That is told, and cannot be mended here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::connection::Link;
use super::declare::{declare, short};
use super::error::{BusError, from_lapin};
use super::topology::{Exchange, OWN_WORK_TOPICS, Object, Queue};

/// A look costs a few round trips, and what it finds is an outage or an attack: it is not put off as long as heartbeats may be.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a session is over.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// A short stable word for counters.
    pub reason: &'static str,
    pub error: BusError,
}

impl Interrupted {
    pub(crate) fn new(reason: &'static str, error: BusError) -> Self {
        Self { reason, error }
    }

    /// An end of a consumer that the broker did not announce otherwise.
    pub(crate) fn cancelled() -> Self {
        Self::new(
            "consumer_cancelled",
            BusError::Disconnected("the broker cancelled a consumer: its queue was deleted or moved".to_owned()),
        )
    }

    /// An error on a channel in use: the connection's, or the channel's own.
    pub(crate) fn on_channel(link: &Link, error: &lapin::Error, label: &str) -> Self {
        let lost = link.lost.is_cancelled() || !link.connection.status().connected();
        Self::new(if lost { "connection" } else { "channel_closed" }, from_lapin(error, label))
    }

    /// The end of the connection, which is reported elsewhere.
    pub(crate) fn connection() -> Self {
        Self::new("connection", BusError::Disconnected("the connection was lost".to_owned()))
    }
}

/// What a session needs.
pub(crate) struct Upkeep<'a> {
    pub link: &'a Link,
    /// Everything it declared.
    pub objects: &'a [Object],
    /// Names of the queues it consumes.
    pub consumed: &'a [&'a str],
    pub interval: Duration,
    /// Whether it was told that somebody else consumes.
    pub told: AtomicBool,
}

impl Upkeep<'_> {
    /// Looks after it; returns when the session must begin anew.
    pub(crate) async fn run(&self) -> Interrupted {
        loop {
            if let Err(interrupted) = self.round().await {
                return interrupted;
            }
            tokio::time::sleep(self.interval.min(LONGEST_PAUSE)).await;
        }
    }

    async fn round(&self) -> Result<(), Interrupted> {
        for object in self.objects {
            match object {
                Object::Exchange(exchange) => self.exchange(exchange).await?,
                Object::Queue(queue) => self.queue(queue).await?,
            }
        }
        Ok(())
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<(), Interrupted> {
        let object = Object::Exchange(exchange.clone());
        match self.look(&object).await? {
            Ok(_) => Ok(()),
            Err(BusError::Refused { code: 404, .. }) => {
                metrics::counter!("spice_bus_repaired_total", "what" => "exchange").increment(1);
                tracing::warn!("{} was deleted by somebody; it is made again", object.label());
                // The queues are bound to it again when their turn comes.
                declare(self.link, &object).await.map_err(|error| Interrupted::new("exchange_deleted", error))
            }
            Err(error) => Err(Interrupted::new("refused", error)),
        }
    }

    async fn queue(&self, queue: &Queue) -> Result<(), Interrupted> {
        let object = Object::Queue(queue.clone());
        let consumed = self.consumed.contains(&queue.name.as_str());
        let error = match self.look(&object).await? {
            Ok(Counts { consumers: 0, .. }) if consumed => {
                let text = format!("{} is there, but its consumer is not", object.label());
                return Err(Interrupted::new("consumer_gone", BusError::Disconnected(text)));
            }
            Ok(Counts { messages, consumers }) => {
                self.watch_for_strangers(queue, consumers);
                if consumed && is_for_work(&queue.name) {
                    metrics::gauge!("spice_bus_queue_messages", "queue" => queue.name.clone()).set(messages);
                }
                if !consumed {
                    metrics::gauge!("spice_bus_dead_letters", "queue" => queue.name.clone()).set(messages);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if matches!(error, BusError::Refused { code: 404, .. }) {
            return Err(Interrupted::new("queue_deleted", error));
        }
        Err(Interrupted::new("refused", error))
    }

    /// Somebody else consumes from a queue that should have one consumer. Results taken away cost trust only, at the TTL.
    fn watch_for_strangers(&self, queue: &Queue, consumers: u32) {
        if !OWN_WORK_TOPICS.contains(&queue.name.as_str()) {
            return;
        }
        if consumers < 2 {
            self.told.store(false, Ordering::Relaxed);
            return;
        }
        metrics::counter!("spice_bus_tampered_total", "queue" => queue.name.clone(), "reason" => "consumers")
            .increment(1);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "queue {} has {consumers} consumers and should have one: somebody takes messages out of it. See `rabbitmqctl list_consumers`, and who \
                 has rights in this virtual host with `tools/rabbitmq-permissions --check`",
                queue.name
            );
        }
    }

    /// What the broker says of something; an interruption when it says nothing for an interval.
    async fn look(&self, object: &Object) -> Result<Result<Counts, BusError>, Interrupted> {
        tokio::time::timeout(self.interval, self.ask(object)).await.map_err(|_| {
            let text = format!(
                "the broker does not answer whether {} is there, although the connection is open",
                object.label()
            );
            Interrupted::new("no_answer", BusError::Disconnected(text))
        })
    }

    /// Asks for something without making it; a queue is bound as it should be.
    async fn ask(&self, object: &Object) -> Result<Counts, BusError> {
        let label = object.label();
        let about = |error: lapin::Error| from_lapin(&error, &label);
        // A channel of its own: the broker closes it when there is no such thing.
        let channel: Channel = self.link.connection.create_channel().await.map_err(about)?;
        let counts = match object {
            Object::Exchange(exchange) => {
                let kind = if exchange.fanout { ExchangeKind::Fanout } else { ExchangeKind::Topic };
                let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel
                    .exchange_declare(short(&exchange.name)?, kind, passive, FieldTable::default())
                    .await
                    .map_err(about)?;
                Counts::default()
            }
            Object::Queue(queue) => {
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let found =
                    channel.queue_declare(short(&queue.name)?, passive, FieldTable::default()).await.map_err(about)?;
                if let Some((exchange, key)) = &queue.binding {
                    // Should somebody have taken the binding away.
                    let (name, exchange, key) = (short(&queue.name)?, short(exchange)?, short(key)?);
                    let options = QueueBindOptions::default();
                    channel.queue_bind(name, exchange, key, options, FieldTable::default()).await.map_err(about)?;
                }
                Counts { messages: found.message_count(), consumers: found.consumer_count() }
            }
        };
        // Dropping the channel closes it, without waiting for that.
        Ok(counts)
    }
}

/// A queue of work: their names are few, and stay.
fn is_for_work(queue: &str) -> bool {
    OWN_WORK_TOPICS.contains(&queue) || queue.starts_with("spice-adapter-")
}

#[derive(Default)]
struct Counts {
    messages: u32,
    consumers: u32,
}
