//! All nodes and pools as they are in force, and changes to them as a value that is stored before it is installed.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::entry::{Entry, Tombstone, TrustChange};
use crate::nodes::policy::{PolicyChange, PolicyFloors, StoredPolicy};
use crate::nodes::record::{RecordEntry, What};
use crate::nodes::storage::Lane;
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Level, MemberState, Policy, PoolState};
use crate::trust::Rules;

/// What is in force: all of it is in the database.
pub struct World {
    /// All registered nodes.
    pub nodes: BTreeMap<NodeName, Entry>,
    /// The policy in force, and as it was signed.
    pub policy: Option<(Policy, StoredPolicy)>,
    /// How far each key of Checks has numbered policies.
    pub policy_floors: PolicyFloors,
    /// The policy made ready.
    pub rules: Rules,
    /// The pools as published.
    pub pools: BTreeMap<PoolName, PoolState>,
    /// Their digest.
    pub digest: PoolsDigest,
    /// Counts published changes in this epoch.
    pub version: i64,
    /// Counts changes of names, labels and placement.
    pub inventory_version: i64,
    /// When time alone changes a node.
    pub timers: BTreeSet<(Timestamp, NodeName)>,
    /// The last result id used.
    pub last_result: i64,
    /// The last outbox id used.
    pub last_outbox: i64,
    /// Number and hash of the last entry of the record.
    pub record_head: (i64, String),
}

/// Changes that are not yet so.
#[derive(Default)]
pub struct Stage {
    /// Nodes as they will be.
    pub touched: BTreeMap<NodeName, Entry>,
    /// Nodes that will be gone.
    pub buried: Vec<Tombstone>,
    /// Entries for the record; number and previous hash are given when they are stored.
    pub record: Vec<RecordEntry>,
    /// What must be sent.
    pub parcels: Vec<(Lane, String)>,
    /// Ids of work that is done with this, and until when they are remembered.
    pub seen: Vec<(String, Timestamp)>,
    /// Changes of trust.
    pub trust: Vec<TrustChange>,
    /// Tombstones that are written again.
    pub graves: Vec<Tombstone>,
    /// Another policy, or none.
    pub policy: Option<PolicyChange>,
}

impl Stage {
    /// A pool is no more, and with it what a node was in it.
    pub fn end_in_pool(&mut self, node: &NodeName, pool: PoolName, from: Level, cause: &str, now: Timestamp) {
        let (to, reason) = (Level::Unknown, "the pool is deleted".to_owned());
        let outlook =
            "no host matches a pool that is not there; should it be made again, distrust is remembered".to_owned();
        let what = What::Trust {
            pool: pool.clone(),
            from,
            to,
            overridden: false,
            reason: reason.clone(),
            until: None,
            outlook,
        };
        self.record.push(new_entry(node, what, cause, now));
        self.trust.push(TrustChange { node: node.clone(), pool, from, to, reason, at: now, seq: 0 });
    }
}

