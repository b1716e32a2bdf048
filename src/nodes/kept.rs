//! Nodes as they are held between changes: what is asked of all of them often, and the rest as compressed rows.
//!
//! What trust depends on is by far the most of a node, and needed only when something happens to that node. Held as values it takes some
//! kilobytes in dozens of allocations; as its row, compressed against the row of another node, less than half of what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use litemap::LiteMap;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, PoolName};
use crate::nodes::entry::Entry;
use crate::protocol::Placement;
use crate::trust::{NodeTrust, Verdict};

/// So many rows at least are compressed against the same one before another is taken, each of which stays as long as anybody needs it.
const ONE_FOR: usize = 1000;

/// A node between changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its name.
    pub name: NodeName,
    /// What targets can ask for.
    pub labels: BTreeMap<String, String>,
    /// Where Nova has it.
    pub placement: Placement,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// What was last decided.
    pub verdicts: LiteMap<PoolName, Box<Verdict>>,
    /// The checks that target it.
    pub targeting: Arc<[CheckName]>,
    /// Until when its actions are muted.
    pub muted_until: Option<Timestamp>,
    row: Packed,
}

/// A row, compressed.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// A row much like it.
    like: Arc<[u8]>,
    length: u32,
    bytes: Box<[u8]>,
}

/// What of a row is not held otherwise.
#[derive(Deserialize)]
struct Rest {
    trust: NodeTrust,
}

impl Packed {
    /// Compresses `row` against `like`.
    #[must_use]
    pub fn of(row: &str, like: &Arc<[u8]>) -> Self {
        let bytes = lz4_flex::block::compress_with_dict(row.as_bytes(), like).into_boxed_slice();
        Self { like: Arc::clone(like), length: u32::try_from(row.len()).unwrap_or(u32::MAX), bytes }
    }

    fn trust(&self) -> Result<NodeTrust, String> {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        let row = lz4_flex::block::decompress_with_dict(&self.bytes, length, &self.like).map_err(|e| e.to_string())?;
        let Rest { trust } = serde_json::from_slice(&row).map_err(|error| error.to_string())?;
        Ok(trust)
    }
}

impl Kept {
    /// The node as a value.
    #[must_use]
    pub fn open(&self) -> Option<Entry> {
        let trust = self.trust()?;
        Some(Entry {
            name: self.name.clone(),
            labels: self.labels.clone(),
            placement: self.placement.clone(),
            registered_at: self.registered_at,
            trust,
            verdicts: self.verdicts.iter().map(|(pool, verdict)| (pool.clone(), verdict.clone())).collect(),
            targeting: self.targeting.to_vec(),
        })
    }

    /// When time alone changes its verdicts.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        self.verdicts.values().filter_map(|verdict| verdict.next_change).min()
    }

    /// All that its trust depends on. `None` cannot be: the row was made from a value.
    #[must_use]
    pub fn trust(&self) -> Option<NodeTrust> {
        match self.row.trust() {
            Ok(trust) => Some(trust),
            Err(error) => {
                tracing::error!(node = %self.name, error, "a node cannot be read back from memory; report this as a bug, and restart");
                None
            }
        }
    }
}

/// What nodes are kept with.
#[derive(Debug, Clone)]
pub struct Keeper {
    like: Arc<[u8]>,
    /// Rows compressed against it.
    count: usize,
    /// As the last node had it: most have the same.
    targeting: Arc<[CheckName]>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { like: Arc::new([]), count: ONE_FOR, targeting: Arc::new([]) }
    }
}

impl Keeper {
    /// What rows are to be compressed against.
    #[must_use]
    pub fn like(&self) -> &Arc<[u8]> {
        &self.like
    }

    /// The list as others have it, too, where they have.
    pub fn shared(&mut self, targeting: &[CheckName]) -> Arc<[CheckName]> {
        if *self.targeting != *targeting {
            self.targeting = targeting.into();
        }
        Arc::clone(&self.targeting)
    }

    /// Puts a node away. `row`: as it is stored, compressed or not.
    pub fn keep(&mut self, entry: Entry, row: Packed) -> Kept {
        self.learn(&row);
        let targeting = self.shared(&entry.targeting);
        let mut verdicts = LiteMap::with_capacity(entry.verdicts.len());
        verdicts.extend(entry.verdicts);
        Kept {
            name: entry.name,
            labels: entry.labels,
            placement: entry.placement,
            registered_at: entry.registered_at,
            verdicts,
            targeting,
            muted_until: entry.trust.maintenance.map(|maintenance| maintenance.until),
            row,
        }
    }

    /// Takes another row to compress against where the one there is helps little.
    fn learn(&mut self, row: &Packed) {
        self.count = self.count.saturating_add(1);
        let length = usize::try_from(row.length).unwrap_or(usize::MAX);
        if self.count < ONE_FOR || row.bytes.len() < length / 2 {
            return;
        }
        if let Ok(text) = lz4_flex::block::decompress_with_dict(&row.bytes, length, &row.like) {
            (self.like, self.count) = (text.into(), 0);
        }
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
