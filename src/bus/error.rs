//! What can go wrong on the bus, as far as a caller can act on it.

use std::time::Duration;

use crate::text::display_safe;

/// Why something could not be sent, asked or served.
///
/// A failure *reported by the server* is no `BusError`: it is the [`super::Reply`]'s result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The options cannot be used; nothing was started.
    #[error("the bus options cannot be used: {0}")]
    Options(String),
    /// No connection, or none that lasted until the broker had confirmed. What was sent may or may not have arrived.
    #[error("the message broker cannot be reached ({0}); it is retried in the background")]
    Disconnected(String),
    /// The broker did not confirm in time although it is connected and answers: the queue or the broker is overloaded. The message may have been stored.
    #[error("the message broker is connected but did not confirm within {} s; it or the queue is overloaded", .0.as_secs())]
    Unconfirmed(Duration),
    /// The broker takes no messages, for the reason it gave, and that did not end in time. A message that was on its way when that began is stored when it
    /// ends, all others are not.
    #[error(
        "the message broker blocks publishers ({0}): see to its memory or disk space; messages are taken again when its alarm ends"
    )]
    Blocked(String),
    /// The call was sent, and no reply came in time. It may have been carried out.
    #[error("no reply to message {msg_id} within {} s", .waited.as_secs_f32())]
    Timeout {
        /// The call's message id.
        msg_id: String,
        /// How long the caller waited.
        waited: Duration,
    },
    /// No queue takes this message: nobody serves the topic or server.
    #[error("nobody serves {routing_key:?} in exchange {exchange:?}; is the service running, with the same options?")]
    Unroutable {
        /// The exchange published to.
        exchange: String,
        /// The routing key published with.
        routing_key: String,
    },
    /// The broker refused the message: the queue is full. Nothing was stored; try again later.
    #[error("the queue of {routing_key:?} in exchange {exchange:?} is full; the message was not taken")]
    Rejected {
        /// The exchange published to.
        exchange: String,
        /// The routing key published with.
        routing_key: String,
    },
    /// The broker refuses an exchange or queue: other flags than ours (406), no permission (403), not there (404).
    #[error("the message broker refuses {object}: {detail}{}", what_to_do(*.code))]
    Refused {
        /// The exchange or queue, with its name.
        object: String,
        /// AMQP's code: 403 access refused, 404 not found, 405 locked, 406 other flags.
        code: u16,
        /// The broker's words.
        detail: String,
    },
    /// The message is larger than the limit; it was not sent.
    #[error("the message has {size} bytes, more than the limit of {limit}; send less at a time")]
    TooLarge {
        /// Size of the encoded message.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The bus was closed by its owner.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    /// Whether the same message may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Disconnected(_)
            | Self::Unconfirmed(_)
            | Self::Blocked(_)
            | Self::Timeout { .. }
            | Self::Unroutable { .. }
            | Self::Rejected { .. } => true,
            Self::Refused { code, .. } => matches!(code, 404 | 405),
            Self::Options(_) | Self::TooLarge { .. } | Self::Closed => false,
        }
    }

    /// A short stable word for counters and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Options(_) => "options",
            Self::Disconnected(_) => "disconnected",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Blocked(_) => "blocked",
            Self::Timeout { .. } => "timeout",
            Self::Unroutable { .. } => "unroutable",
            Self::Rejected { .. } => "rejected",
            Self::Refused { .. } => "refused",
            Self::TooLarge { .. } => "too_large",
            Self::Closed => "closed",
        }
    }
}

/// What an operator does about a refusal with this code.
fn what_to_do(code: u16) -> &'static str {
    match code {
        403 => "; give this account its rights (tools/rabbitmq-permissions)",
        406 => {
            "; if none of your services made it so, see who else has rights in this virtual host (tools/rabbitmq-permissions \
             --check)"
        }
        _ => "",
    }
}

/// An error of the AMQP library about `object`, sorted into what a caller can act on.
pub(crate) fn from_lapin(error: &lapin::Error, object: &str) -> BusError {
    if let lapin::ErrorKind::ProtocolError(amqp) = error.kind() {
        let code = amqp.get_id();
        if matches!(code, 403..=406) {
            return BusError::Refused {
                object: object.to_owned(),
                code,
                detail: display_safe(amqp.get_message().as_str()),
            };
        }
    }
    BusError::Disconnected(display_safe(&error.to_string()))
}
