//! Nodes as they are held between changes: what is asked of all of them often, and the rest as compressed rows.
//!
//! What trust depends on is by far the most of a node, and needed only when something happens to that node. Held as values it takes some
//! kilobytes in dozens of allocations; as its row, compressed against the row of another node, less than a tenth of what is stored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use zstd::zstd_safe::{CCtx, DCtx, compress_bound, get_error_name, get_frame_content_size};

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, PoolName};
use crate::nodes::entry::Entry;
use crate::protocol::{Level, MemberState, Traits};
use crate::trust::{NodeTrust, Reason, Verdict};

/// So many rows are compressed against the same one, which stays as long as anybody needs it. Those stored one after the other are much alike.
const ONE_FOR: usize = 500;

/// How hard rows are compressed. What is left of rows this alike are digits, for which levels above zero find a code of their own; higher ones gain nothing.
const COMPRESSION: i32 = 1;

thread_local! {
    /// Making these takes longer than using them.
    static CODEC: RefCell<(CCtx<'static>, DCtx<'static>)> = RefCell::new((CCtx::create(), DCtx::create()));
}

/// A node between changes; its name is the key it is found under.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// What targets can ask for; nothing of most.
    traits: Option<Box<Traits>>,
    pools: Box<[(PoolName, InPool)]>,
    /// The checks that target it.
    pub targeting: Arc<[CheckName]>,
    /// Until when its actions are muted.
    pub muted_until: Option<Timestamp>,
    row: Packed,
}

/// What was last decided of a node in a pool, without what only its own verdict is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPool {
    /// See [`Verdict::level`].
    pub level: Level,
    /// See [`Verdict::overridden`].
    pub overridden: bool,
    /// See [`Verdict::expires_at`].
    pub expires_at: Timestamp,
    /// See [`Verdict::next_change`].
    pub next_change: Option<Timestamp>,
    /// Shared with others of the same.
    pub reason: Arc<Reason>,
}

/// A row, compressed; or as it is, where that could not be.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// A row much like it.
    like: Arc<[u8]>,
    bytes: Box<[u8]>,
}

/// What a row holds of trust.
#[derive(Deserialize)]
struct Rest {
    trust: NodeTrust,
}

impl Packed {
    /// Compresses `row` against `like`.
    #[must_use]
    pub fn of(row: &str, like: &Arc<[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(compress_bound(row.len()));
        let packed = CODEC
            .with_borrow_mut(|(codec, _)| codec.compress_using_dict(&mut bytes, row.as_bytes(), like, COMPRESSION));
        // Cannot fail where there is memory. A compressed row begins with another byte than a row.
        let bytes = if packed.is_ok() { bytes.into_boxed_slice() } else { row.as_bytes().into() };
        Self { like: Arc::clone(like), bytes }
    }

    fn row(&self) -> Result<Vec<u8>, String> {
        if self.bytes.first() == Some(&b'{') {
            return Ok(self.bytes.to_vec());
        }
        let length = get_frame_content_size(&self.bytes).map_err(|error| error.to_string())?;
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or("it does not tell its length")?;
        let mut row = Vec::with_capacity(length);
        let opened = CODEC.with_borrow_mut(|(_, codec)| codec.decompress_using_dict(&mut row, &self.bytes, &self.like));
        opened.map(|_| row).map_err(|code| get_error_name(code).to_owned())
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, node: &NodeName) -> Option<T> {
        let read = self.row().and_then(|row| serde_json::from_slice(&row).map_err(|error| error.to_string()));
        read.inspect_err(|error| {
            tracing::error!(%node, error, "a node cannot be read back from memory; report this as a bug, and restart");
        })
        .ok()
    }
}

impl Kept {
    /// The node called `name` as a value. `None` cannot be: the row was made from a value.
    #[must_use]
    pub fn open(&self, name: &NodeName) -> Option<Entry> {
        let entry: Entry = self.row.read(name)?;
        Some(Entry { name: name.clone(), targeting: self.targeting.to_vec(), ..entry })
    }

    /// All that the trust of the node called `name` depends on. `None` as for [`Kept::open`].
    #[must_use]
    pub fn trust(&self, name: &NodeName) -> Option<NodeTrust> {
        self.row.read(name).map(|Rest { trust }| trust)
    }

