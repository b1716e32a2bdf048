//! Revoking a key: writing into its trust files.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;

use super::files;
use super::keys::KeyId;
use super::trust_file::{self, TrustFile};
use super::trust_store::{TrustStoreError, TrustedKey, list};

/// Why a key was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
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

/// Marks the key as revoked since `since` in every trust file of `dir` that speaks of it, and gives their paths. An
/// earlier revocation stays. Each file is replaced as a whole, so that a verifier never reads half of one.
///
/// # Errors
/// [`RevokeError`] when no readable file speaks of the key or one cannot be replaced.
pub fn revoke_key(dir: &Path, key_id: &KeyId, since: Timestamp) -> Result<Vec<PathBuf>, RevokeError> {
    let mut changed = Vec::new();
    for path in list(dir)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // A file with faults trusts nobody already.
        let Ok(key) = trust_file::read(&path) else { continue };
        if key.key_id == *key_id {
            replace(&path, key, since).map_err(|source| RevokeError::Io { path: path.clone(), source })?;
            changed.push(path);
        }
    }
    if changed.is_empty() {
        return Err(RevokeError::Unknown { dir: dir.to_owned(), key_id: *key_id });
    }
    Ok(changed)
}

fn replace(path: &Path, key: TrustedKey, since: Timestamp) -> io::Result<()> {
    let TrustedKey { key_id, sender, roles, public_key, revoked_since, comment } = key;
    let revoked_since = Some(revoked_since.map_or(since, |earlier| earlier.min(since)));
    let text = TrustFile { key_id, sender, roles, public_key, revoked_since, comment }.to_text()?;
    let dir = path.parent().unwrap_or(Path::new("."));
    // Hidden, so that a store that reads the directory now passes it over.
    let new = dir.join(format!(".{}.{}", key_id, uuid::Uuid::new_v4().simple()));
    let placed = files::create_new(&new, 0o644, text.as_bytes()).and_then(|()| std::fs::rename(&new, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    placed.and_then(|()| files::sync_dir(dir))
}
