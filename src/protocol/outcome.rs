//! The outcome of one check for one node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::NodeName;

/// What a check found. *Could not ask* (`Error`, `Timeout`) is never *the answer was no* (`Fail`), and neither is ever *yes*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The node was judged good.
    Pass,
    /// The node was judged bad, or its authenticated evidence was malformed, wrong or incomplete.
    Fail,
    /// The node could not be judged: verifier fault, missing policy, unknown key.
    Error,
    /// No answer before the deadline.
    Timeout,
}

impl Status {
    /// The word used on the wire, in tables and in notifications.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The result for one node in one run, as an adapter reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeResult {
    /// Which node was judged; must be in the ticket.
    pub node: NodeName,
    /// What was found.
    pub status: Status,
    /// One sentence for a person; made safe again by whoever stores or shows it.
    pub reason: String,
    /// When the adapter asked.
    pub requested_at: Timestamp,
    /// When the adapter had the answer.
    pub finished_at: Timestamp,
    /// When the verifier says it judged, where it says so. Evidence is as old as the earliest of all times known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    /// Which boot of the node was judged, where the verifier can tell: any text that changes with every boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// True where the result is the node's own word about itself (a program run through its agent).
    #[serde(default)]
    pub self_reported: bool,
}
