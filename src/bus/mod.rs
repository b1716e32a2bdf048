//! The bus: oslo.messaging's wire protocol over AMQP 0-9-1.
//!
//! The only module that names lapin. Everything else says [`Bus::call`], [`Bus::cast`], [`Bus::work`], [`Bus::notify`] and
//! [`Bus::serve`]. Nothing here decides whom to believe: requests are handed over as they came, and signed and checked one layer above.
//!
//! | file | owns |
//! |---|---|
//! | `target`, `message`, `reply`, `failure`, `envelope`, `compression`, `python_json`, `room` | what travels, as pure functions |
//! | `transport_url`, `options`, `rabbit_options`, `option_values` | where to connect and how, in oslo.messaging's own words |
//! | `topology`, `declare`, `mismatch` | every exchange and queue with its flags, making them, and saying why the broker refuses |
//! | `connect`, `tls` | opening a connection, and being able to give it up |
//! | `connection`, `backoff`, `liveness`, `state` | a connection that comes back; how its loss is noticed |
//! | `outgoing`, `publisher` | a message to be sent; sending until the broker has confirmed |
//! | `client`, `replies` | calls, and the queue their replies come through |
//! | `service`, `server`, `core`, `arrived` | what is served; consuming, and restoring that after a loss; a message that waits for our word |
//! | `upkeep` | whether what is consumed is still there, although the connection is |
//! | `rpc_server`, `work_server` | the two ways to acknowledge, answer and retry |
//! | `dead_letter`, `dead_letters` | looking at work that was put aside, putting it back, dropping it |
//! | `notifier`, `listener` | notifications, sent and heard |
//!
//! # Where we differ from oslo.messaging, on purpose
//! - A call is published mandatory: one that nobody serves fails within seconds, not at its timeout.
//! - Our reply and fanout queues are exclusive. Peers only ever use their names, RabbitMQ 4.3 refuses the transient shared ones of
//!   oslo's defaults, and names that survive a process (`use_queue_manager`) would only be a way to meet somebody else's replies.
//! - 8192 ids of requests are remembered instead of 16.
//! - Where an answer makes Python's client raise an error of its own (no `failure` member, a sign of life nobody asked for, a failure without
//!   traceback), ours returns what the server meant.
//! - What only Python can write (`python_json`) is text or U+FFFD here. JSON nests to 128 levels, bodies have a limit, also after unpacking, and
//!   lzma, brotli and zstd are refused.
//! - The broker's host name is verified whenever TLS is used; heartbeats cannot be turned off.
//! - A fallback to a transient fanout exchange keeps its auto-delete flag, so that it succeeds.

mod arrived;
mod backoff;
mod client;
mod compression;
mod connect;
mod connection;
mod core;
mod dead_letter;
mod dead_letters;
mod declare;
mod envelope;
mod error;
mod failure;
#[cfg(test)]
pub(crate) mod fuzz;
mod listener;
mod liveness;
mod message;
mod mismatch;
mod notifier;
mod option_values;
mod options;
mod outgoing;
mod publisher;
mod python_json;
mod rabbit_options;
mod replies;
mod reply;
mod room;
mod rpc_server;
mod server;
mod service;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod simulated;
mod state;
mod target;
mod tls;
mod topology;
mod transport_url;
mod upkeep;
mod work_server;

#[cfg(test)]
mod topology_vectors_tests;
#[cfg(test)]
mod vectors_tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use client::{Client, fresh_id};
use connect::Connector;
use connection::Links;
use outgoing::{Lane, Outgoing};
use publisher::Publisher;

