//! Sending until the broker has confirmed.
//!
//! lapin hands a returned message to whichever confirmation completes next, and RabbitMQ confirms several publishes at once: with more
//! than one mandatory publish in flight on a channel, the wrong one would be told that it could not be routed. So a channel carries one
//! publish at a time, and a small pool of channels carries as many as are needed at once.
//!
//! lapin keeps what it cannot write while the broker blocks publishers, without bound and also when the publish was given up; so a publish waits
//! here until the broker takes messages, and is not handed to lapin before.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::connection::{Link, Links};
use super::declare::{ensure, short};
use super::error::{BusError, from_lapin};
use super::outgoing::{Lane, Outgoing};
use super::topology::Object;

/// Most publishes in flight, of each [`Lane`].
const LANE_WIDTH: usize = 16;
/// A channel that nobody used for so long is closed.
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// A full queue is asked again at the earliest after this time, however impatient the caller.
const REJECTED_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may take for its message's confirmation to be looked at together with it.
const ANSWERED_AT_ONCE: Duration = Duration::from_millis(3);
/// How often a publish is repeated at once because its exchange was gone and had to be made again.
const MAX_REDECLARATIONS: u32 = 3;

/// A pool of channels that wait for confirmations.
pub(crate) struct Publisher {
    links: Links,
    talk: Semaphore,
    store: Semaphore,
    /// Least recently used first.
    idle: Mutex<Vec<Idle>>,
    max_bytes: usize,
}

struct Idle {
    link: Arc<Link>,
    channel: Channel,
    since: Instant,
}

impl Publisher {
    pub(crate) fn new(links: Links, max_bytes: usize) -> Self {
        let lane = || Semaphore::new(LANE_WIDTH);
        Self { links, talk: lane(), store: lane(), idle: Mutex::default(), max_bytes }
    }

    /// Publishes and waits for the confirmation, through reconnects, until `deadline`. After a lost connection the message is sent again, so it
    /// may arrive twice; receivers know by its `_unique_id`.
    pub(crate) async fn publish(&self, message: &Outgoing<'_>, deadline: Instant) -> Result<(), BusError> {
        if message.body.len() > self.max_bytes {
            return Err(BusError::TooLarge { size: message.body.len(), limit: self.max_bytes });
        }
        let outcome = self.publish_bounded(message, deadline).await;
        let word = outcome.as_ref().map_or_else(BusError::kind, |()| "ok");
        metrics::counter!("spice_bus_published_total", "outcome" => word).increment(1);
        outcome
    }

