//! The sample configuration, written from the table of options.

use super::options::{OptionSpec, Role};
use super::table::OPTIONS;

const HEAD: &str = "\
# Configuration of SPICE: spiced (all roles) and spicectl.
#
# Options that must be set are not commented out; everything else shows its default.
# An option is written name = value. $name stands for the value of another option, $$ for a dollar.
# Check a changed file with: spicectl config check --config-file FILE
";

/// The text of `etc/spice/spice.conf.sample`.
#[must_use]
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for spec in OPTIONS {
        if spec.section != section {
            section = spec.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&entry(spec));
    }
    text
}

fn entry(spec: &OptionSpec) -> String {
    let mut lines = String::from("\n");
    for line in wrapped(spec.help, 110) {
        lines.push_str(&format!("# {line}\n"));
    }
    let mut notes = vec![spec.allowed()];
    if !spec.used_by.is_empty() {
        notes.push(format!(
            "read by {}",
            spec.used_by.iter().map(|role| Role::as_str(*role)).collect::<Vec<_>>().join(", ")
        ));
    }
    if spec.required {
        notes.push("must be set".to_owned());
    }
    lines.push_str(&format!("# ({})\n", notes.join("; ")));
    let mark = if spec.required { "" } else { "#" };
    if let Some(example) = spec.example.filter(|_| !spec.required) {
        lines.push_str(&format!("# For example: {example}\n"));
    }
    let value = if spec.required { spec.example.unwrap_or_default() } else { spec.default };
    let gap = if value.is_empty() { "" } else { " " };
    lines.push_str(&format!("{mark}{} ={gap}{value}\n", spec.name));
    lines
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
