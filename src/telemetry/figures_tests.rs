//! The table of figures against the code, the README and the alert rules. `SPICE_WRITE_SAMPLE=1 cargo test --lib figures` writes the README's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;

const BEGIN: &str = "<!-- figures: written by the tests from src/telemetry/figures.rs -->\n";
const END: &str = "<!-- end of figures -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Every figure that the code counts, with its macro and its labels.
fn counted() -> BTreeMap<String, (Kind, BTreeSet<String>)> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut counted: BTreeMap<String, (Kind, BTreeSet<String>)> = BTreeMap::new();
    for text in files.iter().map(|file| std::fs::read_to_string(file).unwrap()) {
        for (word, kind) in [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Gauge)] {
            for (at, _) in text.match_indices(&format!("metrics::{word}")) {
                let call = text[at + "metrics::".len() + word.len()..].trim_start();
                // The macro's arguments: up to the call on what it gives.
                let call = &call[..call.find(")\n").into_iter().chain(call.find(").")).min().unwrap()];
                let Some(name) = call.strip_prefix('"') else { continue };
                let (name, labels) = name.split_once('"').unwrap();
                let labels: BTreeSet<String> =
                    labels.split("=>").filter_map(|part| Some(part.rsplit('"').nth(1)?.to_owned())).collect();
                // A value may be a literal, too.
                let keys = labels.into_iter().filter(|label| call.contains(&format!("\"{label}\" =>"))).collect();
                counted.insert(name.to_owned(), (kind, keys));
            }
        }
    }
    counted
}

#[test]
fn what_is_counted_is_described_and_nothing_else() {
    let described: BTreeMap<String, (Kind, BTreeSet<String>)> = FIGURES
        .iter()
        .map(|figure| {
            let labels = figure.labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
            (figure.name.to_owned(), (figure.kind, labels))
        })
        .collect();
    assert_eq!(described.len(), FIGURES.len(), "a figure is described twice");
    let counted = counted();
    assert!(counted.len() > 50, "the code is not understood: {counted:?}");
    for (name, what) in &counted {
        assert_eq!(
            described.get(name),
            Some(what),
            "{name} is counted, and not described so in src/telemetry/figures.rs"
        );
    }
    for name in described.keys() {
        assert!(counted.contains_key(name), "{name} is described in src/telemetry/figures.rs and nowhere counted");
    }
}

#[test]
fn names_say_what_they_are_and_no_label_can_grow_without_end() {
    const LABELS: [&str; 14] = [
        "adapter",
        "check",
        "lane",
        "level",
        "loop",
        "outcome",
        "plugin",
        "pool",
        "queue",
        "reason",
        "role",
        "status",
        "topic",
        "transport",
    ];
    assert!(FIGURES.is_sorted_by_key(|figure| figure.name), "the table is sorted by name");
    for figure in FIGURES {
        assert_eq!(figure.name.ends_with("_total"), figure.kind == Kind::Counter, "{}", figure.name);
        for label in figure.labels.split(", ").filter(|label| !label.is_empty()) {
            assert!(LABELS.contains(&label) || ["to", "what"].contains(&label), "{}: {label}", figure.name);
        }
        assert!(figure.help.ends_with('.'), "{}", figure.name);
    }
}

fn table() -> String {
    let mut table = "| figure | labels | what |\n|---|---|---|\n".to_owned();
    for figure in FIGURES {
        table += &format!("| `{}` | {} | {} |\n", figure.name, figure.labels, figure.help);
    }
    table
}

#[test]
fn the_table_in_the_readme_is_this_one() {
    let file = root().join("README.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the README has the mark before the table");
    let (found, after) = rest.split_once(END).expect("the README has the mark after the table");
    if std::env::var_os("SPICE_WRITE_SAMPLE").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "write it with SPICE_WRITE_SAMPLE=1 cargo test --lib figures");
}

#[test]
fn every_figure_an_alert_looks_at_is_counted_and_every_alert_is_explained() {
    let rules = std::fs::read_to_string(root().join("etc/prometheus/spice.rules.yml")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut looked_at = BTreeSet::new();
    for line in rules.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for word in line.split(|c: char| !is_of_a_name(c)).filter(|word| word.starts_with("spice_")) {
            assert!(FIGURES.iter().any(|figure| figure.name == word), "the alert rules look at {word}");
            looked_at.insert(word);
        }
    }
    assert!(looked_at.len() > 15, "{looked_at:?}");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in &alerts {
        assert!(readme.contains(&format!("| `{alert}` |")), "the README's part \"On call\" says nothing of {alert}");
    }
    assert_eq!(rules.matches("runbook:").count(), alerts.len(), "every alert has a line that says what to do");
}

#[test]
fn the_texts_are_shown_with_the_figures() {
    // The recorder of a process can be installed once.
    let handle = install().unwrap();
    assert!(install().is_err());
    metrics::gauge!("spice_checks_late").set(3.0);
    let text = handle.render();
    assert!(text.contains("# HELP spice_checks_late Results that are awaited"), "{text}");
    assert!(text.contains("# TYPE spice_checks_late gauge"), "{text}");
}
