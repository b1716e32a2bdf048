//! What a policy would change: every node judged by it and by the one in force, and nothing else done.
//!
//! A few nodes at a time are copied with the world in hand and judged without it, so that results do not wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::kept::Kept;
use crate::protocol::preview::MOST_NAMED;
use crate::protocol::{Candidate, Level, LevelChange, Policy, Preview};
use crate::rpc::RpcError;
use crate::trust::{NodeTrust, Rules};

/// Nodes copied at once.
const AT_ONCE: usize = 250;

/// Who changes, counted up.
#[derive(Default)]
struct Changes(BTreeMap<(PoolName, Level, Level), (usize, BTreeSet<NodeName>)>);

impl Nodes {
    /// What `candidate` would change.
    ///
    /// # Errors
    /// Conflict while Nodes judges by another policy than the one it would follow; bad request where it cannot be judged by.
    pub(super) async fn preview(&self, candidate: Candidate) -> Result<Preview, RpcError> {
        if self.world.lock().await.rules.number() < candidate.follows {
            // Checks has just made one that has not come yet.
            self.ask_for_policy().await?;
        }
        let Candidate { follows, checks, pools } = candidate;
        let policy = Policy {
            deployment: self.identity.deployment.clone(),
            epoch: 0,
            number: follows,
            issued_at: self.clock.now(),
            checks,
            pools,
        };
        let new = Rules::new(&policy).map_err(|error| RpcError::bad_request(format!("the policy: {error}")))?;
        let old = self.world.lock().await.rules.clone();
        let now = self.clock.now();
        let mut changes = Changes::default();
        let (mut judged, mut after) = (0, None::<NodeName>);
        loop {
            let some = self.some_nodes(follows, after.as_ref()).await?;
            let Some(last) = some.last() else { break };
            after = Some(last.0.clone());
            judged += some.len();
            for entry in some.iter().filter_map(|(name, kept)| kept.open(name)) {
                changes.note(&entry, (&old, &new), now);
            }
            tokio::task::yield_now().await;
        }
        Ok(Preview { nodes: judged, changes: changes.told() })
    }

    /// The next nodes by name, as long as the policy in force stays the one with this number.
    async fn some_nodes(&self, number: i64, after: Option<&NodeName>) -> Result<Vec<(NodeName, Kept)>, RpcError> {
        let world = self.world.lock().await;
        if world.rules.number() != number {
            return Err(RpcError::conflict(format!(
                "nodes are judged by policy {}, not by policy {number}; ask again",
                world.rules.number()
            )));
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let some = world.nodes.range::<NodeName, _>((start, Bound::Unbounded)).take(AT_ONCE);
        Ok(some.map(|(name, kept)| (name.clone(), kept.clone())).collect())
    }
}

impl Changes {
    fn note(&mut self, entry: &Entry, (old, new): (&Rules, &Rules), now: Timestamp) {
        let targeting = new.targeting(&entry.name, &entry.labels, &entry.placement);
        let levels = |rules: &Rules, targeting: &[_]| -> BTreeMap<PoolName, Level> {
            let mut trust: NodeTrust = entry.trust.clone();
            let verdicts = trust.review(rules, targeting, now).verdicts;
            verdicts.into_iter().map(|(pool, verdict)| (pool, verdict.level)).collect()
        };
        let (before, after) = (levels(old, &entry.targeting), levels(new, &targeting));
        for pool in before.keys().chain(after.keys().filter(|pool| !before.contains_key(*pool))) {
            let from = before.get(pool).copied().unwrap_or(Level::Unknown);
            // Whoever is distrusted in a pool that goes is not raised by that: no host matches it any more.
            let to = after.get(pool).copied().unwrap_or(from.min(Level::Unknown));
            if from == to {
                continue;
            }
            let (count, named) = self.0.entry((pool.clone(), from, to)).or_default();
            *count += 1;
            if named.len() < MOST_NAMED {
                named.insert(entry.name.clone());
            }
        }
    }

    fn told(self) -> Vec<LevelChange> {
        let change = |((pool, from, to), (count, nodes))| LevelChange { pool, from, to, count, nodes };
        self.0.into_iter().map(change).collect()
    }
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
