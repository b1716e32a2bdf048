//! What is wrong, and whose it is: pure, from what both roles say, the latest runs and the pool file of this machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::member;
use crate::cli::show::span;
use crate::rpc::table::Topic;

/// How many of the latest runs are looked through for the last finished one of each check.
const RUNS: i64 = 200;
/// Nodes says every two seconds that it lives; a pool cache that heard nothing for so long is cut off.
const QUIET_S: u64 = 15;
/// More than this share of a pool is no matter of single hosts.
const MANY: f64 = 0.2;

/// Whose a finding is; also the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// SPICE itself, or what it works with: broker, database, adapters, verifiers.
    Service,
    /// Single nodes.
    Hosts,
    /// What was decided by somebody, and should not be forgotten.
    Note,
}

impl About {
    /// The word before a line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Service => "WARNING",
            Self::Hosts => "HOSTS",
            Self::Note => "NOTE",
        }
    }
}

/// Something that deserves a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whose it is.
    pub about: About,
    /// What is wrong, and what to do.
    pub text: String,
}

impl Finding {
    /// For programs.
    pub fn as_json(&self) -> Value {
        let about = match self.about {
            About::Service => "service",
            About::Hosts => "hosts",
            About::Note => "note",
        };
        json!({ "about": about, "text": self.text })
    }
}

/// The sign of life beside the pool file of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFile {
    /// Seconds since the pool cache last heard role nodes and agreed.
    pub age_s: u64,
}

impl PoolFile {
    /// Of `folder`; `None` where this machine has none.
    pub fn of(folder: &Path) -> Option<Self> {
        let written = std::fs::metadata(folder.join("pool.alive")).and_then(|file| file.modified()).ok()?;
        Some(Self { age_s: written.elapsed().unwrap_or_default().as_secs() })
    }
}

/// What was asked.
pub struct Answers {
    /// The status of Checks.
    pub checks: Result<Value, CliError>,
    /// The status of Nodes.
    pub nodes: Result<Value, CliError>,
    /// The latest runs, the latest first.
    pub runs: Vec<Value>,
    /// The pool file of this machine.
    pub pool_file: Option<PoolFile>,
}

impl Answers {
    /// Asks both roles at once; each may take `patience`.
    pub async fn ask(session: &Session, patience: Duration, pool_file: Option<PoolFile>) -> Self {
        let status = |topic| session.call(topic, "status", json!({}), patience);
        let runs = session.call(Topic::Checks, "run_list", json!({ "limit": RUNS }), patience);
        let (checks, nodes, runs) = tokio::join!(status(Topic::Checks), status(Topic::Nodes), runs);
        let runs = runs.ok().and_then(|runs| runs.as_array().cloned()).unwrap_or_default();
        Self { checks, nodes, runs, pool_file }
    }
}

/// One line that says how it is.
pub fn verdict(findings: &[Finding]) -> String {
    let count = |about| findings.iter().filter(|finding| finding.about == about).count();
    match (count(About::Service), count(About::Hosts)) {
        (0, 0) => "All is well.".to_owned(),
        (0, hosts) => format!("SPICE works; hosts need a look ({hosts})."),
        (service, 0) => format!("SPICE needs a look ({service}); nothing is said against hosts."),
        (service, hosts) => format!("SPICE needs a look ({service}), and hosts do ({hosts}); begin with SPICE."),
    }
}

/// How `status --exit-code` ends where both roles answer.
pub fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.about).min() {
        Some(About::Service) => Exit::SERVICE_AT_FAULT,
        Some(About::Hosts) => Exit::HOSTS_NEED_A_LOOK,
        Some(About::Note) | None => Exit::Done,
    }
}

