//! Who vouches for what was taken in, so that it can be taken back when the key turns out to be stolen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::keys::KeyId;
use super::trust_store::TrustStore;

/// The key that signed something, and when at the latest: the later of the time it stated and of our receipt, because a
/// thief can state any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vouch {
    /// The key.
    pub key: KeyId,
    /// When, at the latest.
    pub at: Timestamp,
}

/// The keys that are revoked, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revocations(BTreeMap<KeyId, Timestamp>);

impl Revocations {
    /// Those a trust store knows.
    #[must_use]
    pub fn of(store: &TrustStore) -> Self {
        store.revoked().map(|(key, since)| (key.key_id, since)).collect()
    }

    /// Whether no key is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what the key signed at `at` does not count.
    #[must_use]
    pub fn void(&self, key: &KeyId, at: Timestamp) -> bool {
        self.since(key).is_some_and(|since| at >= since)
    }

    /// Whether what is vouched for in this way does not count. Where nobody knows who vouched (stored by a version that did
    /// not note it, or unsigned in a laboratory), it may have been any of the keys.
    #[must_use]
    pub fn voids(&self, vouch: Option<&Vouch>) -> bool {
        match vouch {
            Some(vouch) => self.void(&vouch.key, vouch.at),
            None => !self.is_empty(),
        }
    }

    /// Since when the key is revoked, if it is.
    #[must_use]
    pub fn since(&self, key: &KeyId) -> Option<Timestamp> {
        self.0.get(key).copied()
    }
}

impl FromIterator<(KeyId, Timestamp)> for Revocations {
    fn from_iter<I: IntoIterator<Item = (KeyId, Timestamp)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}
