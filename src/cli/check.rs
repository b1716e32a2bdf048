//! `spicectl check`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::check_options::CheckOptions;
use crate::cli::check_run::RunNow;
use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::consent::Consent;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, shown};
use crate::cli::{show, values};
use crate::names::{AdapterName, CheckName};

/// Checks.
#[derive(Debug, Args)]
pub struct CheckCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // one of them per process
enum Verb {
    /// Registers a check and runs it at once on its nodes
    #[command(after_help = "\
Example: attest every node of the rack r1 every five minutes; distrust at the first failure:
  spicectl check create boot --adapter openattestation --every 5m --target label:rack=r1
Example: a program of the plugin directory, nightly in Berlin, only noted:
  spicectl check create entropy --adapter command --param plugin=entropy --param 'arguments={\"min\": 1000}' \\
    --cron '15 2 * * *' --zone Europe/Berlin --pool default=advisory --ttl 2d")]
    Create {
        /// Its name
        name: CheckName,
        /// Who carries it out
        #[arg(long)]
        adapter: AdapterName,
        #[command(flatten)]
        options: CheckOptions,
        /// How long a pass counts [default: derived from the schedule]
        #[arg(long, value_name = "S", value_parser = values::seconds)]
        ttl: Option<i64>,
        /// Do not run it yet
        #[arg(long)]
        disabled: bool,
    },
    /// Changes a check; what is not given stays
    #[command(after_help = "\
Example: tolerate one failure, check more often, and change one parameter:
  spicectl check set boot --every 2m --fail-after 2 --param level=strict
--target and --pool replace all targets and pools; --param changes only the parameters named.
Example: what would that change, judged by the results there are?
  spicectl check set boot --fail-after 2 --dry-run
A change that loosens what a pool requires is refused and shows whom it would raise; a key with the role admin confirms exactly
that with --confirm and the id shown.")]
    Set {
        /// Its name
        name: CheckName,
        /// Who carries it out
        #[arg(long)]
        adapter: Option<AdapterName>,
        #[command(flatten)]
        options: CheckOptions,
        /// Remove this parameter; repeat for several
        #[arg(long, value_name = "KEY", conflicts_with = "parameters")]
        unset_param: Vec<String>,
        /// How long a pass counts; auto derives it from the schedule again
        #[arg(long, value_name = "S|auto", value_parser = ttl)]
        ttl: Option<Ttl>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Runs a check by its schedule again
    #[command(after_help = "Example:\n  spicectl check enable boot")]
    Enable {
        /// Its name
        name: CheckName,
        #[command(flatten)]
        consent: Consent,
    },
    /// Runs a check no more; where a pool requires it, nodes become unknown when their passes expire
    #[command(after_help = "Example:\n  spicectl check disable boot")]
    Disable {
        /// Its name
        name: CheckName,
        #[command(flatten)]
        consent: Consent,
    },
    /// Deletes a check
    #[command(after_help = "Example: see whom that would raise, then confirm it by the id shown:
  spicectl check delete boot --dry-run
  spicectl check delete boot --confirm 3f0c7a9d21be")]
    Delete {
        /// Its name
        name: CheckName,
        #[command(flatten)]
        consent: Consent,
    },
    /// Lists all checks
    #[command(after_help = "Example: names of the checks, for a script:\n  spicectl check list -f value -c name")]
    List,
    /// Shows a check with its next five runs, in its zone and in UTC
    #[command(after_help = "Example:\n  spicectl check show boot")]
    Show {
        /// Its name
        name: CheckName,
    },
    /// Runs a check now
    #[command(after_help = "\
Example: check two nodes now and wait for the outcome:
  spicectl check run boot --node compute-1 --node compute-2 --wait
With --wait the exit code says how it went: 0 every node passed, 2 some failed, 3 none failed but some could not be
judged, 4 not finished in time.")]
    Run(RunNow),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ttl {
    Auto,
    Seconds(i64),
}

fn ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "auto" => Ok(Ttl::Auto),
        _ => values::seconds(text).map(Ttl::Seconds),
    }
}

