//! Calls waiting for replies, by message id.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Links, interval};
use super::envelope;
use super::error::BusError;
use super::message::{self, Request};
use super::options::RabbitOptions;
use super::outgoing::Outgoing;
use super::publisher::Publisher;
use super::replies::{Listener, Waiter, Waiting, final_reply, lock};
use super::reply::Reply;
use super::target::Target;
use super::topology;

/// A call that nobody serves is tried again for this long: after an outage the server may be a moment behind.
const UNROUTABLE_PATIENCE: Duration = Duration::from_secs(2);
const UNROUTABLE_PERIOD: Duration = Duration::from_millis(250);
/// The calling side of a bus.
pub(crate) struct Client {
    waiting: Waiting,
    reply_queue: watch::Receiver<Option<String>>,
    wanted: watch::Sender<bool>,
    rabbit: RabbitOptions,
}

/// Removes the waiter when its call ends, in whatever way.
struct Registration {
    waiting: Waiting,
    msg_id: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.msg_id);
    }
}

impl Client {
    /// Prepares for calls; the queue is made when the first call needs it.
    pub(crate) fn start(
        links: Links,
        rabbit: RabbitOptions,
        max_bytes: usize,
        shutdown: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let waiting = Waiting::default();
        let (ready, reply_queue) = watch::channel(None);
        let (wanted, want) = watch::channel(false);
        let interval = interval(&rabbit);
        let listener = Listener { links, waiting: Arc::clone(&waiting), ready, max_bytes, interval };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = listener.run(want) => {}
            }
            // Whoever still waits is told so by the closed channel.
            lock(&listener.waiting).clear();
        });
        (Self { waiting, reply_queue, wanted, rabbit }, task)
    }

    /// Sends `request` and waits for its final reply.
    pub(crate) async fn call(
        &self,
        publisher: &Publisher,
        target: &Target,
        mut request: Request,
        timeout: Duration,
    ) -> Result<Reply, BusError> {
        if target.fanout {
            return Err(BusError::Options(
                "a call cannot go to all servers; use a cast, or name one server".to_owned(),
            ));
        }
        let began = Instant::now();
        let deadline = began + timeout;
        let monitor = request.monitor;
        let msg_id = request.msg_id.take().unwrap_or_else(fresh_id);
        self.wanted.send_replace(true);
        let reply_queue = self.reply_queue_before(deadline).await?;

        let (sender, mut receiver) = oneshot::channel();
        let alive = Arc::new(Notify::new());
        let registration =
            self.register(&msg_id, Waiter { reply: sender, alive: Arc::clone(&alive), interim: None })?;

        let message = message::encode_request(target, request, &fresh_id(), Some((&msg_id, &reply_queue)));
        let body = envelope::encode(&message);
        let needs = [topology::control_exchange(&self.rabbit, &target.exchange)];
        let routing_key = target.routing_key();
        let patience = deadline.min(Instant::now() + UNROUTABLE_PATIENCE);
        loop {
            let outgoing = Outgoing {
                mandatory: true,
                expiration: Some(deadline.saturating_duration_since(Instant::now())),
                needs: &needs,
                answered: Some(&alive),
                ..Outgoing::new(&target.exchange, &routing_key, &body)
            };
            match publisher.publish(&outgoing, deadline).await {
                Ok(()) => break,
                // The first of two sendings may have been answered although its confirmation was lost.
                Err(error) => match receiver.try_recv() {
                    Ok(reply) => return Ok(reply),
                    Err(_)
                        if matches!(error, BusError::Unroutable { .. })
                            && Instant::now() + UNROUTABLE_PERIOD < patience =>
                    {
                        tokio::time::sleep(UNROUTABLE_PERIOD).await;
                    }
                    Err(_) => return Err(error),
                },
            }
        }
        let outcome = final_reply(receiver, &alive, deadline, monitor).await;
        drop(registration);
        match outcome {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(_)) => Err(BusError::Closed),
            None => Err(BusError::Timeout { msg_id, waited: began.elapsed().min(timeout) }),
        }
    }

    /// Enters a waiter, unless its id is in use: the other call's waiter must neither be replaced nor removed.
    fn register(&self, msg_id: &str, waiter: Waiter) -> Result<Registration, BusError> {
        match lock(&self.waiting).entry(msg_id.to_owned()) {
            Entry::Occupied(_) => Err(BusError::Options(
                "a call with this message id is already waiting; every call needs its own".to_owned(),
            )),
            Entry::Vacant(free) => {
                free.insert(waiter);
                Ok(Registration { waiting: Arc::clone(&self.waiting), msg_id: msg_id.to_owned() })
            }
        }
    }

    async fn reply_queue_before(&self, deadline: Instant) -> Result<String, BusError> {
        let mut ready = self.reply_queue.clone();
        match tokio::time::timeout_at(deadline, ready.wait_for(Option::is_some)).await {
            Ok(Ok(name)) => name.clone().ok_or(BusError::Closed),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Disconnected("there was no reply queue in time".to_owned())),
        }
    }
}

/// 32 hexadecimal digits that nobody else has. From this thread's generator, which is seeded by the system: every message has up to three of them, and asking
/// the system each time would cost more than writing the message.
pub(crate) fn fresh_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string()
}
