//! `spicectl apply`: makes what is registered what a file says.
//!
//! First a plan, from the file and what the service has; then the plan is carried out in an order in which nothing refers to
//! what is not there yet. Applying the same file again changes nothing.

mod plan;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::definitions::Definitions;
use crate::cli::error::{CliError, Exit};
use crate::cli::import::read_text;
use crate::cli::output::{Field, Format, OutputArgs, field, print};
use crate::cli::progress::Progress;

use plan::{Action, Current, Step, plan};

/// Nodes registered at once.
const CHUNK: usize = 1000;
/// Faults told at once.
const MOST_FAULTS: usize = 20;

/// `apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is YAML or JSON with any of the sections profiles, pools, nodes, checks and windows; `spicectl export` writes one.
An entry is a complete definition: what it leaves out has its default (of a pool: stays as it is). For instance:
  profiles:
    - {name: before-work, schedule: {cron: '0 6 * * 1-5', zone: Europe/Berlin}}
  nodes:
    - {name: compute-1, labels: {rack: r1}}
  checks:
    - name: boot
      adapter: openattestation
      schedule: {profile: before-work}
      targets: {labels: {rack: r1}}
      pools: {default: required}
  windows:
    - {name: patches, reason: monthly patches, targets: {labels: {rack: r1}}, schedule: {cron: '0 2 1 * *'}, duration_s: 7200}
What loosens a pool stops it and shows whom that would raise; apply the file again with --confirm and the id shown.
Example: see what would be done, then do it:
  spicectl apply -f cloud.yaml --dry-run
  spicectl apply -f cloud.yaml")]
pub struct ApplyCommand {
    /// The file; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only show what would be created, changed, deleted and left
    #[arg(long)]
    dry_run: bool,
    /// Do also what was shown under this id, although it loosens a pool; repeat for several
    #[arg(long, value_name = "ID")]
    confirm: Vec<String>,
    /// Delete what a section of the file does not name; sections that are not in the file are left alone
    #[arg(long)]
    prune: bool,
    /// How to show what is done
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

const FIELDS: &[Field] = &[field("action"), field("kind"), field("name"), field("changes")];

impl ApplyCommand {
    /// Plans, and unless only that is asked for, does it.
    ///
    /// # Errors
    /// What is wrong with the file, or what the service says; what was done before is shown all the same.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let wanted = Definitions::parse(&read_text(&self.file)?).map_err(|faults| {
            let more = faults.len().saturating_sub(MOST_FAULTS);
            let mut told: Vec<String> = faults.into_iter().take(MOST_FAULTS).collect();
            if more > 0 {
                told.push(format!("and {more} more faults"));
            }
            CliError::local(format!("{}: {}", self.file.display(), told.join("\n")))
                .hint("nothing was changed; `spicectl apply --help` shows the form of the file")
        })?;
        with_session(connection, async |session| self.with(session, &wanted).await).await
    }

    async fn with(&self, session: &Session, wanted: &Definitions) -> Result<Exit, CliError> {
        let current = Current::fetch(session, wanted, self.prune).await?;
        let steps = plan(wanted, &current, self.prune);
        if self.dry_run {
            self.show(&steps, "would ")?;
            return Ok(Exit::Done);
        }
        let (done, outcome) = carry_out(session, &steps, &self.confirm).await;
        let advice = if done.contains(&true) { "what is shown above was done" } else { "nothing was done" };
        let shown: Vec<Step> = steps.into_iter().zip(done).filter(|(_, done)| *done).map(|(step, _)| step).collect();
        self.show(&shown, "")?;
        outcome
            .map(|()| Exit::Done)
            .map_err(|error| error.hint(format!("{advice}; correct that and apply the file again")))
    }

    fn show(&self, steps: &[Step], would: &str) -> Result<(), CliError> {
        let output = OutputArgs { format: self.format, ..OutputArgs::default() };
        let rows = steps.iter().map(|step| {
            json!({ "action": step.action.as_str(), "kind": step.kind, "name": step.name, "changes": step.changes })
        });
        output.list(&rows.collect(), FIELDS)?;
        if output.is_table() {
            let count = |action: Action| steps.iter().filter(|step| step.action == action).count();
            print(&format!(
                "{would}create {}, change {}, delete {}, leave {}\n",
                count(Action::Create),
                count(Action::Change),
                count(Action::Delete),
                count(Action::Leave)
            ))?;
        }
        Ok(())
    }
}

/// Carries out the steps in order, new nodes in large parts. Says which were done, also when one was refused.
async fn carry_out(session: &Session, steps: &[Step], confirmed: &[String]) -> (Vec<bool>, Result<(), CliError>) {
    let mut done = vec![false; steps.len()];
    let mut progress = Progress::new("apply");
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        let is_new_node = |step: &Step| step.kind == "node" && step.action == Action::Create;
        let many = steps[at..].iter().take(CHUNK).take_while(|step| is_new_node(step)).count();
        let (count, outcome) = if many > 1 {
            let nodes: Vec<&Value> = steps[at..at + many].iter().filter_map(|step| step.arguments()).collect();
            (many, session.nodes("node_import", json!({ "nodes": nodes })).await.map(drop))
        } else {
            (1, step.carry_out(session, confirmed).await)
        };
        if let Err(error) = outcome {
            let message = format!("{} {} {}: {}", step.action.as_str(), step.kind, step.name, error.message);
            return (done, Err(CliError { message, ..error }));
        }
        done[at..at + count].fill(true);
        at += count;
        if steps.len() > CHUNK {
            progress.at(at as u64, steps.len() as u64, "");
        }
    }
    (done, Ok(()))
}
