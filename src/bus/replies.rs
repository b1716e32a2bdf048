//! The reply queue: made, looked after, and emptied into the calls that wait.
//!
//! One exclusive queue per bus, made before the first call and made again under the same name when the connection comes back, so that
//! servers which are still trying to reply find it.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::client::fresh_id;
use super::connection::{Link, Links};
use super::core::body_kind;
use super::declare::{declare, short};
use super::envelope;
use super::error::{BusError, from_lapin};
use super::reply::{self, Reply};
use super::topology::{self, Object};
use super::upkeep::{Interrupted, Upkeep};

/// Pause before the reply queue is made again after a fault.
const RESTORE_PERIOD: Duration = Duration::from_millis(250);
/// How often the old name is tried while the broker still believes the old connection to live, before a fresh one is taken: 2 s. Replies that
/// come meanwhile go to the old connection and are lost with it either way; new calls should not wait for long.
const LOCKED_RETRIES: u32 = 8;

/// Calls that wait, by message id.
pub(crate) type Waiting = Arc<Mutex<HashMap<String, Waiter>>>;

/// A call that waits.
pub(crate) struct Waiter {
    pub reply: oneshot::Sender<Reply>,
    /// Told of each sign of life, the reply included.
    pub alive: Arc<Notify>,
    /// What came before the final message, in the old form of two messages.
    pub interim: Option<Reply>,
}

pub(crate) fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, Waiter>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Consumes the reply queue and hands out replies.
pub(crate) struct Listener {
    pub links: Links,
    pub waiting: Waiting,
    /// The queue's name while replies can come.
    pub ready: watch::Sender<Option<String>>,
    pub max_bytes: usize,
    /// Between two looks at whether the queue is still there.
    pub interval: Duration,
}

impl Listener {
    /// Serves calls for ever, once the first one `wanted` it.
    pub(crate) async fn run(&self, mut wanted: watch::Receiver<bool>) {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let mut name = fresh_name();
        let mut locked = 0;
        let mut failures: u32 = 0;
        loop {
            let Ok(link) = self.links.up().await else {
                return;
            };
            let Interrupted { reason, error } = self.consume(&link, &name).await;
            if self.ready.send_replace(None).is_some() {
                (locked, failures) = (0, 0);
            }
            metrics::counter!("spice_bus_reply_queues_lost_total", "reason" => reason).increment(1);
            if matches!(error, BusError::Refused { code: 405, .. }) {
                locked += 1;
                if locked > LOCKED_RETRIES {
                    tracing::warn!("the old reply queue stays locked; calls under way may miss their replies");
                    name = fresh_name();
                    locked = 0;
                }
            } else if reason != "connection" {
                if failures == 0 || failures.is_power_of_two() {
                    tracing::warn!(bus.reason = reason, "the reply queue was lost and is being made again: {error}");
                }
                failures = failures.saturating_add(1);
            }
            tokio::time::sleep(RESTORE_PERIOD).await;
        }
    }

    /// Hands out replies until the consumer ends, and says why it did.
    async fn consume(&self, link: &Link, name: &str) -> Interrupted {
        let queue = topology::reply_queue(name);
        let mut consumer = match self.begin(link, name, &queue).await {
            Ok(consumer) => consumer,
            Err(_) if link.lost.is_cancelled() => return Interrupted::connection(),
            Err(error) => return Interrupted::new("not_restored", error),
        };
        self.ready.send_replace(Some(name.to_owned()));
        let objects = [queue];
        let consumed = [name];
        let upkeep = Upkeep {
            link,
            objects: &objects,
            consumed: &consumed,
            interval: self.interval,
            told: AtomicBool::default(),
        };
        let upkeep = upkeep.run();
        tokio::pin!(upkeep);
        loop {
            tokio::select! {
                () = link.lost.cancelled() => return Interrupted::connection(),
                interrupted = &mut upkeep => return interrupted,
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.take(&delivery),
                    Some(Err(error)) => return Interrupted::on_channel(link, &error, "the reply queue"),
                    None => return Interrupted::cancelled(),
                },
            }
        }
    }

    async fn begin(&self, link: &Link, name: &str, queue: &Object) -> Result<lapin::Consumer, BusError> {
        let about = |error: lapin::Error| from_lapin(&error, "the reply queue");
        declare(link, queue).await?;
        let channel = link.connection.create_channel().await.map_err(about)?;
        // Replies are handed over at once, so that an acknowledgement would say nothing.
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(short(name)?, short("replies")?, options, FieldTable::default()).await.map_err(about)
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
                waiter.alive.notify_one();
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
pub(crate) async fn final_reply(
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
