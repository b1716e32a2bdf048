//! `spicectl status`: both roles at once, what does not answer, and what deserves a look.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, print, safe, shown};
use crate::cli::show;
use crate::rpc::table::Topic;

/// How long a role may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spicectl status
Example: for a monitoring system; exit code 4 if a role does not answer:
  spicectl status -f json")]
pub struct StatusCommand {
    #[command(flatten)]
    output: OutputArgs,
}

const CHECKS: &[Field] = &[
    field("deployment"),
    field("epoch"),
    field("policy_number"),
    field("checks"),
    field("enabled_checks"),
    field("known_nodes"),
    field("outstanding"),
    field("overdue"),
    field("late_slots"),
    field("missed_slots"),
    field("waiting"),
    field("adapters"),
    field("dead_letters"),
];

const NODES: &[Field] = &[
    field("deployment"),
    field("epoch"),
    field("epoch_known_by_readers"),
    field("version"),
    field("nodes"),
    field("policy_number"),
    field("record_entries"),
    field("record_head"),
    shown("pools", show::pool_counts),
];

const ALL: &[Field] = &[field("checks"), field("nodes"), field("warnings")];

impl StatusCommand {
    /// Asks both roles and shows what they say.
    ///
    /// # Errors
    /// The broker is not reached.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        with_session(connection, async |session| self.ask(session).await).await
    }

    async fn ask(&self, session: &Session) -> Result<Exit, CliError> {
        let status = |topic| session.call(topic, "status", json!({}), PATIENCE);
        let (checks, nodes) = tokio::join!(status(Topic::Checks), status(Topic::Nodes));
        let warnings = warnings(&checks, &nodes);
        let exit = [&checks, &nodes].iter().filter_map(|answer| answer.as_ref().err()).map(|error| error.exit).next();
        if self.output.is_table() && self.output.column.is_empty() {
            let plain = OutputArgs::default();
            for warning in &warnings {
                print(&format!("WARNING: {}\n", safe(warning)))?;
            }
            for (role, answer, fields) in [("checks", &checks, CHECKS), ("nodes", &nodes, NODES)] {
                print(&format!("\nRole {role}:\n"))?;
                match answer {
                    Ok(answer) => plain.object(answer, fields)?,
                    Err(error) => print(&format!("DOES NOT ANSWER: {}\n", safe(&error.message)))?,
                }
            }
        } else {
            let told =
                |answer: Result<Value, CliError>| answer.unwrap_or_else(|error| json!({ "error": error.message }));
            let all = json!({ "checks": told(checks), "nodes": told(nodes), "warnings": warnings });
            self.output.object(&all, ALL)?;
        }
        Ok(exit.unwrap_or(Exit::Done))
    }
}

/// What is wrong with a role's database.
fn database_warning(role: &str, status: &Value) -> Option<String> {
    let database = status.get("database").filter(|database| database.get("up") == Some(&Value::Bool(false)))?;
    let text = |name| database.get(name).map(crate::cli::output::word).unwrap_or_default();
    Some(format!(
        "role {role} CANNOT USE ITS DATABASE ({}, for {} s): {}; nothing is stored meanwhile, work stays in its queue",
        text("reason"),
        text("for_s"),
        text("error")
    ))
}

/// What is wrong with a role's key and with its trust directory.
fn key_warnings(role: &str, status: &Value) -> Vec<String> {
    let own = status.get("key_fault").and_then(Value::as_str).map(|fault| format!("role {role}: {fault}"));
    let faults = status.pointer("/trust_store/faults").and_then(Value::as_array).into_iter().flatten();
    let faults = faults.filter_map(Value::as_str).map(|fault| format!("role {role}: {fault}"));
    own.into_iter().chain(faults).collect()
}

