//! Dead letters: work that could never be carried out, kept until somebody looks at it.
//!
//! AMQP cannot read a queue without taking from it. So a look takes messages with basic.get on a channel of its own and closes the channel without acknowledging
//! any: the broker puts all of them back where they were, in their order, marked as redelivered, also when this process dies meanwhile. While a
//! look lasts, another one sees only the rest of the queue; looks of one bus wait for each other. What is requeued is first stored at its destination, confirmed, and only then
//! acknowledged here: between the two a crash leaves it in both places, and work is idempotent.
//!
//! On a quorum queue every look counts as a delivery. RabbitMQ has no limit for that until 4.0, which drops a message after 20 of them: with such brokers
//! set a policy `delivery-limit: -1` for the queue.

use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use tokio::time::Instant;

use super::connection::Link;
use super::dead_letter::{self, DeadLetter};
use super::declare::{ensure, short};
use super::error::{BusError, from_lapin};
use super::outgoing::{Lane, Outgoing};
use super::{Bus, topology};

/// How long a look waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of bodies that one list holds.
const MAX_LISTED_BYTES: usize = 64 * 1024 * 1024;

/// What became of an order about one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    /// It is done.
    Done,
    /// There is no such dead letter, or not any more.
    Absent,
}

enum Order {
    Requeue,
    Drop,
}

impl Bus {
    /// How many dead letters the work exchange `exchange` has; 0 before there was a first one.
    ///
    /// # Errors
    /// When the broker is not reached within 10 s, or refuses.
    pub async fn dead_letter_count(&self, exchange: &str) -> Result<u32, BusError> {
        let _looking = self.0.looking.lock().await;
        self.look(exchange).await?.count().await
    }

    /// The oldest dead letters of the work exchange `exchange`, at most `limit` and at most 64 MiB of them. They stay where they are.
    ///
    /// # Errors
    /// When the broker is not reached within 10 s, or refuses.
    pub async fn dead_letters(&self, exchange: &str, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        let _looking = self.0.looking.lock().await;
        let look = self.look(exchange).await?;
        let mut letters = Vec::new();
        let mut bytes = 0;
        while letters.len() < limit && bytes <= MAX_LISTED_BYTES {
            let Some(message) = look.next().await? else { break };
            let letter = look.read(&message);
            bytes += letter.body.len();
            letters.push(letter);
        }
        look.end().await;
        Ok(letters)
    }

    /// One dead letter of the work exchange `exchange`; it stays where it is.
    ///
    /// # Errors
    /// When the broker is not reached within 10 s, or refuses.
    pub async fn dead_letter(&self, exchange: &str, id: &str) -> Result<Option<DeadLetter>, BusError> {
        let _looking = self.0.looking.lock().await;
        let look = self.look(exchange).await?;
        let found = look.find(id).await?.map(|(_, letter)| letter);
        look.end().await;
        Ok(found)
    }

    /// Puts a dead letter back into the queue it was taken from, and takes it from the dead ones once the broker has stored it there.
    ///
    /// # Errors
    /// [`BusError::Options`] when its body was not kept; as [`Bus::work`] otherwise. It stays among the dead letters then.
    pub async fn requeue_dead_letter(&self, exchange: &str, id: &str) -> Result<Ordered, BusError> {
        self.order(exchange, id, Order::Requeue).await
    }

    /// Removes a dead letter for good.
    ///
    /// # Errors
    /// When the broker is not reached within 10 s, or refuses. It stays among the dead letters then.
    pub async fn drop_dead_letter(&self, exchange: &str, id: &str) -> Result<Ordered, BusError> {
        self.order(exchange, id, Order::Drop).await
    }

    async fn order(&self, exchange: &str, id: &str, order: Order) -> Result<Ordered, BusError> {
        let _looking = self.0.looking.lock().await;
        let look = self.look(exchange).await?;
        let Some((message, letter)) = look.find(id).await? else {
            look.end().await;
            return Ok(Ordered::Absent);
        };
        let carried_out = match order {
            Order::Requeue => self.requeue(&letter, &message.delivery.properties).await,
            Order::Drop => Ok(()),
        };
        let outcome = match carried_out {
            Ok(()) => look.remove(&message).await,
            Err(error) => Err(error),
        };
        look.end().await;
        outcome.map(|()| Ordered::Done)
    }

    async fn requeue(&self, letter: &DeadLetter, properties: &BasicProperties) -> Result<(), BusError> {
        if letter.body.is_empty() {
            return Err(BusError::Options(
                "the message was larger than allowed and its body was not kept; it can only be dropped".to_owned(),
            ));
        }
        let needs = topology::work_needs(self.options(), &letter.exchange, &letter.topic);
        let outgoing = Outgoing {
            lane: Lane::Store,
            mandatory: true,
            persistent: true,
            kept: Some(dead_letter::passed_on(properties)),
            needs: &needs,
            ..Outgoing::new(&letter.exchange, &letter.topic, &letter.body)
        };
        self.0.publisher.publish(&outgoing, self.publish_deadline()).await
    }

    async fn look(&self, exchange: &str) -> Result<Look, BusError> {
        let link = self.0.consuming.up_before(Instant::now() + PATIENCE).await?;
        for object in topology::dead_letters(&self.options().rabbit, exchange) {
            ensure(&link, &object).await?;
        }
        Look::begin(&link, exchange, self.options().max_message_bytes).await
    }
}

/// One look at the queue; what it took is put back when it ends, however that happens.
struct Look {
    channel: Channel,
    queue: String,
    exchange: String,
    /// Most bytes a body may have, also unpacked.
    limit: usize,
}

impl Look {
    async fn begin(link: &Link, exchange: &str, limit: usize) -> Result<Self, BusError> {
        let queue = topology::dead_letter_name(exchange);
        let channel = link.connection.create_channel().await.map_err(|error| from_lapin(&error, "a channel"))?;
        Ok(Self { channel, queue, exchange: exchange.to_owned(), limit })
    }

    async fn count(&self) -> Result<u32, BusError> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel.queue_declare(short(&self.queue)?, passive, FieldTable::default()).await;
        Ok(found.map_err(|error| self.fault(&error))?.message_count())
    }

    async fn next(&self) -> Result<Option<BasicGetMessage>, BusError> {
        let got = self.channel.basic_get(short(&self.queue)?, BasicGetOptions { no_ack: false }).await;
        got.map_err(|error| self.fault(&error))
    }

    fn read(&self, message: &BasicGetMessage) -> DeadLetter {
        dead_letter::read(&message.delivery, &self.exchange, self.limit)
    }

    /// Takes from the queue until the letter is found. What comes later is not waited for.
    async fn find(&self, id: &str) -> Result<Option<(BasicGetMessage, DeadLetter)>, BusError> {
        for _ in 0..self.count().await? {
            let Some(message) = self.next().await? else { break };
            let letter = self.read(&message);
            if letter.id == id {
                return Ok(Some((message, letter)));
            }
        }
        Ok(None)
    }

    async fn remove(&self, message: &BasicGetMessage) -> Result<(), BusError> {
        match message.delivery.ack(BasicAckOptions::default()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(BusError::Disconnected("the connection was lost".to_owned())),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Waits until the broker has put everything back, so that the next look sees it.
    async fn end(self) {
        let _ = self.channel.close(200, "OK".into()).await;
    }

    fn fault(&self, error: &lapin::Error) -> BusError {
        from_lapin(error, &format!("queue {:?}", self.queue))
    }
}
