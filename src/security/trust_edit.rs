//! What an administrator changes in a trust directory: a key is revoked, or ends because its successor is in place.
//!
//! A change is planned first, so that it can be shown without being made, and then replaces whole files: a verifier that
//! reads the directory meanwhile sees the old file or the new one. Mode and owner stay as they were.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;

use super::files;
use super::keys::KeyId;
use super::trust_file::{self, TrustFile};
use super::trust_store::{TrustFault, TrustStoreError, TrustedKey, list};

/// Why a trust directory was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] TrustStoreError),
    /// No file speaks of the key.
    #[error("no trust file in {dir} speaks of key {key_id}; a key that has no trust file is trusted by nobody")]
    Unknown {
        /// The directory.
        dir: PathBuf,
        /// The key.
        key_id: KeyId,
    },
    /// A file could not be replaced.
    #[error("{path}: {source}; check that you may write to the trust directory")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One file as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which file.
    pub path: PathBuf,
    /// What it will say.
    pub key: TrustedKey,
}

/// What will be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The files about the key.
    pub edits: Vec<Edit>,
    /// Files that could not be read: a running service goes on with what they said before, so they must be looked at.
    pub unread: Vec<TrustFault>,
}

/// Plans that what `key_id` signed from `since` on does not count. An earlier revocation stays.
///
/// # Errors
/// [`EditError`] when the directory cannot be read or no readable file speaks of the key.
pub fn plan_revocation(dir: &Path, key_id: &KeyId, since: Timestamp) -> Result<Plan, EditError> {
    plan(dir, key_id, |key| key.revoked_since = Some(key.revoked_since.map_or(since, |earlier| earlier.min(since))))
}

/// Plans that what `key_id` signs after `ends` does not count. An earlier end stays.
///
/// # Errors
/// As [`plan_revocation`].
pub fn plan_end(dir: &Path, key_id: &KeyId, ends: Timestamp) -> Result<Plan, EditError> {
    plan(dir, key_id, |key| key.not_after = Some(key.not_after.map_or(ends, |earlier| earlier.min(ends))))
}

fn plan(dir: &Path, key_id: &KeyId, change: impl Fn(&mut TrustedKey)) -> Result<Plan, EditError> {
    let mut plan = Plan { edits: Vec::new(), unread: Vec::new() };
    for path in list(dir)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match trust_file::read(&path) {
            Ok(mut key) if key.key_id == *key_id => {
                change(&mut key);
                plan.edits.push(Edit { path, key });
            }
            Ok(_) => {}
            Err(faults) => plan.unread.push(TrustFault { path, faults }),
        }
    }
    if plan.edits.is_empty() {
        return Err(EditError::Unknown { dir: dir.to_owned(), key_id: *key_id });
    }
    Ok(plan)
}

impl Plan {
    /// Makes the changes.
    ///
    /// # Errors
    /// [`EditError::Io`] naming the first file that could not be replaced; those before it are changed.
    pub fn carry_out(&self) -> Result<(), EditError> {
        for Edit { path, key } in &self.edits {
            replace(path, key.clone()).map_err(|source| EditError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }
}

fn replace(path: &Path, key: TrustedKey) -> io::Result<()> {
    let text = TrustFile::from(key).to_text()?;
    let old = std::fs::metadata(path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    // Hidden, so that a store that reads the directory now passes it over.
    let new = dir.join(format!(".spice-trust.{}", uuid::Uuid::new_v4().simple()));
    let placed = files::create_new(&new, old.mode() & 0o777, text.as_bytes())
        .and_then(|()| keep_owner(&new, &old))
        .and_then(|()| std::fs::rename(&new, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    placed.and_then(|()| files::sync_dir(dir))
}

fn keep_owner(new: &Path, old: &Metadata) -> io::Result<()> {
    let file = std::fs::File::open(new)?;
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(&file, Some(old.uid()), Some(old.gid()))
}
