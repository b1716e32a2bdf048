//! `spicectl export`: what is registered, as a file for `apply`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::definitions::{decided, pool_as_given};
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::node_list::NodeList;
use crate::cli::output::{json_text, print, yaml_text};

/// Questions under way at once.
pub const AT_ONCE: usize = 16;

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spicectl export -f cloud.yaml
  spicectl export | less")]
pub struct ExportCommand {
    /// Write to this file instead of standard output; .json gets JSON
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// In which form [default: by the file's name, else yaml]
    #[arg(long, value_enum)]
    format: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Yaml,
    Json,
}

impl ExportCommand {
    /// Writes the file.
    ///
    /// # Errors
    /// What the service says, or why the file cannot be written.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        with_session(connection, async |session| {
            let all = everything(session).await?;
            let is_json = self.file.as_ref().is_some_and(|file| file.extension().is_some_and(|end| end == "json"));
            let text = match self.format {
                Some(Form::Json) => json_text(&all),
                None if is_json => json_text(&all),
                _ => yaml_text(&all)?,
            };
            match &self.file {
                Some(file) => write(file, &text)?,
                None => print(&text)?,
            }
            Ok(Exit::Done)
        })
        .await
    }
}

/// A file that was there stays as it was until the new one is complete.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let cannot = |error: std::io::Error| CliError::local(format!("{} cannot be written: {error}", file.display()));
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file));
    written.inspect_err(|_| drop(std::fs::remove_file(&beside))).map_err(cannot)
}

/// All definitions, as `apply` reads them.
async fn everything(session: &Session) -> Result<Value, CliError> {
    let profiles = session.checks("profile_list", json!({})).await?;
    let profiles: Vec<Value> =
        rows(&profiles)?.iter().map(|profile| without(profile, &["used_by", "next_runs"])).collect();
    let pools = session.checks("pool_policies", json!({})).await?;
    let pools: Vec<Value> = rows(&pools)?.iter().map(pool_as_given).collect();
    let listed = NodeList::default().all(session).await?;
    let names = listed.iter().filter_map(|node| node.get("name").cloned());
    let nodes = shown(session, names.collect()).await?;
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let members = ["name", "identity", "labels", "aggregates", "zone"];
            let known = members.iter().filter_map(|name| Some(((*name).to_owned(), node.get(*name)?.clone())));
            // Where Nova has it is left out unless somebody said so.
            let said = known.filter(|(name, value)| name == "labels" || !(value.is_null() || *value == json!([])));
            Value::Object(said.collect())
        })
        .collect();
    let checks: Vec<Value> = checks(session).await?.iter().map(check_entry).collect();
    let windows = session.checks("window_list", json!({})).await?;
    let windows: Vec<Value> = rows(&windows)?.iter().filter(|window| !is_over(window)).map(window_entry).collect();
    Ok(json!({ "profiles": profiles, "pools": pools, "nodes": nodes, "checks": checks, "windows": windows }))
}

/// The elements of a list the service answered with.
///
/// # Errors
/// It is no list.
pub fn rows(value: &Value) -> Result<&Vec<Value>, CliError> {
    value.as_array().ok_or_else(|| unexpected("list"))
}

/// Every check in full.
///
/// # Errors
/// What the service says.
pub async fn checks(session: &Session) -> Result<Vec<Value>, CliError> {
    let listed = session.checks("check_list", json!({})).await?;
    let names: Vec<Value> = rows(&listed)?.iter().filter_map(|check| check.get("name").cloned()).collect();
    let show = |name: Value| async move { session.checks("check_show", json!({ "name": name })).await };
    stream::iter(names).map(show).buffered(AT_ONCE).try_collect().await
}

/// These nodes in full.
///
/// # Errors
/// What the service says.
pub async fn shown(session: &Session, names: Vec<Value>) -> Result<Vec<Value>, CliError> {
    let show = |name: Value| async move { session.nodes("node_show", json!({ "name": name })).await };
    stream::iter(names).map(show).buffered(AT_ONCE).try_collect().await
}

fn without(value: &Value, names: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}

fn is_over(window: &Value) -> bool {
    window.get("state").and_then(Value::as_str) == Some("over")
}

fn window_entry(window: &Value) -> Value {
    let mut entry = without(window, &["state", "open_until", "opens_next", "changed_at"]);
    if let Some(members) = entry.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    entry
}

fn check_entry(check: &Value) -> Value {
    let mut members = decided(check);
    members.retain(|_, value| !value.is_null());
    members.insert("name".to_owned(), check.get("name").cloned().unwrap_or_default());
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::checks::definition::Check;
    use crate::cli::definitions::Definitions;
    use crate::clock::Timestamp;

    #[test]
    fn what_is_exported_is_read_as_the_same_check() {
        let new = json!({
            "name": "boot", "adapter": "command", "schedule": {"cron": "15 2 * * *", "zone": "Europe/Berlin"},
            "parameters": {"text": "- 1: \u{1b}", "n": 3}, "pools": {"default": "advisory"}, "ttl_s": 90_000,
            "targets": {"patterns": ["c-*"]}, "enabled": false,
        });
        let check = Check::from_new(serde_json::from_value(new).unwrap(), "id".to_owned(), Timestamp(1));
        let entry = check_entry(&json!(check));
        for text in
            [json_text(&json!({ "checks": [entry] })), serde_saphyr::to_string(&json!({ "checks": [entry] })).unwrap()]
        {
            let read = Definitions::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
            let (read, _) = &read.checks.unwrap()[0];
            assert_eq!(decided(&json!(read)), decided(&json!(check)), "{text}");
        }
    }

    #[test]
    fn what_is_exported_of_a_pool_is_what_was_given() {
        let flapping = json!({"limit": 3, "window_ms": 86_400_000, "hold_down_ms": 7_200_000});
        let pool = json!({"name": "default", "mode": "enforce", "max_silence_ms": 600_000, "accept_self_report": false, "flapping": flapping});
        let given = json!({"name": "default", "mode": "enforce", "max_silence_s": 600, "accept_self_report": false,
                           "flap_limit": 3, "flap_window_s": 86_400, "flap_hold_down_s": 7_200});
        assert_eq!(pool_as_given(&pool), given);
        let read = Definitions::parse(&json!({ "pools": [given] }).to_string()).unwrap().pools.unwrap();
        assert_eq!(
            (read[0].flap_limit, read[0].flap_window_s, read[0].flap_hold_down_s),
            (Some(3), Some(86_400), Some(7_200))
        );
    }
}
