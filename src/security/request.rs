//! Signed RPC requests.
//!
//! The signature travels in the request context as member [`CONTEXT_MEMBER`], so that any oslo.messaging client can send
//! it and any oslo.messaging server hands it through. It covers where the request goes and all it says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Clock, Timestamp};
use crate::names::DeploymentId;
use crate::text::display_safe_to;

use super::canonical::{Part, canonicalize_members};
use super::error::{AuthError, SignError};
use super::keys::{KeyId, SigningKey, sha256};
use super::roles::RoleSet;
use super::trust_store::{TrustStore, TrustedKey};

/// The member of the request context, and of a reply, that holds the signature (`_context_spice_auth` on the wire).
pub const CONTEXT_MEMBER: &str = "spice_auth";

/// How far an admin request's time may be from the verifier's.
pub const ADMIN_WINDOW: Duration = Duration::from_secs(60);

/// What is signed of a request besides who signs it. `None` stands for a member that is not set.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// The control exchange.
    pub exchange: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The server, when it is addressed to one; always `None` with `fanout`, where oslo.messaging ignores it.
    pub server: Option<&'a str>,
    /// Whether it goes to all servers of the topic.
    pub fanout: bool,
    /// The target's namespace.
    pub namespace: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The target's version.
    pub version: Option<&'a str>,
    /// All arguments.
    pub args: &'a Map<String, Value>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// The control exchange.
    pub exchange: String,
    /// The topic.
    pub topic: String,
    /// This server's own name.
    pub server: String,
}

impl ServerAddress {
    /// What to verify for a server that is not told how a message reached it: it takes requests for the topic, for itself
    /// and for all, as the signature `auth` says, and [`verify_request`] then proves that the signer meant one of them.
    #[must_use]
    pub fn parts<'a>(
        &'a self,
        auth: &Value,
        namespace: Option<&'a str>,
        method: &'a str,
        version: Option<&'a str>,
        args: &'a Map<String, Value>,
    ) -> RequestParts<'a> {
        let server = auth.get("server").filter(|server| !server.is_null()).map(|_| self.server.as_str());
        let fanout = auth.get("fanout") == Some(&Value::Bool(true));
        RequestParts { exchange: &self.exchange, topic: &self.topic, server, fanout, namespace, method, version, args }
    }
}

/// The signature's frame, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    v: u32,
    deployment: String,
    sender: String,
    key_id: KeyId,
    time: Timestamp,
    id: String,
    exchange: String,
    topic: String,
    server: Option<String>,
    fanout: bool,
    signature: String,
}

impl Frame {
    /// The text that is signed.
    fn covered(&self, parts: &RequestParts<'_>) -> Result<Vec<u8>, super::CanonicalError> {
        canonicalize_members([
            ("type", Part::Text("spice-request-v1")),
            ("v", Part::Integer(self.v.into())),
            ("deployment", Part::Text(&self.deployment)),
            ("sender", Part::Text(&self.sender)),
            ("key_id", Part::Text(&self.key_id.to_string())),
            ("time", Part::Integer(self.time.0)),
            ("id", Part::Text(&self.id)),
            ("exchange", Part::Text(&self.exchange)),
            ("topic", Part::Text(&self.topic)),
            ("server", Part::OptionalText(self.server.as_deref())),
            ("fanout", Part::Bool(self.fanout)),
            ("namespace", Part::OptionalText(parts.namespace)),
            ("method", Part::Text(parts.method)),
            ("version", Part::OptionalText(parts.version)),
            ("args", Part::Object(parts.args)),
        ])
    }
}

pub(super) fn to_value<T: Serialize>(content: &T) -> Result<Value, super::CanonicalError> {
    serde_json::to_value(content).map_err(|error| super::CanonicalError::Syntax(error.to_string()))
}

/// Signs requests, and a server's replies, in the name of one sender.
#[derive(Clone)]
pub struct RequestSigner {
    /// The key.
    pub key: SigningKey,
    /// The cloud the requests are for.
    pub deployment: DeploymentId,
    /// The name the verifier's trust file gives the key.
    pub sender: String,
    /// Where the time of signing comes from.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSigner").field("key", &self.key).field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl RequestSigner {
    /// Signs a request: the value for [`CONTEXT_MEMBER`], and the request's digest, to which the reply is bound. Every call
    /// makes a new id, so a request that is sent again must be signed again.
    ///
    /// # Errors
    /// [`SignError`] when the arguments hold something that cannot be signed (a float, a number beyond 2^53, nesting
    /// beyond 32), or the key fails.
    pub fn sign(&self, parts: &RequestParts<'_>) -> Result<(Value, [u8; 32]), SignError> {
        self.sign_as(parts, self.clock.now(), uuid::Uuid::new_v4().simple().to_string())
    }

    /// [`Self::sign`] with the time and the id given: for the shared test vectors.
    pub(super) fn sign_as(
        &self,
        parts: &RequestParts<'_>,
        time: Timestamp,
        id: String,
    ) -> Result<(Value, [u8; 32]), SignError> {
        let mut frame = Frame {
            v: 1,
            deployment: self.deployment.to_string(),
            sender: self.sender.clone(),
            key_id: self.key.key_id(),
            time,
            id,
            exchange: parts.exchange.to_owned(),
            topic: parts.topic.to_owned(),
            server: parts.server.map(str::to_owned),
            fanout: parts.fanout,
            signature: String::new(),
        };
        let covered = frame.covered(parts)?;
        frame.signature = STANDARD.encode(self.key.sign(&covered)?);
        Ok((to_value(&frame)?, sha256(&covered)))
    }
}

