//! Checks that run only where others have passed: who has passed those, and who waits for them.
//!
//! Pure. What Nodes has stored before this process began is asked of it ([`Prerequisites::to_ask`]); from then on every outcome that is stored is
//! heard. Until Nodes has told, and after any news of a node, nobody is taken to have passed. It decides only who is asked when: that a node is
//! trusted without the check that waits is for the pools to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::checks::definition::Check;
use crate::checks::registry::Registry;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::Status;

/// Who has passed what others wait for, and who waits. Kept in memory: after a restart the schedule asks for those who waited.
#[derive(Debug, Default)]
pub struct Prerequisites {
    passed: BTreeMap<CheckName, Passed>,
    waiting: BTreeMap<CheckName, BTreeSet<NodeName>>,
    /// Somebody who waits may wait no more.
    is_stirred: bool,
}

/// A definition somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its id, which a check of the same name made later does not share.
    pub id: String,
    /// What is checked, counted.
    pub revision: i64,
}

impl Definition {
    /// That of `check`.
    #[must_use]
    pub fn of(check: &Check) -> Self {
        Self { id: check.id.clone(), revision: check.revision }
    }
}

#[derive(Debug)]
struct Passed {
    definition: Definition,
    /// How long a pass counts.
    ttl: Duration,
    /// Whom something was heard of since Nodes was asked, which is newer than what it will tell; `None` once it has told.
    heard: Option<BTreeSet<NodeName>>,
    until: BTreeMap<NodeName, Timestamp>,
}

impl Passed {
    fn of(definition: Definition, ttl: Duration) -> Self {
        Self { definition, ttl, heard: Some(BTreeSet::new()), until: BTreeMap::new() }
    }

    fn has(&self, node: &NodeName, now: Timestamp) -> bool {
        self.heard.is_none() && self.until.get(node).is_some_and(|until| now < *until)
    }

    fn hear(&mut self, node: &NodeName, until: Option<Timestamp>) {
        if let Some(heard) = &mut self.heard {
            heard.insert(node.clone());
        }
        match until {
            Some(until) => drop(self.until.insert(node.clone(), until)),
            None => drop(self.until.remove(node)),
        }
    }
}

impl Prerequisites {
    /// Brings it in line with the definitions: a new definition has been passed by nobody.
    pub fn follow(&mut self, registry: &Registry) {
        let named: BTreeSet<&CheckName> = registry.checks.values().flat_map(|check| &check.after).collect();
        self.passed.retain(|name, _| named.contains(name));
        for check in named.into_iter().filter_map(|name| registry.checks.get(name)) {
            let (definition, ttl) = (Definition::of(check), registry.ttl_of(check).unwrap_or_default());
            match self.passed.get_mut(&check.name) {
                Some(known) if known.definition == definition => known.ttl = ttl,
                _ => drop(self.passed.insert(check.name.clone(), Passed::of(definition, ttl))),
            }
        }
        self.waiting.retain(|name, _| registry.checks.get(name).is_some_and(|check| check.enabled));
        self.is_stirred = true;
    }

    /// Which checks Nodes is to be asked about: who has passed them. What is heard from now on is newer than its answer.
    pub fn to_ask(&mut self) -> Vec<(CheckName, Definition)> {
        let unknown = self.passed.iter_mut().filter(|(_, passed)| passed.heard.is_some());
        let ask = |(name, passed): (&CheckName, &mut Passed)| {
            passed.heard = Some(BTreeSet::new());
            (name.clone(), passed.definition.clone())
        };
        unknown.map(ask).collect()
    }

    /// Nodes has told who has passed `check`, and until when that counts.
    pub fn told(&mut self, check: &CheckName, definition: &Definition, until: BTreeMap<NodeName, Timestamp>) {
        let Some(passed) = self.passed.get_mut(check).filter(|passed| passed.definition == *definition) else { return };
        let Some(heard) = passed.heard.take() else { return };
        let mut until = until;
        until.retain(|node, _| !heard.contains(node));
        passed.until.retain(|node, _| heard.contains(node));
        passed.until.extend(until);
        self.is_stirred = true;
    }

