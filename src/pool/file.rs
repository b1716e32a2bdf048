//! The pool file and `pool.alive`, format 1, as `plugins/nova/POOLFILE.md` describes them; the reader is the Nova filter.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::clock::Timestamp;
use crate::names::{DeploymentId, NodeName, PoolName};
use crate::protocol::{Level, MemberState, Mode, PoolState};
use crate::security::keys::sha256;

/// The format written.
const FORMAT: u32 = 1;
/// The expiry of a node that is not trusted: never reached, never used.
const NO_EXPIRY: &str = "7fffffffffffffff";

/// Both clocks at one moment, and which boot of this machine they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Time of day.
    pub utc: Timestamp,
    /// `CLOCK_BOOTTIME`.
    pub boottime: Duration,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Moment {
    /// Now, on this machine.
    ///
    /// # Errors
    /// When the boot id cannot be read.
    pub fn now(utc: Timestamp) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(boottime) = crate::sim::boottime() {
            return Ok(Self { utc, boottime, boot_id: "simulated".to_owned() });
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let boottime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(boottime.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(boottime.tv_nsec).unwrap_or(0);
        Ok(Self { utc, boottime: Duration::new(seconds, nanos), boot_id })
    }

    /// The moment as the pool file states it: expiries are Nodes' times, so a clock of this machine that is behind Nodes' does not make them
    /// later. Nothing earlier is remembered: a clock that was ahead for a while must not be believed for ever.
    #[must_use]
    pub fn not_behind(self, nodes_time: Option<Timestamp>) -> Self {
        Self { utc: self.utc.max(nodes_time.unwrap_or(self.utc)), ..self }
    }

    /// Whether it states a later time of day than `now` does, by more than `tolerance`: it was stated by a clock that has been set since.
    #[must_use]
    pub fn is_ahead_of(&self, now: &Moment, tolerance: Duration) -> bool {
        self.boot_id == now.boot_id
            && self.utc.plus(now.boottime.saturating_sub(self.boottime)) > now.utc.plus(tolerance)
    }
}

/// The folder with both files.
#[derive(Debug)]
pub struct PoolFolder {
    folder: PathBuf,
    deployment: DeploymentId,
    /// What was written last.
    text: Vec<u8>,
}

impl PoolFolder {
    /// The folder, made (0755) where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path, deployment: DeploymentId) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        Ok(Self { folder: folder.to_owned(), deployment, text: Vec::new() })
    }

    /// The epoch of the file left by an earlier life of this cache, and when it was written, if there is one that can be
    /// read.
    #[must_use]
    pub fn last_epoch(&self) -> Option<(i64, Timestamp)> {
        let mut text = String::new();
        // Line 1 has at most 256 bytes, line 2 at most 1 MiB.
        File::open(self.folder.join("pool")).ok()?.take(1024 * 1024 + 256).read_to_string(&mut text).ok()?;
        let header: serde_json::Value = serde_json::from_str(text.lines().nth(1)?).ok()?;
        let same_cloud = header.get("deployment")?.as_str()? == self.deployment.as_str();
        let written_at = Timestamp(header.get("written_at_ms")?.as_i64()?);
        Some((header.get("epoch")?.as_i64()?, written_at)).filter(|_| same_cloud)
    }

    /// Takes the pool file away; readers then take no node as trusted.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove_pool(&self) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join("pool")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Replaces `pool`.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays.
    pub fn write_pool(
        &mut self,
        version: (i64, i64),
        pools: &BTreeMap<PoolName, PoolState>,
        at: &Moment,
    ) -> io::Result<()> {
        pool_text(&mut self.text, &self.deployment, version, pools, at);
        self.replace("pool", &self.text)
    }

    /// Replaces `pool.alive`.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays.
    pub fn write_alive(&self, version: (i64, i64), heard: &Moment) -> io::Result<()> {
        let line = json!({
            "deployment": self.deployment,
            "epoch": version.0,
            "version": version.1,
            "heard_at_ms": heard.utc,
            "boottime_ms": millis(heard.boottime),
            "boot_id": heard.boot_id,
        });
        self.replace("pool.alive", format!("{line}\n").as_bytes())
    }

    fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let seal = json!({ "format": FORMAT, "length": text.len(), "sha256": hex::encode(sha256(text)) });
        let temporary = self.folder.join(format!(".{name}.new"));
        // Left over by a crash; never read by anybody.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.write_all(format!("{seal}\n").as_bytes())?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.folder.join(name))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Everything after the seal, into `text`, whose room is used again: of a large cloud it is megabytes, every few seconds.
fn pool_text(
    text: &mut Vec<u8>,
    deployment: &DeploymentId,
    version: (i64, i64),
    pools: &BTreeMap<PoolName, PoolState>,
    at: &Moment,
) {
    let mut nodes: Vec<&NodeName> = pools.values().flat_map(|pool| pool.members.keys()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let listed: Vec<_> = pools
        .iter()
        .map(|(name, pool)| json!({ "name": name, "mode": mode(pool.mode), "max_silence_ms": pool.max_silence_ms }))
        .collect();
    let header = json!({
        "deployment": deployment,
        "epoch": version.0,
        "version": version.1,
        "written_at_ms": at.utc,
        "boottime_ms": millis(at.boottime),
        "boot_id": at.boot_id,
        "nodes": nodes.len(),
        "pools": listed,
    });
    text.clear();
    text.extend_from_slice(format!("{header}\n").as_bytes());
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(node.as_str().as_bytes());
    }
    text.push(b'\n');
    for pool in pools.values() {
        let levels = text.len();
        text.resize(levels + nodes.len(), b'-');
        text.push(b'\n');
        for (index, node) in nodes.iter().enumerate() {
            let member = pool.members.get(*node);
            if let Some(MemberState { level, overridden, .. }) = member {
                text[levels + index] = match (level, overridden) {
                    (Level::Trusted, false) => b't',
                    (Level::Trusted, true) => b'o',
                    (Level::Untrusted, _) => b'u',
                    _ => b'-',
                };
            }
            match member.filter(|member| member.level == Level::Trusted) {
                Some(member) => text.extend_from_slice(&hexadecimal(member.expires_at.0.max(0))),
                None => text.extend_from_slice(NO_EXPIRY.as_bytes()),
            }
        }
        text.push(b'\n');
    }
}

/// Sixteen digits.
fn hexadecimal(number: i64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    // Always as long as needed.
    let _ = hex::encode_to_slice(number.to_be_bytes(), &mut digits);
    digits
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Soft => "soft",
        Mode::Observe => "observe",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn moment(utc: i64, boottime: u64) -> Moment {
        Moment { utc: Timestamp(utc), boottime: Duration::from_millis(boottime), boot_id: "b".to_owned() }
    }

    #[test]
    fn the_text_is_what_the_format_says() {
        let member = |level, expires, overridden| MemberState { level, expires_at: Timestamp(expires), overridden };
        let members = BTreeMap::from([
            (NodeName::new("n1").unwrap(), member(Level::Trusted, 0x1000, false)),
            (NodeName::new("n2").unwrap(), member(Level::Untrusted, 0, false)),
            (NodeName::new("n3").unwrap(), member(Level::Trusted, 0x2000, true)),
            (NodeName::new("n4").unwrap(), member(Level::Unknown, 0, false)),
        ]);
        let pool = PoolState { mode: Mode::Enforce, max_silence_ms: 600_000, members };
        let pools = BTreeMap::from([(PoolName::new("default").unwrap(), pool)]);
        let mut text = b"what was written last".to_vec();
        pool_text(&mut text, &DeploymentId::new("cloud-1").unwrap(), (7, 8), &pools, &moment(5000, 100));
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains(r#""epoch":7"#) && lines[0].contains(r#""nodes":4"#), "{}", lines[0]);
        assert_eq!(lines[1], "n1 n2 n3 n4");
        assert_eq!(lines[2], "tuo-");
        assert_eq!(lines[3], "00000000000010007fffffffffffffff00000000000020007fffffffffffffff");
    }

    #[test]
    fn a_clock_behind_nodes_makes_no_expiry_later_and_one_ahead_is_taken_as_it_is() {
        assert_eq!(moment(50_000, 2000).not_behind(Some(Timestamp(101_000))).utc, Timestamp(101_000));
        assert_eq!(moment(150_000, 2000).not_behind(Some(Timestamp(101_000))).utc, Timestamp(150_000));
        assert_eq!(moment(50_000, 2000).not_behind(None).utc, Timestamp(50_000));
    }

    #[test]
    fn a_moment_stated_by_a_clock_that_was_ahead_is_recognised() {
        let second = Duration::from_secs(1);
        let ahead = moment(590_000, 1000);
        assert!(ahead.is_ahead_of(&moment(110_000, 11_000), second));
        assert!(!ahead.is_ahead_of(&moment(600_000, 11_000), second), "as much has passed as it should");
        assert!(!ahead.is_ahead_of(&moment(599_000, 11_000), second), "within what clocks differ by");
        assert!(!ahead.is_ahead_of(&moment(700_000, 11_000), second), "a clock that was behind");
        let rebooted = Moment { boot_id: "c".to_owned(), ..moment(50_000, 10) };
        assert!(!ahead.is_ahead_of(&rebooted, second), "readers refuse what is of another boot");
    }

    #[test]
    fn a_file_is_replaced_whole_and_its_epoch_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let deployment = DeploymentId::new("cloud-1").unwrap();
        let mut files = PoolFolder::open(&folder.path().join("spice"), deployment.clone()).unwrap();
        assert_eq!(files.last_epoch(), None);
        files.write_pool((7, 1), &BTreeMap::new(), &moment(1, 1)).unwrap();
        files.write_pool((9, 2), &BTreeMap::new(), &moment(1, 1)).unwrap();
        files.write_alive((9, 2), &moment(1, 1)).unwrap();
        assert_eq!(files.last_epoch(), Some((9, Timestamp(1))));
        let other = PoolFolder::open(&folder.path().join("spice"), DeploymentId::new("cloud-2").unwrap()).unwrap();
        assert_eq!(other.last_epoch(), None, "a file of another cloud says nothing");
        files.remove_pool().unwrap();
        files.remove_pool().unwrap();
        assert_eq!(files.last_epoch(), None);
    }
}
