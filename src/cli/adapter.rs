//! `spicectl adapter`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, with_session};
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::output::{Field, OutputArgs, field};
use crate::names::AdapterName;

/// Adapters.
#[derive(Debug, Args)]
pub struct AdapterCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists all adapters that ever announced themselves, and how many instances live
    #[command(after_help = "Example:\n  spicectl adapter list")]
    List,
    /// Shows an adapter: its instances with the batches each holds, and the schema of its parameters
    #[command(
        after_help = "Example: the parameters a check can have:\n  spicectl adapter show command -f json -c schema"
    )]
    Show {
        /// Its name
        name: AdapterName,
    },
}

const LISTED: &[Field] = &[field("name"), field("alive"), field("checks"), field("instances")];
const SHOWN: &[Field] = &[field("name"), field("alive"), field("checks"), field("instances"), field("schema")];

impl AdapterCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What the service says, or that there is no such adapter.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        with_session(connection, async |session| {
            let adapters = session.checks("adapter_list", json!({})).await?;
            match verb {
                Verb::List => output.list(&adapters, LISTED)?,
                Verb::Show { name } => {
                    let known = adapters.as_array().ok_or_else(|| unexpected("list of adapters"))?;
                    let named = |adapter: &&Value| adapter.get("name").and_then(Value::as_str) == Some(name.as_str());
                    let found = known.iter().find(named).ok_or_else(|| {
                        CliError::local(format!("no adapter named {name} has announced itself"))
                            .hint("`spicectl adapter list` shows those that have")
                    })?;
                    output.object(found, SHOWN)?;
                }
            }
            Ok(Exit::Done)
        })
        .await
    }
}
