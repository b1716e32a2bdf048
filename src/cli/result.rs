//! `spicectl result`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::connection::{ConnectionArgs, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field};
use crate::names::{CheckName, NodeName};

/// Results.
#[derive(Debug, Args)]
pub struct ResultCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the latest results
    #[command(
        after_help = "Example: the last ten results of a node:\n  spicectl result list --node compute-1 --limit 10"
    )]
    List {
        /// Of this node
        #[arg(long)]
        node: Option<NodeName>,
        /// Of this check
        #[arg(long)]
        check: Option<CheckName>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

const FIELDS: &[Field] = &[
    field("stored_at"),
    field("node"),
    field("check"),
    field("status"),
    field("reason"),
    field("evidence_at"),
    field("run"),
    field("counted"),
];

impl ResultCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb: Verb::List { node, check, limit } } = self;
        with_session(connection, async |session| {
            let args = json!({ "node": node, "check": check, "limit": limit });
            output.list(&session.nodes("result_list", args).await?, FIELDS)?;
            Ok(Exit::Done)
        })
        .await
    }
}
