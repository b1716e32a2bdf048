//! The bytes that are hashed are the bytes that are executed: read once from a trusted file into a sealed memory file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::digest;
use rustix::fs::{MemfdFlags, SealFlags};

use super::job::MAX_PROGRAM;
use super::trusted_path;

/// Reads the program at `path` (links already followed) and compares it with what its manifest pins.
///
/// # Errors
/// A sentence that says what to do.
pub(super) fn read_admitted(path: &Path, sha256: &str) -> Result<Vec<u8>, String> {
    trusted_path::check_parents(path)?;
    let (bytes, metadata) = trusted_path::read_trusted(path, MAX_PROGRAM)?;
    if metadata.mode() & 0o111 == 0 {
        return Err(format!("{} is not executable: chmod +x it", path.display()));
    }
    let found = hex::encode(digest::digest(&digest::SHA256, &bytes));
    if found != sha256 {
        return Err(format!(
            "{} has changed since it was admitted (its SHA-256 is {found}): look at it, then put that digest into its manifest",
            path.display()
        ));
    }
    if !bytes.starts_with(b"\x7fELF") && !is_script(&bytes) {
        return Err(format!("{} is neither an ELF program nor a script that begins with #!", path.display()));
    }
    Ok(bytes)
}

/// Whether the kernel hands the file to an interpreter, which then opens it again.
pub(super) fn is_script(bytes: &[u8]) -> bool {
    bytes.starts_with(b"#!")
}

/// A memory file that holds `bytes` and can no longer change; anyone may read and execute it.
///
/// # Errors
/// A sentence.
pub(super) fn sealed(name: &str, bytes: &[u8]) -> Result<File, String> {
    let told = |error: &dyn std::fmt::Display| format!("no memory file for {name}: {error}");
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    // Kernels before 6.3 do not know EXEC; later ones may demand it.
    let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .map_err(|error| told(&error))?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(|error| told(&error))?;
    file.set_permissions(std::fs::Permissions::from_mode(0o555)).map_err(|error| told(&error))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)
        .map_err(|error| told(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    #[test]
    fn a_sealed_file_holds_the_bytes_and_cannot_change() {
        let mut file = sealed("x", b"#!/bin/true\n").unwrap();
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
        let mut reopened = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        let mut text = String::new();
        reopened.read_to_string(&mut text).unwrap();
        assert_eq!(text, "#!/bin/true\n");
    }
}