pub use dead_letter::DeadLetter;
pub use dead_letters::Ordered;
pub use error::BusError;
pub use failure::{BUILTINS, Failure, OSLO_DISPATCHER, SPICE_ERRORS};
pub use message::{Incoming, Request};
pub use notifier::{Notification, PRIORITY};
pub use options::{BusOptions, Declare, NotificationOptions, RabbitOptions, Transport};
pub use reply::Reply;
pub use server::Server;
pub use service::{Delivery, Dispatcher, Disposition, Listen, Queues, Service, Subscription};
pub use state::Broker;
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
    broker: watch::Receiver<Broker>,
    connected: watch::Receiver<bool>,
    /// Held while somebody looks at dead letters.
    looking: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// What stands in for the broker.
    #[cfg(test)]
    simulated: Option<simulated::Member>,
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
        let connector =
            Arc::new(Connector { transport: options.transport, url, rabbit: rabbit.clone(), name: name.to_owned() });
        let shutdown = CancellationToken::new();
        let (publishing, first) = connection::keep_connected(Arc::clone(&connector), "publish", shutdown.clone());
        let (consuming, second) = connection::keep_connected(connector, "consume", shutdown.clone());
        let publisher = Arc::new(Publisher::new(publishing.clone(), options.max_message_bytes));
        let (client, third) = Client::start(consuming.clone(), rabbit, options.max_message_bytes, shutdown.clone());
        let (broker, connected, fourth) = state::follow(publishing, consuming.clone(), Arc::clone(&publisher));
        let tasks = Mutex::new(vec![first, second, third, fourth]);
        Ok(Bus(Arc::new(Inner {
            options,
            consuming,
            publisher,
            client,
            broker,
            connected,
            looking: tokio::sync::Mutex::default(),
            shutdown,
            tasks,
            #[cfg(test)]
            simulated: None,
        })))
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
        #[cfg(test)]
        if let Some(member) = &self.0.simulated {
            return member.call(target, request, timeout).await;
        }
        self.0.client.call(&self.0.publisher, target, request, timeout).await
    }

    /// Tells one server, or with [`Target::fanout`] all of them; confirmed by the broker. It is no error when nobody listens.
    ///
    /// # Errors
    /// When the broker cannot be reached within [`BusOptions::publish_timeout`], or refuses.
    pub async fn cast(&self, target: &Target, request: Request) -> Result<(), BusError> {
        #[cfg(test)]
        if let Some(member) = &self.0.simulated {
            return member.cast(target, request).await;
        }
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
        #[cfg(test)]
        if let Some(member) = &self.0.simulated {
            return member.work(target, request, expiration).await;
        }
        let options = &self.0.options;
        let body = envelope::encode(&message::encode_request(target, request, &fresh_id(), None));
        let routing_key = target.routing_key();
        let needs = topology::work_needs(options, &target.exchange, &routing_key);
        let outgoing = Outgoing {
            lane: Lane::Store,
            mandatory: true,
            persistent: true,
            expiration,
            needs: &needs,
            ..Outgoing::new(&target.exchange, &routing_key, &body)
        };
        self.0.publisher.publish(&outgoing, self.publish_deadline()).await
    }

    /// How many messages of a topic wait for a consumer, as the broker has it now; `None` where nobody ever served the topic.
    ///
    /// # Errors
    /// When the broker cannot be reached within `patience`, or refuses.
    pub async fn waiting(&self, topic: &str, patience: Duration) -> Result<Option<u32>, BusError> {
        #[cfg(test)]
        if let Some(member) = &self.0.simulated {
            return member.waiting(topic, patience).await;
        }
        let deadline = Instant::now() + patience;
        let link = self.0.consuming.up_before(deadline).await?;
        tokio::time::timeout_at(deadline, declare::waiting(&link, topic)).await.unwrap_or_else(|_| {
            Err(BusError::Disconnected("the broker did not say in time how many messages wait".to_owned()))
        })
    }

    /// Publishes a notification to every configured topic, confirmed and mandatory.
    ///
    /// # Errors
    /// [`BusError::Refused`] (404) or [`BusError::Unroutable`] while no listener has made the exchange and its queue; to be repeated later with the same
    /// `message_id`. With several topics, those before the one that failed have it already.
    pub async fn notify(&self, notification: &Notification) -> Result<(), BusError> {
        #[cfg(test)]
        if let Some(member) = &self.0.simulated {
            return member.notify().await;
        }
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
            let outgoing = Outgoing {
                lane: Lane::Store,
                mandatory: true,
                persistent: true,
                needs: &needs,
                ..Outgoing::new(exchange, &queue, &body)
            };
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

    /// Whether the broker is reached right now (both connections), and every change of that. True also while it takes no messages.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.0.connected.clone()
    }

    /// What is known of the broker: reached, blocking publishers, or away, with the reason; and every change of that.
    #[must_use]
    pub fn broker(&self) -> watch::Receiver<Broker> {
        self.0.broker.clone()
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
