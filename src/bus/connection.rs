//! A connection that comes back: open it, watch it, open it again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::backoff;
use super::connect::{Connected, Connector, Cord, connect_any};
use super::error::BusError;
use super::liveness;
use super::options::RabbitOptions;

/// A polite close may take this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two signs of life where the options say that there are no heartbeats.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// How often a sign of life is wanted of the broker.
pub(crate) fn interval(rabbit: &RabbitOptions) -> Duration {
    match rabbit.heartbeat_timeout_threshold {
        0 => DEFAULT_INTERVAL,
        seconds => Duration::from_secs(u64::from(seconds)),
    }
}

/// One connection, until it is lost.
pub(crate) struct Link {
    pub connection: Connection,
    /// Cancelled when the connection is lost.
    pub lost: CancellationToken,
    /// Why the broker takes no messages, while it does not.
    blocked: watch::Sender<Option<Arc<str>>>,
    /// Labels of what was declared through this connection.
    declared: Mutex<HashSet<String>>,
    /// Ends the connection when nobody uses it any more.
    cord: Cord,
}

impl Link {
    fn new(connection: Connection, cord: Cord) -> Self {
        let (blocked, _) = watch::channel(None);
        Self { connection, lost: CancellationToken::new(), blocked, declared: Mutex::default(), cord }
    }

    /// Why the broker takes no messages on this connection; `None` when it does.
    pub(crate) fn blocked(&self) -> Option<Arc<str>> {
        self.blocked.borrow().clone()
    }

    /// Returns when the broker takes messages, or the connection is lost.
    pub(crate) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        tokio::select! {
            () = self.lost.cancelled() => {}
            _ = blocked.wait_for(Option::is_none) => {}
        }
    }

    pub(crate) fn is_declared(&self, label: &str) -> bool {
        self.declared().contains(label)
    }

    pub(crate) fn set_declared(&self, label: String) {
        self.declared().insert(label);
    }

    /// Forgets what was declared: something is gone.
    pub(crate) fn forget_declared(&self) {
        self.declared().clear();
    }

    fn declared(&self) -> MutexGuard<'_, HashSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection is at the moment.
#[derive(Clone)]
pub(crate) enum LinkState {
    /// Not there, with the last reason.
    Down(Arc<str>),
    Up(Arc<Link>),
    /// The bus was closed.
    Closed,
}

/// Follows one connection through its losses.
#[derive(Clone)]
pub(crate) struct Links(watch::Receiver<LinkState>);

impl Links {
    /// The connection, as soon as there is one. Cancel-safe.
    pub(crate) async fn up(&self) -> Result<Arc<Link>, BusError> {
        let mut states = self.0.clone();
        let state =
            states.wait_for(|state| !matches!(state, LinkState::Down(_))).await.map_err(|_| BusError::Closed)?;
        match &*state {
            LinkState::Up(link) => Ok(Arc::clone(link)),
            LinkState::Down(_) | LinkState::Closed => Err(BusError::Closed),
        }
    }

    /// The connection, if there is one before `deadline`.
    pub(crate) async fn up_before(&self, deadline: Instant) -> Result<Arc<Link>, BusError> {
        match tokio::time::timeout_at(deadline, self.up()).await {
            Ok(link) => link,
            Err(_) => Err(BusError::Disconnected(self.why_down())),
        }
    }

    /// Whether the connection is there right now.
    pub(crate) fn is_up(&self) -> bool {
        matches!(&*self.0.borrow(), LinkState::Up(_))
    }

    /// Why the broker takes no messages, while the connection is there and it does not.
    pub(crate) fn blocked(&self) -> Option<Arc<str>> {
        match &*self.0.borrow() {
            LinkState::Up(link) => link.blocked(),
            LinkState::Down(_) | LinkState::Closed => None,
        }
    }

    /// Waits for the next change, also of whether the broker takes messages.
    pub(crate) async fn changed(&mut self) -> Result<(), BusError> {
        self.0.changed().await.map_err(|_| BusError::Closed)
    }

    /// The last reason why the connection is not there.
    pub(crate) fn why_down(&self) -> String {
        match &*self.0.borrow() {
            LinkState::Down(why) => why.to_string(),
            LinkState::Up(_) => "the connection was lost again and again".to_owned(),
            LinkState::Closed => "the bus is closed".to_owned(),
        }
    }
}

