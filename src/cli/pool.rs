//! `spicectl pool`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::consent::{Consent, told};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, print, say, shown};
use crate::cli::{show, values};
use crate::names::PoolName;

/// Pools.
#[derive(Debug, Args)]
pub struct PoolCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists pools with the number of nodes at each level
    #[command(after_help = "Example:\n  spicectl pool list")]
    List,
    /// Shows a pool and every node in it
    #[command(after_help = "Example:\n  spicectl pool show default -f json")]
    Show {
        /// Its name
        name: PoolName,
    },
    /// Changes a pool's policy; what is not given stays
    #[command(after_help = "\
Example: let the filter only log what it would refuse; look at it first, then confirm it by the id shown:
  spicectl pool set default --mode observe --dry-run
  spicectl pool set default --mode observe --confirm 3f0c7a9d21be")]
    Set {
        /// Its name
        name: PoolName,
        #[command(flatten)]
        policy: PolicyArgs,
        #[command(flatten)]
        consent: Consent,
    },
    /// Has Nodes begin anew with an epoch that readers take, after its database was restored from a backup
    #[command(after_help = "\
Readers never go back to a lower epoch. If `spicectl status` says that they know a higher one, first make sure that no other
spiced with role nodes runs on another database: the one that runs on an old copy must not win.
Example: see what would be done, then do it:
  spicectl pool reset-epoch
  spicectl pool reset-epoch --reason 'restored the backup of Monday' --confirm")]
    ResetEpoch {
        /// The epoch that readers hold; what they told themselves if not given
        #[arg(long, value_name = "EPOCH")]
        at_least: Option<i64>,
        /// Why; kept in the database
        #[arg(long, default_value = "")]
        reason: String,
        /// Do it; otherwise it is only shown what would be done
        #[arg(long)]
        confirm: bool,
    },
    /// Has nodes judged by the policy of a Checks whose database was restored from a backup
    #[command(after_help = "\
What was decided after the backup is lost, and nodes may be asked for less: so nothing of Checks counts until somebody has seen what changes. First make
sure that no other spiced with role checks runs on another database.
Example: see what would change, then do it:
  spicectl pool adopt-policy
  spicectl pool adopt-policy --reason 'restored the backup of Monday' --confirm 0123456789ab")]
    AdoptPolicy {
        /// Why; kept with every change that follows
        #[arg(long, default_value = "")]
        reason: String,
        /// Do what was shown under this id
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
    },
    /// Makes a pool; nobody is trusted in it until a check is required there
    #[command(after_help = "\
