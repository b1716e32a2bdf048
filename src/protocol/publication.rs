//! What Nodes tells the pool caches: heartbeats, deltas, snapshots, all signed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{DeploymentId, NodeName, PoolName};

use super::policy::Mode;

/// OpenAttestation's and TrustedFilter's three levels of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A required check failed, or an administrator quarantined the node.
    Untrusted,
    /// Anything that is neither of the others.
    Unknown,
    /// Every required check has a fresh pass.
    Trusted,
}

impl Level {
    /// The word used on the wire and in flavors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Unknown => "unknown",
            Self::Trusted => "trusted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One node in one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberState {
    /// The node's level.
    pub level: Level,
    /// For `trusted`: from then on it is unknown, without further word. Zero for the other levels.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// True where an administrator's override, not a check, made it trusted.
    #[serde(default)]
    pub overridden: bool,
}

/// One pool as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolState {
    /// What the filter does with it.
    pub mode: Mode,
    /// See [`super::policy::PoolPolicy::max_silence_ms`].
    pub max_silence_ms: i64,
    /// Every registered node.
    pub members: BTreeMap<NodeName, MemberState>,
}

/// Every 2 s: Nodes lives, and this is what a cache should hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The cloud it is for.
    pub deployment: DeploymentId,
    /// The epoch of this Nodes; readers take the higher one and never go back.
    pub epoch: i64,
    /// The version of the pools after the last delta.
    pub version: i64,
    /// Digest of all pools at that version ([`Snapshot::digest_of`]).
    pub digest: String,
    /// The policy Nodes judges by.
    pub policy_number: i64,
    /// The head of the trust record's hash chain.
    pub record_head: String,
    /// When this was said.
    pub sent_at: Timestamp,
    /// Readers drop it after this time.
    pub not_after: Timestamp,
}

/// The change from `version - 1` to `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The cloud it is for.
    pub deployment: DeploymentId,
    /// The epoch it continues.
    pub epoch: i64,
    /// The version it leads to.
    pub version: i64,
    /// New state per pool and node; `None`: the node is gone.
    pub changes: BTreeMap<PoolName, BTreeMap<NodeName, Option<MemberState>>>,
    /// When this was said.
    pub sent_at: Timestamp,
    /// Readers drop it after this time.
    pub not_after: Timestamp,
}

/// All pools at one version, in answer to a cache's question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The cloud it is for.
    pub deployment: DeploymentId,
    /// The epoch of this Nodes.
    pub epoch: i64,
    /// The version of the pools.
    pub version: i64,
    /// The nonce of the question, so that no recorded answer can be replayed.
    pub nonce: String,
    /// Every pool.
    pub pools: BTreeMap<PoolName, PoolState>,
    /// When this was said.
    pub sent_at: Timestamp,
    /// Readers drop it after this time.
    pub not_after: Timestamp,
}
