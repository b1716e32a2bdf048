//! Serving: consume, hand to a dispatcher, restore after every loss.
//!
//! A server lives through sessions. A session is one channel with its consumers; it ends when the connection is lost, the channel is
//! closed, a consumer is cancelled because its queue was deleted, or [`Upkeep`] finds that something is not as it was; and a new one begins. What
//! was taken and not acknowledged in the old session comes again from the broker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt, stream};
use lapin::Channel;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrived::Arrived;
use super::backoff::backoff;
use super::connection::{Link, Links, interval};
use super::core::{Core, Origin};
use super::declare::{declare, short};
use super::error::BusError;
use super::listener::Listener;
use super::rpc_server::RpcServer;
use super::service::{Delivery, Dispatcher, Service};
use super::upkeep::{Interrupted, Upkeep};
use super::work_server::WorkServer;
use super::{Bus, Inner};
use crate::telemetry::Sparingly;
use crate::text::display_safe;

/// A running server. Dropping it stops it at once: what it was carrying out is aborted, work comes again.
pub struct Server {
    core: Arc<Core>,
    serving: watch::Receiver<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
    /// Its connections, which must last as long as it serves.
    _bus: Bus,
}

impl Server {
    /// Whether requests are being taken right now: false while the broker is away.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<bool> {
        self.serving.clone()
    }

    /// Takes no more requests, waits at most `limit` for those under way, and gives the rest back to the broker.
    pub async fn stop(mut self, limit: Duration) {
        self.core.stop.cancel();
        self.core.tasks.close();
        if tokio::time::timeout(limit, self.core.tasks.wait()).await.is_err() {
            tracing::warn!(bus.topic = %self.core.service.topic, "requests under way were cut off because the server stops");
        }
        self.core.abort.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.core.stop.cancel();
        self.core.tasks.close();
        self.core.abort.cancel();
    }
}

/// Starts serving; returns once the first session consumes.
pub(crate) async fn start(bus: &Bus, service: Service, dispatcher: Arc<dyn Dispatcher>) -> Result<Server, BusError> {
    service.check()?;
    let Inner { options, consuming, publisher, shutdown, .. } = &*bus.0;
    let core = Arc::new(Core {
        permits: Arc::new(Semaphore::new(usize::from(service.concurrency.max(1)))),
        service,
        options: Arc::clone(options),
        publisher: Arc::clone(publisher),
        dispatcher,
        refused: Sparingly::default(),
        tasks: TaskTracker::new(),
        stop: shutdown.child_token(),
        abort: shutdown.child_token(),
    });
    #[cfg(test)]
    if let Some(member) = &bus.0.simulated {
        member.serve(&core);
        return Ok(Server { core, serving: watch::channel(true).1, task: None, _bus: bus.clone() });
    }
    let (serving, watch_serving) = watch::channel(false);
    let (first, started) = oneshot::channel();
    let handler = match &core.service.delivery {
        Delivery::Notifications(wanted) => {
            Handler::Notifications(Arc::new(Listener::new(Arc::clone(&core), wanted.clone())))
        }
        Delivery::Rpc => Handler::Rpc(Arc::new(RpcServer::new(Arc::clone(&core)))),
        Delivery::Work { .. } => Handler::Work(Arc::new(WorkServer::new(Arc::clone(&core)))),
    };
    let runner = Runner { core: Arc::clone(&core), links: consuming.clone(), handler, serving };
    let task = tokio::spawn(runner.run(first));
    // From here on a dropped future stops the server.
    let server = Server { core, serving: watch_serving, task: Some(task), _bus: bus.clone() };
    match started.await {
        Ok(Ok(())) => Ok(server),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(BusError::Closed),
    }
}

enum Handler {
    Rpc(Arc<RpcServer>),
    Work(Arc<WorkServer>),
    Notifications(Arc<Listener>),
}

struct Runner {
    core: Arc<Core>,
    links: Links,
    handler: Handler,
    serving: watch::Sender<bool>,
}

type Deliveries = SelectAll<BoxStream<'static, Option<(Origin, Result<AmqpDelivery, lapin::Error>)>>>;

