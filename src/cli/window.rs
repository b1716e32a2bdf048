//! `spicectl window`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::checks::window::GivenWindow;
use crate::cli::check_options::inline_schedule;
use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, shown};
use crate::cli::show;
use crate::cli::values::{self, Target};
use crate::clock::{SystemClock, Timestamp};
use crate::names::{CheckName, WindowName};

/// Maintenance windows.
#[derive(Debug, Args)]
pub struct WindowCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a window, or replaces the one of that name: scheduled runs are held while it is open, and run once when it ends
    #[command(after_help = "\
A window makes and keeps nobody trusted: passes run out meanwhile. `spicectl check run` and `spicectl node check` are not held.
Example: rack r1 is patched for two hours from now on:
  spicectl window create patch-r1 --target label:rack=r1 --for 2h --reason 'kernel update'
Example: every first of a month from two to four in the morning in Berlin, two checks only:
  spicectl window create monthly --target all --check boot --check closed-ports --cron '0 2 1 * *' --zone Europe/Berlin --duration 2h \\
    --reason 'monthly patches'")]
    Create(Create),
    /// Lists all windows, and whether they are open
    #[command(after_help = "Example:\n  spicectl window list -f json")]
    List,
    /// Shows a window: how many nodes it covers, what it holds, when it opens next
    #[command(after_help = "Example:\n  spicectl window show monthly")]
    Show {
        /// Its name
        name: WindowName,
    },
    /// Deletes a window; what it held runs once, as at its end
    #[command(after_help = "Example:\n  spicectl window delete patch-r1")]
    Delete {
        /// Its name
        name: WindowName,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Its name
    name: WindowName,
    /// Why nothing is checked
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: String,
    /// Of which nodes runs are held: all, node:NAME, pattern:GLOB, label:KEY=VALUE, aggregate:GLOB or zone:GLOB; repeat for several
    #[arg(long, value_name = "TARGET", value_parser = values::target, required = true)]
    target: Vec<Target>,
    /// Of which check; repeat for several [default: all checks]
    #[arg(long, value_name = "CHECK")]
    check: Vec<CheckName>,
    /// Open from this time on [default: now]
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "cron")]
    from: Option<Timestamp>,
    /// Open until this time
    #[arg(long, value_name = "TIME", value_parser = values::time, group = "end")]
    until: Option<Timestamp>,
    /// Open for so long: seconds, or 90m, 2h, 3d
    #[arg(long = "for", value_name = "S", value_parser = values::seconds, group = "end")]
    for_s: Option<i64>,
    /// Opens again and again: crontab(5) text, such as "0 2 * * 0"
    #[arg(long, value_name = "CRON", group = "end", requires = "duration")]
    cron: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,
    /// How long it is open each time, a minute to 7 days
    #[arg(long, value_name = "S", value_parser = values::seconds, requires = "cron")]
    duration: Option<i64>,
}

impl Create {
    /// The arguments of `window_set`.
    fn window(&self, now: Timestamp) -> Result<GivenWindow, CliError> {
        let schedule = inline_schedule(self.cron.as_deref(), self.zone.as_deref(), None)?;
        let schedule =
            schedule.map(serde_json::from_value).transpose().map_err(|error| CliError::local(error.to_string()))?;
        let end = self.for_s.map(|seconds| Timestamp(self.from.unwrap_or(now).0.saturating_add(seconds * 1000)));
        let given = GivenWindow {
            name: self.name.clone(),
            reason: self.reason.clone(),
            targets: values::targets(&self.target).unwrap_or_default(),
            checks: (!self.check.is_empty()).then(|| self.check.iter().cloned().collect()),
            from: self.from.map(|at| at.to_string()),
            until: self.until.or(end).map(|at| at.to_string()),
            schedule,
            duration_s: self.duration,
        };
        given
            .in_order()
            .map_err(|_| CliError::local("a window has to end").hint("give --until, --for, or --cron and --duration"))
    }
}

const LIST: &[Field] = &[
    field("name"),
    field("state"),
    field("open_until"),
    field("opens_next"),
    shown("targets", show::targets),
    field("checks"),
    field("reason"),
];

const SHOW: &[Field] = &[
    field("name"),
    field("reason"),
    field("state"),
    field("open_until"),
    shown("targets", show::targets),
    field("nodes"),
    field("checks"),
    field("held"),
    field("from"),
    field("until"),
    shown("schedule", show::schedule),
    field("duration_s"),
    shown("opens", show::opens),
    field("changed_at"),
    field("warnings"),
];

impl WindowCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, or what the service says.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        // Before connecting: a fault on the command line needs no broker.
        let given = match &verb {
            Verb::Create(create) => json!(create.window(SystemClock::shared().now())?),
            _ => Value::Null,
        };
        with_session(connection, async |session| verb.carry_out(session, &output, given).await).await
    }
}

impl Verb {
    async fn carry_out(self, session: &Session, output: &OutputArgs, given: Value) -> Result<Exit, CliError> {
        match self {
            Self::Create(_) => output.object(&session.checks("window_set", given).await?, SHOW)?,
            Self::List => output.list(&session.checks("window_list", json!({})).await?, LIST)?,
            Self::Show { name } => {
                output.object(&session.checks("window_show", json!({ "name": name })).await?, SHOW)?;
            }
            Self::Delete { name } => {
                session.checks("window_delete", json!({ "name": name })).await?;
                return output.done(&format!("window {name} is deleted; what it held is checked now"));
            }
        }
        Ok(Exit::Done)
    }
}
