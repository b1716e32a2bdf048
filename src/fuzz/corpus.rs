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

/// The bodies of captured messages: every text that is a member `body`, wherever in a fixture.
pub(crate) fn bodies(fixture: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open: Vec<serde_json::Value> = vec![serde_json::from_str(fixture).unwrap()];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Array(items) => open.extend(items),
            serde_json::Value::Object(members) => {
                open.extend(members.into_iter().filter_map(|(name, value)| match value {
                    serde_json::Value::String(body) if name == "body" => {
                        found.push(body.into_bytes());
                        None
                    }
                    other => Some(other),
                }))
            }
            _ => {}
        }
    }
    assert!(!found.is_empty());
    found
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
