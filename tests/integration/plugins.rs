//! A plugin directory of root's in a temporary place, and a runner over it. These tests need root, as the service does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use spice::adapter::command::{self, Settings};
use spice::adapter::runner::{Limits, Runner};
use spice::protocol::NodeResult;
use tokio::time::Instant;

use crate::oat::{nodes, request};

/// A plugin directory.
pub struct Plugins {
    dir: tempfile::TempDir,
    pub settings: Settings,
}

impl Plugins {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: plugins run as another user");
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o755);
        let settings = Settings {
            plugin_dir: dir.path().canonicalize().unwrap(),
            launcher: Some(PathBuf::from(env!("CARGO_BIN_EXE_spiced"))),
            ..Settings::default()
        };
        Self { dir, settings }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a script and its manifest, `changes` laid over the usual.
    pub fn script(&self, name: &str, text: &str, changes: Value) {
        let path = self.path(&format!("{name}.sh"));
        std::fs::write(&path, text).unwrap();
        chmod(&path, 0o755);
        self.manifest(name, &path, changes);
    }

    /// Writes a manifest for a program that is there.
    pub fn manifest(&self, name: &str, program: &Path, changes: Value) {
        let relative = program.strip_prefix(self.dir.path()).unwrap_or(program);
        let mut manifest = json!({
            "name": name, "program": relative, "sha256": sha256(program), "style": "nagios", "timeout_s": 20,
            "exit_codes": {"1": "error"}, "argv": []
        });
        for (member, value) in changes.as_object().unwrap() {
            manifest[member] = value.clone();
        }
        let path = self.path(&format!("{name}.json"));
        std::fs::write(&path, manifest.to_string()).unwrap();
        chmod(&path, 0o644);
    }

    pub fn runner(&self) -> Runner {
        Runner::new(command::build(self.settings.clone()).unwrap(), Limits::default()).unwrap()
    }

    /// Runs `plugin` for node-1 with 30 s.
    pub async fn run(&self, plugin: &str, arguments: Value) -> NodeResult {
        self.run_for(plugin, arguments, 30.0).await
    }

    pub async fn run_for(&self, plugin: &str, arguments: Value, seconds: f64) -> NodeResult {
        let parameters = json!({"plugin": plugin, "arguments": arguments});
        self.runner().run(request(&nodes(1), parameters, seconds)).await.remove(0)
    }
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn sha256(path: &Path) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(path).unwrap()))
}

/// A number of seconds nobody else sleeps, to find the sleeper by.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("3{:05}.{}", std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How many living processes have `marker` in their command line.
pub fn living(marker: &str) -> usize {
    processes()
        .filter(|dir| {
            let state = std::fs::read_to_string(dir.join("stat")).unwrap_or_default();
            let dead = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
            let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
            !dead && String::from_utf8_lossy(&command).contains(marker)
        })
        .count()
}

/// How many processes run as `uid`.
pub fn processes_of(uid: u32) -> usize {
    let wanted = format!("Uid:\t{uid}\t");
    processes().filter(|dir| std::fs::read_to_string(dir.join("status")).is_ok_and(|s| s.contains(&wanted))).count()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let list = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    list.filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
}

/// Waits until `holds`, for things that have no event to wait for; fails after ten seconds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs `plugin` in a task of its own.
pub fn spawn(plugins: &Plugins, plugin: &str) -> tokio::task::JoinHandle<Vec<NodeResult>> {
    let runner = Arc::new(plugins.runner());
    let request = request(&nodes(1), json!({"plugin": plugin}), 60.0);
    tokio::spawn(async move { runner.run(request).await })
}
