//! `spicectl status`: both roles and the pool file of this machine at once; what is wrong, and is it us or the hosts.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::findings::{self, Answers, Finding, PoolFile};
use crate::cli::output::{Field, OutputArgs, field, print, safe, shown};
use crate::cli::show;

/// How long a role may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spicectl status
Example: for a monitoring system, with an exit code for what is found:
  spicectl status --exit-code -f json")]
pub struct StatusCommand {
    /// End with 2 if something of SPICE is at fault, with 3 if only hosts need a look
    #[arg(long)]
    exit_code: bool,
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
    field("late"),
    field("behind"),
    field("overdue"),
    field("late_slots"),
    field("missed_slots"),
    field("waiting"),
    field("held"),
    field("windows_open"),
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

const ALL: &[Field] =
    &[field("verdict"), field("checks"), field("nodes"), field("pool_file"), field("findings"), field("warnings")];

impl StatusCommand {
    /// Asks both roles and shows what they say.
    ///
    /// # Errors
    /// The broker is not reached.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let (settings, _) = connection.settings()?;
        let pool_file = PoolFile::of(&settings.pool.run_dir);
        with_session(connection, async |session| self.ask(session, pool_file).await).await
    }

    async fn ask(&self, session: &Session, pool_file: Option<PoolFile>) -> Result<Exit, CliError> {
        let answers = Answers::ask(session, PATIENCE, pool_file).await;
        let findings = findings::of(&answers);
        let verdict = findings::verdict(&findings);
        let Answers { checks, nodes, .. } = &answers;
        let silent = [checks, nodes].into_iter().find_map(|answer| answer.as_ref().err()).map(|error| error.exit);
        if self.output.is_table() && self.output.column.is_empty() {
            let plain = OutputArgs::default();
            print(&format!("{}\n", safe(&verdict)))?;
            for finding in &findings {
                print(&format!("{}: {}\n", finding.about.label(), safe(&finding.text)))?;
            }
            for (role, answer, fields) in [("checks", checks, CHECKS), ("nodes", nodes, NODES)] {
                print(&format!("\nRole {role}:\n"))?;
                match answer {
                    Ok(answer) => plain.object(answer, fields)?,
                    Err(error) => print(&format!("DOES NOT ANSWER: {}\n", safe(&error.message)))?,
                }
            }
            if let Some(file) = pool_file {
                print(&format!("\nPool file of this machine: role nodes heard {} ago\n", show::span(file.age_s)))?;
            }
        } else {
            let told = |answer: &Result<Value, CliError>| {
                answer.as_ref().map_or_else(|error| json!({ "error": error.message }), Clone::clone)
            };
            let warnings: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
            let all = json!({
                "verdict": verdict,
                "checks": told(checks),
                "nodes": told(nodes),
                "pool_file": pool_file.map(|file| json!({ "heard_s_ago": file.age_s })),
                "findings": findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
                "warnings": warnings,
            });
            self.output.object(&all, ALL)?;
        }
        Ok(silent.unwrap_or(if self.exit_code { findings::exit(&findings) } else { Exit::Done }))
    }
}
