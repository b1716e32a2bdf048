//! Nova's notifications, as a reason to ask its API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Dispatcher, Disposition, Incoming, Service};

/// How long until it is tried again to listen where Nova's exchange is not there or may not be read.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a wake-up may take that is under way when the role stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Of what is told on this topic: which node is where, and whether an administrator wants it to be used.
const TELLING: [&str; 3] = ["service.", "aggregate.add_host.end", "aggregate.remove_host.end"];

/// Where Nova notifies.
pub struct Notifications {
    /// Nova's bus.
    pub bus: Bus,
    /// Nova's exchange (`control_exchange` in nova.conf).
    pub exchange: String,
    /// The topic of its versioned notifications: the others tell nothing of services, and hold their users' tokens.
    pub topic: String,
}

struct Waker(Arc<Notify>);

#[async_trait]
impl Dispatcher for Waker {
    async fn dispatch(&self, incoming: Incoming) -> Disposition {
        let event = incoming.request.args.get("event_type").and_then(|event| event.as_str()).unwrap_or_default();
        if TELLING.iter().any(|telling| event.starts_with(telling)) {
            metrics::counter!("spice_nova_notifications_total").increment(1);
            self.0.notify_one();
        }
        Disposition::Done
    }
}

/// Listens until `stop`; wakes whoever waits when something is told of services or aggregates.
pub async fn listen(notifications: Notifications, wake: Arc<Notify>, stop: CancellationToken) {
    let Notifications { bus, exchange, topic } = notifications;
    loop {
        let service = Service::overheard(&exchange, &topic, "info");
        let serving = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            serving = bus.serve(service, Arc::new(Waker(Arc::clone(&wake)))) => serving,
        };
        crate::telemetry::health::outcome(&serving);
        match serving {
            Ok(serving) => {
                stop.cancelled().await;
                serving.stop(STOP_WITHIN).await;
                return;
            }
            Err(error) => {
                tracing::warn!(%error, exchange, "Nova's notifications cannot be heard; its API is asked from time to time all the same");
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
