//! What a cache believes: pure, fed with verified publications and the time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::names::PoolName;
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Delta, Heartbeat, Level, MemberState, PoolState, Snapshot, publication};

/// How far Nodes' clock and ours may differ before it is an alarm.
pub const MAX_SKEW: Duration = Duration::from_secs(30);

/// The pools as last heard.
#[derive(Debug, Default)]
pub struct Cache {
    epoch: i64,
    version: i64,
    pools: BTreeMap<PoolName, PoolState>,
    digest: PoolsDigest,
    /// False until a snapshot was taken in this epoch: only then may deltas follow.
    current: bool,
}

/// What a publication means for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A heartbeat that agrees with what is held.
    Agrees,
    /// The pools changed; nobody lost trust by it, so there is no hurry.
    Extended,
    /// The pools changed, and at least one node changed its level or its flag.
    Changed,
    /// What is held is not what Nodes holds: a snapshot is needed.
    Differs,
    /// Older than what is held, or said too long ago: dropped.
    Dropped(&'static str),
}

impl Cache {
    /// A cache that holds nothing and will not go back behind `epoch`, as read from its own file of an earlier life.
    #[must_use]
    pub fn not_before(epoch: i64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// What is held is not believed any more: every node is unknown, and only a snapshot of `floor` or a later epoch ends
    /// that. Says what to write in its place.
    pub fn doubt(&mut self, floor: i64) -> BTreeMap<PoolName, PoolState> {
        let mut pools = std::mem::take(&mut self.pools);
        for member in pools.values_mut().flat_map(|pool| pool.members.values_mut()) {
            *member = MemberState { level: Level::Unknown, expires_at: Timestamp::default(), overridden: false };
        }
        *self = Self::not_before(floor);
        pools
    }

    /// The epoch and version held.
    #[must_use]
    pub fn version(&self) -> (i64, i64) {
        (self.epoch, self.version)
    }

    /// The pools held; `None` before the first snapshot of the epoch.
    #[must_use]
    pub fn pools(&self) -> Option<&BTreeMap<PoolName, PoolState>> {
        self.current.then_some(&self.pools)
    }

    /// A heartbeat arrived.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Timestamp) -> Heard {
        if let Some(dropped) = too_late(heartbeat.not_after, now) {
            return dropped;
        }
        if heartbeat.epoch < self.epoch {
            return Heard::Dropped("older_epoch");
        }
        if heartbeat.epoch > self.epoch || !self.current {
            return Heard::Differs;
        }
        match heartbeat.version.cmp(&self.version) {
            std::cmp::Ordering::Less => Heard::Dropped("older_version"),
            std::cmp::Ordering::Equal if heartbeat.digest == self.digest.hex() => Heard::Agrees,
            _ => Heard::Differs,
        }
    }

    /// A delta arrived.
    pub fn delta(&mut self, delta: &Delta, now: Timestamp) -> Heard {
        if let Some(dropped) = too_late(delta.not_after, now) {
            return dropped;
        }
        if delta.epoch < self.epoch {
            return Heard::Dropped("older_epoch");
        }
        if delta.epoch > self.epoch || !self.current {
            return Heard::Differs;
        }
        if delta.version <= self.version {
            return Heard::Dropped("older_version");
        }
        if delta.version != self.version + 1 {
            return Heard::Differs;
        }
        let heard = if self.only_extends(delta) { Heard::Extended } else { Heard::Changed };
        match publication::apply_delta(&mut self.pools, &mut self.digest, delta) {
            Ok(_) => {
                self.version = delta.version;
                heard
            }
            Err(_) => Heard::Differs,
        }
    }

    /// A snapshot arrived in answer to `nonce`.
    pub fn snapshot(&mut self, snapshot: Snapshot, nonce: &str, now: Timestamp) -> Heard {
        if snapshot.nonce != nonce {
            return Heard::Dropped("wrong_nonce");
        }
        if let Some(dropped) = too_late(snapshot.not_after, now) {
            return dropped;
        }
        if (snapshot.epoch, snapshot.version) < (self.epoch, self.version) {
            return Heard::Dropped("older_epoch");
        }
        self.digest = PoolsDigest::of(&snapshot.pools);
        self.pools = snapshot.pools;
        (self.epoch, self.version) = (snapshot.epoch, snapshot.version);
        self.current = true;
        Heard::Changed
    }

    fn only_extends(&self, delta: &Delta) -> bool {
        delta.changes.iter().all(|(pool, changes)| {
            let Some(members) = self.pools.get(pool).map(|pool| &pool.members) else { return false };
            changes.iter().all(|(node, change)| match (members.get(node), change) {
                (Some(old), Some(new)) => {
                    old.level == new.level && old.overridden == new.overridden && old.expires_at <= new.expires_at
                }
                _ => false,
            })
        })
    }
}

/// Replays are dropped by their own word; a clock that is wrong by up to [`MAX_SKEW`] is allowed for.
fn too_late(not_after: Timestamp, now: Timestamp) -> Option<Heard> {
    (now > not_after.plus(MAX_SKEW)).then_some(Heard::Dropped("too_late"))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
