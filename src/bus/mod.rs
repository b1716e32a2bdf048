//! The bus: oslo.messaging's wire protocol over AMQP 0-9-1.
//!
//! The only module that names lapin. Everything else says [`Bus::call`], [`Bus::cast`], [`Bus::work`], [`Bus::notify`] and
//! [`Bus::serve`]. Nothing here decides whom to believe: requests are handed over as they came, and signed and checked one layer above.
//!
//! | file | owns |
//! |---|---|
//! | `target`, `message`, `failure`, `envelope`, `strict_json` | what travels, as pure functions |
//! | `transport_url`, `options` | where to connect and how, in oslo.messaging's own words |
//! | `topology`, `declare` | every exchange and queue with its flags, and making them |
//! | `connection`, `tls` | a connection that comes back |
//! | `publisher` | sending until the broker has confirmed |
//! | `client` | calls waiting for replies |
//! | `service`, `server`, `core` | what is served; consuming, and restoring that after a loss |
//! | `rpc_server`, `work_server` | the two ways to acknowledge, answer and retry |
//! | `notifier` | notifications |

mod client;
mod connection;
mod core;
mod declare;
mod envelope;
mod error;
mod failure;
#[cfg(test)]
pub(crate) mod fuzz;
mod message;
mod notifier;
mod options;
mod publisher;
mod rpc_server;
mod server;
mod service;
mod strict_json;
mod target;
mod tls;
mod topology;
mod transport_url;
mod work_server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use client::{Client, fresh_id};
use connection::{Connector, Links};
use publisher::{Outgoing, Publisher};

pub use error::BusError;
pub use failure::{BUILTINS, Failure, OSLO_DISPATCHER, SPICE_ERRORS};
pub use message::{Incoming, Reply, Request};
pub use notifier::{Notification, PRIORITY};
pub use options::{BusOptions, Declare, NotificationOptions, RabbitOptions};
pub use server::Server;
pub use service::{Delivery, Dispatcher, Disposition, Listen, Service};
pub use target::{Target, version_is_compatible};

