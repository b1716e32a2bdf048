//! What the planner gives out.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};

/// Something to be sent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of which check.
    pub check: CheckName,
    /// The slot that begins with this; `None`: more nodes of the slot that began before.
    pub begins: Option<Timestamp>,
    /// The nodes whose place in the splay has come.
    pub nodes: Vec<NodeName>,
    /// Whether these are the last nodes of the slot.
    pub last: bool,
    /// How long after its moment the slot begins.
    pub late: Duration,
    /// Slots before this one that were missed altogether, and run as this one. Counted up to [`MOST_MISSED`].
    pub missed: u32,
}

impl Due {
    /// More nodes of the slot that began before, or their end, for those that had to wait.
    #[must_use]
    pub fn more(check: CheckName, last: bool) -> Self {
        Self { check, begins: None, nodes: Vec::new(), last, late: Duration::ZERO, missed: 0 }
    }
}

/// Missed slots are not counted beyond this.
pub const MOST_MISSED: u32 = 1000;
