//! Provider `command`: runs programs an administrator has put on this machine's disk.
//!
//! A plugin is a manifest `NAME.json` in the plugin directory ([`Manifest`]) that pins a program's bytes and fixes how it may be
//! called. A check names the plugin and gives typed arguments; it can neither name a program nor shape a command line. How
//! the program is confined is in `confine.rs`, how it is killed with all it started in `launch.rs`.

mod batch;
mod confine;
#[cfg(test)]
mod fuzz;
mod job;
mod launch;
mod manifest;
mod output;
mod parameters;
mod program;
mod run;
mod runs_others;
mod settings;
mod template;
mod trusted_path;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use nix::unistd::{Uid, User};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use launch::{SUBCOMMAND, launch_main};
pub use manifest::{Manifest, PluginLimits, Style};
pub use settings::Settings;

use crate::names::AdapterName;
use crate::text::display_safe;

use super::{CheckRequest, Provider, ProviderError, Results};
use batch::Batch;

/// The adapter's name.
pub const NAME: &str = "command";

/// Makes the provider.
///
/// # Errors
/// A sentence, when the settings are not valid. The plugin directory and the user are judged at each run instead, so that
/// they can be put right without a restart.
pub fn build(settings: Settings) -> Result<Arc<dyn Provider>, String> {
    let name = AdapterName::new(NAME).map_err(|error| error.to_string())?;
    if !(1..=256).contains(&settings.concurrency) {
        return Err(format!("[command] concurrency is {}: use 1 to 256", settings.concurrency));
    }
    if !settings.plugin_dir.is_absolute() {
        return Err("[command] plugin_dir must be an absolute path".to_owned());
    }
    let launcher = match &settings.launcher {
        Some(path) => path.clone(),
        // Stays the running program when its file is replaced by an upgrade.
        None => PathBuf::from("/proc/self/exe"),
    };
    let turns = Semaphore::new(settings.concurrency);
    Ok(Arc::new(Command { name, launcher, turns, settings }))
}

struct Command {
    name: AdapterName,
    launcher: PathBuf,
    turns: Semaphore,
    settings: Settings,
}

/// The parameters of a check.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    plugin: String,
    #[serde(default)]
    arguments: Value,
}

impl Parameters {
    fn read(written: &Value) -> Result<Self, String> {
        // The message repeats names that it does not know.
        Self::deserialize(written).map_err(|error| display_safe(&error.to_string()))
    }
}

#[async_trait]
impl Provider for Command {
    fn name(&self) -> AdapterName {
        self.name.clone()
    }

    fn parameter_schema(&self) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "required": ["plugin"],
            "properties": {
                "plugin": {
                    "description": "The plugin: its manifest is NAME.json in the adapter's plugin directory.",
                    "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,47}$"
                },
                "arguments": {
                    "description": "Values for the parameters the manifest declares.",
                    "type": "object", "maxProperties": 64
                }
            }
        })
    }

    fn validate(&self, parameters: &Value) -> Result<(), String> {
        let parameters = Parameters::read(parameters)?;
        let manifest = Manifest::load(&self.settings.plugin_dir, &parameters.plugin)?;
        manifest.arguments(&parameters.arguments)?;
        program::read_admitted(&manifest.program, &manifest.sha256)?;
        self.user()?;
        Ok(())
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let fault = ProviderError::Fault;
        let parameters = Parameters::read(&request.parameters).map_err(fault)?;
        let dir = self.settings.plugin_dir.clone();
        let (manifest, values) = tokio::task::spawn_blocking(move || {
            let manifest = Manifest::load(&dir, &parameters.plugin)?;
            let values = manifest.arguments(&parameters.arguments)?;
            Ok::<_, String>((manifest, values))
        })
        .await
        .map_err(|error| fault(error.to_string()))?
        .map_err(fault)?;
        let user = self.user().map_err(fault)?;
        let batch = Batch {
            command: self,
            request: &request,
            manifest: &manifest,
            values: &values,
            user: &user,
            results: &results,
        };
        match manifest.style {
            Style::Nagios => batch.one_by_one().await,
            Style::Jsonl => batch.together().await,
        }
        Ok(())
    }
}

impl Command {
    /// The plugins' user, who is neither root nor the service.
    fn user(&self) -> Result<User, String> {
        let name = &self.settings.user;
        let user = User::from_name(name)
            .map_err(|error| format!("[command] user {name} cannot be looked up: {error}"))?
            .ok_or_else(|| format!("[command] user {name} does not exist: create it, or name another"))?;
        if user.uid.is_root() || user.uid == Uid::effective() || user.uid == Uid::current() {
            return Err(format!(
                "[command] user {name} is root or the service's own: plugins need a user without the service's rights"
            ));
        }
        Ok(user)
    }
}
