//! The policy: one complete, numbered statement by Checks of what is to be judged and how. Nodes judges only by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{AdapterName, CheckName, DeploymentId, NodeName, PoolName};

/// Everything Nodes needs to judge. It travels signed (`security::SignedDocument` of kind `policy`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The cloud it is for.
    pub deployment: DeploymentId,
    /// The epoch of the Checks that published it.
    pub epoch: i64,
    /// Counts policies, stored by Checks, never reset: a lower number is older whatever the epoch.
    pub number: i64,
    /// When it was made.
    pub issued_at: Timestamp,
    /// All checks that exist, disabled ones included.
    pub checks: Vec<CheckPolicy>,
    /// All pools.
    pub pools: Vec<PoolPolicy>,
}

/// What Nodes must know of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckPolicy {
    /// The check's name.
    pub name: CheckName,
    /// Its id, new for every definition ever made.
    pub id: String,
    /// Counts changes of what is checked (adapter, parameters), from 1.
    pub revision: i64,
    /// Which adapter carries it out.
    pub adapter: AdapterName,
    /// A disabled check is not run, and a pool that requires it can show nobody as trusted.
    pub enabled: bool,
    /// Which nodes it is for.
    pub targets: Targets,
    /// How long a pass counts, from the time of its evidence.
    pub ttl_ms: i64,
    /// How results are turned into trust.
    pub judgement: Judgement,
    /// In which pools it counts, and how.
    pub pools: BTreeMap<PoolName, Requirement>,
}

/// Whether a pool needs a check passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Without a fresh pass the node is not trusted; a failure makes it untrusted.
    Required,
    /// Shown, counted, notified; never decides trust.
    Advisory,
}

/// When failures end trust and passes give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Judgement {
    /// This many failures in a row, with no pass between them, make the node untrusted; 1 to 100.
    pub fail_after: u32,
    /// This many passes, of runs that began after the last failure, are needed to leave distrust; 1 to 100.
    pub recover_after: u32,
    /// At least this long after the last failure.
    pub hold_down_ms: i64,
}

impl Default for Judgement {
    fn default() -> Self {
        Self { fail_after: 1, recover_after: 1, hold_down_ms: 600_000 }
    }
}

/// What Nodes must know of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPolicy {
    /// The pool's name.
    pub name: PoolName,
    /// What the filter does with it.
    pub mode: Mode,
    /// After this long without an authenticated word from Nodes, a reader takes every node as unknown.
    pub max_silence_ms: i64,
    /// Whether a pass that is only the node's own word counts.
    pub accept_self_report: bool,
    /// When a node falls so often that it has to wait longer.
    #[serde(default)]
    pub flapping: Flapping,
}

/// A node that falls into distrust again and again is held down for longer than its checks ask for: what comes and goes is not mended, and may be
/// an attacker who hides while he is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flapping {
    /// So many falls into distrust within the window make a node flap; 1 to 20, or 0 for never.
    pub limit: u32,
    /// The window, which ends with the last fall; 10 s to 30 days.
    pub window_ms: i64,
    /// The hold-down of a node that flaps, from its last fall or failure, where that of the check is not longer; 10 s to 30 days.
    pub hold_down_ms: i64,
}

impl Default for Flapping {
    fn default() -> Self {
        Self { limit: 3, window_ms: 86_400_000, hold_down_ms: 86_400_000 }
    }
}

/// How strictly the filter applies a pool to flavors that do not name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuse.
    Enforce,
    /// Prefer only.
    Soft,
    /// Log what would be refused.
    Observe,
}

/// Which nodes a check is for: those that match any of the lists (all of them when `all`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Every node there is.
    pub all: bool,
    /// These nodes.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeName>,
    /// Nodes whose name matches one of these globs (`compute-*`).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub patterns: BTreeSet<String>,
    /// Nodes that carry all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Nodes in a host aggregate whose name matches one of these globs.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aggregates: BTreeSet<String>,
    /// Nodes in an availability zone whose name matches one of these globs.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
}
