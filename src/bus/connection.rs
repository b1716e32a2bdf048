//! A connection that comes back: connect through every host with a jittered back-off, watch, connect again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use rand::seq::SliceRandom;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::BusError;
use super::options::RabbitOptions;
use super::tls;
use super::transport_url::{Host, TransportUrl};
use crate::text::display_safe;

/// How long one attempt at one host may take, handshake included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A dead connection is noticed at the latest this long after lapin noticed it.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

/// Where and how to connect.
#[derive(Debug)]
pub(crate) struct Connector {
    pub url: TransportUrl,
    pub rabbit: RabbitOptions,
    /// Shown to the broker's operators.
    pub name: String,
}

/// One connection, until it is lost.
pub(crate) struct Link {
    pub connection: Connection,
    /// Cancelled when the connection is lost.
    pub lost: CancellationToken,
    /// Labels of what was declared through this connection.
    declared: Mutex<HashSet<String>>,
}

impl Link {
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

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) -> Result<(), BusError> {
        self.0.changed().await.map_err(|_| BusError::Closed)
    }

    fn why_down(&self) -> String {
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
        run(&connector, role, &shutdown, &state).await;
        state.send_replace(LinkState::Closed);
        gauge(role, 0.0);
    });
    (Links(links), task)
}

async fn run(
    connector: &Connector,
    role: &'static str,
    shutdown: &CancellationToken,
    state: &watch::Sender<LinkState>,
) {
    let mut attempt: u32 = 0;
    loop {
        let connected = tokio::select! {
            () = shutdown.cancelled() => return,
            connected = connect_any(connector, role) => connected,
        };
        match connected {
            Ok((connection, host)) => {
                let link = Arc::new(Link { connection, lost: CancellationToken::new(), declared: Mutex::default() });
                tracing::info!(bus.role = role, bus.host = %host, "connected to the message broker");
                gauge(role, 1.0);
                state.send_replace(LinkState::Up(Arc::clone(&link)));
                attempt = 0;
                let why = tokio::select! {
                    () = shutdown.cancelled() => None,
                    why = watch_link(&link) => Some(why),
                };
                link.lost.cancel();
                let Some(why) = why else {
                    state.send_replace(LinkState::Closed);
                    let _ = tokio::time::timeout(Duration::from_secs(5), link.connection.close(200, "OK".into())).await;
                    return;
                };
                gauge(role, 0.0);
                metrics::counter!("spice_bus_connections_lost_total", "role" => role).increment(1);
                tracing::warn!(bus.role = role, bus.host = %host, "the connection to the message broker was lost: {why}");
                state.send_replace(LinkState::Down(why.into()));
            }
            Err(why) => {
                // The first failure is worth a look, a long outage is not worth a line per attempt.
                if attempt.is_power_of_two() || attempt == 0 {
                    tracing::warn!(
                        bus.role = role,
                        bus.attempt = attempt + 1,
                        "the message broker cannot be reached: {why}"
                    );
                }
                state.send_replace(LinkState::Down(why.into()));
                attempt = attempt.saturating_add(1);
            }
        }
        let delay = backoff(&connector.rabbit, attempt, rand::random());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

fn gauge(role: &'static str, value: f64) {
    metrics::gauge!("spice_bus_connected", "role" => role).set(value);
}

/// How long to wait before connecting again after `failures` failed rounds. `unit` in 0..1 spreads it between a half and the whole, so that
/// a fleet does not return in step.
pub(crate) fn backoff(rabbit: &RabbitOptions, failures: u32, unit: f64) -> Duration {
    let whole = match failures.checked_sub(1) {
        None => rabbit.kombu_reconnect_delay,
        Some(earlier) => {
            let grown =
                f64::from(rabbit.rabbit_retry_interval) + f64::from(earlier) * f64::from(rabbit.rabbit_retry_backoff);
            grown.min(f64::from(rabbit.rabbit_interval_max.max(1)))
        }
    };
    // Never a busy loop, whatever the options say.
    Duration::try_from_secs_f64(whole * (0.5 + unit.clamp(0.0, 1.0) / 2.0))
        .unwrap_or(Duration::ZERO)
        .max(Duration::from_millis(50))
}

/// Tries every host once, in random order.
async fn connect_any(connector: &Connector, role: &'static str) -> Result<(Connection, Host), String> {
    let mut hosts = connector.url.hosts.clone();
    hosts.shuffle(&mut rand::rng());
    let mut faults = Vec::new();
    for host in hosts {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, connect(connector, &host, role)).await {
            Ok(Ok(connection)) => return Ok((connection, host)),
            Ok(Err(why)) => faults.push(format!("{host}: {why}")),
            Err(_) => faults.push(format!("{host}: no answer within {} s", ATTEMPT_TIMEOUT.as_secs())),
        }
    }
    Err(faults.join("; "))
}

async fn connect(connector: &Connector, host: &Host, role: &'static str) -> Result<Connection, String> {
    let rabbit = &connector.rabbit;
    let mechanism = match rabbit.rabbit_login_method.as_str() {
        "AMQPLAIN" => SASLMechanism::AMQPlain,
        "EXTERNAL" => SASLMechanism::External,
        _ => SASLMechanism::Plain,
    };
    let uri = AMQPUri {
        scheme: if rabbit.ssl { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: host.user.clone(), password: host.password.clone() },
            host: host.host.clone(),
            port: host.port,
        },
        vhost: connector.url.virtual_host.clone(),
        query: AMQPQueryString {
            heartbeat: Some(rabbit.heartbeat_timeout_threshold),
            auth_mechanism: Some(mechanism),
            ..AMQPQueryString::default()
        },
    };
    let properties = ConnectionProperties::default().with_connection_name(format!("{}:{role}", connector.name).into());
    // Read again for each connection, so that renewed certificates are used.
    let tls = if rabbit.ssl { Some(tls::connector(rabbit).await?) } else { None };
    let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
    let connected = Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            let addresses = runtime.to_socket_addrs((uri.authority.host.clone(), uri.authority.port));
            let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
            match &tls {
                Some(tls) => Ok(stream.into_rustls(tls, &uri.authority.host).await?),
                None => Ok(stream),
            }
        },
        properties,
    )
    .await;
    connected.map_err(|error| display_safe(&error.to_string()))
}