/// All findings, SPICE's own first.
pub fn of(answers: &Answers) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    found.roles(answers);
    if let (Ok(checks), Ok(nodes)) = (&answers.checks, &answers.nodes) {
        found.policy(checks, nodes);
    }
    if let Ok(checks) = &answers.checks {
        found.checks(checks);
    }
    found.runs(&answers.runs);
    if let Ok(nodes) = &answers.nodes {
        found.epoch(nodes);
        found.pools(nodes, answers.pool_file);
    }
    found.0.sort_by_key(|finding| finding.about);
    found.0
}

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn number(value: &Value, name: &str) -> i64 {
    value.get(name).and_then(Value::as_i64).unwrap_or(0)
}

/// What is wrong with a role's database.
fn database(role: &str, status: &Value) -> Option<String> {
    let database = status.get("database").filter(|database| database.get("up") == Some(&Value::Bool(false)))?;
    let text = |name| database.get(name).map(crate::cli::output::word).unwrap_or_default();
    Some(format!(
        "role {role} CANNOT USE ITS DATABASE ({}, for {} s): {}; nothing is stored meanwhile, work stays in its queue",
        text("reason"),
        text("for_s"),
        text("error")
    ))
}

struct Found(Vec<Finding>);

impl Found {
    fn service(&mut self, text: String) {
        self.0.push(Finding { about: About::Service, text });
    }

    fn hosts(&mut self, text: String) {
        self.0.push(Finding { about: About::Hosts, text });
    }

    fn note(&mut self, text: String) {
        self.0.push(Finding { about: About::Note, text });
    }

    /// What does not answer, and what a role says of itself: its loops, its database, its key, its trust directory.
    fn roles(&mut self, answers: &Answers) {
        for (role, answer) in [("checks", &answers.checks), ("nodes", &answers.nodes)] {
            let Ok(status) = answer else {
                self.service(format!("role {role} does not answer; see its log and that it runs"));
                continue;
            };
            if status.get("unsigned_admin").and_then(Value::as_bool) == Some(true) {
                self.service(format!(
                    "role {role} carries out UNSIGNED calls (unsigned_admin = true): whoever reaches the bus is an administrator. For a lab only"
                ));
            }
            let key = status.get("key_fault").and_then(Value::as_str);
            let faults = key.into_iter().chain(texts(status, "/trust_store/faults"));
            let database = database(role, status);
            // The role says of its database what is known from asking it; what was tried says more.
            let own =
                texts(status, "/health/faults").filter(|fault| database.is_none() || !fault.starts_with("database"));
            for fault in faults.chain(own) {
                self.service(format!("role {role}: {fault}"));
            }
            if let Some(text) = database {
                self.service(text);
            }
        }
    }

    fn policy(&mut self, checks: &Value, nodes: &Value) {
        let (made, under) = (checks.get("policy_number"), nodes.get("policy_number"));
        if let Some(refused) = nodes.get("policy_refused").and_then(Value::as_i64) {
            self.service(format!(
                "Nodes refuses policy {refused} of Checks, because it judges by a newer one: was the database of Checks restored? \
                 `spicectl pool adopt-policy` shows what it would change"
            ));
        } else if made.is_some_and(|made| !made.is_null() && under != Some(made)) {
            let under = under.filter(|under| !under.is_null()).map_or_else(|| "none".to_owned(), ToString::to_string);
            self.service(format!(
                "Checks has policy {}, Nodes judges under {under}; if that lasts over a minute, see the log of Nodes",
                member(checks, "policy_number")
            ));
        }
    }

    fn epoch(&mut self, nodes: &Value) {
        if let Some(known) = nodes.get("epoch_known_by_readers").and_then(Value::as_i64) {
            self.service(format!(
                "readers do not believe Nodes, because they know epoch {known}; see `spicectl pool reset-epoch --help`"
            ));
        }
    }