impl World {
    /// The entry as it will be, copied into the stage at its first touch.
    pub fn touch<'a>(&self, stage: &'a mut Stage, node: &NodeName) -> Option<&'a mut Entry> {
        if !stage.touched.contains_key(node) {
            stage.touched.insert(node.clone(), self.nodes.get(node)?.clone());
        }
        stage.touched.get_mut(node)
    }

    /// Judges a staged node again and stages what follows: entries of the record and changes of trust.
    pub fn review(&self, stage: &mut Stage, rules: &Rules, node: &NodeName, cause: &str, now: Timestamp) {
        let Some(entry) = stage.touched.get_mut(node) else { return };
        let review = entry.trust.review(rules, &entry.targeting, now);
        for (pool, verdict) in &review.verdicts {
            let before = entry.verdicts.get(pool);
            let (from, was_overridden) = before.map_or((Level::Unknown, false), |v| (v.level, v.overridden));
            if from == verdict.level && was_overridden == verdict.overridden {
                continue;
            }
            let reason = verdict.reason.to_string();
            let what = What::Trust {
                pool: pool.clone(),
                from,
                to: verdict.level,
                overridden: verdict.overridden,
                reason: reason.clone(),
                until: (verdict.level == Level::Trusted).then_some(verdict.expires_at),
                outlook: verdict.outlook(),
            };
            stage.record.push(new_entry(node, what, cause, now));
            if from != verdict.level {
                let (pool, to) = (pool.clone(), verdict.level);
                stage.trust.push(TrustChange { node: node.clone(), pool, from, to, reason, at: now, seq: 0 });
            }
        }
        entry.verdicts = review.verdicts;
    }

    /// What the pools gain by a stage: new state per pool and node, `None` where a node goes.
    #[must_use]
    pub fn pool_changes(&self, stage: &Stage) -> BTreeMap<PoolName, BTreeMap<NodeName, Option<MemberState>>> {
        let mut changes: BTreeMap<PoolName, BTreeMap<NodeName, Option<MemberState>>> = BTreeMap::new();
        for (name, entry) in &stage.touched {
            for (pool, verdict) in &entry.verdicts {
                let member = verdict.member();
                if self.pools.get(pool).and_then(|pool| pool.members.get(name)) != Some(&member) {
                    changes.entry(pool.clone()).or_default().insert(name.clone(), Some(member));
                }
            }
        }
        for tombstone in &stage.buried {
            for (pool, state) in &self.pools {
                if state.members.contains_key(&tombstone.name) {
                    changes.entry(pool.clone()).or_default().insert(tombstone.name.clone(), None);
                }
            }
        }
        changes
    }

    /// Makes a stage so, after it was committed. Pools are not touched: see [`World::pool_changes`].
    pub fn install(&mut self, stage: Stage) {
        for tombstone in stage.buried {
            if let Some(entry) = self.nodes.remove(&tombstone.name) {
                self.forget_timer(&entry);
            }
            self.inventory_version += 1;
        }
        for (name, entry) in stage.touched {
            let next = next_change(&entry);
            if let Some(at) = next {
                self.timers.insert((at, name.clone()));
            }
            let Some(known) = self.nodes.get_mut(&name) else {
                self.nodes.insert(name, entry);
                self.inventory_version += 1;
                continue;
            };
            if known.labels != entry.labels || known.placement != entry.placement {
                self.inventory_version += 1;
            }
            let old = std::mem::replace(known, entry);
            if next_change(&old) != next {
                self.forget_timer(&old);
            }
        }
    }

    /// Takes over what is derived from the policy for nodes that a new one judges as before.
    pub fn retarget(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(at) = next_change(&entry) {
                self.timers.insert((at, entry.name.clone()));
            }
            self.nodes.insert(entry.name.clone(), entry);
        }
    }

    /// Builds the pools from the nodes' verdicts, as after a change of the policy's pools.
    pub fn rebuild_pools(&mut self) {
        let mut pools: BTreeMap<PoolName, PoolState> = BTreeMap::new();
        for (name, pool) in self.rules.pools() {
            let members = self
                .nodes
                .values()
                .filter_map(|entry| Some((entry.name.clone(), entry.verdicts.get(name)?.member())))
                .collect();
            pools.insert(name.clone(), PoolState { mode: pool.mode, max_silence_ms: pool.max_silence_ms, members });
        }
        self.digest = PoolsDigest::of(&pools);
        self.pools = pools;
    }

    fn forget_timer(&mut self, entry: &Entry) {
        if let Some(at) = next_change(entry) {
            self.timers.remove(&(at, entry.name.clone()));
        }
    }
}

/// When time alone changes a node's verdicts.
#[must_use]
pub fn next_change(entry: &Entry) -> Option<Timestamp> {
    entry.verdicts.values().filter_map(|verdict| verdict.next_change).min()
}

/// An entry for the record, not yet in its chain.
#[must_use]
pub fn new_entry(node: &NodeName, what: What, cause: &str, at: Timestamp) -> RecordEntry {
    RecordEntry {
        seq: 0,
        at,
        node: node.clone(),
        what,
        cause: crate::text::display_safe(cause),
        policy: None,
        result: None,
        previous: String::new(),
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
pub(super) mod tests;
