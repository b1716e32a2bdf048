//! Inputs kept in the repository, and failing ones on their way there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of `target`, in the order of their names.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let Ok(folder) = std::fs::read_dir(root().join("tests/fuzz/corpus").join(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The bodies of captured messages: the member `body` of every item of a fixture.
pub(crate) fn bodies(fixture: &str) -> Vec<Vec<u8>> {
    let captured: Vec<serde_json::Value> = serde_json::from_str(fixture).unwrap();
    captured.iter().map(|message| message["body"].as_str().unwrap().as_bytes().to_vec()).collect()
}

/// Keeps an input that broke something, where git does not see it yet.
pub(crate) fn keep(target: &str, input: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = root().join(format!("target/fuzz/{target}/{:016x}", hasher.finish()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, input).unwrap();
    path.display().to_string()
}
