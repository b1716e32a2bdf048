//! `spicectl node list`: all pages of it.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::output::{Field, OutputArgs, field};
use crate::names::PoolName;

/// Nodes asked for at once.
const PAGE: usize = 5000;

const FIELDS: &[Field] =
    &[field("name"), field("trust"), field("expires_at"), field("overridden"), field("maintenance"), field("reason")];

/// `node list`.
#[derive(Debug, Default, Args)]
pub struct NodeList {
    /// Their level in this pool [default: default]
    #[arg(long)]
    pool: Option<PoolName>,
    /// Only nodes of this level
    #[arg(long, value_parser = ["trusted", "untrusted", "unknown"])]
    level: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl NodeList {
    /// Lists the nodes.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(&self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        output.list(&Value::Array(self.all(session).await?), FIELDS)?;
        Ok(Exit::Done)
    }

    /// The nodes, gathered page by page in the order of their names.
    ///
    /// # Errors
    /// What the service says.
    pub async fn all(&self, session: &Session) -> Result<Vec<Value>, CliError> {
        let most = self.limit.unwrap_or(usize::MAX);
        let mut nodes: Vec<Value> = Vec::new();
        let mut after: Option<String> = None;
        while nodes.len() < most {
            let limit = PAGE.min(most - nodes.len());
            let args = json!({ "pool": self.pool, "level": self.level, "limit": limit, "after": after });
            let Value::Array(page) = session.nodes("node_list", args).await? else {
                return Err(unexpected("list of nodes"));
            };
            let full = page.len() >= limit;
            nodes.extend(page);
            let last = nodes.last().and_then(|node| node.get("name")).and_then(Value::as_str).map(str::to_owned);
            // A service that does not go on would be asked for ever.
            if !full || last.is_none() || last <= after {
                break;
            }
            after = last;
        }
        Ok(nodes)
    }
}
