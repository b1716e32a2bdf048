//! What a cache must not forget over a restart, of the process or of the machine: how far each key of Nodes has counted
//! epochs, and which keys vouch for what the pool file says.
//!
//! The highest epoch of those whose key is good is what the cache never goes back behind. When a key is revoked, the epochs
//! learnt from it go with it, so that a thief's huge one does not lock the true Nodes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::DeploymentId;
use crate::security::{KeyId, Revocations, Vouch};

/// What one key has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Learnt {
    epoch: i64,
    /// When that epoch was first heard from the key.
    at: Timestamp,
}

/// As it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    deployment: DeploymentId,
    epochs: BTreeMap<KeyId, Learnt>,
    /// The epoch of a pool file from before this was kept; nobody knows whose word it was.
    #[serde(default)]
    unowned: Option<i64>,
    /// The keys that vouch for the content of the pool file.
    content: BTreeSet<KeyId>,
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    file: PathBuf,
    kept: Kept,
}

/// What a revocation means for a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Epochs were forgotten.
    pub epochs: bool,
    /// A revoked key vouches for the content.
    pub content: bool,
}

impl Memory {
    /// Reads `file`, or begins with the epoch of the pool file where there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read: it must not be taken for nothing.
    pub fn open(file: &Path, deployment: &DeploymentId, epoch_of_pool_file: Option<i64>) -> io::Result<Self> {
        let fresh = |unowned| Kept {
            deployment: deployment.clone(),
            epochs: BTreeMap::new(),
            unowned,
            content: BTreeSet::new(),
        };
        let kept = match std::fs::read_to_string(file) {
            Ok(text) => serde_json::from_str::<Kept>(&text).map_err(|error| {
                io::Error::other(format!(
                    "{error}; remove the file if it cannot be restored: the pools are then asked for anew"
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh(epoch_of_pool_file),
            Err(error) => return Err(error),
        };
        // Another cloud's epochs say nothing here.
        let kept = if kept.deployment == *deployment { kept } else { fresh(None) };
        Ok(Self { file: file.to_owned(), kept })
    }

    /// No publication of a lower epoch is believed.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.kept.epochs.values().map(|learnt| learnt.epoch).chain(self.kept.unowned).max().unwrap_or(0)
    }

    /// A snapshot of `epoch` is believed; it alone vouches for the content from now on. Stored when this returns.
    ///
    /// # Errors
    /// When it cannot be stored; then it must not be believed either.
    pub fn take_snapshot(&mut self, epoch: i64, vouch: Vouch) -> io::Result<()> {
        let mut kept = self.kept.clone();
        let learnt = kept.epochs.entry(vouch.key).or_insert(Learnt { epoch, at: vouch.at });
        if learnt.epoch < epoch {
            *learnt = Learnt { epoch, at: vouch.at };
        }
        kept.content = BTreeSet::from([vouch.key]);
        self.store(kept)
    }

    /// A delta signed with `key` goes into the content.
    ///
    /// # Errors
    /// When it cannot be stored; then the delta must not be applied.
    pub fn take_delta(&mut self, key: KeyId) -> io::Result<()> {
        if self.kept.content.contains(&key) {
            return Ok(());
        }
        let mut kept = self.kept.clone();
        kept.content.insert(key);
        self.store(kept)
    }

    /// Forgets what revoked keys have said. `last_word`: when the content was last added to.
    ///
    /// # Errors
    /// When it cannot be stored; it is forgotten in memory all the same.
    pub fn forget(&mut self, revoked: &Revocations, last_word: Timestamp) -> (Forgotten, io::Result<()>) {
        let mut kept = self.kept.clone();
        kept.epochs.retain(|key, learnt| !revoked.void(key, learnt.at));
        let content = kept.content.iter().any(|key| revoked.void(key, last_word));
        if content {
            kept.content.clear();
        }
        let forgotten = Forgotten { epochs: kept.epochs != self.kept.epochs, content };
        if forgotten.epochs || content {
            // Whose word it was is not known, so it may have been the thief's.
            kept.unowned = None;
        }
        let stored = if kept == self.kept { Ok(()) } else { self.store(kept.clone()) };
        self.kept = kept;
        (forgotten, stored)
    }

    fn store(&mut self, kept: Kept) -> io::Result<()> {
        if kept == self.kept {
            return Ok(());
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        let new = self.file.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        std::fs::File::open(folder)?.sync_all()?;
        self.kept = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::security::SigningKey;

    fn deployment() -> DeploymentId {
        DeploymentId::new("cloud-1").unwrap()
    }

    fn key() -> KeyId {
        SigningKey::generate().unwrap().key_id()
    }

    fn vouch(key: KeyId, at: i64) -> Vouch {
        Vouch { key, at: Timestamp(at) }
    }

    fn open(folder: &tempfile::TempDir) -> Memory {
        Memory::open(&folder.path().join("state/pool.json"), &deployment(), None).unwrap()
    }

    #[test]
    fn the_highest_epoch_outlives_the_process_and_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = key();
        let mut memory = open(&folder);
        assert_eq!(memory.floor(), 0);
        memory.take_snapshot(7, vouch(nodes, 100)).unwrap();
        memory.take_snapshot(9, vouch(nodes, 200)).unwrap();
        memory.take_snapshot(8, vouch(key(), 300)).unwrap();
        assert_eq!(open(&folder).floor(), 9);
        let other = DeploymentId::new("cloud-2").unwrap();
        let elsewhere = Memory::open(&folder.path().join("state/pool.json"), &other, Some(3)).unwrap();
        assert_eq!(elsewhere.floor(), 0, "another cloud's epochs say nothing");
    }

    #[test]
    fn epochs_of_a_stolen_key_are_forgotten_and_those_of_good_keys_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (good, stolen) = (key(), key());
        let mut memory = open(&folder);
        memory.take_snapshot(7, vouch(good, 100)).unwrap();
        memory.take_snapshot(1_000_000, vouch(stolen, 200)).unwrap();
        let early: Revocations = [(stolen, Timestamp(201))].into_iter().collect();
        assert_eq!(memory.forget(&early, Timestamp(200)).0, Forgotten::default(), "signed before it was stolen");
        let (forgotten, stored) = memory.forget(&[(stolen, Timestamp(150))].into_iter().collect(), Timestamp(250));
        stored.unwrap();
        assert_eq!(forgotten, Forgotten { epochs: true, content: true });
        assert_eq!((memory.floor(), open(&folder).floor()), (7, 7));
    }

    #[test]
    fn a_delta_of_another_key_adds_to_those_who_vouch() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (key(), key());
        let mut memory = open(&folder);
        memory.take_snapshot(7, vouch(old, 100)).unwrap();
        memory.take_delta(new).unwrap();
        for key in [old, new] {
            let revoked: Revocations = [(key, Timestamp(150))].into_iter().collect();
            let (forgotten, _) = Memory { file: folder.path().join("other.json"), kept: memory.kept.clone() }
                .forget(&revoked, Timestamp(160));
            assert_eq!(forgotten, Forgotten { epochs: false, content: true });
        }
        assert_eq!(open(&folder).kept, memory.kept);
    }

    #[test]
    fn a_damaged_memory_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pool.json");
        std::fs::write(&file, "{").unwrap();
        assert!(Memory::open(&file, &deployment(), None).is_err());
    }

    #[test]
    fn the_epoch_of_an_older_versions_file_counts_until_a_key_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pool.json");
        let nodes = key();
        let mut memory = Memory::open(&file, &deployment(), Some(50)).unwrap();
        memory.take_snapshot(51, vouch(nodes, 100)).unwrap();
        assert_eq!(memory.floor(), 51);
        memory.forget(&[(nodes, Timestamp(1))].into_iter().collect(), Timestamp(100)).1.unwrap();
        assert_eq!(memory.floor(), 0);
    }
}
