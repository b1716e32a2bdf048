//! What a cache believes: pure, fed with verified publications and the time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::names::PoolName;
use crate::pool::lateness::{Received, Reckoning, Stated};
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Delta, Heartbeat, Level, MemberState, PoolState, Snapshot, publication};

/// How far Nodes' clock and ours may differ before it is an alarm.
pub const MAX_SKEW: Duration = Duration::from_secs(30);
/// Why what is said under an epoch below ours is dropped.
pub const OLDER_EPOCH: &str = "older_epoch";
/// How often what comes too late makes the cache ask: a clock may have been set, but whoever holds back messages must not make it ask all the time.
const ASK_WHEN_LATE: Duration = Duration::from_secs(30);

/// The pools as last heard.
#[derive(Debug, Default)]
pub struct Cache {
    epoch: i64,
    version: i64,
    pools: BTreeMap<PoolName, PoolState>,
    digest: PoolsDigest,
    /// False until a snapshot was taken in this epoch: only then may deltas follow.
    current: bool,
    /// How far the clock of whoever leads this epoch is from ours.
    reckoning: Reckoning,
    /// When something that came too late made us ask last, in steady time.
    asked_when_late: Option<Duration>,
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

    /// Nodes' time of day when it is `now` in steady time: this or later, if it is known.
    #[must_use]
    pub fn nodes_time(&self, now: Duration) -> Option<Timestamp> {
        self.reckoning.theirs(now)
    }

    /// The pools held; `None` before the first snapshot of the epoch.
    #[must_use]
    pub fn pools(&self) -> Option<&BTreeMap<PoolName, PoolState>> {
        self.current.then_some(&self.pools)
    }

    /// A heartbeat arrived.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, at: Received) -> Heard {
        let stated = Stated { sent_at: heartbeat.sent_at, not_after: heartbeat.not_after };
        if let Some(other) = self.not_to_be_compared(heartbeat.epoch, stated, at) {
            return other;
        }
        match heartbeat.version.cmp(&self.version) {
            std::cmp::Ordering::Less => Heard::Dropped("older_version"),
            std::cmp::Ordering::Equal if heartbeat.digest == self.digest.hex() => Heard::Agrees,
            _ => Heard::Differs,
        }
    }

    /// What to make of a publication that cannot be compared with what is held: it is older, comes too late, or is the first word of
    /// another epoch, after which an answer is needed. Only that last judgement uses the clocks as they are, and allows for [`MAX_SKEW`].
    fn not_to_be_compared(&mut self, epoch: i64, stated: Stated, at: Received) -> Option<Heard> {
        if stated.is_void() {
            return Some(Heard::Dropped("never_valid"));
        }
        if epoch < self.epoch {
            return Some(Heard::Dropped(OLDER_EPOCH));
        }
        let reckoned = if epoch > self.epoch || !self.current { None } else { self.reckoning.hear(stated, at.steady) };
        match reckoned {
            Some(true) => None,
            Some(false) if self.may_ask_when_late(at) => Some(Heard::Differs),
            None if at.utc <= stated.not_after.plus(MAX_SKEW) => Some(Heard::Differs),
            Some(false) | None => Some(Heard::Dropped("too_late")),
        }
    }

    fn may_ask_when_late(&mut self, at: Received) -> bool {
        let may = self.asked_when_late.is_none_or(|last| at.steady.saturating_sub(last) >= ASK_WHEN_LATE);
        if may {
            self.asked_when_late = Some(at.steady);
        }
        may
    }

    /// A delta arrived.
    pub fn delta(&mut self, delta: &Delta, at: Received) -> Heard {
        let stated = Stated { sent_at: delta.sent_at, not_after: delta.not_after };
        if let Some(other) = self.not_to_be_compared(delta.epoch, stated, at) {
            return other;
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

    /// A snapshot arrived in answer to `nonce`, which was asked at `asked` in steady time.
    pub fn snapshot(&mut self, snapshot: Snapshot, nonce: &str, asked: Duration, at: Received) -> Heard {
        if snapshot.nonce != nonce {
            return Heard::Dropped("wrong_nonce");
        }
        let stated = Stated { sent_at: snapshot.sent_at, not_after: snapshot.not_after };
        let is_same = self.current && snapshot.epoch == self.epoch;
        let mut reckoning = if is_same { self.reckoning.clone() } else { Reckoning::default() };
        if !reckoning.answer(stated, asked, at.steady) {
            return Heard::Dropped(if stated.is_void() { "never_valid" } else { "too_late" });
        }
        if (snapshot.epoch, snapshot.version) < (self.epoch, self.version) {
            return Heard::Dropped(OLDER_EPOCH);
        }
        self.reckoning = reckoning;
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

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
