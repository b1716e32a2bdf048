//! Making keys: all of an all-in-one process at its first start, or one at a time for `spicectl key create`.

use std::io;
use std::path::{Path, PathBuf};

use crate::names::{AdapterName, DeploymentId};
use crate::text::display_safe_to;

use super::files;
use super::keys::{KeyError, KeyId, SigningKey};
use super::roles::{Role, RoleSet};
use super::trust_file::{TrustFile, is_sender};

/// Where private keys lie, below the directory given.
pub const KEYS_DIR: &str = "keys";

/// Where trust files lie, below the directory given.
pub const TRUST_DIR: &str = "trust";

/// Why keys could not be made. Nothing that existed before is touched.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The name cannot name a sender and its files.
    #[error(
        "{0:?} cannot name a key: use 1 to 128 characters out of A-Z a-z 0-9 . _ - @, starting with a letter or digit"
    )]
    Name(String),
    /// A key without roles could do nothing.
    #[error(
        "a key needs at least one role; name one (admin, operator, reader, checks, nodes, nova, adapter:<name>, agent:<node>)"
    )]
    NoRole,
    /// There is something already.
    #[error("{0} exists already; keys are never overwritten: remove it, or choose another name or directory")]
    Exists(PathBuf),
    /// A file could not be made.
    #[error("{path}: {source}; check that the directory can be written to")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key could not be made or saved.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A key that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedKey {
    /// The sender's name.
    pub name: String,
    /// The key's id.
    pub key_id: KeyId,
    /// What its trust file allows.
    pub roles: RoleSet,
    /// The private key, mode 0600.
    pub key_file: PathBuf,
    /// The trust file, to be placed in the trust directory of every verifier.
    pub trust_file: PathBuf,
}

/// Makes one key pair: `<dir>/keys/<name>.pem` and `<dir>/trust/<name>.json`. The name is also the sender's.
///
/// # Errors
/// [`BootstrapError`] when either file exists, the name or roles are no good, or writing fails.
pub fn create_key(
    dir: &Path,
    deployment: &DeploymentId,
    name: &str,
    roles: impl IntoIterator<Item = Role>,
) -> Result<CreatedKey, BootstrapError> {
    let roles: RoleSet = roles.into_iter().collect();
    if !is_sender(name) {
        return Err(BootstrapError::Name(display_safe_to(name, 64)));
    }
    if roles.is_empty() {
        return Err(BootstrapError::NoRole);
    }
    let (keys_dir, trust_dir) = (dir.join(KEYS_DIR), dir.join(TRUST_DIR));
    files::create_dir(&keys_dir, 0o700).map_err(|source| BootstrapError::Io { path: keys_dir.clone(), source })?;
    files::create_dir(&trust_dir, 0o755).map_err(|source| BootstrapError::Io { path: trust_dir.clone(), source })?;
    let (key_file, trust_file) = (keys_dir.join(format!("{name}.pem")), trust_dir.join(format!("{name}.json")));
    for path in [&key_file, &trust_file] {
        if path.symlink_metadata().is_ok() {
            return Err(BootstrapError::Exists(path.clone()));
        }
    }
    let key = SigningKey::generate()?;
    let content = TrustFile {
        key_id: key.key_id(),
        sender: name.to_owned(),
        roles: roles.clone(),
        public_key: *key.public_key(),
        revoked_since: None,
        not_before: None,
        not_after: None,
        comment: Some(format!("made for deployment {deployment}")),
    };
    let io_at = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| BootstrapError::Io { path, source }
    };
    let text = content.to_text().map_err(|error| io_at(&trust_file)(error.into()))?;
    key.save(&key_file)?;
    files::create_new(&trust_file, 0o644, text.as_bytes()).map_err(|source| {
        // A key nobody can trust is of no use, and in the way of the next attempt.
        let _ = std::fs::remove_file(&key_file);
        io_at(&trust_file)(source)
    })?;
    for path in [&keys_dir, &trust_dir] {
        files::sync_dir(path).map_err(io_at(path))?;
    }
    Ok(CreatedKey { name: name.to_owned(), key_id: key.key_id(), roles, key_file, trust_file })
}

/// Makes the keys of an all-in-one process: `checks`, `nodes`, `nova`, `pool` (reader), `adapter-<name>` for each adapter and
/// `admin`.
///
/// # Errors
/// [`BootstrapError`]; in particular when `<dir>/keys` or `<dir>/trust` holds anything at all, because keys make themselves
/// only where there are none.
pub fn create_keys(
    dir: &Path,
    deployment: &DeploymentId,
    adapters: &[AdapterName],
) -> Result<Vec<CreatedKey>, BootstrapError> {
    for path in [dir.join(KEYS_DIR), dir.join(TRUST_DIR)] {
        match std::fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Ok(true) => return Err(BootstrapError::Exists(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BootstrapError::Io { path, source }),
        }
    }
    let fixed = [
        ("checks", Role::Checks),
        ("nodes", Role::Nodes),
        ("nova", Role::Nova),
        ("pool", Role::Reader),
        ("admin", Role::Admin),
    ];
    let mut created = Vec::new();
    for (name, role) in fixed {
        created.push(create_key(dir, deployment, name, [role])?);
    }
    for adapter in adapters {
        created.push(create_key(dir, deployment, &format!("adapter-{adapter}"), [Role::Adapter(adapter.clone())])?);
    }
    Ok(created)
}