/// Returns when the connection is no more, with the reason.
async fn watch_link(link: &Link) -> String {
    let mut events = Box::pin(link.connection.events_listener());
    let mut why = None;
    loop {
        match tokio::time::timeout(LIVENESS_PERIOD, events.next()).await {
            Ok(Some(lapin::Event::Error(error))) => why = Some(display_safe(&error.to_string())),
            Ok(Some(lapin::Event::ConnectionBlocked(reason))) => {
                metrics::counter!("spice_bus_blocked_total").increment(1);
                tracing::warn!("the message broker blocks publishers: {}", display_safe(&reason));
            }
            Ok(Some(lapin::Event::ConnectionUnblocked)) => tracing::info!("the message broker takes messages again"),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => return why.unwrap_or_else(|| "closed".to_owned()),
        }
        if !link.connection.status().connected() {
            return why.unwrap_or_else(|| "closed".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_grow_as_oslos_do_and_are_bounded() {
        let rabbit = RabbitOptions::default();
        let waits: Vec<u64> = (0..5).map(|failures| backoff(&rabbit, failures, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 1, 3, 5, 7]);
        assert_eq!(backoff(&rabbit, u32::MAX, 1.0).as_secs(), 30);
    }

    proptest! {
        #[test]
        fn waits_are_never_zero_nor_above_the_limit(failures: u32, unit in 0.0..1.0f64, interval in 0..100u32, step in 0..100u32, max in 0..1000u32) {
            let rabbit = RabbitOptions {
                rabbit_retry_interval: interval,
                rabbit_retry_backoff: step,
                rabbit_interval_max: max,
                ..RabbitOptions::default()
            };
            let wait = backoff(&rabbit, failures, unit);
            prop_assert!(wait >= Duration::from_millis(50));
            prop_assert!(wait <= Duration::from_secs(u64::from(max.max(1))));
        }
    }
}
