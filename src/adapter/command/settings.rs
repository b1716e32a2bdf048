//! Section `[command]`: where plugins are, and as whom they run.

use std::path::PathBuf;

/// How programs are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of manifests and programs: owned by root, writable by nobody else, and so is every directory above it.
    pub plugin_dir: PathBuf,
    /// The user plugins run as; not root and not the service's own. A user that nothing else runs as is best: processes of one
    /// user share its limit of processes, and can stop and trace each other.
    pub user: String,
    /// Programs run at once, over all batches; 1 to 256.
    pub concurrency: usize,
    /// Files with secrets (keys, configuration with passwords): no plugin is run while its user can open one of them.
    pub secret_files: Vec<PathBuf>,
    /// The program that answers to `exec-plugin`; `None` is the running program itself.
    pub launcher: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            plugin_dir: PathBuf::from("/etc/spice/plugins"),
            user: "nobody".to_owned(),
            concurrency: 8,
            secret_files: Vec::new(),
            launcher: None,
        }
    }
}
