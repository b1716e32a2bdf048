//! Files only root can have put there.
//!
//! A file is trusted when root owns it and nobody else may write to it, and the same holds for every directory on the way
//! to it; a directory with the sticky bit may be writable (`/tmp`), because there only an entry's owner, root, can replace it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Checks `dir` and every directory above it; the path must be absolute and free of symbolic links.
///
/// # Errors
/// A sentence that says what to change.
pub(super) fn check_directory(dir: &Path) -> Result<(), String> {
    let resolved = resolve(dir)?;
    if resolved != dir {
        return Err(format!(
            "{} is reached through a symbolic link: use its real path, {}",
            dir.display(),
            resolved.display()
        ));
    }
    let metadata = metadata(dir)?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a directory", dir.display()));
    }
    check_owner(dir, &metadata)?;
    check_parents(dir)
}

/// The real path of `path`.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", path.display()));
    }
    std::fs::canonicalize(path).map_err(|error| format!("{} cannot be found: {error}", path.display()))
}

/// Every directory above `path`, which is already resolved.
///
/// # Errors
/// A sentence that says what to change.
pub(super) fn check_parents(path: &Path) -> Result<(), String> {
    for parent in path.ancestors().skip(1) {
        let metadata = metadata(parent)?;
        if metadata.mode() & STICKY != 0 && metadata.uid() == 0 {
            continue;
        }
        check_owner(parent, &metadata)?;
    }
    Ok(())
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    std::fs::symlink_metadata(path).map_err(|error| format!("{} cannot be looked at: {error}", path.display()))
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), String> {
    if metadata.uid() != 0 {
        return Err(format!("{} is owned by uid {}, not by root: chown root it", path.display(), metadata.uid()));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(format!("{} is writable by group or others (mode {mode:o}): chmod go-w it", path.display()));
    }
    Ok(())
}

/// Opens a regular file without following a link at its end, checks its owner and mode on the opened file, and reads it
/// whole, up to `max` bytes.
///
/// # Errors
/// A sentence that says what to change.
pub(super) fn read_trusted(path: &Path, max: u64) -> Result<(Vec<u8>, Metadata), String> {
    let told = |what: &dyn std::fmt::Display| format!("{} cannot be read: {what}", path.display());
    // Non-blocking, so that a pipe put there cannot hold the opening.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|error| {
        if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
            format!("{} is a symbolic link: put the file itself there", path.display())
        } else {
            told(&error)
        }
    })?;
    let metadata = file.metadata().map_err(|error| told(&error))?;
    if !metadata.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    check_owner(path, &metadata)?;
    if metadata.len() > max {
        return Err(format!("{} has {} bytes, at most {max} are allowed", path.display(), metadata.len()));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| told(&error))?;
    if bytes.len() as u64 > max {
        return Err(format!("{} has more than {max} bytes", path.display()));
    }
    Ok((bytes, metadata))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn writable_linked_and_foreign_places_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        let dir = root.join("plugins");
        fs::create_dir(&dir).unwrap();
        mode(&root, 0o755);
        mode(&dir, 0o755);
        let file = dir.join("f");
        fs::write(&file, "x").unwrap();
        mode(&file, 0o644);
        check_directory(&dir).unwrap();
        read_trusted(&file, 10).unwrap();

        mode(&dir, 0o775);
        assert!(check_directory(&dir).unwrap_err().contains("chmod go-w"));
        mode(&dir, 0o755);
        mode(&root, 0o757);
        assert!(check_directory(&dir).unwrap_err().contains("writable"));
        mode(&root, 0o755);
        symlink(&dir, root.join("link")).unwrap();
        assert!(check_directory(&root.join("link")).unwrap_err().contains("symbolic link"));

        symlink(&file, dir.join("l")).unwrap();
        assert!(read_trusted(&dir.join("l"), 10).unwrap_err().contains("symbolic link"));
        mode(&file, 0o646);
        assert!(read_trusted(&file, 10).unwrap_err().contains("writable"));
        mode(&file, 0o644);
        assert!(read_trusted(&file, 0).unwrap_err().contains("bytes"));
        assert!(read_trusted(&dir, 10).unwrap_err().contains("regular"));
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_trusted(&dir.join("pipe"), 10).unwrap_err().contains("regular"));
        nix::unistd::chown(&file, Some(65534.into()), None).unwrap();
        assert!(read_trusted(&file, 10).unwrap_err().contains("owned by uid 65534"));
    }
}
