//! Requests as oslo.messaging serves them: acknowledged at dispatch, duplicates dropped, calls answered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::arrived::Arrived;
use super::client::fresh_id;
use super::core::{Core, Origin};
use super::envelope;
use super::error::BusError;
use super::failure::Failure;
use super::message::{self, Incoming, ReplyTo};
use super::outgoing::Outgoing;
use super::reply::{self, Reply};
use super::service::Disposition;
use super::target::version_is_compatible;

/// How many ids of requests are remembered, to drop what was sent twice.
const REMEMBERED_IDS: usize = 8192;
/// How often a reply whose queue is missing is tried again.
const REPLY_RETRY_PERIOD: Duration = Duration::from_millis(250);
/// Most replies that wait for their queue.
const MAX_WAITING_REPLIES: usize = 256;
/// How long a reply queue that stayed missing is not tried again, and how many such are remembered.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
const MAX_ABANDONED: usize = 200;
/// The method of oslo.messaging's ping endpoint.
const PING: &str = "oslo_rpc_server_ping";

/// The RPC half of a server.
pub(crate) struct RpcServer {
    core: Arc<Core>,
    seen: Mutex<Seen>,
    abandoned: Mutex<HashMap<String, Instant>>,
    waiting_replies: Arc<Semaphore>,
}