    /// Whether the outcomes of `check` are to be heard.
    #[must_use]
    pub fn is_about(&self, check: &CheckName) -> bool {
        self.passed.contains_key(check)
    }

    /// Outcomes of a run of `definition` that began at `began` are stored. A failure ends a pass; that somebody could not be asked does not.
    pub fn hear(
        &mut self,
        check: &CheckName,
        definition: &Definition,
        began: Timestamp,
        outcomes: &BTreeMap<NodeName, Status>,
        now: Timestamp,
    ) {
        let Some(passed) = self.passed.get_mut(check).filter(|passed| passed.definition == *definition) else { return };
        // It may have begun under a clock that was ahead.
        let until = began.min(now).plus(passed.ttl);
        for (node, status) in outcomes {
            match status {
                Status::Pass => passed.hear(node, Some(until)),
                Status::Fail => passed.hear(node, None),
                Status::Error | Status::Timeout => {}
            }
        }
        self.is_stirred = true;
    }

    /// These nodes were released, booted or registered anew: what they had passed before does not count.
    pub fn forget<'a>(&mut self, nodes: impl IntoIterator<Item = &'a NodeName>) {
        for node in nodes {
            self.passed.values_mut().for_each(|passed| passed.hear(node, None));
        }
    }

    /// Forgets nodes that are gone.
    pub fn keep(&mut self, is_node: impl Fn(&NodeName) -> bool) {
        self.passed.values_mut().for_each(|passed| passed.until.retain(|node, _| is_node(node)));
        self.waiting.retain(|_, nodes| {
            nodes.retain(|node| is_node(node));
            !nodes.is_empty()
        });
    }

    /// Which of `after` the node has not passed, as far as is known.
    pub fn lacks<'a>(
        &'a self,
        after: &'a BTreeSet<CheckName>,
        node: &'a NodeName,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a CheckName> {
        after.iter().filter(move |name| !self.passed.get(*name).is_some_and(|passed| passed.has(node, now)))
    }

    /// Has those of `nodes` wait that have not passed what `check` runs after; returns the others.
    pub fn admit(&mut self, check: &Check, nodes: Vec<NodeName>, now: Timestamp) -> Vec<NodeName> {
        if check.after.is_empty() {
            return nodes;
        }
        let (wait, free): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|node| self.lacks(&check.after, node, now).next().is_some());
        let mut waiting = self.waiting.remove(&check.name).unwrap_or_default();
        for node in &free {
            waiting.remove(node);
        }
        waiting.extend(wait);
        if !waiting.is_empty() {
            self.waiting.insert(check.name.clone(), waiting);
        }
        free
    }

    /// Those who wait no more, each once, to be asked at once.
    pub fn freed(&mut self, registry: &Registry, now: Timestamp) -> Vec<(CheckName, Vec<NodeName>)> {
        if !std::mem::take(&mut self.is_stirred) {
            return Vec::new();
        }
        let checks: Vec<CheckName> = self.waiting.keys().cloned().collect();
        let mut freed = Vec::new();
        for name in checks {
            let (Some(check), Some(nodes)) = (registry.checks.get(&name), self.waiting.remove(&name)) else { continue };
            let nodes = self.admit(check, nodes.into_iter().collect(), now);
            if !nodes.is_empty() {
                freed.push((name, nodes));
            }
        }
        freed
    }

    /// Who waits for what `check` runs after.
    pub fn waiting(&self, check: &CheckName) -> impl ExactSizeIterator<Item = &NodeName> {
        static NOBODY: BTreeSet<NodeName> = BTreeSet::new();
        self.waiting.get(check).unwrap_or(&NOBODY).iter()
    }

    /// How many wait, whatever for.
    #[must_use]
    pub fn total(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
#[path = "prerequisites_tests.rs"]
mod tests;
