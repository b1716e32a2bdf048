//! Nodes that are due and have to wait: for the end of their own last run, or for a place among the batches of their check.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks::definition::{Check, Overlap};
use crate::checks::runs::Runs;
use crate::names::{CheckName, NodeName};

/// Who waits, by check. A node waits once, however many slots pass meanwhile. Not stored: after a restart the schedule asks
/// for them.
#[derive(Debug, Default)]
pub struct Waiting(BTreeMap<CheckName, BTreeSet<NodeName>>);

/// What becomes of nodes that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// To be sent out now.
    pub now: Vec<NodeName>,
    /// Left out of this slot, because their last run is not over.
    pub skipped: Vec<NodeName>,
}

impl Waiting {
    /// The checks somebody waits for.
    pub fn checks(&self) -> impl Iterator<Item = &CheckName> {
        self.0.keys()
    }

    /// Whether somebody waits for `check`.
    #[must_use]
    pub fn is_waited_for(&self, check: &CheckName) -> bool {
        self.0.contains_key(check)
    }

    /// How many wait for `check`.
    #[must_use]
    pub fn count(&self, check: &CheckName) -> usize {
        self.0.get(check).map_or(0, BTreeSet::len)
    }

    /// Nobody waits for checks that are gone or disabled.
    pub fn keep(&mut self, is_wanted: impl Fn(&CheckName) -> bool) {
        self.0.retain(|check, _| is_wanted(check));
    }

    /// All who wait for `check`, who wait no more.
    pub fn take(&mut self, check: &CheckName) -> BTreeSet<NodeName> {
        self.0.remove(check).unwrap_or_default()
    }

    /// Lets nodes wait that were admitted, and could not be sent out.
    pub fn put_back(&mut self, check: &CheckName, nodes: BTreeSet<NodeName>) {
        if !nodes.is_empty() {
            self.0.entry(check.clone()).or_default().extend(nodes);
        }
    }

    /// Decides about `due` nodes of `check`, and about those that wait for it already.
    pub fn admit(&mut self, check: &Check, runs: &Runs, due: Vec<NodeName>) -> Admitted {
        let mut waiting = self.0.remove(&check.name).unwrap_or_default();
        let mut admitted = Admitted::default();
        for node in due {
            match check.overlap {
                Overlap::Skip if runs.is_outstanding(&check.name, &node) => admitted.skipped.push(node),
                _ => drop(waiting.insert(node)),
            }
        }
        let places = check.max_batches.map_or(usize::MAX, |most| {
            let free = usize::try_from(most).unwrap_or(1).saturating_sub(runs.batches_of(&check.name));
            free.saturating_mul(usize::try_from(check.batch_size).unwrap_or(1))
        });
        let mut left = places;
        waiting.retain(|node| {
            // Whoever waited for a place may have been asked about meanwhile, by a run-now.
            let go = left > 0 && !runs.is_outstanding(&check.name, node);
            if go {
                left -= 1;
                admitted.now.push(node.clone());
            }
            !go
        });
        if !waiting.is_empty() {
            self.0.insert(check.name.clone(), waiting);
        }
        admitted
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
