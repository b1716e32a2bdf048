//! Calls waiting for replies, by message id.
//!
//! One exclusive reply queue per bus, made before the first call and made again under the same name when the connection comes back, so
//! that servers which are still trying to reply find it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Link, Links};
use super::core::body_kind;
use super::declare::{declare, short};
use super::envelope;
use super::error::{BusError, from_lapin};
use super::message::{self, Request};
use super::options::RabbitOptions;
use super::publisher::{Outgoing, Publisher};
use super::reply::{self, Reply};
use super::target::Target;
use super::topology;

/// A call that nobody serves is tried again for this long: after an outage the server may be a moment behind.
const UNROUTABLE_PATIENCE: Duration = Duration::from_secs(2);
const UNROUTABLE_PERIOD: Duration = Duration::from_millis(250);
/// Pause before the reply queue is made again after a fault.
const RESTORE_PERIOD: Duration = Duration::from_millis(250);
/// How often the old name is tried while the broker still believes the old connection to live, before a fresh one is taken.
const LOCKED_RETRIES: u32 = 40;

type Waiting = Arc<Mutex<HashMap<String, Waiter>>>;

struct Waiter {
    reply: oneshot::Sender<Reply>,
    /// Told of each sign of life.
    alive: Arc<Notify>,
    /// What came before the final message, in the old form of two messages.
    interim: Option<Reply>,
}

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

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, Waiter>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        let listener = Listener { links, waiting: Arc::clone(&waiting), ready, max_bytes };
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

/// Consumes the reply queue and hands out replies.
struct Listener {
    links: Links,
    waiting: Waiting,
    ready: watch::Sender<Option<String>>,
    max_bytes: usize,
}

impl Listener {
    async fn run(&self, mut wanted: watch::Receiver<bool>) {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let mut name = fresh_name();
        let mut locked = 0;
        loop {
            let Ok(link) = self.links.up().await else {
                return;
            };
            let ended = self.consume(&link, &name).await;
            self.ready.send_replace(None);
            match ended {
                Ok(()) => locked = 0,
                Err(BusError::Refused { code: 405, .. }) if locked < LOCKED_RETRIES => locked += 1,
                Err(BusError::Refused { code: 405, .. }) => {
                    tracing::warn!("the old reply queue stays locked; calls under way may miss their replies");
                    name = fresh_name();
                    locked = 0;
                }
                Err(error) => tracing::warn!("the reply queue cannot be made: {error}"),
            }
            tokio::time::sleep(RESTORE_PERIOD).await;
        }
    }

    /// Hands out replies until the consumer ends.
    async fn consume(&self, link: &Link, name: &str) -> Result<(), BusError> {
        let about = |error: lapin::Error| from_lapin(&error, "the reply queue");
        declare(link, &topology::reply_queue(name)).await?;
        let channel = link.connection.create_channel().await.map_err(about)?;
        // Replies are handed over at once, so that an acknowledgement would say nothing.
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel
            .basic_consume(short(name)?, short("replies")?, options, FieldTable::default())
            .await
            .map_err(about)?;
        self.ready.send_replace(Some(name.to_owned()));
        loop {
            tokio::select! {
                () = link.lost.cancelled() => return Ok(()),
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.take(&delivery),
                    Some(Err(_)) | None => return Ok(()),
                },
            }
        }
    }

    /// Hands one reply to its call. Replies to calls that are over, and heartbeats, are dropped quietly.
    fn take(&self, delivery: &lapin::message::Delivery) {
        let part = match envelope::decode(body_kind(&delivery.properties), &delivery.data, self.max_bytes) {
            Ok(inner) => reply::decode_reply(inner),
            Err(refusal) => {
                metrics::counter!("spice_bus_messages_refused_total", "reason" => refusal.reason).increment(1);
                tracing::warn!("a reply was refused: {}", refusal.detail);
                return;
            }
        };
        let Some(part) = part else {
            metrics::counter!("spice_bus_messages_refused_total", "reason" => "no_msg_id").increment(1);
            return;
        };
        let mut waiting = lock(&self.waiting);
        if part.ending {
            if let Some(waiter) = waiting.remove(&part.msg_id) {
                let _ = waiter.reply.send(merged(waiter.interim, part.reply));
            }
        } else if let Some(waiter) = waiting.get_mut(&part.msg_id) {
            waiter.alive.notify_one();
            if part.reply.result != Ok(Value::Null) {
                waiter.interim = Some(part.reply);
            }
        }
    }
}

/// The final reply: by `deadline`, which nothing moves, and with `monitor` no longer than that after the last sign of life. The inner error:
/// the bus was closed.
async fn final_reply(
    mut reply: oneshot::Receiver<Reply>,
    alive: &Notify,
    deadline: Instant,
    monitor: Option<Duration>,
) -> Option<Result<Reply, oneshot::error::RecvError>> {
    loop {
        let patience = monitor.map_or(deadline, |limit| deadline.min(Instant::now() + limit));
        tokio::select! {
            biased;
            reply = &mut reply => return Some(reply),
            () = alive.notified(), if monitor.is_some() => {}
            () = tokio::time::sleep_until(patience) => return None,
        }
    }
}

/// A final message without a result ends an answer that came before it.
fn merged(interim: Option<Reply>, last: Reply) -> Reply {
    match interim {
        Some(interim) if last.result == Ok(Value::Null) => interim,
        _ => last,
    }
}

fn fresh_name() -> String {
    format!("reply_{}", fresh_id())
}

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
