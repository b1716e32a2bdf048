//! `spicectl db`: the databases of this machine's configuration, looked at directly. No service is asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::ConnectionArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field, print, safe, say};
use crate::config::{Role, Settings};
use crate::store::{Connection, Examination, Kind, StoreError};

const ROLE: &str = "{role}";

/// Databases.
#[derive(Debug, Args)]
pub struct DbCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copies the databases into new files, also while the service runs; for MariaDB it prints the command that does it
    #[command(after_help = "\
Example: {role} stands for checks and nodes, which have a file each:
  spicectl db backup --to /var/backups/spice-{role}.sqlite")]
    Backup {
        /// New file, readable for its owner only
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Reads every row and verifies the trust record; exit code 1 if something is wrong
    #[command(after_help = "Example:\n  spicectl db check --config-file /etc/spice/spice.conf")]
    Check,
}

const FIELDS: &[Field] =
    &[field("role"), field("database"), field("schema"), field("rows"), field("faults"), field("more_faults")];

fn told(error: StoreError) -> CliError {
    CliError::local(error.to_string())
}

impl DbCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// The configuration, or the databases cannot be read or written.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let (settings, _) = connection.settings()?;
        let databases = databases(&settings)?;
        match &self.verb {
            Verb::Backup { to } => backup(&databases, to).await,
            Verb::Check => check(&databases, &self.output).await,
        }
    }
}

/// Those of both roles that are there.
fn databases(settings: &Settings) -> Result<Vec<(Role, Connection)>, CliError> {
    let mut found = Vec::new();
    for role in [Role::Checks, Role::Nodes] {
        let connection = settings.database.connection(role);
        let connection = Connection::parse(connection.reveal(), role.as_str()).map_err(told)?;
        if connection.path.as_ref().is_none_or(|path| path.exists()) {
            found.push((role, connection));
        }
    }
    match found.is_empty() {
        true => Err(CliError::local("there is no database on this machine").hint("run it where Checks or Nodes runs")),
        false => Ok(found),
    }
}

async fn backup(databases: &[(Role, Connection)], to: &std::path::Path) -> Result<Exit, CliError> {
    let text = to.to_str().ok_or_else(|| CliError::local("--to is not UTF-8; use another path"))?;
    let mut done: Vec<String> = Vec::new();
    for (role, connection) in databases {
        let place = connection.shown();
        if done.contains(&place) {
            continue;
        }
        let file = PathBuf::from(text.replace(ROLE, role.as_str()));
        if connection.kind == Kind::MySql {
            print(&format!(
                "{} > '{}'\n",
                connection.dump_command(),
                file.display().to_string().replace('\'', "'\\''")
            ))?;
            done.push(place);
            continue;
        }
        if !text.contains(ROLE) && !done.is_empty() {
            return Err(CliError::local("checks and nodes have a database each; write {role} into --to"));
        }
        let mut source = Examination::open(connection).await.map_err(told)?;
        source.copy_to(&file).await.map_err(told)?;
        say(&format!("{} was copied to {}", safe(&place), safe(&file.display().to_string())));
        done.push(place);
    }
    Ok(Exit::Done)
}

async fn check(databases: &[(Role, Connection)], output: &OutputArgs) -> Result<Exit, CliError> {
    let (mut rows, mut is_sound) = (Vec::new(), true);
    for (role, connection) in databases {
        let found = examined(*role, connection).await.map_err(told)?;
        is_sound &= found["faults"].as_array().is_some_and(Vec::is_empty);
        rows.push(found);
    }
    output.list(&Value::Array(rows), FIELDS)?;
    Ok(if is_sound { Exit::Done } else { Exit::Local })
}

async fn examined(role: Role, connection: &Connection) -> Result<Value, StoreError> {
    let mut database = Examination::open(connection).await?;
    let version = database.version().await?;
    database.integrity().await?;
    match role {
        Role::Checks => crate::checks::examine::examine(&mut database, version).await?,
        _ => crate::nodes::examine::examine(&mut database).await?,
    }
    let Examination { rows, faults, more_faults, .. } = database;
    Ok(json!({
        "role": role.as_str(), "database": connection.shown(), "schema": version, "rows": rows, "faults": faults,
        "more_faults": more_faults,
    }))
}
