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

/// Reports what Nodes has not stored by the deadline.
pub(super) async fn report_overdue(checks: &Arc<Checks>) {
    let now = checks.clock.now();
    let overdue: Vec<Batch> = checks.state.lock().await.runs.overdue(now).take(256).cloned().collect();
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
        metrics::counter!("spice_checks_overdue_total", "check" => batch.check.to_string())
            .increment(batch.awaited.len() as u64);
        checks.mark(&batch, |runs| runs.mark_timed_out(batch.order, batch.batch)).await;
    }
}

/// Reports that nobody serves the adapter of `batch`.
pub(super) async fn report_no_adapter(checks: &Checks, batch: &Batch, adapter: &AdapterName) -> Result<(), RpcError> {
    report(checks, batch, Status::Error, &no_adapter(adapter)).await?;
    checks.mark(batch, |runs| runs.mark_timed_out(batch.order, batch.batch)).await;
    Ok(())
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
