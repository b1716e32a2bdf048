//! The keys this verifier trusts: a directory of one JSON file per key, placed by the administrator.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;

use super::error::AuthError;
use super::files;
use super::keys::{KeyId, PublicKey};
use super::roles::RoleSet;
use super::trust_file;

/// Most files a trust directory may hold: an agent key for each of 100,000 nodes and as much again.
const MAX_FILES: usize = 200_000;

/// A key the administrator trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Its id.
    pub key_id: KeyId,
    /// Who signs with it.
    pub sender: String,
    /// What it may do.
    pub roles: RoleSet,
    /// The key itself.
    pub public_key: PublicKey,
    /// What it signed at this time or later does not count.
    pub revoked_since: Option<Timestamp>,
    /// What it signs before this time does not count: a key that takes over later.
    pub not_before: Option<Timestamp>,
    /// What it signs after this time does not count: a key whose successor is in place.
    pub not_after: Option<Timestamp>,
    /// The administrator's note.
    pub comment: Option<String>,
}

impl TrustedKey {
    /// Whether a signature made at `signed_at` counts.
    #[must_use]
    pub fn is_valid_at(&self, signed_at: Timestamp) -> bool {
        self.revoked_since.is_none_or(|since| signed_at < since)
            && self.not_before.is_none_or(|begins| begins <= signed_at)
            && self.not_after.is_none_or(|ends| signed_at <= ends)
    }

    /// Whether what the key signed counts, by the time the signature states and by `received`, when it came to us. The
    /// stated time alone would let whoever stole a revoked key sign on with yesterday's date.
    ///
    /// # Errors
    /// [`AuthError::Revoked`], [`AuthError::OutOfTime`].
    pub fn check_valid(&self, signed_at: Timestamp, received: Timestamp) -> Result<(), AuthError> {
        let key_id = self.key_id;
        for at in [signed_at, received] {
            match self.revoked_since {
                Some(since) if at >= since => return Err(AuthError::Revoked { key_id, since }),
                _ if !self.is_valid_at(at) => {
                    return Err(AuthError::OutOfTime { key_id, at, begins: self.not_before, ends: self.not_after });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Two files about one key: only what both allow, so that a forgotten copy cannot undo a revocation.
    fn merge(&mut self, other: &Self) {
        self.roles = self.roles.intersection(&other.roles);
        self.revoked_since = match (self.revoked_since, other.revoked_since) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.not_before = self.not_before.max(other.not_before);
        self.not_after = match (self.not_after, other.not_after) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
}

/// What is wrong with one file of the directory. What it says is not believed; all other files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFault {
    /// Which file.
    pub path: PathBuf,
    /// Everything that is wrong with it.
    pub faults: Vec<String>,
}

impl fmt::Display for TrustFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trust file {}: {}", self.path.display(), self.faults.join("; "))
    }
}

/// Why the directory as a whole cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trust directory {path}: {reason}")]
pub struct TrustStoreError {
    /// Which directory.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// The keys of a trust directory at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustStore {
    keys: HashMap<KeyId, TrustedKey>,
    /// Which file spoke of which key: should it be damaged later, what it said before stays.
    sources: HashMap<PathBuf, KeyId>,
    faults: Vec<TrustFault>,
}

impl TrustStore {
    /// Reads every `*.json` file of `dir`. Hidden files are passed over; a file with faults, or of another name, is
    /// reported in [`Self::faults`] and takes away no other key.
    ///
    /// # Errors
    /// [`TrustStoreError`] when the directory cannot be read, may be changed by group or others, or holds too many files.
    pub fn load(dir: &Path) -> Result<Self, TrustStoreError> {
        Self::load_after(dir, &Self::default())
    }

    /// [`Self::load`], keeping what `before` said for a file that was good then and has faults now: half a file, or one
    /// that others may write to, neither trusts more nor silences a service. A file that is gone takes its key along.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_after(dir: &Path, before: &Self) -> Result<Self, TrustStoreError> {
        let mut store = Self::default();
        for path in list(dir)? {
            if path.extension().is_none_or(|extension| extension != "json") {
                store.fault(path, vec!["its name does not end in .json; rename it or move it away".into()]);
                continue;
            }
            match trust_file::read(&path) {
                Ok(key) => store.insert(path, key),
                Err(mut faults) => {
                    let kept = before.sources.get(&path).and_then(|key_id| before.keys.get(key_id)).cloned();
                    if let Some(key) = kept {
                        faults.push(format!("what it said before of key {} stays in force", key.key_id));
                        store.insert(path.clone(), key);
                    }
                    store.fault(path, faults);
                }
            }
        }
        Ok(store)
    }

    /// A store of these keys, for tests and tools.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = TrustedKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.key_id, key)).collect(), ..Self::default() }
    }

    fn insert(&mut self, path: PathBuf, key: TrustedKey) {
        self.sources.insert(path.clone(), key.key_id);
        match self.keys.entry(key.key_id) {
            Entry::Vacant(place) => {
                place.insert(key);
            }
            Entry::Occupied(mut place) => {
                place.get_mut().merge(&key);
                let fault = format!(
                    "key {} stands in another file too; only what both allow holds: remove one of them",
                    key.key_id
                );
                self.fault(path, vec![fault]);
            }
        }
    }

    fn fault(&mut self, path: PathBuf, faults: Vec<String>) {
        self.faults.push(TrustFault { path, faults });
    }

    /// The key with this id, if it is trusted with anything.
    #[must_use]
    pub fn lookup(&self, key_id: &KeyId) -> Option<&TrustedKey> {
        self.keys.get(key_id)
    }

    /// The keys that are revoked, and since when.
    pub fn revoked(&self) -> impl Iterator<Item = (&TrustedKey, Timestamp)> {
        self.keys.values().filter_map(|key| Some((key, key.revoked_since?)))
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.values()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every fault found when the directory was read.
    #[must_use]
    pub fn faults(&self) -> &[TrustFault] {
        &self.faults
    }
}

/// The files of the directory that count, sorted by name.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, TrustStoreError> {
    let fault = |reason: String| TrustStoreError { path: dir.to_owned(), reason };
    let told = |error: std::io::Error| fault(error.to_string());
    let metadata = std::fs::metadata(dir).map_err(told)?;
    if !metadata.is_dir() {
        return Err(fault("it is not a directory".into()));
    }
    files::judge_unchangeable(&metadata).map_err(fault)?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(told)? {
        let entry = entry.map_err(told)?;
        // Editors' and Kubernetes' own entries start with a dot.
        if entry.file_name().as_encoded_bytes().first() == Some(&b'.') {
            continue;
        }
        if paths.len() == MAX_FILES {
            return Err(fault(format!("it holds more than {MAX_FILES} files; move the others away")));
        }
        paths.push(entry.path());
    }
    paths.sort();
    Ok(paths)
}
