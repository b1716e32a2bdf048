//! What the service and its launcher (`spiced exec-plugin`) say to each other: one JSON line each way over a socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line either side reads, in bytes.
pub(super) const MAX_LINE: u64 = 32 << 20;
/// Largest program, in bytes.
pub(super) const MAX_PROGRAM: u64 = 64 << 20;

/// One program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// Its real path.
    pub(super) program: PathBuf,
    /// What its bytes must hash to.
    pub(super) sha256: String,
    pub(super) argv: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// Whole standard input; `None` is /dev/null.
    pub(super) stdin: Option<String>,
    pub(super) timeout_ms: u64,
    pub(super) confinement: Confinement,
}

/// What the process gives up before it becomes the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Confinement {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) memory_bytes: u64,
    pub(super) cpu_s: u64,
    pub(super) processes: u64,
    pub(super) files: u64,
    pub(super) file_bytes: u64,
    /// The program is not run while its user can open one of these.
    pub(super) secret_files: Vec<PathBuf>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// Killed when its time was up.
    TimedOut,
    /// Killed because the service no longer wants it.
    Stopped,
    /// It was never started; why.
    Refused(String),
}

/// What the launcher reports when nothing of the program runs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) end: End,
    /// Processes the program left behind, which were killed.
    pub(super) left_behind: u32,
    /// True where some of them could not be killed.
    pub(super) stragglers: bool,
}
