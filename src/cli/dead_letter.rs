//! `spicectl dead-letter`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::connection::{ConnectionArgs, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field};

/// Dead letters.
#[derive(Debug, Args)]
#[command(after_help = "\
A message that can never be carried out is kept aside with the reason: it was not signed by whoever may send it, its ticket is not valid, or it cannot be
read. Some after a change of keys are a trust file that came late; many are somebody trying. At most 10000 are kept, the oldest go first.")]
pub struct DeadLetterCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists them, the oldest first
    #[command(
        after_help = "Example: the reasons, counted:\n  spicectl dead-letter list -f value -c detail | sort | uniq -c"
    )]
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Shows one with its message
    #[command(after_help = "Example:\n  spicectl dead-letter show 5b1d0c6f2a7e49d08c3f7a1e90b4d256")]
    Show {
        /// Its id
        id: String,
    },
    /// Puts one back into its queue, where it is judged like any other message
    #[command(after_help = "Example:\n  spicectl dead-letter requeue 5b1d0c6f2a7e49d08c3f7a1e90b4d256")]
    Requeue {
        /// Its id
        id: String,
    },
    /// Removes one for good
    #[command(after_help = "Example:\n  spicectl dead-letter drop 5b1d0c6f2a7e49d08c3f7a1e90b4d256")]
    Drop {
        /// Its id
        id: String,
    },
}

const FIELDS: &[Field] =
    &[field("id"), field("queue"), field("method"), field("claimed_sender"), field("reason"), field("detail")];

const ONE: &[Field] = &[
    field("id"),
    field("queue"),
    field("method"),
    field("claimed_sender"),
    field("reason"),
    field("detail"),
    field("bytes"),
    field("message"),
];

impl DeadLetterCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        with_session(connection, async |session| match verb {
            Verb::List { limit } => {
                output.list(&session.checks("dead_letter_list", json!({ "limit": limit })).await?, FIELDS)?;
                Ok(Exit::Done)
            }
            Verb::Show { id } => {
                output.object(&session.checks("dead_letter_show", json!({ "id": id })).await?, ONE)?;
                Ok(Exit::Done)
            }
            Verb::Requeue { id } => {
                session.checks("dead_letter_requeue", json!({ "id": id })).await?;
                output.done("it is back in its queue; if it comes to nothing again, it is put aside under the same id")
            }
            Verb::Drop { id } => {
                session.checks("dead_letter_drop", json!({ "id": id })).await?;
                output.done("it is gone")
            }
        })
        .await
    }
}
