//! What a server offers: the contract between the bus and whoever answers.

use std::time::Duration;

use async_trait::async_trait;

use super::client::fresh_id;
use super::core::Origin;
use super::error::BusError;
use super::message::Incoming;
use super::notifier::PRIORITIES;
use super::options::BusOptions;
use super::reply::Reply;
use super::topology::{self, Object};

/// Most messages of an RPC server that are fetched ahead of being carried out.
const RPC_PREFETCH: u16 = 16;

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

    /// A listener to the notifications of `topic` on `exchange` that have one of `priorities` (in lower case). With a `pool` it gets a copy of its
    /// own, in a queue of that name; without one it shares the queues `topic.priority` with every other listener, which takes theirs away. The request
    /// that a dispatcher sees has the priority as its method, and `publisher_id`, `event_type`, `payload`, `message_id` and `timestamp` as arguments.
    #[must_use]
    pub fn notifications(
        exchange: impl Into<String>,
        topic: impl Into<String>,
        priorities: &[&str],
        pool: Option<&str>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            topic: topic.into(),
            server: None,
            listen: Listen { topic: true, server: false, fanout: false },
            delivery: Delivery::Notifications(Subscription {
                priorities: priorities.iter().map(|priority| (*priority).to_owned()).collect(),
                queues: pool.map_or(Queues::Shared, |pool| Queues::Pool(pool.to_owned())),
            }),
            concurrency: 1,
        }
    }

    /// A listener to the notifications of `topic` on `exchange` with `priority` (in lower case) that nobody notices: it has a copy of its own, in a queue
    /// that goes with it, and makes nothing that is somebody else's. While it is not there it misses what is told. Requests are as for
    /// [`Service::notifications`].
    #[must_use]
    pub fn overheard(exchange: impl Into<String>, topic: impl Into<String>, priority: &str) -> Self {
        let mut service = Self::notifications(exchange, topic, &[priority], None);
        if let Delivery::Notifications(wanted) = &mut service.delivery {
            wanted.queues = Queues::Own;
        }
        service
    }

    /// The same service, carrying out at most `concurrency` requests at once.
    #[must_use]
    pub fn concurrency(mut self, concurrency: u16) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// What contradicts itself.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        let fault = if self.topic.is_empty() {
            "a service needs a topic"
        } else if self.listen.server && self.server.is_none() {
            "a service that listens under its own name needs one"
        } else if !(self.listen.topic || self.listen.server || self.listen.fanout) {
            "a service must listen to at least one queue"
        } else if self.delivery != Delivery::Rpc
            && self.listen != (Listen { topic: true, server: false, fanout: false })
        {
            "work and notifications come through the queues of their topic only"
        } else if matches!(&self.delivery, Delivery::Notifications(wanted) if !wanted.is_possible()) {
            "a listener needs at least one of the priorities audit, debug, info, warn, error, critical and sample"
        } else {
            return Ok(());
        };
        Err(BusError::Options(fault.to_owned()))
    }

    /// Most messages held at once and not acknowledged.
    pub(crate) fn prefetch(&self, options: &BusOptions) -> u16 {
        match self.delivery {
            Delivery::Work { prefetch } => prefetch.max(1),
            Delivery::Notifications(_) => self.concurrency.max(1),
            Delivery::Rpc => match options.rabbit.rabbit_qos_prefetch_count {
                0 => self.concurrency.clamp(1, RPC_PREFETCH),
                count => count,
            },
        }
    }

    /// What is to be there, and which of its queues are consumed.
    pub(crate) fn needed(&self, options: &BusOptions) -> (Vec<Object>, Vec<(Origin, String)>) {
        let Service { exchange, topic, server, listen, delivery, .. } = self;
        let rabbit = &options.rabbit;
        let mut objects: Vec<Object> = Vec::new();
        let mut queues = Vec::new();
        if let Delivery::Notifications(Subscription { priorities, queues: wanted }) = delivery {
            objects.push(match wanted {
                Queues::Own => topology::expected_exchange(exchange),
                Queues::Shared | Queues::Pool(_) => topology::control_exchange(rabbit, exchange),
            });
            for priority in priorities {
                let key = format!("{topic}.{priority}");
                let queue = match wanted {
                    Queues::Shared => key.clone(),
                    Queues::Pool(name) => name.clone(),
                    Queues::Own => format!("spice-overheard_{}", fresh_id()),
                };
                objects.push(match wanted {
                    Queues::Own => topology::overheard_queue(exchange, &key, &queue),
                    Queues::Shared | Queues::Pool(_) => topology::bound_queue(rabbit, exchange, &queue, &key),
                });
                if !queues.iter().any(|(_, known)| *known == queue) {
                    queues.push((Origin::Topic, queue));
                }
            }
        } else if matches!(delivery, Delivery::Work { .. }) {
            objects.extend(topology::dead_letters(rabbit, exchange));
            objects.push(topology::work_exchange(exchange));
            objects.push(topology::work_queue(rabbit, exchange, topic, options.work_queue_max_length));
            queues.push((Origin::Topic, topic.clone()));
        } else {
            if listen.topic || listen.server {
                objects.push(topology::control_exchange(rabbit, exchange));
            }
            if listen.topic {
                objects.push(topology::topic_queue(rabbit, exchange, topic));
                queues.push((Origin::Topic, topic.clone()));
            }
            if let (true, Some(server)) = (listen.server, server) {
                let name = format!("{topic}.{server}");
                objects.push(topology::topic_queue(rabbit, exchange, &name));
                queues.push((Origin::Server, name));
            }
            if listen.fanout {
                let id = fresh_id();
                objects.push(topology::fanout_exchange(rabbit, topic));
                objects.push(topology::fanout_queue(topic, &id));
                queues.push((Origin::Fanout, format!("{}_{id}", topology::fanout_name(topic))));
            }
        }
        (objects, queues)
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// As oslo.messaging: acknowledged before it is carried out, duplicates dropped, calls answered. A crash loses the request, and
    /// its caller notices.
    Rpc,
    /// Acknowledged when [`Disposition::Done`] says so; until then a crash or a lost connection brings it again. Never answered.
    Work {
        /// Most messages held and not yet acknowledged; at least 1.
        prefetch: u16,
    },
    /// As oslo.messaging's listener: acknowledged after the dispatcher returned, given back to the broker when it says [`Disposition::Retry`]. What cannot
    /// be read, and priorities nobody asked for, are dropped: these queues are not ours, and have no dead letters.
    Notifications(Subscription),
}

