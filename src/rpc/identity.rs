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