    fn checks(&mut self, checks: &Value) {
        let adapters = checks.get("adapters").and_then(Value::as_object);
        for (adapter, _) in adapters.into_iter().flatten().filter(|(_, alive)| alive.as_i64() == Some(0)) {
            self.service(format!("no adapter {adapter} lives; its checks are errors until one starts"));
        }
        if adapters.is_some_and(serde_json::Map::is_empty) {
            self.service("no adapter has announced itself; nothing can be checked".to_owned());
        }
        for fault in texts(checks, "/adapter_faults") {
            self.service(fault.to_owned());
        }
        for (check, behind) in checks.get("behind").and_then(Value::as_object).into_iter().flatten() {
            let behind = span(behind.as_u64().unwrap_or(0));
            self.service(format!("check {check} should have run {behind} ago and has not; see the log of Checks"));
        }
        if number(checks, "overdue") > 0 {
            self.service(format!("{} batches are past their deadline", number(checks, "overdue")));
        }
        if number(checks, "dead_letters") > 0 {
            self.service(format!(
                "{} messages could not be carried out and were put aside; see `spicectl dead-letter list`",
                number(checks, "dead_letters")
            ));
        }
    }

    /// What the last finished run of each check says: of whom nobody could be judged it is not the hosts' fault.
    fn runs(&mut self, runs: &[Value]) {
        let mut seen = BTreeSet::new();
        let finished = runs.iter().filter(|run| run.get("finished").and_then(Value::as_bool) == Some(true));
        for run in finished {
            let check = member(run, "check");
            // A run of a single node says nothing of the verifier.
            let total = number(run, "done");
            if total < 2 || !seen.insert(check.clone()) {
                continue;
            }
            let outcome = |status: &str| run.get("outcomes").map_or(0, |outcomes| number(outcomes, status));
            let (errors, timeouts, failed) = (outcome("error"), outcome("timeout"), outcome("fail"));
            let (unjudged, run) = (errors + timeouts, member(run, "run"));
            if unjudged * 2 > total {
                self.service(format!(
                    "check {check}: {unjudged} of {total} nodes could not be judged in run {run} ({errors} errors, {timeouts} timeouts): \
                     the verifier, its adapter or the way to the nodes; see `spicectl result list --check {check}`"
                ));
            } else if unjudged > 0 {
                self.hosts(format!(
                    "check {check}: {unjudged} of {total} nodes could not be judged in run {run} ({errors} errors, {timeouts} timeouts); \
                     the others could, so look at these"
                ));
            }
            if failed > 0 {
                self.hosts(format!("check {check}: {failed} of {total} nodes failed in run {run}"));
            }
        }
    }

    fn pools(&mut self, nodes: &Value, file: Option<PoolFile>) {
        for pool in nodes.get("pools").and_then(Value::as_array).into_iter().flatten() {
            let name = member(pool, "name");
            let (untrusted, trusted, expiring) =
                (number(pool, "untrusted"), number(pool, "trusted"), number(pool, "expiring"));
            if untrusted > 0 {
                self.hosts(format!(
                    "pool {name}: {untrusted} nodes are untrusted; `spicectl node list --pool {name} --level untrusted`, then `node why`"
                ));
            }
            if expiring as f64 > trusted as f64 * MANY {
                self.service(format!(
                    "pool {name}: {expiring} of {trusted} trusted nodes will be unknown within a period: their checks bring no passes"
                ));
            } else if expiring > 0 {
                self.hosts(format!(
                    "pool {name}: {expiring} of {trusted} trusted nodes missed a check and will be unknown within a period"
                ));
            }
            if number(pool, "overridden") > 0 {
                self.note(format!("pool {name}: {} nodes are trusted by override only", number(pool, "overridden")));
            }
            if let Some(file) = file.filter(|file| file.age_s > QUIET_S) {
                let limit = u64::try_from(number(pool, "max_silence_s")).unwrap_or(0);
                let then = match limit.saturating_sub(file.age_s) {
                    0 => "its nodes are unknown to the scheduler here".to_owned(),
                    left => format!("its nodes are unknown to the scheduler here in {}", span(left)),
                };
                self.service(format!(
                    "pool {name}: the pool cache of this machine heard nothing for {}: {then}; see its log",
                    span(file.age_s)
                ));
            }
        }
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
