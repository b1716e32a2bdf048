//! All nodes and pools as they are in force, and changes to them as a value that is stored before it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::degraded::Losses;
use crate::nodes::entry::{Entry, Tombstone, TrustChange};
use crate::nodes::kept::{Keeper, Kept, Packed};
use crate::nodes::policy::{PolicyChange, PolicyFloors, StoredPolicy};
use crate::nodes::reconcile::Departures;
use crate::nodes::record::{RecordEntry, What};
use crate::nodes::storage::{self, Lane};
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Level, MemberState, Policy, PoolState};
use crate::trust::Rules;

/// What is in force: all of it is in the database.
pub struct World {
    /// All registered nodes.
    pub nodes: BTreeMap<NodeName, Kept>,
    /// What they are kept with.
    pub keeper: Keeper,
    /// How many they were when they were last put close together.
    pub packed: usize,
    /// The policy in force, and as it was signed.
    pub policy: Option<(Policy, StoredPolicy)>,
    /// The policy of the active Checks, where it cannot be the newest.
    pub refused: Option<(Policy, StoredPolicy)>,
    /// How far each key of Checks has numbered policies.
    pub policy_floors: PolicyFloors,
    /// The policy made ready.
    pub rules: Rules,
    /// Whether every node was judged by it.
    pub is_judged: bool,
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
    /// How many nodes lost trust of late.
    pub losses: Losses,
    /// How many nodes went from Nova of late.
    pub departures: Departures,
}

/// Changes that are not yet so.
#[derive(Default)]
pub struct Stage {
    /// Nodes as they will be.
    pub touched: BTreeMap<NodeName, Entry>,
    /// Their rows as they will be kept, where they were made already.
    pub packed: BTreeMap<NodeName, Packed>,
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
    /// The rows of all touched nodes, made ready to be kept.
    pub fn rows(&mut self, like: &Arc<[u8]>) -> Vec<(String, String)> {
        let names: Vec<NodeName> = self.touched.keys().cloned().collect();
        self.rows_of(names.iter(), like)
    }

    /// The rows of those of `nodes` that are touched, made ready to be kept.
    pub fn rows_of<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a NodeName>,
        like: &Arc<[u8]>,
    ) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        for name in nodes {
            let Some(entry) = self.touched.get(name) else { continue };
            let row = storage::node_row(entry);
            self.packed.insert(name.clone(), Packed::of(&row.1, like));
            rows.push(row);
        }
        rows
    }

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
    /// A node as it is.
    #[must_use]
    pub fn open(&self, node: &NodeName) -> Option<Entry> {
        let (name, kept) = self.nodes.get_key_value(node)?;
        kept.open(name)
    }

    /// Puts a node that was not there in, as it came.
    pub fn put(&mut self, entry: Entry, row: Packed) {
        let name = entry.name.clone();
        let kept = self.keeper.keep(entry, row);
        if let Some(at) = kept.next_change() {
            self.timers.insert((at, name.clone()));
        }
        self.nodes.insert(name, kept);
    }

    /// Takes no more room for all nodes than they need, where there are many more than when this was done last: a map that was filled in order is
    /// half empty.
    pub fn pack(&mut self) {
        if self.nodes.len() <= self.packed + self.packed / 8 {
            return;
        }
        self.packed = self.nodes.len();
        self.nodes = std::mem::take(&mut self.nodes).into_iter().collect();
        self.timers = std::mem::take(&mut self.timers).into_iter().collect();
        for pool in self.pools.values_mut() {
            pool.members = std::mem::take(&mut pool.members).into_iter().collect();
        }
    }

    /// The entry as it will be, copied into the stage at its first touch.
    pub fn touch<'a>(&self, stage: &'a mut Stage, node: &NodeName) -> Option<&'a mut Entry> {
        if !stage.touched.contains_key(node) {
            let entry = self.open(node)?;
            // Its own name: everybody has that by reference.
            stage.touched.insert(entry.name.clone(), entry);
        }
        stage.touched.get_mut(node)
    }

    /// Judges a staged node again and stages what follows: entries of the record and changes of trust.
    /// Says whether the node is other than before.
    pub fn review(&self, stage: &mut Stage, rules: &Rules, node: &NodeName, cause: &str, now: Timestamp) -> bool {
        let Some(entry) = stage.touched.get_mut(node) else { return false };
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
        let is_other = review.changed || entry.verdicts != review.verdicts;
        entry.verdicts = review.verdicts;
        is_other
    }

    /// What the pools gain by a stage: new state per pool and node, `None` where a node goes.
    #[must_use]
    pub fn pool_changes(&self, stage: &Stage) -> BTreeMap<PoolName, BTreeMap<NodeName, Option<MemberState>>> {
        let mut changes: BTreeMap<PoolName, BTreeMap<NodeName, Option<MemberState>>> = BTreeMap::new();
        for (name, entry) in &stage.touched {
            for (pool, verdict) in &entry.verdicts {
                // What was not published yet has no changes.
                let Some(state) = self.pools.get(pool) else { continue };
                let member = verdict.member();
                if state.members.get(name) != Some(&member) {
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
    pub fn install(&mut self, mut stage: Stage) {
        for tombstone in stage.buried {
            if let Some(kept) = self.nodes.remove(&tombstone.name) {
                self.forget_timer(&tombstone.name, &kept);
            }
            self.inventory_version += 1;
        }
        for (name, entry) in stage.touched {
            let next = entry.next_change();
            if let Some(at) = next {
                self.timers.insert((at, name.clone()));
            }
            let row = stage.packed.remove(&name);
            let row = row.unwrap_or_else(|| Packed::of(&storage::node_row(&entry).1, self.keeper.like()));
            let kept = self.keeper.keep(entry, row);
            let Some(known) = self.nodes.get_mut(&name) else {
                self.nodes.insert(name, kept);
                self.inventory_version += 1;
                continue;
            };
            if !known.is_targeted_as(&kept) {
                self.inventory_version += 1;
            }
            let old = std::mem::replace(known, kept);
            if old.next_change() != next {
                self.forget_timer(&name, &old);
            }
        }
    }

    /// Takes over what is derived from the policy for nodes that a new one judges as before.
    pub fn retarget(&mut self, entries: Vec<Entry>) {
        for Entry { name, targeting, .. } in entries {
            let Some(kept) = self.nodes.get_mut(&name) else { continue };
            kept.targeting = self.keeper.shared(&targeting);
            if let Some(at) = kept.next_change() {
                self.timers.insert((at, name));
            }
        }
    }

    /// Builds the pools from the nodes' verdicts, as after a change of the policy's pools.
    pub fn rebuild_pools(&mut self) {
        let mut pools: BTreeMap<PoolName, PoolState> = BTreeMap::new();
        for (name, pool) in self.rules.pools() {
            let members = self
                .nodes
                .iter()
                .filter_map(|(node, kept)| Some((node.clone(), kept.in_pool(name)?.member())))
                .collect();
            pools.insert(name.clone(), PoolState { mode: pool.mode, max_silence_ms: pool.max_silence_ms, members });
        }
        self.digest = PoolsDigest::of(&pools);
        self.pools = pools;
    }

    fn forget_timer(&mut self, node: &NodeName, kept: &Kept) {
        if let Some(at) = kept.next_change() {
            self.timers.remove(&(at, node.clone()));
        }
    }
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
