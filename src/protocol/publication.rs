//! What Nodes tells the pool caches: heartbeats, deltas, snapshots, all signed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{DeploymentId, NodeName, PoolName};

use super::digest::PoolsDigest;
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
    /// For `trusted`: from then on it is unknown, without further word. Zero for the other levels.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// The node's level.
    pub level: Level,
    /// True where an administrator's override, not a check, made it trusted.
    #[serde(default)]
    pub overridden: bool,
}

/// One pool as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolState {
    /// See [`super::policy::PoolPolicy::max_silence_ms`].
    pub max_silence_ms: i64,
    /// Every registered node.
    pub members: BTreeMap<NodeName, MemberState>,
    /// What the filter does with it.
    pub mode: Mode,
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
    /// Digest of all pools at that version ([`super::digest::PoolsDigest::of`], as hex).
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

/// All pools at one version, in answer to a cache's question. It is the largest document there is: members stand in the order in which they are
/// signed, here and in [`PoolState`] and [`MemberState`], so that it is written without being sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The cloud it is for.
    pub deployment: DeploymentId,
    /// The epoch of this Nodes.
    pub epoch: i64,
    /// The nonce of the question, so that no recorded answer can be replayed.
    pub nonce: String,
    /// Readers drop it after this time.
    pub not_after: Timestamp,
    /// Every pool.
    pub pools: BTreeMap<PoolName, PoolState>,
    /// When this was said.
    pub sent_at: Timestamp,
    /// The version of the pools.
    pub version: i64,
}

/// Why a delta cannot be applied: the reader has diverged from Nodes and must take a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// The delta changes a pool the reader does not hold; its mode and silence limit come with a snapshot only.
    #[error("the delta changes pool {0}, which is not held here: take a snapshot")]
    UnknownPool(PoolName),
    /// The delta removes a node the reader does not hold.
    #[error("the delta removes node {node} from pool {pool}, where it is not a member: take a snapshot")]
    NotAMember {
        /// The pool.
        pool: PoolName,
        /// The node that is not in it.
        node: NodeName,
    },
}

/// Applies `delta` onto `pools` and keeps `digest` in step; returns how many members changed.
///
/// Epoch, version and time of the delta are the caller's to check. All or nothing: on an error both are untouched.
///
/// # Errors
/// [`DeltaError`] when the pools held cannot be the ones the delta was made for.
pub fn apply_delta(
    pools: &mut BTreeMap<PoolName, PoolState>,
    digest: &mut PoolsDigest,
    delta: &Delta,
) -> Result<usize, DeltaError> {
    for (name, changes) in &delta.changes {
        let pool = pools.get(name).ok_or_else(|| DeltaError::UnknownPool(name.clone()))?;
        let stranger = changes.iter().find(|(node, change)| change.is_none() && !pool.members.contains_key(*node));
        if let Some((node, _)) = stranger {
            return Err(DeltaError::NotAMember { pool: name.clone(), node: node.clone() });
        }
    }
    let mut changed = 0;
    for (name, changes) in &delta.changes {
        let Some(pool) = pools.get_mut(name) else { continue };
        for (node, change) in changes {
            let before = match change {
                Some(state) => {
                    digest.add(name, node, state);
                    pool.members.insert(node.clone(), *state)
                }
                None => pool.members.remove(node),
            };
            if let Some(state) = before {
                digest.remove(name, node, &state);
            }
            changed += usize::from(before != *change);
        }
    }
    Ok(changed)
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
