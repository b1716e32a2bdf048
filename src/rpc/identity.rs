//! Who a role is on the bus, and whom it believes.

use std::sync::Arc;

use crate::clock::Clock;
use crate::names::DeploymentId;
use crate::security::{RequestSigner, SharedTrustStore, SigningKey};

/// A role's key and trust store.
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
        Self { deployment, signer, key, trust, unsigned_admin: false, clock }
    }

    /// The same identity, serving unsigned admin calls if `allowed`.
    #[must_use]
    pub fn unsigned_admin(mut self, allowed: bool) -> Self {
        self.unsigned_admin = allowed;
        self
    }
}