Example: a pool that only prefers, and a check that counts in it:
  spicectl pool create gold --mode soft
  spicectl check set boot --pool default --pool gold")]
    Create {
        /// Its name, which flavors give as spice:pool
        name: PoolName,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Deletes a pool that no check names; flavors that ask for it then match no host
    #[command(after_help = "Example:\n  spicectl pool delete gold")]
    Delete {
        /// Its name
        name: PoolName,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A pool's policy as far as it is given.
#[derive(Debug, Default, Args)]
struct PolicyArgs {
    /// What the filter does for flavors that do not name the pool: refuse, prefer, or log what it would refuse
    #[arg(long, value_parser = ["enforce", "soft", "observe"])]
    mode: Option<String>,
    /// How long readers may hear nothing of Nodes before they take every node as unknown: seconds, or 90s, 5m
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    max_silence: Option<i64>,
    /// Whether a pass that is only the node's own word counts
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    accept_self_report: Option<bool>,
    /// After how many falls into distrust within the window a node is held down for longer: 1 to 20, or 0 for never
    #[arg(long, value_name = "N")]
    flap_limit: Option<u32>,
    /// That window: seconds, or 12h, 2d
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    flap_window: Option<i64>,
    /// How long it is held down then, from its last fall or failure: seconds, or 12h, 2d
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    flap_hold_down: Option<i64>,
}

impl PolicyArgs {
    fn is_empty(&self) -> bool {
        let flapping = self.flap_limit.is_some() || self.flap_window.is_some() || self.flap_hold_down.is_some();
        self.mode.is_none() && self.max_silence.is_none() && self.accept_self_report.is_none() && !flapping
    }

    fn of(&self, name: &PoolName) -> Value {
        json!({
            "name": name,
            "mode": self.mode,
            "max_silence_s": self.max_silence,
            "accept_self_report": self.accept_self_report,
            "flap_limit": self.flap_limit,
            "flap_window_s": self.flap_window,
            "flap_hold_down_s": self.flap_hold_down,
        })
    }
}

const ADOPT: &[Field] = &[
    field("number"),
    field("in_force"),
    field("nodes"),
    field("raised"),
    field("lowered"),
    field("confirm"),
    field("done"),
];
const RESET: &[Field] = &[field("epoch"), field("known_by_readers"), field("next_epoch_above"), field("done")];

const LIST: &[Field] = &[
    field("name"),
    field("mode"),
    field("nodes"),
    field("trusted"),
    field("untrusted"),
    field("unknown"),
    field("overridden"),
    field("max_silence_s"),
    field("accept_self_report"),
];

const SHOW: &[Field] = &[
    field("name"),
    field("mode"),
    field("max_silence_s"),
    field("accept_self_report"),
    field("nodes"),
    field("trusted"),
    field("untrusted"),
    field("unknown"),
    field("overridden"),
    shown("members", show::members),
];

const POLICY: &[Field] =
    &[field("name"), field("mode"), field("max_silence_ms"), field("accept_self_report"), field("flapping")];

impl PoolCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, or what the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        if matches!(&verb, Verb::Set { policy, .. } if policy.is_empty()) {
            return Err(CliError::local("nothing to change").hint("give --mode, --max-silence or --accept-self-report"));
        }
        with_session(connection, async |session| verb.carry_out(session, &output).await).await
    }
}

impl Verb {
    async fn carry_out(self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        match self {
            Self::List => {
                let mut pools = session.nodes("pool_list", json!({})).await?;
                add_policies(session, pools.as_array_mut().into_iter().flatten()).await;
                output.list(&pools, LIST)?;
            }
            Self::Show { name } => {
                let mut pool = session.nodes("pool_show", json!({ "name": name })).await?;
                add_policies(session, std::iter::once(&mut pool)).await;
                output.object(&pool, SHOW)?;
            }
            Self::ResetEpoch { at_least, reason, confirm } => {
                let args = json!({ "at_least": at_least, "reason": reason, "confirm": confirm });
                output.object(&session.nodes("pool_reset_epoch", args).await?, RESET)?;
                if !confirm {
                    say("spicectl: nothing was done; --reason and --confirm do it");
                }
            }
            Self::AdoptPolicy { reason, confirm } => {
                let args = json!({ "reason": reason, "confirm": confirm });
                let shown = session.nodes("policy_adopt", args).await?;
                match confirm {
                    None if output.is_table() && output.column.is_empty() => print(&told(&shown))?,
                    _ => output.object(&shown, ADOPT)?,
                }
            }
            Self::Set { name, policy, consent } => {
                if let Some(pool) = consent.call(session, output, "pool_update", policy.of(&name)).await? {
                    output.object(&pool, POLICY)?;
                }
            }
            Self::Create { name, policy } => {
                output.object(&session.checks("pool_create", policy.of(&name)).await?, POLICY)?;
            }
            Self::Delete { name, consent } => {
                if consent.call(session, output, "pool_delete", json!({ "name": name })).await?.is_some() {
                    return output.done(&format!("pool {name} is deleted"));
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// Adds what only Checks knows of pools. Without it the answer of Nodes is still worth showing.
async fn add_policies(session: &Session, pools: impl Iterator<Item = &mut Value>) {
    let policies = match session.checks("pool_policies", json!({})).await {
        Ok(policies) => policies,
        Err(error) => {
            say(&format!("spicectl: Checks was not heard, so accept_self_report is not shown: {}", error.message));
            return;
        }
    };
    for pool in pools {
        let policy = policies.as_array().into_iter().flatten().find(|policy| policy.get("name") == pool.get("name"));
        if let (Some(members), Some(accepted)) =
            (pool.as_object_mut(), policy.and_then(|policy| policy.get("accept_self_report")))
        {
            members.insert("accept_self_report".to_owned(), accepted.clone());
        }
    }
}
