//! Opening a connection: every host, as often as it takes, without waiting long for one that does not answer.
//!
//! What lapin does not give: a connection attempt, or a connection, that can be given up. Dropping lapin's future leaves a thread and a
//! socket behind until the *peer* closes, which a broker that accepts and never answers does not. So every attempt keeps a second handle to its socket, a
//! [`Cord`], and shuts the socket down itself; lapin's thread reads the end of the stream then, and ends.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use rand::seq::SliceRandom;

use super::options::{RabbitOptions, Transport};
use super::tls;
use super::transport_url::{Host, TransportUrl};
use crate::text::display_safe;

/// How long one attempt at one host may take, handshake included: a broker under load may be slow.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// While an attempt is not answered, the next host, or the same one again, is tried after this time: a connection into nothing does not
/// recover, while a new one would succeed at once.
const NEXT_ATTEMPT: Duration = Duration::from_secs(2);

/// Where and how to connect.
#[derive(Debug)]
pub(crate) struct Connector {
    pub transport: Transport,
    pub url: TransportUrl,
    pub rabbit: RabbitOptions,
    /// Shown to the broker's operators.
    pub name: String,
}

/// A connection with what ends it for certain.
pub(crate) struct Connected {
    pub connection: Connection,
    pub host: Host,
    pub cord: Cord,
}

/// Shuts a socket down, whatever lapin is doing with it. Dropping it does that, too.
#[derive(Default)]
pub(crate) struct Cord(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    NotYet,
    Open(TcpStream),
    Cut,
}

impl Cord {
    /// Ends the connection: nothing more is sent or received.
    pub(crate) fn cut(&self) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(stream) = std::mem::replace(&mut *socket, Socket::Cut) {
            // It fails where the peer was quicker.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn holder(&self) -> CordHolder {
        CordHolder(Arc::clone(&self.0))
    }
}

impl Drop for Cord {
    fn drop(&mut self) {
        self.cut();
    }
}

/// The end of the cord that is tied to the socket.
struct CordHolder(Arc<Mutex<Socket>>);

impl CordHolder {
    fn tie(&self, stream: &impl AsFd) -> std::io::Result<()> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*socket, Socket::Cut) {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
        }
        *socket = Socket::Open(TcpStream::from(stream.as_fd().try_clone_to_owned()?));
        Ok(())
    }
}

/// Tries the hosts in random order until one answers, or until one of them failed after all were tried.
pub(crate) async fn connect_any(connector: &Connector, role: &'static str) -> Result<Connected, String> {
    let mut hosts = connector.url.hosts.clone();
    hosts.shuffle(&mut rand::rng());
    let mut faults = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let mut begun = 0;
    loop {
        if let Some(host) = hosts.get(begun % hosts.len().max(1)) {
            attempts.push(attempt(connector, host.clone(), role));
            begun += 1;
        }
        let outcome = tokio::select! {
            Some(outcome) = attempts.next() => outcome,
            () = tokio::time::sleep(NEXT_ATTEMPT) => continue,
        };
        match outcome {
            Ok(connected) => return Ok(connected),
            Err(fault) => faults.push(fault),
        }
        if begun >= hosts.len() && (attempts.is_empty() || faults.len() >= hosts.len()) {
            return Err(faults.join("; "));
        }
    }
}

async fn attempt(connector: &Connector, host: Host, role: &'static str) -> Result<Connected, String> {
    // Dropped, and so cut, when the attempt fails, takes too long or is overtaken by another.
    let cord = Cord::default();
    let opening = connect(connector, &host, role, cord.holder());
    match tokio::time::timeout(ATTEMPT_TIMEOUT, opening).await {
        Ok(Ok(connection)) => Ok(Connected { connection, host, cord }),
        Ok(Err(why)) => Err(format!("{host}: {why}")),
        Err(_) => Err(format!("{host}: no answer within {} s", ATTEMPT_TIMEOUT.as_secs())),
    }
}

async fn connect(
    connector: &Connector,
    host: &Host,
    role: &'static str,
    cord: CordHolder,
) -> Result<Connection, String> {
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
            heartbeat: Some(offered_heartbeat(rabbit.heartbeat_timeout_threshold)),
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
            // This runs on lapin's own thread, which outlives a dropped attempt; so the bound must be here as well.
            let opening = AsyncTcpStream::connect(&runtime, addresses);
            let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
            let stream = tokio::time::timeout(ATTEMPT_TIMEOUT, opening).await.map_err(late)??;
            if let AsyncTcpStream::Plain(socket) = &stream {
                cord.tie(socket.get_ref())?;
            }
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

/// The heartbeat to agree on, in seconds. lapin gives up a silent connection between 2 and 2.5 of it; four fifths of what was configured
/// keep that within twice what was configured.
fn offered_heartbeat(threshold: u16) -> u16 {
    match threshold {
        0 => 0,
        seconds => (seconds - seconds / 5).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::offered_heartbeat;

    #[test]
    fn lapin_gives_up_within_twice_the_configured_time() {
        assert_eq!(offered_heartbeat(0), 0);
        for threshold in 5..=u16::MAX {
            let silence = f64::from(offered_heartbeat(threshold)) * 2.5;
            assert!(silence <= f64::from(threshold) * 2.0 + 2.5, "{threshold}");
        }
    }
}