impl RpcServer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            seen: Mutex::new(Seen::new(REMEMBERED_IDS)),
            abandoned: Mutex::default(),
            waiting_replies: Arc::new(Semaphore::new(MAX_WAITING_REPLIES)),
        }
    }

    /// Deals with one message. The permit is held while the request is carried out and the reply is sent for the first time.
    pub(crate) async fn handle(&self, origin: Origin, arrived: Arrived, permit: OwnedSemaphorePermit) {
        let inner = match self.core.open(&arrived.delivery) {
            Ok(inner) => inner,
            Err(refusal) => {
                self.core.count_refused(refusal.reason, &refusal.detail);
                arrived.refuse().await;
                return;
            }
        };
        // Before it is carried out, as oslo.messaging does: a request is lost rather than carried out twice. Where the connection is lost
        // before this is written, the broker delivers the request again, and its id is known here.
        if !arrived.acknowledge_soon() {
            return;
        }
        let to = message::reply_to(&inner);
        let received = match message::decode_request(inner) {
            Ok(received) => received,
            Err(failure) => {
                self.core.count_refused("request", &failure.to_string());
                if let Some(to) = to {
                    self.reply(&to, Reply::failure(*failure), permit).await;
                }
                return;
            }
        };
        if let Some(id) = &received.unique_id
            && !self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(id)
        {
            metrics::counter!("spice_bus_duplicates_total").increment(1);
            return;
        }
        let incoming = self.core.incoming(received, origin, arrived.delivery.redelivered);
        let reply = match self.ping(&incoming) {
            Some(reply) => reply,
            None => self.carry_out(incoming, to.as_ref()).await,
        };
        if let Some(to) = to {
            self.reply(&to, reply, permit).await;
        }
    }

    /// Dispatches, and tells a caller who asked for it that the request is still being carried out.
    async fn carry_out(&self, incoming: Incoming, to: Option<&ReplyTo>) -> Reply {
        let dispatched = self.core.dispatch(incoming);
        let disposition = match to.and_then(|to| Some((to, to.monitor_secs?))) {
            None => dispatched.await,
            Some((to, secs)) => {
                let period = Duration::from_secs(secs) / 2;
                // Beside the request, never in its way: a broker that is slow to confirm must not stop it.
                let signs_of_life = Box::pin(async {
                    loop {
                        tokio::time::sleep(period).await;
                        let sign_of_life = reply::encode_heartbeat(&to.msg_id, &fresh_id());
                        let _ = self.publish(to, &sign_of_life, period).await;
                    }
                });
                tokio::select! {
                    disposition = dispatched => disposition,
                    () = signs_of_life => None,
                }
            }
        };
        match disposition {
            Some(Disposition::Reply(reply)) => reply,
            Some(Disposition::Done) => Reply::ok(Value::Null),
            Some(Disposition::Retry(_)) => {
                Reply::failure(Failure::spice("TryAgain", "the request cannot be carried out now; try again later"))
            }
            Some(Disposition::Poison(why)) => Reply::failure(Failure::spice("RequestRefused", why)),
            None => Reply::failure(Failure::spice(
                "InternalError",
                "carrying out the request failed unexpectedly; see the server's log",
            )),
        }
    }

    fn ping(&self, incoming: &Incoming) -> Option<Reply> {
        let asked = self.core.options.rpc_ping_enabled
            && incoming.request.method == PING
            && incoming.namespace.is_none()
            && version_is_compatible("1.0", incoming.version.as_deref());
        asked.then(|| Reply::ok("pong".into()))
    }

    /// Sends the reply. When its queue is missing, tries again for a while without holding up other requests.
    async fn reply(&self, to: &ReplyTo, reply: Reply, permit: OwnedSemaphorePermit) {
        if self.is_abandoned(&to.queue) {
            metrics::counter!("spice_bus_replies_lost_total", "reason" => "abandoned").increment(1);
            return;
        }
        let message = reply::encode_reply(reply, &to.msg_id, &fresh_id());
        let outcome = self.publish(to, &message, self.core.options.publish_timeout).await;
        drop(permit);
        if outcome.is_err() {
            // On the heap: every request would carry the room for it otherwise.
            Box::pin(self.reply_again(to, message, outcome)).await;
        }
    }

    /// Goes on with a reply that could not be delivered at once.
    async fn reply_again(&self, to: &ReplyTo, mut message: Map<String, Value>, mut outcome: Result<(), BusError>) {
        let limit = Duration::from_secs(u64::from(self.core.options.rabbit.kombu_missing_consumer_retry_timeout));
        if let Err(BusError::TooLarge { size, limit }) = outcome {
            let failure = Failure::spice(
                "ReplyTooLarge",
                format!("the reply has {size} bytes, more than the limit of {limit}; ask for less at a time"),
            );
            message = reply::encode_reply(Reply::failure(failure), &to.msg_id, &fresh_id());
            outcome = self.publish(to, &message, self.core.options.publish_timeout).await;
        }
        if matches!(outcome, Err(BusError::Unroutable { .. })) {
            let Ok(_slot) = self.waiting_replies.try_acquire() else {
                metrics::counter!("spice_bus_replies_lost_total", "reason" => "too_many").increment(1);
                return;
            };
            let deadline = Instant::now() + limit;
            while matches!(outcome, Err(BusError::Unroutable { .. })) && Instant::now() < deadline {
                tokio::time::sleep(REPLY_RETRY_PERIOD).await;
                message.insert("_unique_id".into(), fresh_id().into());
                outcome = self.publish(to, &message, self.core.options.publish_timeout).await;
            }
            if outcome.is_err() {
                self.abandon(&to.queue);
            }
        }
        if let Err(error) = outcome {
            metrics::counter!("spice_bus_replies_lost_total", "reason" => error.kind()).increment(1);
            tracing::info!("a reply could not be delivered: {error}");
        }
    }

    async fn publish(&self, to: &ReplyTo, message: &Map<String, Value>, limit: Duration) -> Result<(), BusError> {
        let body = envelope::encode(message);
        let mandatory = self.core.options.rabbit.direct_mandatory_flag;
        let outgoing = Outgoing { mandatory, ..Outgoing::new("", &to.queue, &body) };
        self.core.publisher.publish(&outgoing, Instant::now() + limit).await
    }

    fn is_abandoned(&self, queue: &str) -> bool {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.retain(|_, until| *until > Instant::now());
        abandoned.contains_key(queue)
    }

    fn abandon(&self, queue: &str) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if abandoned.len() < MAX_ABANDONED {
            abandoned.insert(queue.to_owned(), Instant::now() + ABANDONED_FOR);
        }
    }
}

/// The last so many ids, first in, first out.
struct Seen {
    limit: usize,
    order: VecDeque<Arc<str>>,
    ids: HashSet<Arc<str>>,
}

impl Seen {
    fn new(limit: usize) -> Self {
        Self { limit, order: VecDeque::new(), ids: HashSet::new() }
    }

    /// Remembers `id`; whether it was not yet known.
    fn is_new(&mut self, id: &str) -> bool {
        if self.ids.contains(id) {
            return false;
        }
        let id: Arc<str> = id.into();
        self.ids.insert(Arc::clone(&id));
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ids_are_remembered_and_older_ones_forgotten() {
        let mut seen = Seen::new(2);
        assert!(seen.is_new("a") && seen.is_new("b") && !seen.is_new("a"));
        assert!(seen.is_new("c") && seen.is_new("a") && !seen.is_new("c"));
        assert_eq!(seen.ids.len(), 2);
    }
}
