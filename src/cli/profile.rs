//! `spicectl profile`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::check_options::inline_schedule;
use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::consent::Consent;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, shown};
use crate::cli::show;
use crate::names::ProfileName;

/// Profiles.
#[derive(Debug, Args)]
pub struct ProfileCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a schedule with a name
    #[command(after_help = "\
Example: weekdays at six in the morning in Berlin:
  spicectl profile create before-work --cron '0 6 * * 1-5' --zone Europe/Berlin")]
    Create {
        /// Its name
        name: ProfileName,
        #[command(flatten)]
        schedule: ScheduleArgs,
        /// For people
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        description: Option<String>,
    },
    /// Changes a profile for every check that uses it
    #[command(after_help = "Example:\n  spicectl profile set before-work --cron '0 5 * * 1-5' --zone Europe/Berlin")]
    Set {
        /// Its name
        name: ProfileName,
        #[command(flatten)]
        schedule: ScheduleArgs,
        /// For people
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        description: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Deletes a profile that no check uses
    #[command(after_help = "Example:\n  spicectl profile delete before-work")]
    Delete {
        /// Its name
        name: ProfileName,
    },
    /// Shows a profile with its next five runs, in its zone and in UTC
    #[command(after_help = "Example:\n  spicectl profile show nightly")]
    Show {
        /// Its name
        name: ProfileName,
    },
    /// Lists all profiles and what uses them
    #[command(after_help = "Example:\n  spicectl profile list -f json")]
    List,
}

#[derive(Debug, Clone, Default, Args)]
struct ScheduleArgs {
    /// crontab(5) text, such as "15 2 * * *"; six fields begin with seconds
    #[arg(long, value_name = "CRON", group = "when")]
    cron: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron", conflicts_with = "every")]
    zone: Option<String>,
    /// An interval, such as 5m
    #[arg(long, value_name = "INTERVAL", group = "when")]
    every: Option<String>,
}

impl ScheduleArgs {
    fn schedule(&self) -> Result<Option<Value>, CliError> {
        inline_schedule(self.cron.as_deref(), self.zone.as_deref(), self.every.as_deref())
    }
}

const FIELDS: &[Field] = &[field("name"), shown("schedule", show::schedule), field("description"), field("used_by")];

const SHOW: &[Field] = &[
    field("name"),
    shown("schedule", show::schedule),
    field("description"),
    field("used_by"),
    shown("next_runs", show::next_runs),
];

impl ProfileCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, or what the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let schedule = match &self.verb {
            Verb::Create { schedule, .. } => {
                let given = schedule.schedule()?;
                Some(
                    given
                        .ok_or_else(|| CliError::local("a profile needs a schedule").hint("give --cron or --every"))?,
                )
            }
            Verb::Set { schedule, description, .. } => {
                let given = schedule.schedule()?;
                if given.is_none() && description.is_none() {
                    return Err(CliError::local("nothing to change").hint("give --cron, --every or --description"));
                }
                given
            }
            Verb::Delete { .. } | Verb::Show { .. } | Verb::List => None,
        };
        let Self { output, verb } = self;
        with_session(connection, async |session| verb.carry_out(session, &output, schedule).await).await
    }
}

impl Verb {
    async fn carry_out(
        self,
        session: &Session,
        output: &OutputArgs,
        schedule: Option<Value>,
    ) -> Result<Exit, CliError> {
        match self {
            Self::Create { name, description, .. } => {
                let args = json!({ "name": name, "schedule": schedule, "description": description });
                one_of(&session.checks("profile_create", args).await?, &name, output)?;
            }
            Self::Set { name, description, consent, .. } => {
                let args = json!({ "name": name, "schedule": schedule, "description": description });
                if let Some(profiles) = consent.call(session, output, "profile_update", args).await? {
                    one_of(&profiles, &name, output)?;
                }
            }
            Self::Delete { name } => {
                session.checks("profile_delete", json!({ "name": name })).await?;
                return output.done(&format!("profile {name} is deleted"));
            }
            Self::Show { name } => one_of(&session.checks("profile_list", json!({})).await?, &name, output)?,
            Self::List => output.list(&session.checks("profile_list", json!({})).await?, FIELDS)?,
        }
        Ok(Exit::Done)
    }
}

/// The service answers with all profiles; the one in question is shown.
fn one_of(profiles: &Value, name: &ProfileName, output: &OutputArgs) -> Result<(), CliError> {
    let mut profiles = profiles.as_array().into_iter().flatten();
    let found = profiles.find(|profile| profile.get("name").and_then(Value::as_str) == Some(name.as_str()));
    let missing =
        || CliError::local(format!("there is no profile named {name}")).hint("`spicectl profile list` shows them");
    output.object(found.ok_or_else(missing)?, SHOW)
}