/// What deserves a look, the worst first.
fn warnings(checks: &Result<Value, CliError>, nodes: &Result<Value, CliError>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (role, answer) in [("checks", checks), ("nodes", nodes)] {
        match answer {
            Err(_) => warnings.push(format!("role {role} does not answer; see its log and that it runs")),
            Ok(status) if status.get("unsigned_admin").and_then(Value::as_bool) == Some(true) => warnings.push(format!(
                "role {role} carries out UNSIGNED calls (unsigned_admin = true): whoever reaches the bus is an administrator. For a lab only"
            )),
            Ok(_) => {}
        }
        warnings.extend(answer.iter().filter_map(|status| database_warning(role, status)));
        warnings.extend(answer.iter().flat_map(|status| key_warnings(role, status)));
    }
    let number = |answer: &Result<Value, CliError>, name: &str| {
        answer.as_ref().ok().and_then(|status| status.get(name)).and_then(Value::as_i64)
    };
    if let Some(known) = number(nodes, "epoch_known_by_readers") {
        warnings.push(format!(
            "readers do not believe Nodes, because they know epoch {known}; see `spicectl pool reset-epoch --help`"
        ));
    }
    if let (Some(made), judged_under) = (number(checks, "policy_number"), number(nodes, "policy_number"))
        && nodes.is_ok()
        && judged_under != Some(made)
    {
        let under = judged_under.map_or_else(|| "none".to_owned(), |number| number.to_string());
        warnings.push(format!(
            "Checks has policy {made}, Nodes judges under {under}; if that lasts over a minute, see the log of Nodes"
        ));
    }
    let adapters = checks.as_ref().ok().and_then(|status| status.get("adapters")).and_then(Value::as_object);
    for (adapter, alive) in adapters.into_iter().flatten() {
        if alive.as_i64() == Some(0) {
            warnings.push(format!("no adapter {adapter} lives; its checks are errors until one starts"));
        }
    }
    if adapters.is_some_and(serde_json::Map::is_empty) {
        warnings.push("no adapter has announced itself; nothing can be checked".to_owned());
    }
    let faults = checks.as_ref().ok().and_then(|status| status.get("adapter_faults")).and_then(Value::as_array);
    warnings.extend(faults.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    if let Some(overdue) = number(checks, "overdue").filter(|overdue| *overdue > 0) {
        warnings.push(format!("{overdue} batches are past their deadline"));
    }
    if let Some(count) = number(checks, "dead_letters").filter(|count| *count > 0) {
        warnings.push(format!(
            "{count} messages could not be carried out and were put aside; see `spicectl dead-letter list`"
        ));
    }
    let pools = nodes.as_ref().ok().and_then(|status| status.get("pools")).and_then(Value::as_array);
    for pool in pools.into_iter().flatten() {
        let name = pool.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(count) = pool.get("overridden").and_then(Value::as_i64).filter(|count| *count > 0) {
            warnings.push(format!("pool {name}: {count} nodes are trusted by override only"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> (Value, Value) {
        let checks = json!({"policy_number": 3, "adapters": {"command": 1}, "overdue": 0, "unsigned_admin": false});
        let nodes =
            json!({"policy_number": 3, "unsigned_admin": false, "pools": [{"name": "default", "overridden": 0}]});
        (checks, nodes)
    }

    #[test]
    fn a_healthy_service_gives_no_warning() {
        let (checks, nodes) = healthy();
        assert_eq!(warnings(&Ok(checks), &Ok(nodes)), Vec::<String>::new());
    }

    #[test]
    fn unsigned_calls_silence_and_a_lagging_policy_are_told() {
        let (mut checks, mut nodes) = healthy();
        checks["unsigned_admin"] = json!(true);
        checks["adapters"] = json!({"command": 0});
        checks["adapter_faults"] = json!(["adapter tpm2 (host-1): the bus of the agents cannot be reached: refused"]);
        checks["dead_letters"] = json!(7);
        nodes["policy_number"] = json!(2);
        nodes["database"] = json!({"up": false, "reason": "full", "error": "disk is full", "for_s": 7});
        nodes["pools"][0]["overridden"] = json!(4);
        nodes["epoch_known_by_readers"] = json!(8);
        let told = warnings(&Ok(checks.clone()), &Ok(nodes));
        assert_eq!(told.len(), 7, "{told:?}");
        assert!(told[1].contains("nodes CANNOT USE ITS DATABASE (full, for 7 s): disk is full"), "{told:?}");
        assert!(told[0].contains("UNSIGNED"));
        let told = warnings(&Ok(checks), &Err(CliError::unavailable("x")));
        assert!(
            told[1].contains("nodes does not answer") && !told.iter().any(|line| line.contains("policy")),
            "{told:?}"
        );
    }
}
