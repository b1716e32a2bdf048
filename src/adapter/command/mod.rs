//! Provider `command`: runs programs an administrator has put on this machine's disk.
//!
//! A plugin is a manifest `NAME.json` in the plugin directory ([`Manifest`]) that pins a program's bytes and fixes how it may be
//! called. A check names the plugin and gives typed arguments; it can neither name a program nor shape a command line. How
//! the program is confined is in `confine.rs`, how it is killed with all it started in `launch.rs`.

mod confine;
mod job;
mod launch;
mod manifest;
mod output;
mod program;
mod run;
mod runs_others;
mod settings;
mod template;
mod trusted_path;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use nix::unistd::{Uid, User};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

pub use launch::{SUBCOMMAND, launch_main};
pub use manifest::{Manifest, PluginLimits, Style};
pub use settings::Settings;

use crate::clock::Timestamp;
use crate::names::{AdapterName, NodeName};
use crate::protocol::{NodeResult, Status};

use super::{CheckRequest, Provider, ProviderError, Results};
use job::{Confinement, End, Job};
use output::Line;
use run::Ran;

/// The adapter's name.
pub const NAME: &str = "command";
/// Kept back from the time left, for killing and reporting: a tenth, within these bounds.
const RESERVE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

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
        let parameters = Parameters::deserialize(parameters).map_err(|error| error.to_string())?;
        let manifest = Manifest::load(&self.settings.plugin_dir, &parameters.plugin)?;
        manifest.arguments(&parameters.arguments)?;
        program::read_admitted(&manifest.program, &manifest.sha256)?;
        self.user()?;
        Ok(())
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let fault = ProviderError::Fault;
        let parameters = Parameters::deserialize(&request.parameters).map_err(|error| fault(error.to_string()))?;
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

/// One batch under way.
struct Batch<'a> {
    command: &'a Command,
    request: &'a CheckRequest,
    manifest: &'a Manifest,
    values: &'a Map<String, Value>,
    user: &'a User,
    results: &'a Results,
}

