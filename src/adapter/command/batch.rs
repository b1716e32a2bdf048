//! One batch of a plugin: processes started, their words turned into results.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use nix::unistd::User;
use serde_json::{Map, Value, json};

use crate::adapter::{CheckRequest, Results};
use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::{NodeResult, Status};

use super::job::{Confinement, End, Job};
use super::manifest::{Manifest, Style};
use super::output::Line;
use super::run::Ran;
use super::{Command, output, run};

/// Kept back from the time left, for killing and reporting: a tenth, within these bounds.
const RESERVE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// With less time left a program is not started: that it does not end would say nothing about the node.
const SHORTEST_RUN: Duration = Duration::from_millis(500);

/// One batch under way.
pub(super) struct Batch<'a> {
    pub(super) command: &'a Command,
    pub(super) request: &'a CheckRequest,
    pub(super) manifest: &'a Manifest,
    pub(super) values: &'a Map<String, Value>,
    pub(super) user: &'a User,
    pub(super) results: &'a Results,
}

impl Batch<'_> {
    /// Style Nagios: one process per node.
    pub(super) async fn one_by_one(&self) {
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
    pub(super) async fn together(&self) {
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

    /// Until the deadline, less what killing and reporting need.
    fn time_left(&self) -> Duration {
        let left = self.request.time_left();
        left.saturating_sub((left / 10).clamp(RESERVE.0, RESERVE.1))
    }

    /// Waits for a turn and runs the program once.
    async fn run(&self, argv: Result<Vec<String>, String>, stdin: Option<String>) -> (Timestamp, Result<Ran, String>) {
        let asked_at = self.request.now();
        let argv = match argv {
            Ok(argv) => argv,
            Err(fault) => return (asked_at, Err(fault)),
        };
        let busy =
            "the adapter was busy with other plugins until the time was up; raise [command] concurrency or the timeout";
        let Ok(Ok(_turn)) = tokio::time::timeout(self.time_left(), self.command.turns.acquire()).await else {
            return (asked_at, Err(busy.to_owned()));
        };
        let requested_at = self.request.now();
        let timeout = self.time_left().min(Duration::from_secs(self.manifest.timeout_s));
        if timeout < SHORTEST_RUN {
            return (requested_at, Err(busy.to_owned()));
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