/// Keeps one connection for `role` until `shutdown`. The task ends then, after closing the connection politely.
pub(crate) fn keep_connected(
    connector: Arc<Connector>,
    role: &'static str,
    shutdown: CancellationToken,
) -> (Links, tokio::task::JoinHandle<()>) {
    let (state, links) = watch::channel(LinkState::Down("not connected yet".into()));
    let task = tokio::spawn(async move {
        let keeper = Keeper { connector: &connector, role, shutdown: &shutdown, state: &state };
        keeper.gauge(false);
        keeper.run().await;
        state.send_replace(LinkState::Closed);
        keeper.gauge(false);
    });
    (Links(links), task)
}

struct Keeper<'a> {
    connector: &'a Connector,
    role: &'static str,
    shutdown: &'a CancellationToken,
    state: &'a watch::Sender<LinkState>,
}

impl Keeper<'_> {
    async fn run(&self) {
        let mut failures: u32 = 0;
        let mut said = String::new();
        loop {
            let connected = tokio::select! {
                () = self.shutdown.cancelled() => return,
                connected = connect_any(self.connector, self.role) => connected,
            };
            match connected {
                Ok(connected) => {
                    failures = 0;
                    said.clear();
                    if !self.keep(connected).await {
                        return;
                    }
                }
                Err(why) => {
                    metrics::counter!("spice_bus_connect_failures_total", "transport" => self.transport(), "role" => self.role).increment(1);
                    failures = failures.saturating_add(1);
                    // A new reason is worth a line, and a long outage one now and then, but not one per attempt.
                    if why != said || failures.is_power_of_two() {
                        tracing::warn!(
                            bus.transport = self.transport(),
                            bus.role = self.role,
                            bus.attempt = failures,
                            "the message broker cannot be reached: {why}"
                        );
                        said.clone_from(&why);
                    }
                    self.state.send_replace(LinkState::Down(why.into()));
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff(&self.connector.rabbit, failures, rand::random())) => {}
            }
        }
    }

    /// Offers the connection until it is lost; false when the bus was closed.
    async fn keep(&self, Connected { connection, host, cord }: Connected) -> bool {
        let role = self.role;
        let link = Arc::new(Link::new(connection, cord));
        tracing::info!(bus.transport = self.transport(), bus.role = role, bus.host = %host, "connected to the message broker");
        self.gauge(true);
        self.state.send_replace(LinkState::Up(Arc::clone(&link)));
        let blocked = |why: Option<String>| self.blocked(&link, why);
        let loss = tokio::select! {
            () = self.shutdown.cancelled() => None,
            loss = liveness::watch(&link, interval(&self.connector.rabbit), blocked) => Some(loss),
        };
        link.lost.cancel();
        metrics::gauge!("spice_bus_blocked", "transport" => self.transport(), "role" => role).set(0.0);
        let Some(loss) = loss else {
            self.state.send_replace(LinkState::Closed);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, link.connection.close(200, "OK".into())).await;
            link.cord.cut();
            return false;
        };
        self.gauge(false);
        metrics::counter!("spice_bus_connections_lost_total", "transport" => self.transport(), "role" => role, "reason" => loss.reason).increment(1);
        tracing::warn!(
            bus.transport = self.transport(),
            bus.role = role,
            bus.host = %host,
            bus.reason = loss.reason,
            "the connection to the message broker was lost: {}", loss.detail
        );
        self.state.send_replace(LinkState::Down(loss.detail.into()));
        // lapin would wait for a polite end, which a broker that does not answer never gives.
        link.cord.cut();
        true
    }

    fn blocked(&self, link: &Link, why: Option<String>) {
        match &why {
            Some(why) => {
                metrics::counter!("spice_bus_blocked_total").increment(1);
                tracing::warn!(
                    bus.transport = self.transport(),
                    bus.role = self.role,
                    "the message broker blocks publishers: {why}"
                );
            }
            None => tracing::info!(
                bus.transport = self.transport(),
                bus.role = self.role,
                "the message broker takes messages again"
            ),
        }
        metrics::gauge!("spice_bus_blocked", "transport" => self.transport(), "role" => self.role)
            .set(if why.is_some() { 1.0 } else { 0.0 });
        link.blocked.send_replace(why.map(Arc::from));
        // Whoever follows the connection's state is woken.
        self.state.send_modify(|_| {});
    }

    fn transport(&self) -> &'static str {
        self.connector.transport.as_str()
    }

    fn gauge(&self, up: bool) {
        metrics::gauge!("spice_bus_connected", "transport" => self.transport(), "role" => self.role).set(if up {
            1.0
        } else {
            0.0
        });
    }
}
