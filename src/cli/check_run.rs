//! Running a check now, and waiting for runs.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::output::{Field, OutputArgs, field, member, pieces, print, safe};
use crate::cli::progress::Progress;
use crate::cli::values;
use crate::names::{CheckName, NodeName};
use crate::protocol::RunOrder;

/// A run takes at most 20 minutes with its retries; then its time-outs have to be stored.
const LONGEST_WAIT_S: i64 = 1500;
/// Between two questions after a run: at first, and most.
const ASK_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Most results looked through for those who did not pass.
const MOST_RESULTS: i64 = 10_000;
/// Most nodes named below a table.
const MOST_NAMED: usize = 20;

/// How a run is shown.
pub const RUN: &[Field] = &[
    field("run"),
    field("check"),
    field("cause"),
    field("started_at"),
    field("finished_at"),
    field("nodes"),
    field("done"),
    field("outcomes"),
    field("attempts"),
    field("recasts"),
    field("unheard"),
];

/// How long to wait for a run.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Wait until it is finished, and exit with its outcome
    #[arg(long)]
    wait: bool,
    /// Wait at most so long: seconds, or 90s, 5m
    #[arg(long, value_name = "S", value_parser = values::seconds, default_value_t = LONGEST_WAIT_S, requires = "wait")]
    timeout: i64,
}

/// `check run`.
#[derive(Debug, Args)]
pub struct RunNow {
    /// Its name
    name: CheckName,
    /// On this node only; repeat for several [default: all it is aimed at]
    #[arg(long, value_name = "NODE")]
    node: Vec<NodeName>,
    #[command(flatten)]
    wait: WaitArgs,
}

impl RunNow {
    /// Runs the check, and waits if asked to.
    ///
    /// # Errors
    /// What the service says.
    pub async fn carry_out(self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        let nodes = (!self.node.is_empty()).then_some(&self.node);
        let started = session.checks("check_run", json!({ "name": self.name, "nodes": nodes })).await?;
        let run = started.get("run").and_then(Value::as_str).and_then(|run| run.parse().ok());
        let run: RunOrder = run.ok_or_else(|| unexpected("run"))?;
        if self.wait.wait {
            return self.wait.until_finished(session, output, run).await;
        }
        output.object(&started, &[field("run"), field("nodes")])?;
        Ok(Exit::Done)
    }
}

impl WaitArgs {
    /// Shows a run, waiting for its end first if asked to.
    ///
    /// # Errors
    /// What the service says, or that the run is not finished in time.
    pub async fn show(&self, session: &Session, output: &OutputArgs, run: RunOrder) -> Result<Exit, CliError> {
        if self.wait {
            return self.until_finished(session, output, run).await;
        }
        output.object(&session.checks("run_show", json!({ "run": run.to_string() })).await?, RUN)?;
        Ok(Exit::Done)
    }

    async fn until_finished(&self, session: &Session, output: &OutputArgs, run: RunOrder) -> Result<Exit, CliError> {
        let patience = Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0));
        let deadline = Instant::now() + patience;
        let mut shown = finished(session, run, deadline).await?;
        let not_passed = not_passed(session, &shown).await?;
        if let Some(members) = shown.as_object_mut() {
            members.insert("not_passed".to_owned(), json!(not_passed));
        }
        output.object(&shown, RUN)?;
        if output.is_table() && output.column.is_empty() {
            print(&told(&not_passed))?;
        }
        outcome(&shown)
    }
}

/// Asks until the run is finished.
async fn finished(session: &Session, run: RunOrder, deadline: Instant) -> Result<Value, CliError> {
    let mut progress = Progress::new(format!("run {run}"));
    let mut pause = ASK_AFTER.0;
    loop {
        let shown = session.checks("run_show", json!({ "run": run.to_string() })).await?;
        let number = |name: &str| shown.get(name).and_then(Value::as_u64).unwrap_or(0);
        let outcomes = shown.get("outcomes").map(pieces).unwrap_or_default().join(" ");
        progress.at(number("done"), number("nodes"), &outcomes);
        if shown.get("finished").and_then(Value::as_bool) == Some(true) {
            return Ok(shown);
        }
        let now = Instant::now();
        if now >= deadline {
            let counts = format!("{} of {} nodes are done", number("done"), number("nodes"));
            return Err(CliError::unavailable(format!("run {run} is not finished: {counts}"))
                .hint(format!("it goes on; `spicectl run show {run} --wait` waits again")));
        }
        // There is no event to wait for: runs are told of only when asked.
        tokio::time::sleep(pause.min(deadline - now)).await;
        pause = (pause * 2).min(ASK_AFTER.1);
    }
}

/// The results of the run that are no pass; none where all passed.
async fn not_passed(session: &Session, run: &Value) -> Result<Vec<Value>, CliError> {
    let number = |name: &str| run.get(name).and_then(Value::as_i64).unwrap_or(0);
    let passed = run.pointer("/outcomes/pass").and_then(Value::as_i64).unwrap_or(0);
    if passed == number("nodes") {
        return Ok(Vec::new());
    }
    let limit = (number("nodes") * 2).clamp(100, MOST_RESULTS);
    let results = session.nodes("result_list", json!({ "check": run.get("check"), "limit": limit })).await?;
    let results = results.as_array().ok_or_else(|| unexpected("list of results"))?;
    let of_run = |result: &&Value| result.get("run") == run.get("run") && status(result) != "pass";
    Ok(results.iter().filter(of_run).cloned().collect())
}

fn status(result: &Value) -> &str {
    result.get("status").and_then(Value::as_str).unwrap_or_default()
}

fn told(not_passed: &[Value]) -> String {
    let mut text = String::new();
    for result in not_passed.iter().take(MOST_NAMED) {
        text.push_str(&format!("{}: {}: {}\n", member(result, "node"), safe(status(result)), member(result, "reason")));
    }
    if not_passed.len() > MOST_NAMED {
        text.push_str(&format!("and {} more; `spicectl result list` shows them\n", not_passed.len() - MOST_NAMED));
    }
    text
}

/// The exit code of a finished run.
fn outcome(run: &Value) -> Result<Exit, CliError> {
    let outcomes = run.get("outcomes").and_then(Value::as_object).ok_or_else(|| unexpected("outcomes"))?;
    let count = |status: &str| outcomes.get(status).and_then(Value::as_i64).unwrap_or(0);
    let judged = outcomes.values().filter_map(Value::as_i64).sum::<i64>();
    Ok(if count("fail") > 0 {
        Exit::SOME_FAILED
    } else if judged > count("pass") || judged == 0 {
        Exit::SOME_NOT_JUDGED
    } else {
        Exit::Done
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_failure_outranks_what_could_not_be_judged_and_nothing_at_all_is_no_success() {
        let exit = |outcomes: Value| outcome(&json!({ "outcomes": outcomes })).unwrap() as u8;
        assert_eq!(exit(json!({"pass": 3})), 0);
        assert_eq!(exit(json!({"pass": 3, "fail": 1, "timeout": 1})), 2);
        assert_eq!(exit(json!({"pass": 3, "error": 1})), 3);
        assert_eq!(exit(json!({"timeout": 1})), 3);
        assert_eq!(exit(json!({"strange": 1})), 3);
        assert_eq!(exit(json!({})), 3);
        assert!(outcome(&Value::Null).is_err());
    }
}
