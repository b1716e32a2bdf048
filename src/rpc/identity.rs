//! Who a role is on the bus, and whom it believes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Timestamp};
use crate::names::DeploymentId;
use crate::rpc::RpcError;
use crate::security::{DocumentKind, RequestSigner, SharedTrustStore, SignedDocument, SigningKey};
use crate::store::lease::Tenure;

/// A role's key and trust store.
#[derive(Clone)]
pub struct Identity {
    /// The cloud.
    pub deployment: DeploymentId,
    /// Signs requests and replies.
    pub signer: RequestSigner,
    /// The same key, for documents.
    pub key: SigningKey,
    /// Which keys are believed, as what.
    pub trust: Arc<SharedTrustStore>,
    /// `[security] unsigned_admin`: unsigned admin calls are carried out. For a lab.
    pub unsigned_admin: bool,
    /// Time, for windows.
    pub clock: Arc<dyn Clock>,
    /// The lease under which it speaks; `None` for whoever needs none. Without it nothing is signed.
    tenure: Option<Tenure>,
}

impl Identity {
    /// An identity that signs as `sender`.
    #[must_use]
    pub fn new(
        deployment: DeploymentId,
        sender: &str,
        key: SigningKey,
        trust: Arc<SharedTrustStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let signer = RequestSigner {
            key: key.clone(),
            deployment: deployment.clone(),
            sender: sender.to_owned(),
            clock: clock.clone(),
        };
        Self { deployment, signer, key, trust, unsigned_admin: false, clock, tenure: None }
    }

    /// The same identity, which says something only while `tenure` certainly lasts. Whoever was paused finds out here, before
    /// every signature, that another may be active by now.
    #[must_use]
    pub fn under(&self, tenure: &Tenure) -> Self {
        Self { tenure: Some(tenure.clone()), ..self.clone() }
    }

    /// Whether anything may be said in this name at the moment.
    ///
    /// # Errors
    /// [`crate::rpc::Kind::Unavailable`] when the lease is over, or may be.
    pub fn may_speak(&self) -> Result<(), RpcError> {
        match &self.tenure {
            Some(tenure) if tenure.left().is_zero() => {
                metrics::counter!("spice_role_withheld_total", "role" => tenure.role()).increment(1);
                Err(RpcError::unavailable(format!(
                    "this process may not speak for role {} now: another may have taken it over, or its database does not answer",
                    tenure.role()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Signs a document, if anything may be said.
    ///
    /// # Errors
    /// See [`Identity::may_speak`].
    pub fn sign<T: Serialize>(&self, kind: DocumentKind, content: &T) -> Result<SignedDocument, RpcError> {
        self.may_speak()?;
        SignedDocument::sign(kind, content, &self.key).map_err(RpcError::internal)
    }

    /// Until when what is said at `now` may be believed: `most` after it, and not beyond the lease.
    #[must_use]
    pub fn not_after(&self, now: Timestamp, most: Duration) -> Timestamp {
        now.plus(self.tenure.as_ref().map_or(most, |tenure| tenure.left().min(most)))
    }

    /// What keeps others from believing this identity, by our own trust store; theirs should say the same.
    #[must_use]
    pub fn own_key_fault(&self) -> Option<String> {
        let (key_id, now) = (self.key.key_id(), self.clock.now());
        let sender = &self.signer.sender;
        let Some(known) = self.trust.lookup(&key_id) else {
            return Some(format!(
                "the key {sender} signs with ({key_id}) has no trust file in this machine's trust directory: whoever lacks it \
                 too refuses what this service says. Place its trust file, or put the right private key back"
            ));
        };
        if known.sender != *sender {
            let theirs = &known.sender;
            return Some(format!(
                "{sender} signs with key {key_id}, which the trust directory gives to {theirs}: put the right private key back"
            ));
        }
        let fault = known.check_valid(now, now).err()?;
        Some(format!("what {sender} says is refused: {fault}. Make a new key and restart this service"))
    }

    /// The same identity, serving unsigned admin calls if `allowed`.
    #[must_use]
    pub fn unsigned_admin(mut self, allowed: bool) -> Self {
        self.unsigned_admin = allowed;
        self
    }
}
