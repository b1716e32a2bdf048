//! Reading and making the files that trust rests on: who owns them, who may read them, how long they may be.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Reads a whole regular file of at most `max` bytes, after `judge` accepted the metadata of the opened file (not of the
/// name, which could point elsewhere a moment later).
pub(super) fn read_judged(
    path: &Path,
    max: u64,
    judge: impl FnOnce(&Metadata) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| error.to_string();
    // Non-blocking, so that a pipe put in the file's place cannot hold up the process.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    judge(&metadata)?;
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content).map_err(told)?;
    if content.len() as u64 > max {
        return Err(format!("it is larger than {max} bytes"));
    }
    Ok(content)
}

/// A secret: nobody but its owner may read or write it.
pub(super) fn judge_private(metadata: &Metadata) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("group or others have access to it (mode {mode:04o}); run: chmod 600"));
    }
    judge_owner(metadata)
}

/// Something decisions rest on: nobody but root and this process's own user may change it.
pub(super) fn judge_unchangeable(metadata: &Metadata) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(format!("group or others may write to it (mode {mode:04o}); run: chmod go-w"));
    }
    judge_owner(metadata)
}

fn judge_owner(metadata: &Metadata) -> Result<(), String> {
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(format!("it belongs to user id {owner}; it must belong to root or to user id {own}: run chown"));
    }
    Ok(())
}

/// Writes a file that must not exist yet, synced to disk.
pub(super) fn create_new(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is worse than none: the next attempt would be refused because of it.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Makes a directory, and those above it, unless it exists.
pub(super) fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
