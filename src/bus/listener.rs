//! Listening to notifications, as oslo.messaging's listener does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::arrived::Arrived;
use super::core::{Core, Origin};
use super::notifier;
use super::service::{Disposition, Subscription};

/// Pauses before a notification is given back: no busy loop, and none held past RabbitMQ's limit of 30 min for an acknowledgement. oslo.messaging makes
/// no pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// The listening half of a server.
pub(crate) struct Listener {
    core: Arc<Core>,
    wanted: Subscription,
}

impl Listener {
    pub(crate) fn new(core: Arc<Core>, wanted: Subscription) -> Self {
        Self { core, wanted }
    }

    /// Deals with one notification until it is acknowledged or given back, or until its session is over and the broker has it again.
    pub(crate) async fn handle(&self, arrived: Arrived, _permit: OwnedSemaphorePermit, over: CancellationToken) {
        let inner = match self.core.open(&arrived.delivery) {
            Ok(inner) => inner,
            Err(refusal) => {
                self.core.count_refused(refusal.reason, &refusal.detail);
                arrived.refuse().await;
                return;
            }
        };
        let wanted = |priority: &String| self.wanted.priorities.contains(priority);
        let heard = notifier::decode(inner).filter(|received| wanted(&received.request.method));
        if let Some(received) = heard {
            let incoming = self.core.incoming(received, Origin::Topic, arrived.delivery.redelivered);
            match self.core.dispatch(incoming).await {
                Some(Disposition::Retry(pause)) => {
                    metrics::counter!("spice_bus_notifications_requeued_total").increment(1);
                    tokio::select! {
                        () = over.cancelled() => return,
                        () = self.core.stop.cancelled() => {}
                        () = tokio::time::sleep(pause.clamp(PAUSE.0, PAUSE.1)) => {}
                    }
                    return arrived.give_back().await;
                }
                Some(Disposition::Poison(why)) => self.core.count_refused("notification", &why),
                // A panic is counted where it is caught; heard again it would panic again.
                Some(Disposition::Done | Disposition::Reply(_)) | None => {}
            }
        }
        arrived.acknowledge().await;
    }
}
