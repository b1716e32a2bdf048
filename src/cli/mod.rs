//! `spicectl`: the administrator's commands and how their answers are shown.
//!
//! | file | owns |
//! |---|---|
//! | `adapter`, `check`, `check_options`, `check_run`, `profile`, `window`, `node`, `node_list`, `import`, `why`, `result`, `pool`, `run`, `dead_letter` | a noun's commands, or one large command |
//! | `status`, `findings`, `top`, `apply`, `definitions`, `export` | what concerns the whole deployment |
//! | `key`, `config`, `db` | what needs no service: keys, configuration and databases of this machine |
//! | `audit` | the records, verified and exported |
//! | `consent` | what a change would do, and the word for it |
//! | `connection` | from flags, environment and configuration to a signed connection |
//! | `values` | what people write, as values |
//! | `output`, `show`, `progress` | what people see |
//! | `error` | what is said when something does not work, and the exit codes |

mod adapter;
mod apply;
mod audit;
mod check;
mod check_options;
mod check_run;
mod config;
mod connection;
mod consent;
mod db;
mod dead_letter;
mod definitions;
mod error;
mod export;
mod findings;
mod import;
mod key;
mod key_change;
mod node;
mod node_list;
mod node_placement;
mod output;
mod pool;
mod profile;
mod progress;
mod result;
mod run;
mod show;
mod status;
mod top;
mod values;
mod why;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use connection::ConnectionArgs;
pub use error::{CliError, EXIT_CODES, Exit};
pub use output::{Format, OutputArgs};

use crate::telemetry::{self, FILTER_VARIABLE, LogOptions};

/// Administers SPICE: which checks run on which nodes, and which nodes are trusted.
#[derive(Debug, Parser)]
#[command(name = "spicectl", version, after_help = EXIT_CODES, max_term_width = 110, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // one of them per process
enum Command {
    /// Checks: what is checked, how, where and when
    Check(check::CheckCommand),
    /// Adapters: who carries checks out
    Adapter(adapter::AdapterCommand),
    /// Profiles: schedules by name
    Profile(profile::ProfileCommand),
    /// Maintenance windows: times in which scheduled runs are held
    Window(window::WindowCommand),
    /// Nodes: what is trusted, and why
    Node(node::NodeCommand),
    /// Results of checks
    Result(result::ResultCommand),
    /// Pools: who may be chosen for trusted instances
    Pool(pool::PoolCommand),
    /// The record of trust and of changes: verified, exported
    Audit(audit::AuditCommand),
    /// Runs of checks
    Run(run::RunCommand),
    /// Work that could not be carried out and was put aside
    DeadLetter(dead_letter::DeadLetterCommand),
    /// Keys and the trust store of this machine
    Key(key::KeyCommand),
    /// The configuration of this machine
    Config(config::ConfigCommand),
    /// The databases of this machine
    Db(db::DbCommand),
    /// How the service is: what is wrong, and is it SPICE or the hosts
    Status(status::StatusCommand),
    /// Watches trust, runs and results as they change
    Top(top::TopCommand),
    /// Makes profiles, pools, nodes, checks and windows what a file says
    Apply(apply::ApplyCommand),
    /// Writes profiles, pools, nodes, checks and windows to a file for apply
    Export(export::ExportCommand),
}

/// Runs `spicectl` with these arguments, the first being the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too; a closed pipe is no concern.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Local as u8 } else { Exit::Done as u8 });
        }
    };
    match execute(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            output::say(&format!("spicectl: {}", shown_lines(&error.message)));
            if let Some(hint) = &error.hint {
                output::say(&format!("  {}", output::safe(hint)));
            }
            ExitCode::from(error.exit as u8)
        }
    }
}

/// Every line made safe, the line ends kept: several faults stand on a line each.
fn shown_lines(text: &str) -> String {
    text.lines().map(output::safe).collect::<Vec<_>>().join("\n  ")
}

fn execute(cli: Cli) -> Result<Exit, CliError> {
    // What goes wrong is told by the command itself; the log is for whoever asks for it.
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "off".to_owned());
    telemetry::start(&LogOptions { debug: false, json: false, filter: Some(filter) })
        .map_err(|error| CliError::local(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::local(format!("no event loop can be made: {error}")))?;
    runtime.block_on(carry_out(cli))
}

async fn carry_out(cli: Cli) -> Result<Exit, CliError> {
    let connection = &cli.connection;
    match cli.command {
        Command::Check(command) => command.carry_out(connection).await,
        Command::Adapter(command) => command.carry_out(connection).await,
        Command::Profile(command) => command.carry_out(connection).await,
        Command::Window(command) => command.carry_out(connection).await,
        Command::Node(command) => command.carry_out(connection).await,
        Command::Result(command) => command.carry_out(connection).await,
        Command::Pool(command) => command.carry_out(connection).await,
        Command::Audit(command) => command.carry_out(connection).await,
        Command::Run(command) => command.carry_out(connection).await,
        Command::DeadLetter(command) => command.carry_out(connection).await,
        Command::Key(command) => command.carry_out(connection),
        Command::Config(command) => command.carry_out(connection),
        Command::Db(command) => command.carry_out(connection).await,
        Command::Status(command) => command.carry_out(connection).await,
        Command::Top(command) => command.carry_out(connection).await,
        Command::Apply(command) => command.carry_out(connection).await,
        Command::Export(command) => command.carry_out(connection).await,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