    /// What targets can ask for.
    #[must_use]
    pub fn traits(&self) -> Traits {
        self.traits.as_deref().cloned().unwrap_or_default()
    }

    /// Whether targets can ask of both for the same.
    #[must_use]
    pub fn is_targeted_as(&self, other: &Self) -> bool {
        self.traits == other.traits
    }

    /// What was last decided, pool by pool.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolName, &InPool)> {
        self.pools.iter().map(|(pool, state)| (pool, state))
    }

    /// What was last decided in a pool.
    #[must_use]
    pub fn in_pool(&self, pool: &PoolName) -> Option<&InPool> {
        self.pools().find_map(|(name, state)| (name == pool).then_some(state))
    }

    /// When time alone changes its verdicts.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        self.pools.iter().filter_map(|(_, state)| state.next_change).min()
    }
}

impl InPool {
    /// Of a verdict.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        let Verdict { level, expires_at, reason, overridden, next_change, .. } = verdict;
        Self { level, overridden, expires_at, next_change, reason: Arc::new(reason) }
    }

    /// What the pool publishes.
    #[must_use]
    pub fn member(&self) -> MemberState {
        MemberState { level: self.level, expires_at: self.expires_at, overridden: self.overridden }
    }
}

/// What rows are compressed against.
#[derive(Debug, Clone)]
pub struct Packer {
    like: Arc<[u8]>,
    /// Rows compressed against it.
    count: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self { like: Arc::new([]), count: ONE_FOR }
    }
}

impl Packer {
    /// Compresses the next row.
    #[must_use]
    pub fn pack(&mut self, row: &str) -> Packed {
        self.count = self.count.saturating_add(1);
        if self.count > ONE_FOR {
            (self.like, self.count) = (row.as_bytes().into(), 0);
        }
        Packed::of(row, &self.like)
    }

    /// Takes another row to compress against every so often: what was stored lately is most like what is stored next.
    fn learn(&mut self, row: &Packed) {
        self.count = self.count.saturating_add(1);
        if self.count < ONE_FOR {
            return;
        }
        if let Ok(text) = row.row() {
            (self.like, self.count) = (text.into(), 0);
        }
    }
}

/// What nodes are kept with: what the last one had, since most have the same.
#[derive(Debug, Clone, Default)]
pub struct Keeper {
    packer: Packer,
    targeting: Arc<[CheckName]>,
    reasons: BTreeMap<PoolName, Arc<Reason>>,
}

impl Keeper {
    /// What rows are to be compressed against.
    #[must_use]
    pub fn like(&self) -> &Arc<[u8]> {
        &self.packer.like
    }

    /// The list as others have it, too, where they have.
    pub fn shared(&mut self, targeting: &[CheckName]) -> Arc<[CheckName]> {
        if *self.targeting != *targeting {
            self.targeting = targeting.into();
        }
        Arc::clone(&self.targeting)
    }

    /// Puts a node away. `row`: as it is stored, compressed.
    pub fn keep(&mut self, entry: Entry, row: Packed) -> Kept {
        self.packer.learn(&row);
        let traits = Traits { labels: entry.labels, placement: entry.placement };
        Kept {
            traits: (traits != Traits::default()).then(|| Box::new(traits)),
            targeting: self.shared(&entry.targeting),
            pools: self.in_pools(entry.verdicts),
            muted_until: entry.trust.maintenance.map(|maintenance| maintenance.until),
            row,
        }
    }

    fn in_pools(&mut self, verdicts: BTreeMap<PoolName, Box<Verdict>>) -> Box<[(PoolName, InPool)]> {
        if self.reasons.len() > verdicts.len() {
            self.reasons.retain(|pool, _| verdicts.contains_key(pool));
        }
        let kept = verdicts.into_iter().map(|(pool, verdict)| {
            let mut state = InPool::of(*verdict);
            let Some((pool, known)) = self.reasons.get_key_value(&pool).filter(|(_, known)| **known == state.reason)
            else {
                self.reasons.insert(pool.clone(), Arc::clone(&state.reason));
                return (pool, state);
            };
            state.reason = Arc::clone(known);
            (pool.clone(), state)
        });
        kept.collect()
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
