//! A key follows another: first the new one is made and its trust file handed round, then it takes the old one's place. In
//! between, and for a while after, both are believed, so nothing anybody says is refused.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Timestamp;

use super::bootstrap::{BootstrapError, CreatedKey};
use super::files;
use super::keys::{KeyError, SigningKey};
use super::trust_edit::{EditError, Plan, plan_end};
use super::trust_file::TrustFile;
use super::trust_store::{TrustStore, TrustStoreError, TrustedKey};

/// Why a key was not rotated. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A private key cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The trust directory cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustStoreError),
    /// A trust file cannot be changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A file is in the way, or cannot be written.
    #[error(transparent)]
    Make(#[from] BootstrapError),
    /// The trust directory does not speak of a key.
    #[error("{dir} has no trust file for the key in {key_file}; {hint}")]
    NotTrusted {
        /// The trust directory.
        dir: PathBuf,
        /// The private key.
        key_file: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The new key is not there.
    #[error("there is no {0}; make the new key first: spicectl key rotate")]
    NotBegun(PathBuf),
}

/// The private key and the trust directory of a machine.
#[derive(Debug, Clone)]
pub struct Rotation {
    name: String,
    keys: PathBuf,
    trust: PathBuf,
}

/// What the second step will do.
#[derive(Debug)]
pub struct Switch {
    /// The key that takes over.
    pub new: TrustedKey,
    /// The trust files of the old one, with their end.
    pub ends: Plan,
    next: PathBuf,
    current: PathBuf,
}

impl Rotation {
    /// Of the key in `<keys>/<name>.pem`, which the trust directory `trust` knows.
    #[must_use]
    pub fn of(keys: &Path, trust: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), keys: keys.to_owned(), trust: trust.to_owned() }
    }

    fn current(&self) -> PathBuf {
        self.keys.join(format!("{}.pem", self.name))
    }

    fn next(&self) -> PathBuf {
        self.keys.join(format!("{}.next.pem", self.name))
    }

    /// The keys the new one follows: the one in use, or, where its private half is lost, all that trust files name so.
    fn followed(&self, store: &TrustStore) -> Result<Vec<TrustedKey>, RotationError> {
        let current = self.current();
        let known: Vec<TrustedKey> = if current.symlink_metadata().is_ok() {
            let key_id = SigningKey::load(&current)?.key_id();
            store.lookup(&key_id).cloned().into_iter().collect()
        } else {
            let next = SigningKey::load(&self.next()).map(|next| next.key_id()).ok();
            store.keys().filter(|key| key.sender == self.name && Some(key.key_id) != next).cloned().collect()
        };
        Ok(known)
    }

    /// The first step: a new key with the sender and the roles of the old one, beside it. The old one stays in use.
    ///
    /// # Errors
    /// [`RotationError`], in particular when a rotation is under way.
    pub fn begin(&self) -> Result<CreatedKey, RotationError> {
        let store = TrustStore::load(&self.trust)?;
        let followed = self.followed(&store)?;
        let Some(first) = followed.first() else {
            let hint = "place it there, or make a key with spicectl key create";
            return Err(RotationError::NotTrusted { dir: self.trust.clone(), key_file: self.current(), hint });
        };
        // Where several are followed, what all of them may do.
        let sender = first.sender.clone();
        let roles = followed.iter().fold(first.roles.clone(), |roles, key| roles.intersection(&key.roles));
        let ids: Vec<String> = followed.iter().map(|key| key.key_id.to_string()).collect();
        let key_file = self.next();
        if key_file.symlink_metadata().is_ok() {
            return Err(BootstrapError::Exists(key_file).into());
        }
        let key = SigningKey::generate()?;
        let key_id = key.key_id();
        let short: String = key_id.to_string().chars().take(8).collect();
        let trust_file = self.trust.join(format!("{}-{short}.json", self.name));
        let new = TrustFile {
            key_id,
            sender: sender.clone(),
            roles: roles.clone(),
            public_key: *key.public_key(),
            revoked_since: None,
            not_before: None,
            not_after: None,
            comment: Some(format!("follows key {}", ids.join(", "))),
        };
        let io_at = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| RotationError::Make(BootstrapError::Io { path, source })
        };
        let text = new.to_text().map_err(|error| io_at(&trust_file)(error.into()))?;
        key.save(&key_file)?;
        files::create_new(&trust_file, 0o644, text.as_bytes()).map_err(|source| {
            // A key nobody can trust is of no use, and in the way of the next attempt.
            let _ = std::fs::remove_file(&key_file);
            io_at(&trust_file)(source)
        })?;
        for path in [&self.keys, &self.trust] {
            files::sync_dir(path).map_err(io_at(path))?;
        }
        Ok(CreatedKey { name: sender, key_id, roles, key_file, trust_file })
    }

    /// Plans the second step: the new key takes the old one's place, and the old one ends `overlap` after `now`.
    ///
    /// # Errors
    /// [`RotationError`], in particular when the first step was not taken.
    pub fn plan_switch(&self, overlap: Duration, now: Timestamp) -> Result<Switch, RotationError> {
        let (current, next) = (self.current(), self.next());
        if next.symlink_metadata().is_err() {
            return Err(RotationError::NotBegun(next));
        }
        let store = TrustStore::load(&self.trust)?;
        let new =
            store.lookup(&SigningKey::load(&next)?.key_id()).cloned().ok_or_else(|| RotationError::NotTrusted {
                dir: self.trust.clone(),
                key_file: next.clone(),
                hint: "place the file that spicectl key rotate made there",
            })?;
        let mut ends = Plan { edits: Vec::new(), unread: Vec::new() };
        for old in self.followed(&store)? {
            let plan = plan_end(&self.trust, &old.key_id, now.plus(overlap))?;
            ends.edits.extend(plan.edits);
            ends.unread = plan.unread;
        }
        Ok(Switch { new, ends, next, current })
    }
}

impl Switch {
    /// Takes it. The old private key is gone then.
    ///
    /// # Errors
    /// [`RotationError`]; the old key is in use until the private keys are exchanged, which is the last thing done.
    pub fn carry_out(&self) -> Result<(), RotationError> {
        self.ends.carry_out()?;
        let folder = self.current.parent().unwrap_or(Path::new("."));
        let exchanged = std::fs::rename(&self.next, &self.current).and_then(|()| files::sync_dir(folder));
        exchanged.map_err(|source| BootstrapError::Io { path: self.current.clone(), source }.into())
    }
}
