//! `spicectl node`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::import;
use crate::cli::node_list::NodeList;
use crate::cli::node_placement::{Displaced, Placed};
use crate::cli::output::{Field, OutputArgs, field, shown};
use crate::cli::why::Why;
use crate::cli::{show, values};
use crate::names::{NodeName, PoolName};

/// Nodes.
#[derive(Debug, Args)]
pub struct NodeCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Registers a node; it is unknown until it has been checked, which begins at once
    #[command(after_help = "Example:\n  spicectl node create compute-1.example.org --label rack=r1 --label row=a")]
    Create {
        /// Its name: what Nova calls the hypervisor_hostname
        name: NodeName,
        /// Label; repeat for several
        #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
        label: Vec<(String, String)>,
        #[command(flatten)]
        placed: Placed,
        /// What no other machine of this name shares, such as a serial number [default: made up]
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        identity: Option<String>,
    },
    /// Registers many nodes from a file; nodes that exist are left as they are
    #[command(after_help = "\
The file has a node a line: its name, then KEY=VALUE labels after commas (identity=TEXT gives its identity); blank
lines and lines that begin with # are passed over. A value holds no comma and no quotes. For instance:
  compute-1,rack=r1,row=a
  compute-2,rack=r1,row=b
Example:
  spicectl node import nodes.csv
Example: from another program:
  openstack hypervisor list -f value -c 'Hypervisor Hostname' | spicectl node import -")]
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
    /// Changes a node's labels, aggregates or availability zone; those not named stay
    #[command(after_help = "\
Example:
  spicectl node set compute-1 --label rack=r2 --unset-label row
  spicectl node set compute-1 --aggregate gpu --zone eu-1")]
    Set {
        /// Its name
        name: NodeName,
        /// Label; repeat for several
        #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Remove this label; repeat for several
        #[arg(long, value_name = "KEY")]
        unset_label: Vec<String>,
        /// Remove all labels not given here
        #[arg(long)]
        no_labels: bool,
        #[command(flatten)]
        placed: Placed,
        #[command(flatten)]
        displaced: Displaced,
    },
    /// Runs every check that is aimed at nodes for them now, as when they come back from being down
    #[command(after_help = "Example:\n  spicectl node check compute-1 compute-2")]
    Check {
        /// Their names
        #[arg(required = true)]
        name: Vec<NodeName>,
    },
    /// Removes a node; distrust of it outlasts that
    #[command(after_help = "Example:\n  spicectl node delete compute-1")]
    Delete {
        /// Its name
        name: NodeName,
    },
    /// Lists nodes with their level in a pool
    #[command(after_help = "Example: names of all nodes that are not trusted:
  spicectl node list --level untrusted -f value -c name")]
    List(NodeList),
    /// Shows a node: levels, results, labels, boot, maintenance
    #[command(after_help = "Example:\n  spicectl node show compute-1")]
    Show {
        /// Its name
        name: NodeName,
    },
    /// Explains why a node is, or at a time was, trusted or not
    #[command(after_help = "\
Example: now, and last night:
  spicectl node why compute-1
  spicectl node why compute-1 --at '2026-11-22 02:30'")]
    Why(Why),
    /// Distrusts a node until it is released
    #[command(after_help = "Example:\n  spicectl node quarantine compute-1 --reason 'firmware under investigation'")]
    Quarantine(Reasoned),
    /// Ends quarantine and distrust; the node is unknown and checked at once
    #[command(after_help = "Example:\n  spicectl node release compute-1 --reason 'reinstalled, ticket 4711'")]
    Release(Reasoned),
    /// Shows an unknown node as trusted for some hours
    #[command(after_help = "Example:\n  spicectl node override compute-1 --hours 4 --reason 'verifier is being moved'")]
    Override {
        #[command(flatten)]
        action: Timed,
        /// In which pool [default: default]
        #[arg(long)]
        pool: Option<PoolName>,
    },
    /// Ends an override
    #[command(after_help = "Example:\n  spicectl node end-override compute-1")]
    EndOverride {
        /// Its name
        name: NodeName,
    },
    /// Mutes actions on a node for some hours; it does not make it trusted
    #[command(after_help = "\