    async fn publish_bounded(&self, message: &Outgoing<'_>, deadline: Instant) -> Result<(), BusError> {
        let started = Instant::now();
        let lane = match message.lane {
            Lane::Talk => &self.talk,
            Lane::Store => &self.store,
        };
        let mut redeclarations = 0;
        loop {
            let link = self.links.up_before(deadline).await?;
            let attempt = async {
                let _permit = lane.acquire().await.map_err(|_| BusError::Closed)?;
                link.unblocked().await;
                tokio::select! {
                    outcome = self.attempt(&link, message) => outcome,
                    // lapin ends what was under way, too, but not where it has no answer to wait for.
                    () = link.lost.cancelled() => Err(BusError::Disconnected("the connection was lost".to_owned())),
                }
            };
            let error = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.too_late(&link, started)),
            };
            match error {
                // An auto-deleted exchange went with its last queue: make it again.
                BusError::Refused { code: 404, .. }
                    if redeclarations < MAX_REDECLARATIONS && !expects_others(message.needs) =>
                {
                    link.forget_declared();
                    redeclarations += 1;
                }
                // A queue that we make ourselves was deleted by somebody.
                BusError::Unroutable { .. } if redeclarations == 0 && makes_queue(message.needs) => {
                    link.forget_declared();
                    redeclarations += 1;
                }
                BusError::Disconnected(_) => {
                    // lapin may notice the broken channel a moment before the connection's watcher does.
                    let _ = tokio::time::timeout_at(
                        deadline.min(Instant::now() + Duration::from_millis(100)),
                        link.lost.cancelled(),
                    )
                    .await;
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                }
                BusError::Rejected { .. } => {
                    tokio::time::sleep_until(deadline.min(Instant::now() + REJECTED_PAUSE)).await;
                    return Err(error);
                }
                other => {
                    if matches!(other, BusError::Refused { .. }) {
                        link.forget_declared();
                    }
                    return Err(other);
                }
            }
        }
    }

    /// Why a message was not confirmed before its deadline.
    fn too_late(&self, link: &Link, started: Instant) -> BusError {
        if let Some(why) = link.blocked() {
            BusError::Blocked(why.to_string())
        } else if link.lost.is_cancelled() || !self.links.is_up() {
            BusError::Disconnected("the connection was lost before the message was confirmed".to_owned())
        } else {
            BusError::Unconfirmed(started.elapsed())
        }
    }

    async fn attempt(&self, link: &Arc<Link>, message: &Outgoing<'_>) -> Result<(), BusError> {
        for object in message.needs {
            ensure(link, object).await?;
        }
        // Owned by this attempt until it is confirmed: a channel that a dropped attempt leaves behind is closed, because its confirmation
        // would be mistaken for that of the next publish.
        let channel = match self.take_idle(link) {
            Some(channel) => channel,
            None => open_channel(link).await?,
        };
        let publishing = channel.basic_publish(
            short(message.exchange)?,
            short(message.routing_key)?,
            BasicPublishOptions { mandatory: message.mandatory, immediate: false },
            message.body,
            message.properties()?,
        );
        let confirmation = confirmed(&channel, publishing, message.answered)
            .await
            .map_err(|error| from_lapin(&error, &about(message)))?;
        self.give_back(link, channel);
        match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
            Confirmation::Ack(Some(_)) => Err(BusError::Unroutable {
                exchange: message.exchange.to_owned(),
                routing_key: message.routing_key.to_owned(),
            }),
            Confirmation::Nack(_) => Err(BusError::Rejected {
                exchange: message.exchange.to_owned(),
                routing_key: message.routing_key.to_owned(),
            }),
        }
    }

    fn take_idle(&self, link: &Arc<Link>) -> Option<Channel> {
        let mut idle = self.idle();
        while let Some(Idle { link: owner, channel, .. }) = idle.pop() {
            if Arc::ptr_eq(&owner, link) && channel.status().connected() {
                return Some(channel);
            }
        }
        None
    }

    fn give_back(&self, link: &Arc<Link>, channel: Channel) {
        self.idle().push(Idle { link: Arc::clone(link), channel, since: Instant::now() });
    }

    /// Closes the channels that nobody used for a while, and those of lost connections. To be called now and then.
    pub(crate) fn tidy(&self) {
        self.idle().retain(|idle| idle.since.elapsed() < IDLE_LIFE && !idle.link.lost.is_cancelled());
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the channels, so that the connection can close.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }
}

/// Whether something must be there that others make.
fn expects_others(needs: &[Object]) -> bool {
    needs.iter().any(|object| matches!(object, Object::Exchange(exchange) if exchange.passive))
}

/// Whether the queue that should take the message is one we declare.
fn makes_queue(needs: &[Object]) -> bool {
    needs.iter().any(|object| matches!(object, Object::Queue(_)))
}

async fn open_channel(link: &Link) -> Result<Channel, BusError> {
    let about = |error: lapin::Error| from_lapin(&error, "a channel");
    let channel = link.connection.create_channel().await.map_err(about)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(about)?;
    Ok(channel)
}

/// What a message is for, in errors.
fn about(message: &Outgoing<'_>) -> String {
    if message.exchange.is_empty() {
        format!("queue {:?}", message.routing_key)
    } else {
        format!("exchange {:?}", message.exchange)
    }
}

/// Waits for the confirmation of what `publishing` hands to lapin, and for nothing before it: lapin would wake us once more, to say that the message
/// was written, which is a good part of what a small message costs.
async fn confirmed(
    channel: &Channel,
    publishing: impl Future<Output = lapin::Result<PublisherConfirm>>,
    answered: Option<&Notify>,
) -> lapin::Result<Confirmation> {
    let mut publishing = pin!(publishing);
    let confirmation = match publishing.as_mut().now_or_never() {
        Some(confirmation) => confirmation?,
        None => {
            if let Some(answered) = answered {
                // The confirmation of what is answered comes before the answer: we are woken for both together.
                let _ = tokio::time::timeout(ANSWERED_AT_ONCE, answered.notified()).await;
            }
            // For the last publish of the channel, which this one is: a channel carries one at a time. What became of it, lapin says below.
            let _ = channel.wait_for_confirms().await;
            publishing.await?
        }
    };
    confirmation.await
}
