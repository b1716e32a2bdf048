//! `spicectl node import`: a file of nodes.
//!
//! A line is a name and labels between commas. Names hold neither commas nor quotes, so no CSV reader is needed; labels that
//! do are refused rather than guessed at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::output::{OutputArgs, field};
use crate::cli::progress::Progress;
use crate::cli::values;
use crate::names::NodeName;

/// Nodes sent at once.
const CHUNK: usize = 1000;
/// Longest file read.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Faults told at once.
const MOST_FAULTS: usize = 10;

/// A node as `node_import` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeLine {
    name: NodeName,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

/// Reads the whole text of a file, `-` being standard input.
///
/// # Errors
/// Why it cannot be read.
pub fn read_text(path: &Path) -> Result<String, CliError> {
    let cannot = |error: std::io::Error| CliError::local(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    let from: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(cannot)?),
    };
    from.take(MAX_FILE + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_FILE {
        return Err(CliError::local(format!("{} is larger than {} MiB; split it", path.display(), MAX_FILE >> 20)));
    }
    Ok(text)
}

/// Reads and validates a file of nodes.
///
/// # Errors
/// Every fault in it with its line, up to ten.
pub fn read(path: &Path) -> Result<Vec<NodeLine>, CliError> {
    parse(&read_text(path)?).map_err(|faults| {
        let more = faults.len().saturating_sub(MOST_FAULTS);
        let mut told: Vec<String> = faults
            .into_iter()
            .take(MOST_FAULTS)
            .map(|(line, fault)| format!("{}:{line}: {fault}", path.display()))
            .collect();
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        CliError::local(told.join("\n")).hint("nothing was registered; a line is NAME or NAME,KEY=VALUE,...")
    })
}

fn parse(text: &str) -> Result<Vec<NodeLine>, Vec<(usize, String)>> {
    let (mut nodes, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    // What spreadsheets put in front of UTF-8.
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        match parse_line(line) {
            Ok(node) if !seen.insert(node.name.clone()) => {
                faults.push((number, format!("{} stands here twice", node.name)))
            }
            Ok(node) => nodes.push(node),
            Err(fault) => faults.push((number, fault)),
        }
    }
    if faults.is_empty() { Ok(nodes) } else { Err(faults) }
}

fn parse_line(line: &str) -> Result<NodeLine, String> {
    if line.contains('"') {
        return Err("quotes are not understood here; a value holds neither quotes nor commas".to_owned());
    }
    let mut cells = line.split(',').map(str::trim);
    let name = NodeName::new(cells.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut labels = BTreeMap::new();
    for cell in cells.filter(|cell| !cell.is_empty()) {
        let (key, value) = values::label(cell)?;
        if labels.insert(key.clone(), value).is_some() {
            return Err(format!("label {key} stands here twice"));
        }
    }
    let identity = labels.remove("identity");
    Ok(NodeLine { name, labels, identity })
}

/// Registers nodes, a part at a time.
///
/// # Errors
/// What the service says; parts before the one it refused are registered.
pub async fn carry_out(session: &Session, output: &OutputArgs, nodes: &[NodeLine]) -> Result<Exit, CliError> {
    let (mut registered, mut known) = (0, 0);
    let mut progress = Progress::new("nodes");
    for (index, chunk) in nodes.chunks(CHUNK).enumerate() {
        let answer = session.nodes("node_import", json!({ "nodes": chunk })).await.map_err(|error| {
            let told = format!("after {registered} nodes were registered: {error}");
            CliError { message: told, ..error }
        })?;
        let count = |name: &str| answer.get(name).and_then(Value::as_u64).ok_or_else(|| unexpected(name));
        registered += count("registered")?;
        known += count("known")?;
        if nodes.len() > CHUNK {
            progress.at((index * CHUNK + chunk.len()) as u64, nodes.len() as u64, "");
        }
    }
    drop(progress);
    let answer = json!({ "registered": registered, "known": known });
    output.object(&answer, &[field("registered"), field("known")])?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn names_labels_and_identities_are_read_and_comments_passed_over() {
        let nodes = parse("\u{feff}# nodes\r\nn1,rack=r1, row=a=b,\r\n\nn2,identity=SN-1\n").unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].labels["row"], "a=b");
        assert_eq!(nodes[1].identity.as_deref(), Some("SN-1"));
        assert!(nodes[1].labels.is_empty());
        assert_eq!(json!(nodes[0]), json!({"name": "n1", "labels": {"rack": "r1", "row": "a=b"}}));
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let faults = parse("n1\nn1\n-x\nn2,rack\nn3,rack=\"a,b\"\nn4,a=1,a=2\n").unwrap_err();
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    }
}
