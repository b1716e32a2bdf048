//! `--dry-run` and `--confirm`: what a change of what pools require would do, and an administrator's word for it.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::Session;
use crate::cli::error::CliError;
use crate::cli::output::{Field, OutputArgs, field, member, print, word};

/// Most nodes named in a line for people; JSON has all that the service names.
const MOST_NAMED: usize = 10;

/// How to go about a change of what pools require.
#[derive(Debug, Clone, Default, Args)]
pub struct Consent {
    /// Do what was shown under this id, although it loosens what a pool requires
    #[arg(long, value_name = "ID", conflicts_with = "dry_run")]
    confirm: Option<String>,
    /// Only show whose trust it would change now, judged by the results there are
    #[arg(long)]
    dry_run: bool,
}

const FIELDS: &[Field] =
    &[field("loosens"), field("nodes"), field("raised"), field("lowered"), field("confirm"), field("confirm_until")];

impl Consent {
    /// Calls a method of Checks; nothing where it was only to be shown what would happen, which is done then.
    ///
    /// # Errors
    /// What the service says.
    pub async fn call(
        &self,
        session: &Session,
        output: &OutputArgs,
        method: &str,
        mut args: Value,
    ) -> Result<Option<Value>, CliError> {
        args["confirm"] = json!(self.confirm);
        if self.dry_run {
            args["dry_run"] = json!(true);
        }
        let answer = session.checks(method, args).await?;
        if !self.dry_run {
            return Ok(Some(answer));
        }
        if output.is_table() && output.column.is_empty() {
            print(&told(&answer))?;
        } else {
            output.object(&answer, FIELDS)?;
        }
        Ok(None)
    }
}

/// A preview in sentences.
pub fn told(preview: &Value) -> String {
    let list = |name: &str| preview.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = String::new();
    for change in list("raised") {
        text.push_str(&format!("would raise {}\n", level_change(&change)));
    }
    for change in list("lowered") {
        text.push_str(&format!("would lower {}\n", level_change(&change)));
    }
    if text.is_empty() {
        text.push_str("would change nobody's level now\n");
    }
    text.push_str(&format!("judged: {} nodes; nothing was changed\n", member(preview, "nodes")));
    for loosened in list("loosens") {
        text.push_str(&format!("loosens: {}\n", word(&loosened)));
    }
    if preview.get("confirm").is_some_and(|id| !id.is_null()) {
        let id = member(preview, "confirm");
        let until = preview.get("confirm_until").filter(|until| !until.is_null());
        let until = until.map(|until| format!(", until {}", word(until))).unwrap_or_default();
        text.push_str(&format!("an administrator confirms exactly this with --confirm {id}{until}\n"));
    }
    text
}

fn level_change(change: &Value) -> String {
    let named = change.get("nodes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = named.iter().take(MOST_NAMED).map(word).collect();
    let count = change.get("count").and_then(Value::as_u64).unwrap_or(0);
    if count > names.len() as u64 {
        names.push("...".to_owned());
    }
    format!(
        "{count} from {} to {} in pool {}: {}",
        member(change, "from"),
        member(change, "to"),
        member(change, "pool"),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_reads_as_sentences_with_what_to_type() {
        let nodes: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        let text = told(&json!({
            "loosens": ["pool default no longer requires check a"], "nodes": 40,
            "raised": [{"pool": "default", "from": "unknown", "to": "trusted", "count": 12, "nodes": nodes}],
            "lowered": [], "confirm": "abc", "confirm_until": "T",
        }));
        assert!(text.starts_with("would raise 12 from unknown to trusted in pool default: n0, n1,"), "{text}");
        assert!(text.contains("n9, ...\n") && text.contains("--confirm abc, until T"), "{text}");
        let nothing = json!({"loosens": [], "nodes": 1, "raised": [], "lowered": [], "confirm": null});
        assert_eq!(told(&nothing), "would change nobody's level now\njudged: 1 nodes; nothing was changed\n");
    }
}
