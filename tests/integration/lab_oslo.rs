//! The oslo.messaging that tests run against, each in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use crate::lab::root;

/// Which oslo.messaging a peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oslo {
    /// The newest.
    Newest,
    /// 14.0, as Debian 12 ships it.
    Debian12,
}

impl Oslo {
    /// Every one that the tests run against.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Debian12];

    /// The environment it is installed in, made on first use.
    fn venv(self) -> &'static Path {
        static NEWEST: OnceLock<PathBuf> = OnceLock::new();
        static DEBIAN12: OnceLock<PathBuf> = OnceLock::new();
        let (made, name): (_, &[&str]) = match self {
            Self::Newest => (&NEWEST, &[]),
            Self::Debian12 => (&DEBIAN12, &["oslo14"]),
        };
        made.get_or_init(|| {
            let made = std::process::Command::new(root().join("tools/venv"))
                .args(name)
                .stderr(Stdio::inherit())
                .output()
                .expect("tools/venv");
            assert!(made.status.success(), "tools/venv failed");
            PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim())
        })
    }

    /// Its interpreter.
    pub(crate) async fn python(self) -> PathBuf {
        tokio::task::spawn_blocking(move || self.venv()).await.expect("the Python environment").join("bin/python")
    }
}

/// The interpreter with everything the tests need.
pub async fn python() -> PathBuf {
    Oslo::Newest.python().await
}
