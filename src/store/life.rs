//! Which processes of this machine still live, so that nobody waits for the lease of a dead one.
//!
//! Each process that wants a role holds the lock of a file of its own for as long as it lives; the kernel lets go of it with the process, however that
//! ends. Whoever can lock the file of another knows that it is no more. A process that is only paused keeps its lock, and of a process on
//! another machine, or before the last boot, nothing can be known here: for those the lease is waited for. To be wrong would be a pity but
//! not dangerous: whoever has lost its lease can store nothing, and is not believed by those who have heard a higher epoch.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file holds the id of one boot of one machine.
const MOST_READ: u64 = 128;

/// This process, as others of this machine see it.
#[derive(Debug)]
pub struct Life {
    folder: PathBuf,
    boot_id: String,
    holder: String,
    id: String,
    /// Held locked.
    _file: File,
    /// Who had died before this one began.
    dead: BTreeSet<String>,
}

impl Life {
    /// Begins one for a process that is called `server` on the bus, with its file in `folder`, which is made if need be and only that.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn begin(folder: &Path, server: &str) -> io::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Self::begin_in(folder, server, boot_id)
    }

    fn begin_in(folder: &Path, server: &str, boot_id: String) -> io::Result<Self> {
        if let Err(error) = std::fs::create_dir(folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut file = OpenOptions::new().write(true).create_new(true).open(path(folder, &id))?;
        // Before it says whose it is, nobody judges by it.
        file.try_lock()?;
        file.write_all(boot_id.as_bytes())?;
        let (folder, holder, dead) = (folder.to_owned(), holder(server, &id), BTreeSet::new());
        let mut life = Self { folder, boot_id, holder, id, _file: file, dead };
        life.tidy()?;
        Ok(life)
    }

    /// How the process calls itself where it holds a lease.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether it is certain that `holder` was a process of this machine and is no more.
    #[must_use]
    pub fn is_dead(&self, holder: &str) -> bool {
        let id = holder.rsplit(':').next().unwrap_or_default();
        id != self.id && (self.dead.contains(id) || self.is_over(id))
    }

    fn is_over(&self, id: &str) -> bool {
        // What stands in a database is not taken for the name of a file.
        let is_name = uuid::Uuid::try_parse(id).is_ok();
        // A lock that was taken elsewhere may mean nothing here.
        is_name && unlocked(&path(&self.folder, id)).is_some_and(|boot_id| boot_id == self.boot_id)
    }

    /// Takes note of the dead and removes their files, which would only become more.
    fn tidy(&mut self) -> io::Result<()> {
        for path in std::fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path()) {
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let Some(boot_id) = unlocked(&path).filter(|_| id != self.id) else { continue };
            // It is being made where it does not say yet whose it is.
            if !boot_id.is_empty() {
                let _ = std::fs::remove_file(&path);
            }
            if boot_id == self.boot_id {
                self.dead.insert(id.to_owned());
            }
        }
        Ok(())
    }
}

impl Drop for Life {
    /// An orderly end leaves nothing behind.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(path(&self.folder, &self.id));
    }
}

/// A name that no other process has: two on one host, or two lives of one, are not the same.
#[must_use]
pub fn holder(server: &str, id: &str) -> String {
    format!("{server}:{}:{id}", std::process::id())
}

/// What a file says that nobody holds.
fn unlocked(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return None,
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "the lock of another process cannot be asked for");
            return None;
        }
    }
    let mut text = String::new();
    file.take(MOST_READ).read_to_string(&mut text).ok()?;
    Some(text)
}

fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.life"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn killed(life: Life) -> String {
        let (path, holder, boot_id) = (path(&life.folder, &life.id), life.holder.clone(), life.boot_id.clone());
        drop(life);
        // The kernel lets go of the lock and leaves the file.
        std::fs::write(path, boot_id).unwrap();
        holder
    }

    #[test]
    fn only_who_certainly_died_on_this_machine_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let lives = folder.path().join("lives");
        let own = Life::begin(&lives, "controller-1").unwrap();
        let other = Life::begin(&lives, "controller-1").unwrap();
        assert!(!own.is_dead(other.holder()) && !other.is_dead(own.holder()), "both live");
        assert!(!own.is_dead(own.holder()));
        let elsewhere = killed(Life::begin_in(&lives, "controller-2", "another boot".to_owned()).unwrap());
        assert!(!own.is_dead(&elsewhere), "of another kernel nothing is known");
        let other = killed(other);
        assert!(own.is_dead(&other));
        for unknown in [
            "",
            "controller-1:7:0123abcd",
            "x:1:../../etc/passwd",
            &holder("x", &uuid::Uuid::new_v4().simple().to_string()),
        ] {
            assert!(!own.is_dead(unknown), "{unknown}");
        }
    }

    #[test]
    fn the_dead_are_remembered_and_their_files_do_not_become_more() {
        let folder = tempfile::tempdir().unwrap();
        let live = Life::begin(folder.path(), "a").unwrap();
        killed(Life::begin_in(folder.path(), "a", "another boot".to_owned()).unwrap());
        let dead = killed(Life::begin(folder.path(), "a").unwrap());
        let next = Life::begin(folder.path(), "a").unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut expected = [&live.id, &next.id].map(|id| path(folder.path(), id));
        expected.sort();
        assert_eq!(left, expected);
        assert!(next.is_dead(&dead) && !next.is_dead(live.holder()));
        drop(next);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "an orderly end leaves nothing behind");
    }
}
