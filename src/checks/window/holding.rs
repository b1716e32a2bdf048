//! Who is held by windows, and who is let go.
//!
//! A node that is due while a window is open is held: it waits once, however many slots pass meanwhile. When no open window
//! covers it any more it is let go, and takes its own place in the splay from then on; should a slot begin meanwhile, it goes
//! out with that one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::checks::planner::{Inventory, Now};
use crate::checks::registry::Registry;
use crate::checks::waiting::Waiting;
use crate::checks::window::opening::{Coverage, Mark, Openings};
use crate::names::{CheckName, NodeName};
use crate::protocol::TargetMatcher;

/// Labels, aggregates and zones change who is covered: it is looked again after this long at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Who is held, by check.
#[derive(Debug, Default)]
pub struct Holding {
    /// Which windows are open.
    pub openings: Openings,
    held: BTreeMap<CheckName, BTreeSet<NodeName>>,
    restored: Vec<Coverage>,
    look_at: Duration,
}

impl Holding {
    /// Takes up what was stored before a restart.
    pub fn restore(&mut self, marks: Vec<Mark>, registry: &Registry, now: Now) {
        self.restored = self.openings.restore(marks, &registry.windows, now);
    }

    /// How many nodes are held of a check.
    #[must_use]
    pub fn count(&self, check: &CheckName) -> usize {
        self.held.get(check).map_or(0, BTreeSet::len)
    }

    /// How many are held of all checks together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.held.values().map(BTreeSet::len).sum()
    }

    /// Everybody who is held.
    pub fn held(&self) -> impl Iterator<Item = (&CheckName, &NodeName)> {
        self.held.iter().flat_map(|(check, nodes)| nodes.iter().map(move |node| (check, node)))
    }

    /// Holds those of `nodes` that an open window covers; returns the others.
    pub fn admit(&mut self, check: &CheckName, nodes: Vec<NodeName>, inventory: &Inventory) -> Vec<NodeName> {
        let about: Vec<_> = self.openings.open().filter(|open| open.is_about(check)).collect();
        if about.is_empty() {
            return nodes;
        }
        let covers = |node: &NodeName| {
            inventory.get(node).is_some_and(|traits| about.iter().any(|open| open.has(check, node, traits)))
        };
        let (held, free): (Vec<NodeName>, Vec<NodeName>) = nodes.into_iter().partition(covers);
        if !held.is_empty() {
            self.held.entry(check.clone()).or_default().extend(held);
        }
        free
    }

    /// Follows windows and time: holds who waits for a place meanwhile, and says who of which check is let go.
    pub fn turn(
        &mut self,
        registry: &Registry,
        inventory: &Inventory,
        waiting: &mut Waiting,
        now: Now,
    ) -> Vec<(CheckName, Vec<NodeName>)> {
        let changed = self.openings.follow(&registry.windows, now);
        if !changed && self.restored.is_empty() && now.monotonic < self.look_at {
            return Vec::new();
        }
        self.look_at = now.monotonic + LOOK_EVERY;
        for covered in std::mem::take(&mut self.restored) {
            self.find_again(&covered, registry, inventory);
        }
        let waited_for: Vec<CheckName> = waiting.checks().cloned().collect();
        for check in waited_for {
            let nodes = waiting.take(&check);
            let free = self.admit(&check, nodes.into_iter().collect(), inventory);
            waiting.put_back(&check, free.into_iter().collect());
        }
        let mut let_go = Vec::new();
        for (check, mut nodes) in std::mem::take(&mut self.held) {
            let enabled = registry.checks.get(&check).filter(|check| check.enabled);
            let Some(aimed) = enabled.and_then(|check| TargetMatcher::new(&check.targets).ok()) else { continue };
            nodes.retain(|node| inventory.get(node).is_some_and(|traits| aimed.means(node, traits)));
            let nodes = self.admit(&check, nodes.into_iter().collect(), inventory);
            if !nodes.is_empty() {
                let_go.push((check, nodes));
            }
        }
        let_go
    }

    /// Holds whoever a window covered that was open, or ended a moment ago, when the process stopped.
    fn find_again(&mut self, covered: &Coverage, registry: &Registry, inventory: &Inventory) {
        for check in registry.checks.values().filter(|check| check.enabled && covered.is_about(&check.name)) {
            let nodes = inventory.iter().filter(|(node, traits)| covered.has(&check.name, node, traits));
            self.held.entry(check.name.clone()).or_default().extend(nodes.map(|(node, _)| node.clone()));
        }
    }
}
