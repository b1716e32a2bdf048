//! Signed documents: what is kept, passed on or published and must be believed later, away from the message it came in.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::DeploymentId;
use crate::protocol::{Delta, Heartbeat, Policy, Snapshot, Ticket};

use super::canonical::canonicalize;
use super::error::{AuthError, SignError};
use super::keys::{KeyId, SigningKey};
use super::request::{same_deployment, to_value, verify_bytes};
use super::strict::{is_in_order, parse_strict_as};
use super::trust_store::{TrustStore, TrustedKey};

/// What a document is, which its signature covers: a heartbeat can never be taken for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    /// Permission to report results of a run.
    Ticket,
    /// What Nodes judges by.
    Policy,
    /// Nodes lives.
    Heartbeat,
    /// A change of the pools.
    Delta,
    /// The pools as a whole.
    Snapshot,
}

impl DocumentKind {
    /// The word on the wire and in the signature.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Policy => "policy",
            Self::Heartbeat => "heartbeat",
            Self::Delta => "delta",
            Self::Snapshot => "snapshot",
        }
    }

    /// The largest body, in bytes: 200 node names in a ticket, some 100,000 nodes in a few pools in a snapshot.
    #[must_use]
    pub fn max_body(self) -> usize {
        const MIB: usize = 1024 * 1024;
        match self {
            Self::Ticket => MIB / 4,
            Self::Heartbeat => MIB / 16,
            Self::Policy | Self::Delta => 16 * MIB,
            Self::Snapshot => 128 * MIB,
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Content that has a kind, a deployment and a time of its own, so that [`SignedDocument::open_for`] can check all three.
pub trait Content: Serialize + DeserializeOwned {
    /// The kind it is signed as.
    const KIND: DocumentKind;

    /// The cloud it is for.
    fn deployment(&self) -> &DeploymentId;

    /// When it was signed: a key revoked since then or before does not count.
    fn signed_at(&self) -> Timestamp;
}

macro_rules! content {
    ($($type:ident $time:ident),*) => {$(
        impl Content for $type {
            const KIND: DocumentKind = DocumentKind::$type;

            fn deployment(&self) -> &DeploymentId {
                &self.deployment
            }

            fn signed_at(&self) -> Timestamp {
                self.$time
            }
        }
    )*};
}

content!(Ticket issued_at, Policy issued_at, Heartbeat sent_at, Delta sent_at, Snapshot sent_at);

/// A document as it travels and is stored: the very text that was signed, so that nobody has to write it again to verify
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDocument {
    /// What it is.
    pub kind: DocumentKind,
    /// Canonical JSON.
    pub body: String,
    /// Who signed.
    pub key_id: KeyId,
    /// Base64 of the Ed25519 signature.
    pub signature: String,
}

impl SignedDocument {
    /// Signs `content` as a document of `kind`.
    ///
    /// # Errors
    /// [`SignError`] when the content cannot be signed (floats, numbers beyond 2^53, nesting beyond 32), is too large for
    /// its kind, or the key fails.
    pub fn sign<T: Serialize>(kind: DocumentKind, content: &T, key: &SigningKey) -> Result<Self, SignError> {
        let body = canonical_text(content)?;
        let (size, max) = (body.len(), kind.max_body());
        if size > max {
            return Err(SignError::TooLarge { kind: kind.as_str(), size, max });
        }
        let signature = STANDARD.encode(key.sign(&covered(kind, &body))?);
        let body = String::from_utf8(body).map_err(|error| super::CanonicalError::Syntax(error.to_string()))?;
        Ok(Self { kind, body, key_id: key.key_id(), signature })
    }

    /// Signs content that knows its kind.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn seal<T: Content>(content: &T, key: &SigningKey) -> Result<Self, SignError> {
        Self::sign(T::KIND, content, key)
    }

    /// Verifies the document and gives its content and the key that signed it. `received` is when it
    /// came to us, `required` says whether the key's roles suffice, `signed_at` finds the time of signing in the content. The signature is verified before anything is
    /// parsed. Whether the content is for this deployment is left to the caller: prefer [`Self::open_for`].
    ///
    /// # Errors
    /// [`AuthError`] when it is of another kind, too large, by an unknown, revoked or unfit key, does not verify, or is
    /// not the expected content.
    pub fn open<T: DeserializeOwned>(
        &self,
        kind: DocumentKind,
        store: &TrustStore,
        received: Timestamp,
        required: impl Fn(&TrustedKey) -> bool,
        signed_at: impl Fn(&T) -> Timestamp,
    ) -> Result<(T, TrustedKey), AuthError> {
        if self.kind != kind {
            let (signed, own) = (self.kind.to_string(), kind.to_string());
            return Err(AuthError::WrongTarget { what: "kind of document", signed, own });
        }
        let max = kind.max_body();
        if self.body.len() > max {
            return Err(AuthError::Malformed(format!("a {kind} of {} bytes; at most {max} are read", self.body.len())));
        }
        let key = verify_bytes(store, &self.key_id, None, &covered(kind, self.body.as_bytes()), &self.signature)?;
        if !required(key) {
            return Err(AuthError::Forbidden { key_id: key.key_id, required: format!("that may sign a {kind}") });
        }
        let content = parse_strict_as(self.body.as_bytes())?;
        key.check_valid(signed_at(&content), received)?;
        Ok((content, key.clone()))
    }

    /// [`Self::open`] for content that knows its kind, deployment and time, all of which are checked.
    ///
    /// # Errors
    /// As [`Self::open`], and [`AuthError::WrongDeployment`].
    pub fn open_for<T: Content>(
        &self,
        deployment: &DeploymentId,
        store: &TrustStore,
        received: Timestamp,
        required: impl Fn(&TrustedKey) -> bool,
    ) -> Result<(T, TrustedKey), AuthError> {
        let (content, key) = self.open(T::KIND, store, received, required, T::signed_at)?;
        same_deployment(content.deployment().as_str(), deployment)?;
        Ok((content, key))
    }
}

/// The canonical text of `content`. What is written in order already, as the largest documents are, is never held as a value, which takes many
/// times the room of its text.
pub(super) fn canonical_text<T: Serialize>(content: &T) -> Result<Vec<u8>, SignError> {
    if let Ok(text) = serde_json::to_vec(content)
        && is_in_order(&text)
    {
        return Ok(text);
    }
    Ok(canonicalize(&to_value(content)?)?)
}

fn covered(kind: DocumentKind, body: &[u8]) -> Vec<u8> {
    [b"spice-document-v1\n", kind.as_str().as_bytes(), b"\n", body].concat()
}
