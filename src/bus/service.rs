//! What a server offers: the contract between the bus and whoever answers.

use std::time::Duration;

use async_trait::async_trait;

use super::message::Incoming;
use super::reply::Reply;

/// What to serve, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The control exchange.
    pub exchange: String,
    /// The topic.
    pub topic: String,
    /// The name of this one server, addressed as `topic.server`; `None` when nobody addresses it alone.
    pub server: Option<String>,
    /// Which of the topic's queues are consumed.
    pub listen: Listen,
    /// How messages are acknowledged.
    pub delivery: Delivery,
    /// Most requests carried out at once; 1 keeps the order of arrival.
    pub concurrency: u16,
}

impl Service {
    /// A server of RPC as oslo.messaging has it: topic, own name and fanout; 64 requests at once.
    #[must_use]
    pub fn rpc(exchange: impl Into<String>, topic: impl Into<String>, server: impl Into<String>) -> Self {
        Self {
            exchange: exchange.into(),
            topic: topic.into(),
            server: Some(server.into()),
            listen: Listen::ALL,
            delivery: Delivery::Rpc,
            concurrency: 64,
        }
    }

    /// A competing consumer of a work queue; `prefetch` bounds what it holds, and what it carries out at once.
    #[must_use]
    pub fn work(exchange: impl Into<String>, topic: impl Into<String>, prefetch: u16) -> Self {
        Self {
            exchange: exchange.into(),
            topic: topic.into(),
            server: None,
            listen: Listen { topic: true, server: false, fanout: false },
            delivery: Delivery::Work { prefetch },
            concurrency: prefetch,
        }
    }

    /// A listener to fanout casts only, in the order of arrival.
    #[must_use]
    pub fn fanout_only(exchange: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            exchange: exchange.into(),
            topic: topic.into(),
            server: None,
            listen: Listen { topic: false, server: false, fanout: true },
            delivery: Delivery::Rpc,
            concurrency: 1,
        }
    }

    /// The same service, carrying out at most `concurrency` requests at once.
    #[must_use]
    pub fn concurrency(mut self, concurrency: u16) -> Self {
        self.concurrency = concurrency;
        self
    }
}

/// Which queues of a topic a server consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// `topic`: requests for any one server.
    pub topic: bool,
    /// `topic.server`: requests for this server; needs [`Service::server`].
    pub server: bool,
    /// Fanout casts.
    pub fanout: bool,
}

impl Listen {
    /// All three, as an oslo.messaging server does.
    pub const ALL: Self = Self { topic: true, server: true, fanout: true };
}

/// How messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As oslo.messaging: acknowledged before it is carried out, duplicates dropped, calls answered. A crash loses the request, and
    /// its caller notices.
    Rpc,
    /// Acknowledged when [`Disposition::Done`] says so; until then a crash or a lost connection brings it again. Never answered.
    Work {
        /// Most messages held and not yet acknowledged; at least 1.
        prefetch: u16,
    },
}

/// Carries out requests.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// Carries out one request. A panic becomes a failure (RPC), or a retry and after five of them a dead letter (work).
    async fn dispatch(&self, incoming: Incoming) -> Disposition;
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// The answer. Dropped for casts; for work it means done.
    Reply(Reply),
    /// Carried out, nothing to say. A call is answered with null.
    Done,
    /// Work only: cannot be carried out now; comes again after this time, from the broker if this process goes. A call fails.
    Retry(Duration),
    /// Work only: can never be carried out, for the reason given; kept among the dead letters and counted. A call fails.
    Poison(String),
}