/// A member of the bus. Cheap to clone; all clones share two connections, one to publish and one to consume, because a broker
/// short of memory blocks the first kind.
///
/// Everything ends when the last clone and the last [`Server`] are dropped, or with [`Bus::close`].
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    options: Arc<BusOptions>,
    consuming: Links,
    publisher: Arc<Publisher>,
    client: Client,
    connected: watch::Receiver<bool>,
    shutdown: CancellationToken,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Bus {
    /// Starts a member called `name` (shown to the broker's operators). Returns at once; connecting goes on in the background, for ever.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BusError::Options`] when the options cannot be used, with every fault named.
    pub fn start(mut options: BusOptions, name: &str) -> Result<Bus, BusError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BusError::Options("the bus must be started inside a tokio runtime".to_owned()));
        }
        let mut rabbit = options.rabbit.clone();
        let url = transport_url::parse(&options.transport_url, &mut rabbit).map_err(BusError::Options)?;
        let faults = rabbit.contradictions();
        if !faults.is_empty() {
            return Err(BusError::Options(faults.join("; ")));
        }
        options.rabbit = rabbit.clone();
        let options = Arc::new(options);
        let connector = Arc::new(Connector { url, rabbit: rabbit.clone(), name: name.to_owned() });
        let shutdown = CancellationToken::new();
        let (publishing, first) = connection::keep_connected(Arc::clone(&connector), "publish", shutdown.clone());
        let (consuming, second) = connection::keep_connected(connector, "consume", shutdown.clone());
        let publisher = Arc::new(Publisher::new(publishing.clone(), options.max_message_bytes));
        let (client, third) = Client::start(consuming.clone(), rabbit, options.max_message_bytes, shutdown.clone());
        let (connected, fourth) = watch_both(publishing, consuming.clone());
        let tasks = Mutex::new(vec![first, second, third, fourth]);
        Ok(Bus(Arc::new(Inner { options, consuming, publisher, client, connected, shutdown, tasks })))
    }

    /// The options in force, with those of the transport URL's query.
    #[must_use]
    pub fn options(&self) -> &BusOptions {
        &self.0.options
    }

    /// Asks one server and waits for its answer, at most `timeout`; waiting for a connection counts. A request that nobody serves is tried
    /// again for 2 s, since after an outage the server may be a moment behind.
    ///
    /// # Errors
    /// [`BusError::Timeout`] when no answer came, [`BusError::Unroutable`] when nobody serves the target; a failure that the *server*
    /// reports is the reply's result.
    pub async fn call(&self, target: &Target, request: Request, timeout: Duration) -> Result<Reply, BusError> {
        self.0.client.call(&self.0.publisher, target, request, timeout).await
    }

    /// Tells one server, or with [`Target::fanout`] all of them; confirmed by the broker. It is no error when nobody listens.
    ///
    /// # Errors
    /// When the broker cannot be reached within [`BusOptions::publish_timeout`], or refuses.
    pub async fn cast(&self, target: &Target, request: Request) -> Result<(), BusError> {
        let rabbit = &self.0.options.rabbit;
        let body = envelope::encode(&message::encode_request(target, request, &fresh_id(), None));
        let (exchange, routing_key, needs) = if target.fanout {
            let exchange = topology::fanout_name(&target.topic);
            (exchange, String::new(), topology::fanout_exchange(rabbit, &target.topic))
        } else {
            (target.exchange.clone(), target.routing_key(), topology::control_exchange(rabbit, &target.exchange))
        };
        let needs = [needs];
        let outgoing = Outgoing { persistent: true, needs: &needs, ..Outgoing::new(&exchange, &routing_key, &body) };
        self.0.publisher.publish(&outgoing, self.publish_deadline()).await
    }

    /// Hands over work: stored by the broker when this returns. `expiration`: how long it is worth carrying out; the broker drops it after
    /// that. After a lost connection it may have been stored twice, so carrying it out must be idempotent.
    ///
    /// # Errors
    /// [`BusError::Unroutable`] when there is no such queue (an adapter that never ran), [`BusError::Rejected`] when it is full.
    pub async fn work(&self, target: &Target, request: Request, expiration: Option<Duration>) -> Result<(), BusError> {
        let options = &self.0.options;
        let body = envelope::encode(&message::encode_request(target, request, &fresh_id(), None));
        let mut needs = vec![topology::work_exchange(&target.exchange)];
        if target.server.is_none() && topology::OWN_WORK_TOPICS.contains(&target.topic.as_str()) {
            needs.extend(topology::dead_letters(&options.rabbit, &target.exchange));
            needs.push(topology::work_queue(
                &options.rabbit,
                &target.exchange,
                &target.topic,
                options.work_queue_max_length,
            ));
        }
        let routing_key = target.routing_key();
        let outgoing = Outgoing {
            mandatory: true,
            persistent: true,
            expiration,
            needs: &needs,
            ..Outgoing::new(&target.exchange, &routing_key, &body)
        };
        self.0.publisher.publish(&outgoing, self.publish_deadline()).await
    }

    /// Publishes a notification to every configured topic, confirmed and mandatory.
    ///
    /// # Errors
    /// [`BusError::Refused`] (404) or [`BusError::Unroutable`] while no listener has made the exchange and its queue; to be repeated later with the same
    /// `message_id`. With several topics, those before the one that failed have it already.
    pub async fn notify(&self, notification: &Notification) -> Result<(), BusError> {
        let NotificationOptions { exchange, topics, declare } = &self.0.options.notifications;
        let rabbit = &self.0.options.rabbit;
        let deadline = self.publish_deadline();
        for topic in topics {
            let queue = format!("{topic}.{}", PRIORITY.to_ascii_lowercase());
            let body = envelope::encode(&notifier::encode(notification, &fresh_id()));
            let needs = match declare {
                Declare::Passive => vec![topology::expected_exchange(exchange)],
                Declare::Active => {
                    vec![topology::control_exchange(rabbit, exchange), topology::topic_queue(rabbit, exchange, &queue)]
                }
            };
            let outgoing =
                Outgoing { mandatory: true, persistent: true, needs: &needs, ..Outgoing::new(exchange, &queue, &body) };
            self.0.publisher.publish(&outgoing, deadline).await?;
        }
        Ok(())
    }

    /// Serves `service`; returns once requests are being taken, however long the broker is away, and goes on through every loss of it.
    ///
    /// # Errors
    /// [`BusError::Refused`] when the broker has an exchange or queue with other flags (406) or denies it (403); [`BusError::Options`] when the
    /// service contradicts itself.
    pub async fn serve(&self, service: Service, dispatcher: Arc<dyn Dispatcher>) -> Result<Server, BusError> {
        server::start(self, service, dispatcher).await
    }

    /// Whether the broker is reached right now (both connections), and every change of that.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.0.connected.clone()
    }

    /// Waits until the broker is reached, at most `patience`.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] with the last reason why it is not.
    pub async fn reached(&self, patience: Duration) -> Result<(), BusError> {
        self.0.consuming.up_before(Instant::now() + patience).await.map(drop)
    }

    /// Closes the connections, politely, within a few seconds. Calls under way end with [`BusError::Closed`]. Stop servers first.
    pub async fn close(&self) {
        self.0.shutdown.cancel();
        self.0.publisher.clear();
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            let _ = task.await;
        }
    }

    fn publish_deadline(&self) -> Instant {
        Instant::now() + self.0.options.publish_timeout
    }
}

/// True while both connections are there.
fn watch_both(mut one: Links, mut other: Links) -> (watch::Receiver<bool>, tokio::task::JoinHandle<()>) {
    let (both, watch_both) = watch::channel(false);
    let task = tokio::spawn(async move {
        loop {
            both.send_if_modified(|known| std::mem::replace(known, one.is_up() && other.is_up()) != *known);
            let open = tokio::select! {
                changed = one.changed() => changed,
                changed = other.changed() => changed,
            };
            if open.is_err() {
                both.send_replace(false);
                return;
            }
        }
    });
    (watch_both, task)
}
