//! Work: acknowledged after it was done, retried while it cannot be, put aside when it never can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arrived::Arrived;
use super::core::{Core, Origin};
use super::dead_letter;
use super::message::{self, Incoming};
use super::outgoing::{Lane, Outgoing};
use super::service::Disposition;
use super::topology;
use crate::text::display_safe;

/// After so many panics a message is poison.
const MAX_PANICS: u32 = 5;
/// Pause after a panic.
const PANIC_RETRY: Duration = Duration::from_secs(1);
/// Pauses asked for are kept within these bounds: no busy loop, and no message held past RabbitMQ's limit of 30 min for an acknowledgement.
const MIN_RETRY: Duration = Duration::from_millis(10);
const MAX_RETRY: Duration = Duration::from_secs(10 * 60);
/// Most messages whose panics are counted across redeliveries.
const MAX_COUNTED: usize = 1024;

/// Pause before a message that could not be put aside is given back to its queue.
const FAILED_BURIAL_PAUSE: Duration = Duration::from_secs(5);

/// The work half of a server.
pub(crate) struct WorkServer {
    core: Arc<Core>,
    /// Panics per message, over its redeliveries.
    panics: Mutex<HashMap<String, u32>>,
}

impl WorkServer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, panics: Mutex::default() }
    }

    /// Deals with one message until it is acknowledged, or until its session is over and the broker has it again.
    pub(crate) async fn handle(&self, arrived: Arrived, permit: OwnedSemaphorePermit, over: CancellationToken) {
        let mut permit = Some(permit);
        let mut redelivered = arrived.delivery.redelivered;
        loop {
            // Read anew for every try: a copy kept for a second one would cost every message, and more memory than its text.
            let incoming = match self.read(&arrived.delivery, redelivered) {
                Ok(incoming) => incoming,
                Err((reason, detail)) => return self.bury(&arrived, reason, &detail).await,
            };
            let unique_id = incoming.unique_id.clone();
            let pause = match self.core.dispatch(incoming).await {
                Some(Disposition::Done | Disposition::Reply(_)) => {
                    self.forget(unique_id.as_deref());
                    if !arrived.acknowledge().await {
                        tracing::info!(
                            "work was done but not acknowledged, because the connection was lost; it will come again"
                        );
                    }
                    return;
                }
                Some(Disposition::Poison(why)) => {
                    self.forget(unique_id.as_deref());
                    return self.bury(&arrived, "poison", &why).await;
                }
                Some(Disposition::Retry(pause)) => pause.clamp(MIN_RETRY, MAX_RETRY),
                None if self.panicked_too_often(unique_id.as_deref()) => {
                    return self.bury(&arrived, "panic", "carrying it out panicked again and again").await;
                }
                None => PANIC_RETRY,
            };
            metrics::counter!("spice_bus_work_retries_total").increment(1);
            // Kept unacknowledged meanwhile: if this process or the connection goes, the broker still has it. Giving it back at once
            // would be a busy loop, and on quorum queues a delivery limit would throw it away.
            drop(permit.take());
            permit = tokio::select! {
                () = over.cancelled() => return,
                () = self.core.stop.cancelled() => return arrived.give_back().await,
                permit = async {
                    tokio::time::sleep(pause).await;
                    Arc::clone(&self.core.permits).acquire_owned().await
                } => permit.ok(),
            };
            redelivered = true;
        }
    }

    /// The request in a message, or why it holds none.
    fn read(&self, delivery: &Delivery, redelivered: bool) -> Result<Incoming, (&'static str, String)> {
        let inner = self.core.open(delivery).map_err(|refusal| (refusal.reason, refusal.detail))?;
        let mut received = message::decode_request(inner).map_err(|failure| ("request", failure.to_string()))?;
        // Work is never answered, whatever the sender wrote.
        received.request.msg_id = None;
        Ok(self.core.incoming(received, Origin::Topic, redelivered))
    }

    /// Puts a message aside, with the reason, and only then acknowledges it.
    async fn bury(&self, arrived: &Arrived, reason: &'static str, detail: &str) {
        metrics::counter!("spice_bus_dead_letters_total", "reason" => reason).increment(1);
        self.core.count_refused(reason, detail);
        let detail = display_safe(detail);
        let exchange = &self.core.service.exchange;
        let dead = topology::dead_letter_name(exchange);
        let needs = topology::dead_letters(&self.core.options.rabbit, exchange);
        let headers = [
            ("x-spice-reason", reason.to_owned()),
            ("x-spice-detail", detail),
            ("x-spice-exchange", exchange.clone()),
            ("x-spice-topic", self.core.service.topic.clone()),
        ];
        // A body beyond the limit is not carried further; its headers say what it was.
        let data = &arrived.delivery.data;
        let body = if data.len() > self.core.options.max_message_bytes { &[][..] } else { &data[..] };
        let outgoing = Outgoing {
            lane: Lane::Store,
            mandatory: true,
            persistent: true,
            headers: &headers,
            kept: Some(dead_letter::passed_on(&arrived.delivery.properties)),
            needs: &needs,
            ..Outgoing::new(&dead, &self.core.service.topic, body)
        };
        match self.core.publisher.publish(&outgoing, Instant::now() + self.core.options.publish_timeout).await {
            Ok(()) => {
                arrived.acknowledge().await;
            }
            Err(error) => {
                tracing::error!("the dead letter could not be stored, and is given back to its queue: {error}");
                tokio::time::sleep(FAILED_BURIAL_PAUSE).await;
                arrived.give_back().await;
            }
        }
    }

    fn panicked_too_often(&self, id: Option<&str>) -> bool {
        let Some(id) = id else {
            return true;
        };
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        if panics.len() >= MAX_COUNTED && !panics.contains_key(id) {
            panics.clear();
        }
        let count = panics.entry(id.to_owned()).or_insert(0);
        *count += 1;
        if *count >= MAX_PANICS {
            panics.remove(id);
            return true;
        }
        false
    }

    fn forget(&self, id: Option<&str>) {
        if let Some(id) = id {
            self.panics.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }
}
