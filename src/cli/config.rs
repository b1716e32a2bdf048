//! `spicectl config`: the daemon's own loader, and the sample written from its table.

use clap::{Args, Subcommand};

use crate::cli::connection::ConnectionArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{print, safe, say};
use crate::config::{Settings, sample};

/// Configuration.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Checks the configuration with the daemon's own loader; tells all faults, exit code 1 if there is one
    #[command(after_help = "Example:\n  spicectl config check --config-file /etc/spice/spice.conf")]
    Check,
    /// Prints a sample with every option and its default
    #[command(after_help = "Example:\n  spicectl config sample > spice.conf")]
    Sample,
}

impl ConfigCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// The sources cannot be named, or standard output cannot be written.
    pub fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        if let Verb::Sample = self.verb {
            print(&sample())?;
            return Ok(Exit::Done);
        }
        let sources = connection.sources()?;
        let read: Vec<String> =
            sources.files.iter().chain(&sources.dirs).map(|path| safe(&path.to_string_lossy())).collect();
        let read = if read.is_empty() { "no file, only the environment".to_owned() } else { read.join(", ") };
        match Settings::load(&sources) {
            Ok((_, warnings)) => {
                for warning in &warnings {
                    say(&format!("warning: {}", safe(&warning.to_string())));
                }
                print(&format!("the configuration is good ({read}), {} warnings\n", warnings.len()))?;
                Ok(Exit::Done)
            }
            Err(faults) => {
                for fault in &faults {
                    say(&safe(&fault.to_string()));
                }
                say(&format!("spicectl: {} faults in the configuration ({read})", faults.len()));
                Ok(Exit::Local)
            }
        }
    }
}
