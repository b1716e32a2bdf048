//! What systemd is told: that the service is ready, that it lives, that it stops. Without systemd nothing is told to nobody.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;

use super::health::Health;

/// The service does its work from here on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The service stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Feeds the watchdog while every loop turns, for ever; `None` where systemd wants no sign of life. A process whose loops are dead is
/// thus killed and started again by systemd, however well it still answers.
#[must_use]
pub fn watchdog(health: Health) -> Option<impl Future<Output = ()>> {
    let limit = sd_notify::watchdog_enabled()?;
    Some(feed(health, limit / 3, || tell(&[NotifyState::Watchdog])))
}

async fn feed(health: Health, every: Duration, food: impl Fn()) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        let report = health.report();
        if report.live {
            food();
        } else if !told {
            tracing::error!(
                faults = report.faults.join("; "),
                "a part of this process is dead; its service manager will start it again"
            );
        }
        told = !report.live;
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told how this service is");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_every_loop_turns() {
        let health = Health::default();
        let limit = Duration::from_secs(30);
        let role = health.role("checks");
        tokio::spawn(role.watched("dispatch", Some(limit), CancellationToken::new(), std::future::pending()));
        let fed = Arc::new(AtomicUsize::new(0));
        let count = fed.clone();
        tokio::spawn(feed(health, Duration::from_secs(10), move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(fed.load(Ordering::SeqCst), 4, "at once, and at 10, 20 and 30 s");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fed.load(Ordering::SeqCst), 4, "the loop hangs");
    }
}
