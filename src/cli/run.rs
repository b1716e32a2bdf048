//! `spicectl run`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::check_run::{RUN, WaitArgs};
use crate::cli::connection::{ConnectionArgs, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::OutputArgs;
use crate::names::CheckName;
use crate::protocol::RunOrder;

/// Runs.
#[derive(Debug, Args)]
pub struct RunCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the latest runs
    #[command(after_help = "Example:\n  spicectl run list --check boot --limit 5")]
    List {
        /// Of this check
        #[arg(long)]
        check: Option<CheckName>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Shows a run: how many nodes are done, by outcome
    #[command(after_help = "Example:\n  spicectl run show 1795320000000-17 --wait --timeout 2m")]
    Show {
        /// Its id
        run: RunOrder,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

impl RunCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        with_session(connection, async |session| match verb {
            Verb::List { check, limit } => {
                output.list(&session.checks("run_list", json!({ "check": check, "limit": limit })).await?, RUN)?;
                Ok(Exit::Done)
            }
            Verb::Show { run, wait } => wait.show(session, &output, run).await,
        })
        .await
    }
}
