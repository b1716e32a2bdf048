//! What nobody answered: reported by Checks itself, as a filler that gives way to any answer.

use std::sync::Arc;

use serde_json::{Map, json};

use crate::checks::run::Batch;
use crate::checks::{Checks, storage};
use crate::clock::Timestamp;
use crate::names::AdapterName;
use crate::protocol::{NodeResult, Status};
use crate::rpc::RpcError;
use crate::rpc::table::Topic;

/// Most time-outs reported at a time; the rest a moment later.
const AT_ONCE: usize = 256;

/// Reports what Nodes has not stored by the deadline.
pub(super) async fn report_overdue(checks: &Arc<Checks>) {
    let now = checks.now();
    let overdue: Vec<Batch> = {
        let mut state = checks.state.lock().await;
        state.runs.watch(now);
        state.runs.overdue(now).take(AT_ONCE).cloned().collect()
    };
    for batch in overdue {
        crate::telemetry::health::turn();
        let alive = match AdapterName::new(&batch.adapter) {
            Ok(adapter) => checks
                .state
                .lock()
                .await
                .adapters
                .is_alive(&adapter, checks.clock.monotonic())
                .then_some(())
                .ok_or(adapter),
            Err(_) => Ok(()),
        };
        let (status, reason) = match alive {
            Ok(()) => (Status::Timeout, no_result(batch.attempt)),
            Err(adapter) => (Status::Error, no_adapter(&adapter)),
        };
        if let Err(error) = report(checks, &batch, status, &reason).await {
            tracing::info!(%error, "a time-out could not be handed to the bus; it is repeated");
            return;
        }
        if batch.timed_out {
            metrics::counter!("spice_checks_overdue_repeated_total").increment(1);
            tracing::warn!(check.name = %batch.check, run = %batch.order, batch = batch.batch, "a time-out was not reported as stored; it is sent again");
        } else {
            metrics::counter!("spice_checks_overdue_total", "check" => batch.check.to_string())
                .increment(batch.awaited.len() as u64);
        }
        checks.mark(&batch, |runs| runs.mark_timed_out(batch.order, batch.batch, now.monotonic)).await;
    }
}

/// Reports that nobody serves the adapter of `batch`.
pub(super) async fn report_no_adapter(checks: &Checks, batch: &Batch, adapter: &AdapterName) -> Result<(), RpcError> {
    report(checks, batch, Status::Error, &no_adapter(adapter)).await?;
    let now = checks.clock.monotonic();
    checks.mark(batch, |runs| runs.mark_timed_out(batch.order, batch.batch, now)).await;
    Ok(())
}

/// Ends what Nodes says nothing of, so that its nodes are not left out of every later run.
pub(super) async fn give_up(checks: &Checks) {
    let mut state = checks.state.lock().await;
    let given_up = state.runs.give_up(checks.now());
    if given_up.is_empty() {
        return;
    }
    let saved = async {
        let mut changes = checks.database.begin().await?;
        for (batch, run) in &given_up {
            storage::delete_batch(&mut changes, batch.order, batch.batch).await?;
            if let Some(run) = run {
                storage::save_run(&mut changes, run).await?;
            }
        }
        changes.commit().await
    };
    if let Err(error) = saved.await {
        tracing::warn!(%error, "it could not be stored that batches were given up; after a restart they are given up again");
    }
    for (batch, _) in &given_up {
        metrics::counter!("spice_checks_lost_total", "check" => batch.check.to_string())
            .increment(batch.awaited.len() as u64);
        tracing::error!(
            check.name = %batch.check,
            run = %batch.order,
            batch = batch.batch,
            nodes = batch.awaited.len(),
            "Nodes never reported the outcomes of a batch as stored; it is given up. Look at the dead letters and at Nodes"
        );
    }
}

fn no_result(attempts: i64) -> String {
    let asked = if attempts > 1 { format!(", though it was asked for {attempts} times") } else { String::new() };
    format!("no result was stored before the deadline{asked}")
}

fn no_adapter(adapter: &AdapterName) -> String {
    format!("no adapter: nobody serves {adapter:?}; start one with `spiced --role adapter`", adapter = adapter.as_str())
}

async fn report(checks: &Checks, batch: &Batch, status: Status, reason: &str) -> Result<(), RpcError> {
    let now: Timestamp = checks.clock.now();
    let results: Vec<NodeResult> = batch
        .awaited
        .iter()
        .map(|node| NodeResult {
            node: node.clone(),
            status,
            reason: reason.to_owned(),
            requested_at: now,
            finished_at: now,
            verified_at: None,
            boot: None,
            self_reported: false,
        })
        .collect();
    let args = Map::from_iter([("ticket".to_owned(), json!(batch.ticket)), ("results".to_owned(), json!(results))]);
    checks.rpc.work(Topic::Results, None, "record_results", args, None).await
}

impl Checks {
    /// Changes what is known of a batch, and stores it, unless it is complete meanwhile. Both under one lock, so that an
    /// older state of the batch never replaces a newer one in the database.
    pub(super) async fn mark(&self, batch: &Batch, change: impl FnOnce(&mut crate::checks::runs::Runs)) {
        let mut state = self.state.lock().await;
        change(&mut state.runs);
        let Some(batch) = state.runs.batch(batch.order, batch.batch) else { return };
        let saved = async {
            let mut changes = self.database.begin().await?;
            storage::save_batch(&mut changes, batch).await?;
            changes.commit().await
        };
        if let Err(error) = saved.await {
            tracing::warn!(%error, "the state of a batch could not be stored; after a restart it may be sent again");
        }
    }
}
