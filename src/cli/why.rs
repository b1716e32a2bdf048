//! `spicectl node why`: the answer in sentences.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, member, print, safe, word};
use crate::cli::values;
use crate::clock::Timestamp;
use crate::names::NodeName;

/// `node why`.
#[derive(Debug, Args)]
pub struct Why {
    /// Its name
    name: NodeName,
    /// At this time: 2026-11-22T02:30:00+01:00, or "2026-11-22 02:30" in UTC [default: now]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    at: Option<Timestamp>,
}

const FIELDS: &[Field] = &[field("name"), field("at"), field("registered"), field("pools"), field("record")];

impl Why {
    /// Asks, and explains.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(&self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        let answer = session.nodes("node_why", json!({ "name": self.name, "at": self.at })).await?;
        if output.is_table() && output.column.is_empty() {
            print(&explained(&answer, self.at.is_some()))?;
        } else {
            output.object(&answer, FIELDS)?;
        }
        Ok(Exit::Done)
    }
}

fn explained(answer: &Value, past: bool) -> String {
    let name = member(answer, "name");
    let mut text = String::new();
    let is = if past { "was" } else { "is" };
    if answer.get("registered").and_then(Value::as_bool) == Some(false) {
        let is = if past {
            format!("was not registered at {}", member(answer, "at"))
        } else {
            "is not registered (any more)".to_owned()
        };
        text.push_str(&format!("Node {name} {is}; this is what the record holds of it.\n"));
    }
    match answer.get("pools").and_then(Value::as_object).filter(|pools| !pools.is_empty()) {
        None if past => {
            text.push_str(&format!(
                "At {} the record held no level of node {name}: it was unknown.\n",
                member(answer, "at")
            ));
        }
        None => text.push_str(&format!("Node {name} has no level in any pool yet: it is unknown.\n")),
        Some(pools) => {
            let when = if past { format!("At {} node", member(answer, "at")) } else { "Node".to_owned() };
            for (pool, level) in pools {
                text.push_str(&format!("{when} {name} {is} {}", level_in(pool, level, past)));
            }
        }
    }
    let record = answer.get("record").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if record.is_empty() {
        text.push_str("The record holds nothing of it.\n");
        return text;
    }
    text.push_str("\nWhat the record says, the latest first:\n");
    for entry in record {
        text.push_str(&format!("  {}  {}\n", member(entry, "at"), event(entry)));
    }
    text
}

/// A level in a pool: what, since when, because of what, and what would change it.
fn level_in(pool: &str, level: &Value, past: bool) -> String {
    let text = |name: &str| level.get(name).filter(|value| !value.is_null()).map(word).filter(|text| !text.is_empty());
    let mut told = member(level, "trust").to_uppercase();
    for (flag, note) in [("overridden", " (OVERRIDDEN)"), ("self_reported", " (by its own word)")] {
        if level.get(flag).and_then(Value::as_bool) == Some(true) {
            told.push_str(note);
        }
    }
    told.push_str(&format!(" in pool {}", safe(pool)));
    if let Some(since) = text("since") {
        told.push_str(&format!(" since {since}"));
    }
    told.push_str(&format!(": {}.\n", text("reason").unwrap_or_else(|| "no reason is recorded".to_owned())));
    if let Some(cause) = text("cause") {
        told.push_str(&format!("  Decided by {cause}"));
        let result = level.get("result").filter(|result| !result.is_null());
        if let Some(result) = result {
            told.push_str(&format!(
                " (attempt {}, reported by {})",
                member(result, "attempt"),
                member(result, "sender")
            ));
        }
        if let Some(policy) = text("policy") {
            told.push_str(&format!(", under policy {policy}"));
        }
        told.push_str(
            &text("entry").map(|entry| format!("; entry {entry} of the record.\n")).unwrap_or(".\n".to_owned()),
        );
    }
    if past && let Some(until) = text("until") {
        told.push_str(&format!(
            "  As it was then, that held until {until}; passes made later move that on without an entry.\n"
        ));
    }
    if let Some(outlook) = text("outlook") {
        let as_of_then = if past { "What would have changed it" } else { "What would change it" };
        told.push_str(&format!("  {as_of_then}: {outlook}.\n"));
    }
    told
}

/// `default: unknown -> trusted: reason` as a sentence; what is written otherwise is shown as it is.
fn event(entry: &Value) -> String {
    let (what, cause) = (member(entry, "what"), member(entry, "cause"));
    let change = what.split_once(": ").and_then(|(pool, rest)| {
        let (levels, reason) = rest.split_once(": ").unwrap_or((rest, ""));
        let (from, to) = levels.split_once(" -> ")?;
        let reason = if reason.is_empty() { String::new() } else { format!(", because: {reason}") };
        Some(format!("went from {from} to {to} in pool {pool}{reason}"))
    });
    let told = change.unwrap_or(what);
    if cause.is_empty() { told } else { format!("{told} (caused by: {cause})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_is_made_of_sentences() {
        let answer = json!({
            "name": "n1", "at": "T1", "registered": true,
            "pools": {"default": {
                "trust": "untrusted", "reason": "check boot failed: PCR 7 differs", "since": "T0", "cause": "check boot run 1-2",
                "policy": 7, "entry": 2, "result": {"attempt": 1, "sender": "oat"}, "outlook": "it takes one more pass",
            }},
            "record": [
                {"seq": 2, "at": "T0", "what": "default: trusted -> untrusted: check boot failed", "cause": "run 1-2"},
                {"seq": 1, "at": "T0", "what": "registered", "cause": "registered by admin"},
            ],
        });
        let text = explained(&answer, false);
        assert!(
            text.starts_with("Node n1 is UNTRUSTED in pool default since T0: check boot failed: PCR 7 differs.\n"),
            "{text}"
        );
        let decided =
            "  Decided by check boot run 1-2 (attempt 1, reported by oat), under policy 7; entry 2 of the record.\n";
        assert!(text.contains(decided) && text.contains("  What would change it: it takes one more pass.\n"), "{text}");
        assert!(text.contains(
            "went from trusted to untrusted in pool default, because: check boot failed (caused by: run 1-2)"
        ));
        assert!(text.contains("  T0  registered (caused by: registered by admin)\n"), "{text}");
        assert!(explained(&answer, true).starts_with("At T1 node n1 was UNTRUSTED"));
    }

    #[test]
    fn a_node_that_is_gone_or_unheard_of_is_told_so() {
        let answer = json!({"name": "n1", "at": "T", "registered": false, "pools": {}, "record": []});
        let text = explained(&answer, true);
        assert!(text.contains("not registered") && text.contains("it was unknown") && text.contains("holds nothing"));
    }
}