Example: begin, and end early:
  spicectl node maintenance compute-1 --hours 8 --reason 'new memory'
  spicectl node maintenance compute-1 --hours 0")]
    Maintenance {
        /// Its name
        name: NodeName,
        /// For how long; 0 ends it
        #[arg(long)]
        hours: u32,
        /// Why; kept in the record
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Reasoned {
    /// Its name
    name: NodeName,
    /// Why; kept in the record
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: String,
}

#[derive(Debug, Args)]
struct Timed {
    /// Its name
    name: NodeName,
    /// For how long, 1 to 72
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=72))]
    hours: u32,
    /// Why; kept in the record
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: String,
}

/// How one node is shown.
const SHOW: &[Field] = &[
    field("name"),
    shown("pools", show::levels),
    shown("checks", show::check_results),
    field("targeted_by"),
    field("labels"),
    field("aggregates"),
    field("zone"),
    field("identity"),
    field("boot"),
    field("quarantine"),
    field("maintenance"),
    field("registered_at"),
];

impl NodeCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, or what the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        if let Verb::Import { file } = &verb {
            let nodes = import::read(file)?;
            return with_session(connection, async |session| import::carry_out(session, &output, &nodes).await).await;
        }
        verb.validate()?;
        with_session(connection, async |session| verb.carry_out(session, &output).await).await
    }
}

impl Verb {
    fn validate(&self) -> Result<(), CliError> {
        match self {
            Self::Set { label, unset_label, no_labels: false, placed, displaced, .. }
                if label.is_empty() && unset_label.is_empty() && placed.is_empty() && displaced.is_empty() =>
            {
                Err(CliError::local("nothing to change").hint("`spicectl node set --help` shows what can be"))
            }
            Self::Maintenance { hours, reason: None, .. } if *hours > 0 => {
                Err(CliError::local("maintenance needs a reason")
                    .hint("say why with --reason: it is kept in the record"))
            }
            _ => Ok(()),
        }
    }

    async fn carry_out(self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        let (method, args) = match self {
            Self::Create { name, label, placed, identity } => {
                let labels: BTreeMap<_, _> = label.into_iter().collect();
                let Placed { aggregate, zone } = placed;
                (
                    "node_create",
                    json!({ "name": name, "labels": labels, "aggregates": aggregate, "zone": zone, "identity": identity }),
                )
            }
            // Taken care of before there was a session.
            Self::Import { .. } => return Ok(Exit::Done),
            Self::Set { name, label, unset_label, no_labels, placed, displaced } => {
                let node = session.nodes("node_show", json!({ "name": name })).await?;
                let mut update = displaced.change(&node, placed)?;
                if no_labels || !label.is_empty() || !unset_label.is_empty() {
                    let mut labels = if no_labels { BTreeMap::new() } else { labels_of(&node)? };
                    labels.retain(|key, _| !unset_label.contains(key));
                    labels.extend(label);
                    update.insert("labels".to_owned(), json!(labels));
                }
                update.insert("name".to_owned(), json!(name));
                ("node_update", Value::Object(update))
            }
            Self::Check { name } => {
                let begun = session.checks("node_check", json!({ "nodes": name })).await?;
                output.list(&begun, &[field("run"), field("check"), field("nodes")])?;
                return Ok(Exit::Done);
            }
            Self::Delete { name } => {
                session.nodes("node_delete", json!({ "name": name })).await?;
                return output.done(&format!("node {name} is deleted"));
            }
            Self::List(list) => return list.carry_out(session, output).await,
            Self::Why(why) => return why.carry_out(session, output).await,
            Self::Show { name } => ("node_show", json!({ "name": name })),
            Self::Quarantine(Reasoned { name, reason }) => {
                ("node_quarantine", json!({ "name": name, "reason": reason }))
            }
            Self::Release(Reasoned { name, reason }) => ("node_release", json!({ "name": name, "reason": reason })),
            Self::Override { action: Timed { name, hours, reason }, pool } => {
                ("node_override", json!({ "name": name, "hours": hours, "reason": reason, "pool": pool }))
            }
            Self::EndOverride { name } => ("node_override_end", json!({ "name": name })),
            Self::Maintenance { name, hours, reason } => {
                let reason = reason.unwrap_or_default();
                ("node_maintenance", json!({ "name": name, "hours": hours, "reason": reason }))
            }
        };
        output.object(&session.nodes(method, args).await?, SHOW)?;
        Ok(Exit::Done)
    }
}

fn labels_of(node: &Value) -> Result<BTreeMap<String, String>, CliError> {
    let labels = node.get("labels").cloned().unwrap_or(Value::Null);
    serde_json::from_value(labels).map_err(|_| unexpected("labels"))
}
