//! Why something is not believed, and why something cannot be signed.

use crate::clock::Timestamp;

use super::canonical::CanonicalError;
use super::keys::{KeyError, KeyId};

/// Why something cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The content cannot be signed.
    #[error(transparent)]
    Content(#[from] CanonicalError),
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The document is larger than its kind allows.
    #[error("a signed {kind} of {size} bytes is too large: at most {max} bytes; split it")]
    TooLarge {
        /// The kind of document.
        kind: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
}

/// Why a request, a reply or a document is not believed. All text from outside is already safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no signature.
    #[error(
        "the message is not signed: use spicectl or spice_client with a key file, or sign as the documentation says"
    )]
    Unsigned,
    /// The signature's frame, or the signed text, is not what the format says.
    #[error("the signed message is malformed: {0}")]
    Malformed(String),
    /// Signed for another cloud.
    #[error("the message was signed for deployment {signed:?}, this is {own:?}: set the same deployment on both sides")]
    WrongDeployment {
        /// What was signed.
        signed: String,
        /// What this side is configured for.
        own: String,
    },
    /// Signed for another exchange, topic, server, delivery, or as another kind of document.
    #[error("the message was signed for another {what} ({signed:?}, arrived at {own:?}): sign it for where it is sent")]
    WrongTarget {
        /// Which part of the target differs.
        what: &'static str,
        /// What was signed.
        signed: String,
        /// Where it arrived.
        own: String,
    },
    /// The trust store has no such key.
    #[error("key {0} is not in the trust store: place its trust file there, or sign with a key that is trusted")]
    UnknownKey(KeyId),
    /// The key was revoked before the signature was made.
    #[error("key {key_id} is revoked since {since}: sign with another key")]
    Revoked {
        /// Which key.
        key_id: KeyId,
        /// Since when.
        since: Timestamp,
    },
    /// The key is not valid yet, or not any more.
    #[error(
        "key {key_id} was not valid at {at} ({}): sign with the key that is valid now, or set not_before and not_after in its trust file",
        period(*begins, *ends)
    )]
    OutOfTime {
        /// Which key.
        key_id: KeyId,
        /// When it was signed, or arrived.
        at: Timestamp,
        /// From when on it is valid.
        begins: Option<Timestamp>,
        /// Until when.
        ends: Option<Timestamp>,
    },
    /// The message names another sender than the trust store gives the key.
    #[error("key {key_id} belongs to another sender than {claimed:?}: set the sender its trust file names")]
    SenderMismatch {
        /// Which key.
        key_id: KeyId,
        /// Whom the message names.
        claimed: String,
    },
    /// The signature does not fit the content.
    #[error("the signature of key {0} does not fit the message: it was changed on the way, or signed with another key")]
    BadSignature(KeyId),
    /// Signed too long ago, or in the future.
    #[error(
        "the message was signed at {signed}, {distance_ms} ms from now (at most {window_ms} ms): set both clocks (NTP) and send it again"
    )]
    Expired {
        /// When it was signed.
        signed: Timestamp,
        /// How far from now that is.
        distance_ms: u64,
        /// How far it may be.
        window_ms: u64,
    },
    /// The id was used before, or cannot be remembered.
    #[error("the message is refused: {0}")]
    Replayed(&'static str),
    /// The key's roles do not allow it.
    #[error(
        "key {key_id} may not do this: it takes the role {required}; add it to the key's trust file or use another key"
    )]
    Forbidden {
        /// Which key.
        key_id: KeyId,
        /// The role, or roles, any of which would do.
        required: String,
    },
}

fn period(begins: Option<Timestamp>, ends: Option<Timestamp>) -> String {
    let told = |word: &str, at: Option<Timestamp>| at.map(|at| format!("{word} {at}"));
    let parts: Vec<String> = told("from", begins).into_iter().chain(told("until", ends)).collect();
    parts.join(" ")
}

impl AuthError {
    /// One stable word for counters and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Malformed(_) => "malformed",
            Self::WrongDeployment { .. } => "wrong_deployment",
            Self::WrongTarget { .. } => "wrong_target",
            Self::UnknownKey(_) => "unknown_key",
            Self::Revoked { .. } => "revoked",
            Self::OutOfTime { .. } => "out_of_time",
            Self::SenderMismatch { .. } => "sender_mismatch",
            Self::BadSignature(_) => "bad_signature",
            Self::Expired { .. } => "expired",
            Self::Replayed(_) => "replayed",
            Self::Forbidden { .. } => "forbidden",
        }
    }
}

impl From<CanonicalError> for AuthError {
    fn from(error: CanonicalError) -> Self {
        Self::Malformed(error.to_string())
    }
}