/// Which notifications are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Priorities, in lower case.
    pub priorities: Vec<String>,
    /// From which queues.
    pub queues: Queues,
}

/// The queues that a listener to notifications has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queues {
    /// `topic.priority`, shared with every other listener: each notification goes to one of them.
    Shared,
    /// One of this name with a copy of everything, shared with the listeners that name it too.
    Pool(String),
    /// Queues of its own that go with it, on an exchange that somebody else has made.
    Own,
}

impl Subscription {
    fn is_possible(&self) -> bool {
        !self.priorities.is_empty() && self.priorities.iter().all(|one| PRIORITIES.contains(&one.as_str()))
    }
}

/// Carries out requests.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// Carries out one request. A panic becomes a failure (RPC), or a retry and after five of them a dead letter (work);
    /// a notification is then done with.
    async fn dispatch(&self, incoming: Incoming) -> Disposition;
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// The answer. Dropped for casts; for work it means done.
    Reply(Reply),
    /// Carried out, nothing to say. A call is answered with null.
    Done,
    /// Work and notifications: cannot be carried out now; comes again after this time, from the broker if this process goes. A call fails.
    Retry(Duration),
    /// Work only: can never be carried out, for the reason given; kept among the dead letters and counted. A notification is dropped and counted. A call
    /// fails.
    Poison(String),
}