impl Batch<'_> {
    /// Style Nagios: one process per node.
    async fn one_by_one(&self) {
        stream::iter(&self.request.nodes)
            .for_each_concurrent(self.command.settings.concurrency, |node| async move {
                let argv = self.manifest.argv(self.values, Some(node.as_str()));
                let (requested_at, ran) = self.run(argv, None).await;
                let (status, reason) = match &ran {
                    Err(fault) => (Status::Error, fault.clone()),
                    Ok(ran) => self.judge(ran),
                };
                self.report(node, status, reason, requested_at).await;
            })
            .await;
    }

    /// Style JSON lines: one process for all.
    async fn together(&self) {
        let argv = self.manifest.argv(self.values, None);
        let input: String = self
            .request
            .nodes
            .iter()
            .map(|node| format!("{}\n", json!({"node": node, "arguments": self.values})))
            .collect();
        let (requested_at, ran) = self.run(argv, Some(input)).await;
        let (status, reason, lines) = match ran {
            Err(fault) => (Status::Error, fault, Vec::new()),
            Ok(ran) => {
                let (lines, bad) = output::json_lines(&ran.stdout);
                if bad > 0 {
                    metrics::counter!("spice_plugin_bad_lines_total", "plugin" => self.manifest.name.clone())
                        .increment(bad as u64);
                    tracing::warn!(plugin = self.manifest.name, bad, "a plugin wrote lines that are no results");
                }
                let (status, reason) = match unfinished(&ran, self.manifest) {
                    Some(unfinished) => unfinished,
                    None => (Status::Error, "the plugin gave no result for this node".to_owned()),
                };
                let bad = if bad == 0 { String::new() } else { format!(" ({bad} of its lines could not be read)") };
                (status, format!("{reason}{bad}"), lines)
            }
        };
        let mut answered: HashSet<NodeName> = HashSet::new();
        for line in lines {
            answered.insert(line.node.clone());
            self.report_line(line, requested_at).await;
        }
        for node in self.request.nodes.iter().filter(|node| !answered.contains(*node)) {
            self.report(node, status, reason.clone(), requested_at).await;
        }
    }

    /// Waits for a turn and runs the program once.
    async fn run(&self, argv: Result<Vec<String>, String>, stdin: Option<String>) -> (Timestamp, Result<Ran, String>) {
        let asked_at = self.request.now();
        let argv = match argv {
            Ok(argv) => argv,
            Err(fault) => return (asked_at, Err(fault)),
        };
        let Ok(_turn) = self.command.turns.acquire().await else {
            return (asked_at, Err("the adapter is stopping".to_owned()));
        };
        let requested_at = self.request.now();
        let left = self.request.time_left();
        let reserve = (left / 10).clamp(RESERVE.0, RESERVE.1);
        let timeout = left.saturating_sub(reserve).min(Duration::from_secs(self.manifest.timeout_s));
        if timeout.is_zero() {
            return (
                requested_at,
                Err("the time was up before the plugin's turn came; raise [command] concurrency or the timeout"
                    .to_owned()),
            );
        }
        let limits = &self.manifest.limits;
        let job = Job {
            program: self.manifest.program.clone(),
            sha256: self.manifest.sha256.clone(),
            argv,
            environment: self.manifest.environment.clone(),
            stdin,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            confinement: Confinement {
                uid: self.user.uid.as_raw(),
                gid: self.user.gid.as_raw(),
                memory_bytes: limits.memory_mb << 20,
                cpu_s: limits.cpu_s,
                processes: limits.processes,
                files: limits.files,
                file_bytes: limits.file_mb << 20,
                secret_files: self.command.settings.secret_files.clone(),
            },
        };
        let ran = run::run(&self.command.launcher, &job, limits.output_bytes).await;
        if let Ok(ran) = &ran {
            self.note_leftovers(ran);
        }
        (requested_at, ran)
    }

    fn note_leftovers(&self, ran: &Ran) {
        if ran.report.stragglers {
            tracing::error!(
                plugin = self.manifest.name,
                "processes of a plugin could not be killed; look for them under its user"
            );
        } else if ran.report.left_behind > 0 {
            tracing::info!(
                plugin = self.manifest.name,
                killed = ran.report.left_behind,
                "a plugin left processes behind"
            );
        }
    }

    fn judge(&self, ran: &Ran) -> (Status, String) {
        if let Some(unfinished) = unfinished(ran, self.manifest) {
            return unfinished;
        }
        let End::Exited(code) = ran.report.end else {
            return (Status::Error, "the plugin did not end by itself".to_owned());
        };
        let mut line = output::first_line(&ran.stdout);
        if line.is_empty() {
            line = output::first_line(&ran.stderr);
        }
        match (self.manifest.outcome(code), line.is_empty()) {
            (status, true) => (status, format!("exit code {code}, no output")),
            (Status::Error, false) => (Status::Error, format!("exit code {code}: {line}")),
            (status, false) => (status, line),
        }
    }

    async fn report(&self, node: &NodeName, status: Status, reason: String, requested_at: Timestamp) {
        let line = Line { node: node.clone(), status, reason, verified_at: None, boot: None, self_reported: false };
        self.report_line(line, requested_at).await;
    }

    async fn report_line(&self, line: Line, requested_at: Timestamp) {
        let result = NodeResult {
            node: line.node,
            status: line.status,
            reason: line.reason,
            requested_at,
            finished_at: self.request.now(),
            verified_at: line.verified_at,
            boot: line.boot,
            self_reported: line.self_reported || self.manifest.self_reported,
        };
        // Nobody listens any more: the deadline passed.
        let _ = self.results.send(result).await;
    }
}

/// What is to be said of a run that did not end by itself with an exit code that counts; `None` where it did.
fn unfinished(ran: &Ran, manifest: &Manifest) -> Option<(Status, String)> {
    let error = |told: String| Some((Status::Error, told));
    if ran.flooded {
        return error(format!("the plugin wrote more than {} bytes and was stopped", manifest.limits.output_bytes));
    }
    match &ran.report.end {
        End::Exited(0) => None,
        End::Exited(code) if manifest.style == Style::Jsonl => {
            let line = output::first_line(&ran.stderr);
            error(if line.is_empty() {
                format!("the plugin ended with exit code {code}")
            } else {
                format!("exit code {code}: {line}")
            })
        }
        End::Exited(_) => None,
        End::Signalled(signal) => {
            error(format!("the plugin was ended by signal {signal} (a crash, or a limit of its manifest)"))
        }
        End::TimedOut => Some((Status::Timeout, "the plugin gave no answer in its time and was stopped".to_owned())),
        End::Stopped => error("the plugin was stopped".to_owned()),
        End::Refused(reason) => error(format!("the plugin was not run: {}", crate::text::display_safe(reason))),
    }
}
