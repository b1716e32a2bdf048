//! The bus: oslo.messaging's wire protocol over AMQP 0-9-1.
//!
//! The only module that names lapin. Everything else says [`Bus::call`], [`Bus::cast`], [`Bus::work`], [`Bus::notify`] and
//! [`Bus::serve`]. Nothing here decides whom to believe: requests are handed over as they came, and signed and checked one layer above.
//!
//! | file | owns |
//! |---|---|
//! | `target`, `message`, `failure`, `envelope`, `strict_json` | what travels, as pure functions |
//! | `transport_url`, `options` | where to connect and how, in oslo.messaging's own words |
//! | `topology` | every exchange and queue with its flags |
//! | `connection` | a connection that comes back |
//! | `publisher` | sending until the broker has confirmed |
//! | `client` | calls waiting for replies |
//! | `server`, `session`, `work`, `rpc_side` | serving: consume, dispatch, acknowledge, reply |
//! | `notifier` | notifications |

mod error;
mod failure;
mod message;
mod notifier;
mod options;
mod service;
mod target;

use std::sync::Arc;
use std::time::Duration;

pub use error::BusError;
pub use failure::{BUILTINS, Failure, OSLO_DISPATCHER, SPICE_ERRORS};
pub use message::{Incoming, Reply, Request};
pub use notifier::{Notification, PRIORITY};
pub use options::{BusOptions, Declare, NotificationOptions, RabbitOptions};
pub use service::{Delivery, Dispatcher, Disposition, Listen, Service};
pub use target::{Target, version_is_compatible};

/// A member of the bus. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Bus {
    connected: tokio::sync::watch::Receiver<bool>,
}

/// A running server; it serves until it is stopped or dropped.
pub struct Server {}

impl Server {
    /// Takes no more requests, waits at most `limit` for those under way, and gives the rest back to the broker.
    pub async fn stop(self, _limit: Duration) {}
}

impl Bus {
    /// Starts a member called `name` (shown to the broker's operators). Returns at once; connecting goes on in the background, for ever.
    ///
    /// # Errors
    /// [`BusError::Options`] when the options cannot be used, with every fault named.
    pub fn start(_options: BusOptions, _name: &str) -> Result<Bus, BusError> {
        Err(BusError::Closed)
    }

    /// Asks one server and waits for its answer, at most `timeout`. Waits for a connection inside that time.
    ///
    /// # Errors
    /// [`BusError::Timeout`] when no answer came, [`BusError::Unroutable`] when nobody serves the target; a failure the *server* reports is the reply's result.
    pub async fn call(&self, _target: &Target, _request: Request, _timeout: Duration) -> Result<Reply, BusError> {
        Err(BusError::Closed)
    }

    /// Tells one server, or with [`Target::fanout`] all of them; confirmed by the broker. It is no error when nobody listens.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn cast(&self, _target: &Target, _request: Request) -> Result<(), BusError> {
        Err(BusError::Closed)
    }

    /// Hands over work: stored by the broker before this returns. `expiration`: how long it is worth carrying out.
    ///
    /// # Errors
    /// [`BusError::Unroutable`] when there is no such queue, [`BusError::Rejected`] when it is full.
    pub async fn work(
        &self,
        _target: &Target,
        _request: Request,
        _expiration: Option<Duration>,
    ) -> Result<(), BusError> {
        Err(BusError::Closed)
    }

    /// Publishes a notification to every configured topic.
    ///
    /// # Errors
    /// [`BusError::Unroutable`] or [`BusError::Refused`] while no listener has made its queue; to be repeated with the same `message_id`.
    pub async fn notify(&self, _notification: &Notification) -> Result<(), BusError> {
        Err(BusError::Closed)
    }

    /// Serves `service`; returns once requests are being taken, and goes on through every loss of the broker.
    ///
    /// # Errors
    /// [`BusError::Refused`] when the broker has the exchange or queue with other flags or denies it.
    pub async fn serve(&self, _service: Service, _dispatcher: Arc<dyn Dispatcher>) -> Result<Server, BusError> {
        Err(BusError::Closed)
    }

    /// Whether the broker is reached right now, and every change of that.
    #[must_use]
    pub fn connected(&self) -> tokio::sync::watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Closes the connections. Calls under way end with [`BusError::Closed`]. Stop servers first.
    pub async fn close(&self) {}
}