impl Runner {
    async fn run(self, first: oneshot::Sender<Result<(), BusError>>) {
        let mut first = Some(first);
        let mut failures: u32 = 0;
        let topic = display_safe(&self.core.service.topic);
        loop {
            let link = tokio::select! {
                () = self.core.stop.cancelled() => return,
                link = self.links.up() => match link {
                    Ok(link) => link,
                    Err(_) => return,
                },
            };
            let ended = self.session(&link, &mut first, &mut failures).await;
            self.serving.send_replace(false);
            if self.core.stop.is_cancelled() {
                return;
            }
            if let Err(Interrupted { reason, error }) = ended {
                if matches!(error, BusError::Refused { code: 403 | 406, .. } | BusError::Options(_))
                    && let Some(first) = first.take()
                {
                    let _ = first.send(Err(error));
                    return;
                }
                metrics::counter!("spice_bus_sessions_lost_total", "reason" => reason).increment(1);
                // The loss of a connection was reported once for all who used it.
                if reason != "connection" && (failures == 0 || failures.is_power_of_two()) {
                    tracing::warn!(bus.topic = %topic, bus.reason = reason, "serving was interrupted and is being restored: {error}");
                }
            }
            failures = failures.saturating_add(1);
            // A lost connection has its own back-off.
            if !link.lost.is_cancelled() {
                let delay = backoff(&self.core.options.rabbit, failures.saturating_sub(1), rand::random());
                tokio::select! {
                    () = self.core.stop.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
    }

    /// Serves until the session ends; `Ok` when the server was stopped.
    async fn session(
        &self,
        link: &Arc<Link>,
        first: &mut Option<oneshot::Sender<Result<(), BusError>>>,
        failures: &mut u32,
    ) -> Result<(), Interrupted> {
        let service = &self.core.service;
        let label = format!("topic {:?}", service.topic);
        let about = |error: lapin::Error| Interrupted::on_channel(link, &error, &label);
        let not_made = |error: BusError| {
            Interrupted::new(if link.lost.is_cancelled() { "connection" } else { "not_restored" }, error)
        };
        let (objects, queues) = service.needed(&self.core.options);
        for object in &objects {
            declare(link, object).await.map_err(not_made)?;
        }
        let channel = link.connection.create_channel().await.map_err(about)?;
        channel.basic_qos(service.prefetch(&self.core.options), BasicQosOptions::default()).await.map_err(about)?;
        let mut deliveries = Deliveries::new();
        let mut tags = Vec::new();
        for (origin, queue) in &queues {
            let origin = *origin;
            let tag = short(&(tags.len() + 1).to_string()).map_err(not_made)?;
            let name = short(queue).map_err(not_made)?;
            let consumer = channel
                .basic_consume(name, tag.clone(), BasicConsumeOptions::default(), FieldTable::default())
                .await
                .map_err(about)?;
            tags.push(tag);
            // The end of any consumer is an item of its own: one deleted queue must not go unnoticed while the others go on.
            let stream = consumer.map(move |delivery| Some((origin, delivery))).chain(stream::once(async { None }));
            deliveries.push(stream.boxed());
        }
        if let Some(first) = first.take() {
            let _ = first.send(Ok(()));
        }
        self.serving.send_replace(true);
        *failures = 0;
        let over = CancellationToken::new();
        let _ends_with_session = over.clone().drop_guard();
        let consumed: Vec<&str> = queues.iter().map(|(_, queue)| queue.as_str()).collect();
        let interval = interval(&self.core.options.rabbit);
        let upkeep = Upkeep { link, objects: &objects, consumed: &consumed, interval, told: AtomicBool::default() };
        let ended = tokio::select! {
            ended = self.consume(link, &channel, &mut deliveries, &over) => ended,
            interrupted = upkeep.run() => Err(interrupted),
        };
        if ended.is_ok() {
            for tag in tags {
                let _ = channel.basic_cancel(tag, BasicCancelOptions::default()).await;
            }
            // Requests under way still need the channel, to acknowledge.
            tokio::select! {
                () = self.core.abort.cancelled() => {}
                () = link.lost.cancelled() => {}
                () = self.core.tasks.wait() => {}
            }
        }
        over.cancel();
        drop(deliveries);
        close(&channel).await;
        ended
    }

    async fn consume(
        &self,
        link: &Arc<Link>,
        channel: &Channel,
        deliveries: &mut Deliveries,
        over: &CancellationToken,
    ) -> Result<(), Interrupted> {
        loop {
            let next = tokio::select! {
                () = self.core.stop.cancelled() => return Ok(()),
                () = link.lost.cancelled() => return Err(Interrupted::connection()),
                next = deliveries.next() => next,
            };
            match next.flatten() {
                Some((origin, Ok(delivery))) => {
                    // What cannot be carried out yet stays unacknowledged; the prefetch bounds it.
                    let permit = tokio::select! {
                        () = self.core.stop.cancelled() => return Ok(()),
                        () = link.lost.cancelled() => return Err(Interrupted::connection()),
                        permit = Arc::clone(&self.core.permits).acquire_owned() => permit.map_err(|_| Interrupted::new("closed", BusError::Closed))?,
                    };
                    self.hand_over(origin, Arrived::new(delivery, channel.clone()), permit, over);
                }
                Some((_, Err(error))) => return Err(Interrupted::on_channel(link, &error, "the channel")),
                None => return Err(Interrupted::cancelled()),
            }
        }
    }

    fn hand_over(&self, origin: Origin, arrived: Arrived, permit: OwnedSemaphorePermit, over: &CancellationToken) {
        let abort = self.core.abort.clone();
        let over = over.clone();
        match &self.handler {
            Handler::Rpc(rpc) => {
                let rpc = Arc::clone(rpc);
                self.core
                    .tasks
                    .spawn(async move { abort.run_until_cancelled(rpc.handle(origin, arrived, permit)).await });
            }
            Handler::Notifications(listener) => {
                let listener = Arc::clone(listener);
                self.core
                    .tasks
                    .spawn(async move { abort.run_until_cancelled(listener.handle(arrived, permit, over)).await });
            }
            Handler::Work(work) => {
                let work = Arc::clone(work);
                self.core
                    .tasks
                    .spawn(async move { abort.run_until_cancelled(work.handle(arrived, permit, over)).await });
            }
        }
    }
}

/// Closes the channel; the broker takes back what was not acknowledged.
async fn close(channel: &Channel) {
    if channel.status().connected() {
        let _ = tokio::time::timeout(Duration::from_secs(5), channel.close(200, "OK".into())).await;
    }
}
