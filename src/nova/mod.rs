//! Role *nova*: keeps Nodes in step with the compute nodes there are.
//!
//! [`sweep`] asks Nova's API for all of them, puts the answers together ([`snapshot`]), and tells Nodes what is not as Nodes knows it. That happens
//! from time to time, and soon after Nova notified of something ([`overheard`]): a notification can be forged by whoever reaches Nova's bus and is
//! never more than a reason to ask. Several processes may have this role: telling the same twice changes nothing.

pub mod overheard;
pub mod snapshot;
pub mod sweep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::nova::overheard::Notifications;
use crate::nova::sweep::Sweeper;
use crate::openstack::Session;
use crate::rpc::{Identity, RpcClient};
use crate::telemetry::health::{RoleHealth, TURN_LIMIT};

/// However much Nova notifies, it is asked no more often.
const LEAST_PAUSE: Duration = Duration::from_secs(2);
/// A sweep of a large cloud takes as long as Nova does to list it.
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// What the role needs from outside.
pub struct Options {
    /// SPICE's bus.
    pub bus: Bus,
    /// Our key and whom we trust.
    pub identity: Arc<Identity>,
    /// Nova's API.
    pub session: Session,
    /// What is heard of Nova's notifications; `None`: nothing.
    pub notifications: Option<Notifications>,
    /// How often Nova is asked without a reason.
    pub interval: Duration,
    /// Where the role shows that it lives.
    pub health: RoleHealth,
}

/// The running role.
pub struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Starts the role. It asks Nova at once, and again while it does not answer.
#[must_use]
pub fn start(options: Options) -> Running {
    let Options { bus, identity, session, notifications, interval, health } = options;
    let (stop, tasks, wake) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Notify::new()));
    if let Some(notifications) = notifications {
        let work = overheard::listen(notifications, Arc::clone(&wake), stop.clone());
        tasks.spawn(health.watched("notifications", None, stop.clone(), work));
    }
    let sweeper = Sweeper::new(RpcClient::new(bus, identity), session, interval);
    let work = keep_sweeping(sweeper, interval, wake, stop.clone());
    tasks.spawn(health.watched("sweeps", Some(LONGEST_SWEEP + interval + TURN_LIMIT), stop.clone(), work));
    tasks.close();
    tracing::info!(role = "nova", "role started");
    Running { tasks, stop }
}

async fn keep_sweeping(mut sweeper: Sweeper, interval: Duration, wake: Arc<Notify>, stop: CancellationToken) {
    loop {
        crate::telemetry::health::turn();
        let swept = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            swept = tokio::time::timeout(LONGEST_SWEEP, sweeper.sweep()) => swept.unwrap_or_else(|_| Err(sweep::late(LONGEST_SWEEP))),
        };
        crate::telemetry::health::outcome(&swept);
        sweeper.report(&swept);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LEAST_PAUSE) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(interval.saturating_sub(LEAST_PAUSE)) => {}
        }
    }
}

impl Running {
    /// Stops asking.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