const LIST: &[Field] = &[
    field("name"),
    field("adapter"),
    shown("schedule", show::schedule),
    shown("targets", show::targets),
    field("pools"),
    field("enabled"),
    field("adapter_alive"),
    field("next_run"),
];

/// How one check is shown.
const SHOW: &[Field] = &[
    field("name"),
    field("id"),
    field("revision"),
    field("description"),
    field("adapter"),
    field("parameters"),
    shown("targets", show::targets),
    field("nodes"),
    shown("schedule", show::schedule),
    shown("effective_schedule", show::schedule),
    shown("next_runs", show::next_runs),
    field("splay_s"),
    field("timeout_s"),
    field("retries"),
    field("ttl_s"),
    field("effective_ttl_s"),
    field("judgement"),
    field("pools"),
    field("enabled"),
    field("batch_size"),
    field("overlap"),
    field("max_batches"),
    field("after"),
    shown("not_passed_before", show::not_passed_before),
    shown("last_run", show::last_run),
    shown("slots", show::slots),
    field("waiting"),
    field("held"),
    field("created_at"),
    field("changed_at"),
    field("warnings"),
];

impl CheckCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, or what the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        if let Verb::Create { name, adapter, options, ttl, disabled } = &verb {
            // Before connecting: a fault on the command line needs no broker.
            options.new_check(name, adapter, *ttl, *disabled)?;
        }
        with_session(connection, async |session| verb.carry_out(session, &output).await).await
    }
}

impl Verb {
    async fn carry_out(self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        match self {
            Self::Create { name, adapter, options, ttl, disabled } => {
                let check = options.new_check(&name, &adapter, ttl, disabled)?;
                output.object(&session.checks("check_create", json!({ "check": check })).await?, SHOW)?;
            }
            Self::Set { name, adapter, options, unset_param, ttl, consent } => {
                let mut changes = options.changes(session, &name, &unset_param).await?;
                if let Some(adapter) = adapter {
                    changes.insert("adapter".to_owned(), json!(adapter));
                }
                if let Some(ttl) = ttl {
                    let seconds = match ttl {
                        Ttl::Auto => Value::Null,
                        Ttl::Seconds(seconds) => json!(seconds),
                    };
                    changes.insert("ttl_s".to_owned(), seconds);
                }
                if changes.keys().all(|name| name == "allow_missing_adapter") {
                    return Err(
                        CliError::local("nothing to change").hint("`spicectl check set --help` shows what can be")
                    );
                }
                return update(session, output, &name, Value::Object(changes), &consent).await;
            }
            Self::Enable { name, consent } => {
                return update(session, output, &name, json!({ "enabled": true }), &consent).await;
            }
            Self::Disable { name, consent } => {
                return update(session, output, &name, json!({ "enabled": false }), &consent).await;
            }
            Self::Delete { name, consent } => {
                let args = json!({ "name": name });
                if consent.call(session, output, "check_delete", args).await?.is_some() {
                    return output.done(&format!("check {name} is deleted"));
                }
            }
            Self::List => output.list(&session.checks("check_list", json!({})).await?, LIST)?,
            Self::Show { name } => {
                output.object(&session.checks("check_show", json!({ "name": name })).await?, SHOW)?;
            }
            Self::Run(run) => return run.carry_out(session, output).await,
        }
        Ok(Exit::Done)
    }
}

async fn update(
    session: &Session,
    output: &OutputArgs,
    name: &CheckName,
    changes: Value,
    consent: &Consent,
) -> Result<Exit, CliError> {
    let args = json!({ "name": name, "changes": changes });
    if let Some(check) = consent.call(session, output, "check_update", args).await? {
        output.object(&check, SHOW)?;
    }
    Ok(Exit::Done)
}
