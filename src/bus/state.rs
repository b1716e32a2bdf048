//! What a bus knows of its broker, for whoever shows or waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::connection::Links;
use super::publisher::Publisher;

/// How often channels that nobody uses are looked for.
const TIDY_PERIOD: Duration = Duration::from_secs(15);

/// The broker, as this member of the bus sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// At least one of the two connections is not there, for this reason.
    Away(String),
    /// It is there and takes no messages, for the reason it gave; what it has is still delivered.
    Blocked(String),
    /// All is well.
    Reached,
}

impl Broker {
    fn of(publishing: &Links, consuming: &Links) -> Self {
        if let Some(down) = [publishing, consuming].into_iter().find(|links| !links.is_up()) {
            Self::Away(down.why_down())
        } else if let Some(why) = publishing.blocked() {
            Self::Blocked(why.to_string())
        } else {
            Self::Reached
        }
    }
}

/// Follows both connections until the bus is closed, and keeps the publisher tidy meanwhile.
pub(crate) fn follow(
    mut publishing: Links,
    mut consuming: Links,
    publisher: Arc<Publisher>,
) -> (watch::Receiver<Broker>, watch::Receiver<bool>, tokio::task::JoinHandle<()>) {
    let (broker, watch_broker) = watch::channel(Broker::of(&publishing, &consuming));
    let (connected, watch_connected) = watch::channel(false);
    let task = tokio::spawn(async move {
        loop {
            let now = Broker::of(&publishing, &consuming);
            let up = !matches!(now, Broker::Away(_));
            connected.send_if_modified(|known| std::mem::replace(known, up) != up);
            broker.send_if_modified(|known| (*known != now).then(|| *known = now).is_some());
            let open = tokio::select! {
                changed = publishing.changed() => changed,
                changed = consuming.changed() => changed,
                () = tokio::time::sleep(TIDY_PERIOD) => {
                    publisher.tidy();
                    Ok(())
                }
            };
            if open.is_err() {
                connected.send_replace(false);
                broker.send_replace(Broker::Away("the bus is closed".to_owned()));
                return;
            }
        }
    });
    (watch_broker, watch_connected, task)
}
