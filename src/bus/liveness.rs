//! Watching one connection: when it is lost, and when the broker takes no messages.
//!
//! What lapin gives: an event for errors and for blocking, and an end to a connection on which *nothing at all* arrives for two to two and a half of the
//! agreed heartbeats. What it does not give, and is done here:
//! - A connection that only works in one direction. Where what we send does not arrive, the broker's heartbeats still do, and lapin is content; so is it
//!   with a broker whose reader lives and whose channels answer nothing. So there is a round trip on a channel of its own, twice in a heartbeat
//!   interval, with one interval for the answer: the connection is given up after 1.5 intervals at the latest.
//! - While the broker blocks publishers, lapin writes nothing at all, not even heartbeats, and RabbitMQ expects none. There is no round trip then;
//!   that something arrives is what lapin still watches.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicQosOptions;
use lapin::{Channel, ErrorKind};

use super::connection::Link;
use crate::text::display_safe;

/// A closed connection whose event was missed is noticed at the latest after this time.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// Why a connection is no more.
pub(crate) struct Loss {
    /// A short stable word for counters.
    pub reason: &'static str,
    /// For the log.
    pub detail: String,
}

impl Loss {
    fn of(error: &lapin::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::MissingHeartbeatError => "heartbeat",
            ErrorKind::ProtocolError(_) => "closed_by_broker",
            ErrorKind::IOError(_) => "cut",
            _ => "other",
        };
        Self { reason, detail: display_safe(&error.to_string()) }
    }
}

/// Returns when the connection is no more. `blocked` is called with every change of whether the broker takes messages.
pub(crate) async fn watch(link: &Link, interval: Duration, blocked: impl Fn(Option<String>)) -> Loss {
    let mut events = Box::pin(link.connection.events_listener());
    let mut loss = None;
    let silent = answers_no_more(link, interval);
    tokio::pin!(silent);
    loop {
        let event = tokio::select! {
            event = tokio::time::timeout(STATUS_PERIOD, events.next()) => event,
            () = &mut silent => {
                let detail = format!("it answered nothing for {} s although the connection is open", interval.as_secs_f32());
                return loss.unwrap_or(Loss { reason: "no_answer", detail });
            }
        };
        match event {
            Ok(Some(lapin::Event::Error(error))) => loss = Some(Loss::of(&error)),
            Ok(Some(lapin::Event::ConnectionBlocked(reason))) => blocked(Some(display_safe(&reason))),
            Ok(Some(lapin::Event::ConnectionUnblocked)) => blocked(None),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => return loss.unwrap_or_else(closed),
        }
        if !link.connection.status().connected() {
            return loss.unwrap_or_else(closed);
        }
    }
}

fn closed() -> Loss {
    Loss { reason: "closed", detail: "closed".to_owned() }
}

/// Returns when the broker did not answer within `interval`, being asked twice in it.
async fn answers_no_more(link: &Link, interval: Duration) {
    let mut channel = None;
    loop {
        tokio::time::sleep(interval / 2).await;
        if link.connection.status().blocked() {
            continue;
        }
        match tokio::time::timeout(interval, round_trip(link, channel.take())).await {
            Ok(Ok(answered)) => channel = Some(answered),
            // The channel or the connection was closed: the first is opened again, of the second there is an event.
            Ok(Err(_)) => {}
            Err(_) if link.connection.status().blocked() => {}
            Err(_) => return,
        }
    }
}

/// Asks for what costs nothing and changes nothing: this channel consumes nothing, so that its prefetch has no meaning. The question passes the
/// broker's reader, the channel's process and its writer.
async fn round_trip(link: &Link, channel: Option<Channel>) -> Result<Channel, lapin::Error> {
    let channel = match channel {
        Some(channel) if channel.status().connected() => channel,
        _ => link.connection.create_channel().await?,
    };
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    Ok(channel)
}