/// A request whose signature holds. Whether its time and id are acceptable is for [`check_window`] and
/// [`super::SeenIds`], whether its roles suffice for the method table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who signed, as the trust store names the key.
    pub sender: String,
    /// With which key.
    pub key_id: KeyId,
    /// What the key may do.
    pub roles: RoleSet,
    /// When it was signed.
    pub time: Timestamp,
    /// The request's unique id: 32 hexadecimal digits.
    pub id: String,
    /// SHA-256 of what was signed; the reply is bound to it.
    pub digest: [u8; 32],
}

/// Verifies the signature `auth` over a request as it arrived at the time `received`.
///
/// # Errors
/// [`AuthError`] when there is no signature, when it is for another deployment or target, by an unknown or revoked key or
/// one that is not valid now, by another sender, or does not fit.
pub fn verify_request(
    parts: &RequestParts<'_>,
    auth: &Value,
    store: &TrustStore,
    deployment: &DeploymentId,
    received: Timestamp,
) -> Result<Verified, AuthError> {
    if auth.is_null() {
        return Err(AuthError::Unsigned);
    }
    let frame = Frame::deserialize(auth).map_err(|error| malformed(&error))?;
    if frame.v != 1 {
        return Err(AuthError::Malformed(format!("version {} of {CONTEXT_MEMBER} is not known here", frame.v)));
    }
    if !is_request_id(&frame.id) {
        return Err(AuthError::Malformed("the id must be 32 lower-case hexadecimal digits".into()));
    }
    same_deployment(&frame.deployment, deployment)?;
    same_target(&frame, parts)?;
    let covered = frame.covered(parts)?;
    let key = verify_bytes(store, &frame.key_id, Some(&frame.sender), &covered, &frame.signature)?;
    key.check_valid(frame.time, received)?;
    Ok(Verified {
        sender: key.sender.clone(),
        key_id: key.key_id,
        roles: key.roles.clone(),
        time: frame.time,
        id: frame.id,
        digest: sha256(&covered),
    })
}

/// Whether `time` is at most `window` before or after `now`.
///
/// # Errors
/// [`AuthError::Expired`].
pub fn check_window(time: Timestamp, now: Timestamp, window: Duration) -> Result<(), AuthError> {
    let distance_ms = time.0.abs_diff(now.0);
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    if distance_ms > window_ms {
        return Err(AuthError::Expired { signed: time, distance_ms, window_ms });
    }
    Ok(())
}

fn is_request_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(super) fn malformed(error: &dyn fmt::Display) -> AuthError {
    AuthError::Malformed(display_safe_to(&error.to_string(), 200))
}

pub(super) fn same_deployment(signed: &str, own: &DeploymentId) -> Result<(), AuthError> {
    if signed == own.as_str() {
        return Ok(());
    }
    Err(AuthError::WrongDeployment { signed: display_safe_to(signed, 64), own: own.to_string() })
}

fn same_target(frame: &Frame, parts: &RequestParts<'_>) -> Result<(), AuthError> {
    let server = |server: Option<&str>| server.unwrap_or("any").to_owned();
    let delivery = |fanout: bool| if fanout { "all servers" } else { "one server" }.to_owned();
    let compared = [
        ("exchange", frame.exchange == parts.exchange, frame.exchange.clone(), parts.exchange.to_owned()),
        ("topic", frame.topic == parts.topic, frame.topic.clone(), parts.topic.to_owned()),
        ("server", frame.server.as_deref() == parts.server, server(frame.server.as_deref()), server(parts.server)),
        ("delivery", frame.fanout == parts.fanout, delivery(frame.fanout), delivery(parts.fanout)),
    ];
    for (what, same, signed, own) in compared {
        if !same {
            let (signed, own) = (display_safe_to(&signed, 64), display_safe_to(&own, 64));
            return Err(AuthError::WrongTarget { what, signed, own });
        }
    }
    Ok(())
}

/// Finds the key and checks the sender's name and the signature; whether it was valid is for [`TrustedKey::check_valid`], once the time of
/// signing is known to be the signer's.
pub(super) fn verify_bytes<'s>(
    store: &'s TrustStore,
    key_id: &KeyId,
    sender: Option<&str>,
    covered: &[u8],
    signature: &str,
) -> Result<&'s TrustedKey, AuthError> {
    let key = store.lookup(key_id).ok_or(AuthError::UnknownKey(*key_id))?;
    if let Some(claimed) = sender.filter(|claimed| *claimed != key.sender) {
        return Err(AuthError::SenderMismatch { key_id: *key_id, claimed: display_safe_to(claimed, 64) });
    }
    let signature =
        STANDARD.decode(signature).map_err(|_| AuthError::Malformed("the signature is not base64".into()))?;
    if !key.public_key.verifies(covered, &signature) {
        return Err(AuthError::BadSignature(*key_id));
    }
    Ok(key)
}
