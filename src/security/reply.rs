//! Signed replies: a sibling member of `result` and `failure`, which our clients require and others ignore.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::names::DeploymentId;

use super::canonical::{Part, canonicalize_members};
use super::error::{AuthError, SignError};
use super::keys::KeyId;
use super::request::{RequestSigner, malformed, to_value, verify_bytes};
use super::trust_store::{TrustStore, TrustedKey};

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplyOutcome<'a> {
    /// The method's result.
    Result(&'a Value),
    /// The failure, exactly as the reply's member `failure` holds it (on oslo.messaging's wire: a text).
    Failure(&'a Value),
}

/// The signature, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    v: u32,
    key_id: KeyId,
    sender: String,
    time: Timestamp,
    signature: String,
}

impl Frame {
    /// The text that is signed; it has a member `result` or a member `failure`.
    fn covered(
        &self,
        deployment: &DeploymentId,
        request_id: &str,
        request_digest: &[u8; 32],
        outcome: ReplyOutcome<'_>,
    ) -> Result<Vec<u8>, super::CanonicalError> {
        let outcome = match outcome {
            ReplyOutcome::Result(value) => ("result", Part::Value(value)),
            ReplyOutcome::Failure(value) => ("failure", Part::Value(value)),
        };
        canonicalize_members([
            ("type", Part::Text("spice-reply-v1")),
            ("v", Part::Integer(self.v.into())),
            ("deployment", Part::Text(deployment.as_str())),
            ("sender", Part::Text(&self.sender)),
            ("key_id", Part::Text(&self.key_id.to_string())),
            ("time", Part::Integer(self.time.0)),
            ("request_id", Part::Text(request_id)),
            ("request_digest", Part::Text(&hex::encode(request_digest))),
            outcome,
        ])
    }
}

/// Signs the reply to the call `request_id` (its `_msg_id`) whose request has the digest `request_digest`.
///
/// # Errors
/// [`SignError`] when the result holds something that cannot be signed, or the key fails.
pub fn sign_reply(
    signer: &RequestSigner,
    request_id: &str,
    request_digest: &[u8; 32],
    outcome: ReplyOutcome<'_>,
) -> Result<Value, SignError> {
    sign_reply_at(signer, signer.clock.now(), request_id, request_digest, outcome)
}

/// [`sign_reply`] with the time given: for the shared test vectors.
pub(super) fn sign_reply_at(
    signer: &RequestSigner,
    time: Timestamp,
    request_id: &str,
    request_digest: &[u8; 32],
    outcome: ReplyOutcome<'_>,
) -> Result<Value, SignError> {
    let key_id = signer.key.key_id();
    let mut frame = Frame { v: 1, key_id, sender: signer.sender.clone(), time, signature: String::new() };
    let covered = frame.covered(&signer.deployment, request_id, request_digest, outcome)?;
    frame.signature = STANDARD.encode(signer.key.sign(&covered)?);
    Ok(to_value(&frame)?)
}

/// What a caller expects of the reply to one call.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedReply<'a> {
    /// The cloud.
    pub deployment: &'a DeploymentId,
    /// The call's `_msg_id`.
    pub request_id: &'a str,
    /// The digest [`RequestSigner::sign`] gave.
    pub request_digest: &'a [u8; 32],
    /// Who may answer: [`super::Role::Checks`] or [`super::Role::Nodes`], say.
    pub role: &'a super::Role,
}

/// Verifies that `auth` is the signature of `outcome` as the answer to the expected call, by a key that holds the expected
/// role. It needs no time window: the digest binds it to one request.
///
/// # Errors
/// [`AuthError`] when there is no signature, the key is unknown, revoked or lacks the role, or the signature does not fit
/// (which includes an answer to another call, or from another deployment).
pub fn verify_reply(
    auth: &Value,
    expected: &ExpectedReply<'_>,
    outcome: ReplyOutcome<'_>,
    store: &TrustStore,
    received: Timestamp,
) -> Result<TrustedKey, AuthError> {
    if auth.is_null() {
        return Err(AuthError::Unsigned);
    }
    let frame = Frame::deserialize(auth).map_err(|error| malformed(&error))?;
    if frame.v != 1 {
        return Err(AuthError::Malformed(format!("version {} of a reply's signature is not known here", frame.v)));
    }
    let covered = frame.covered(expected.deployment, expected.request_id, expected.request_digest, outcome)?;
    let key = verify_bytes(store, &frame.key_id, Some(&frame.sender), &covered, &frame.signature)?;
    key.check_valid(frame.time, received)?;
    if !key.roles.satisfies(expected.role) {
        return Err(AuthError::Forbidden { key_id: key.key_id, required: expected.role.to_string() });
    }
    Ok(key.clone())
}
