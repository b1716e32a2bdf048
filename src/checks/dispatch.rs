//! The loop of the role: what is due is stored, signed, cast; what is overdue is reported as `timeout`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use crate::checks::runs::{Batch, Cause, Run};
use crate::checks::{Checks, State, storage};
use crate::clock::Timestamp;
use crate::names::{AdapterName, CheckName, NodeName};
use crate::protocol::targets::TargetMatcher;
use crate::protocol::{NodeResult, RunOrder, Status, Ticket};
use crate::rpc::table::Topic;
use crate::rpc::{Kind, RpcError};

/// How often the loop looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// Runs until `stop`.
pub async fn run(checks: Arc<Checks>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = checks.wake.notified() => {}
        }
        if let Err(error) = step(&checks).await {
            tracing::warn!(%error, "a scheduling step failed; it is repeated");
        }
    }
}

async fn step(checks: &Arc<Checks>) -> Result<(), RpcError> {
    begin_due(checks).await?;
    send_unsent(checks).await;
    report_overdue(checks).await;
    Ok(())
}

async fn begin_due(checks: &Arc<Checks>) -> Result<(), RpcError> {
    let mut guard = checks.state.lock().await;
    let state = &mut *guard;
    if state.inventory_version.is_none() {
        // Without ever having heard of a node there is nothing to aim at; slots wait, and run once when Nodes is there.
        return Ok(());
    }
    let now = checks.now();
    let due = state.planner.tick(&state.registry, &state.inventory, now);
    for item in due {
        if let Some(slot) = item.begins {
            let mut changes = checks.database.begin().await.map_err(RpcError::internal)?;
            storage::save_slot(&mut changes, &item.check, slot).await.map_err(RpcError::internal)?;
            changes.commit().await.map_err(RpcError::internal)?;
            state.last_slots.insert(item.check.clone(), slot);
        }
        let current = item
            .begins
            .is_none()
            .then(|| state.runs.latest().find(|run| run.check == item.check && run.sending).map(|run| run.order))
            .flatten();
        // Overlap: a node whose last run is still awaited is left out, and counted.
        let (skipped, nodes): (Vec<_>, Vec<_>) =
            item.nodes.into_iter().partition(|node| state.runs.is_outstanding(&item.check, node));
        if !skipped.is_empty() {
            metrics::counter!("spice_checks_skipped_total", "check" => item.check.to_string())
                .increment(skipped.len() as u64);
        }
        checks.begin(state, &item.check, nodes, Cause::Schedule, current, !item.last).await?;
    }
    Ok(())
}

impl Checks {
    /// Stores a run (or more nodes of one) as batches to be sent. Returns its id; `None` if there is nothing to do.
    pub(super) async fn begin(
        &self,
        state: &mut State,
        check: &CheckName,
        nodes: Vec<NodeName>,
        cause: Cause,
        current: Option<RunOrder>,
        more_follow: bool,
    ) -> Result<Option<RunOrder>, RpcError> {
        let now = self.clock.now();
        let mut changes = self.database.begin().await.map_err(RpcError::internal)?;
        if nodes.is_empty() {
            if let Some(run) = current.filter(|_| !more_follow).and_then(|order| state.runs.sent_out(order, now)) {
                storage::save_run(&mut changes, &run).await.map_err(RpcError::internal)?;
                changes.commit().await.map_err(RpcError::internal)?;
            }
            return Ok(current);
        }
        let definition = state.registry.check(check)?.clone();
        let order = current.unwrap_or_else(|| state.next_order(self.epoch));
        let mut run = state.runs.run(order).cloned().unwrap_or(Run {
            order,
            check: check.clone(),
            cause,
            started_at: now,
            total: 0,
            outcomes: std::collections::BTreeMap::new(),
            finished_at: None,
            sending: true,
        });
        // Numbers that never repeat within the run, though batches of it may be complete and gone.
        let first_batch = run.total + 1;
        let size = usize::try_from(definition.batch_size).unwrap_or(100).clamp(1, 200);
        let mut batches = Vec::new();
        for (index, chunk) in nodes.chunks(size).enumerate() {
            let number = first_batch + i64::try_from(index).unwrap_or(0);
            let ticket = Ticket {
                deployment: self.identity.deployment.clone(),
                order,
                batch: number,
                attempt: 1,
                check: check.clone(),
                check_id: definition.id.clone(),
                revision: definition.revision,
                adapter: definition.adapter.clone(),
                nodes: chunk.to_vec(),
                issued_at: now,
                deadline: now.plus(definition.timeout()),
            };
            let batch = Batch {
                order,
                batch: number,
                check: check.clone(),
                adapter: definition.adapter.to_string(),
                ticket: self.sign_ticket(&ticket)?,
                parameters: definition.parameters.clone(),
                deadline: ticket.deadline,
                awaited: chunk.iter().cloned().collect(),
                sent: false,
                timed_out: false,
            };
            storage::save_batch(&mut changes, &batch).await.map_err(RpcError::internal)?;
            batches.push(batch);
        }
        run.total += i64::try_from(nodes.len()).unwrap_or(i64::MAX);
        run.sending = more_follow;
        storage::save_run(&mut changes, &run).await.map_err(RpcError::internal)?;
        changes.commit().await.map_err(RpcError::internal)?;
        state.runs.put_run(run);
        for batch in batches {
            state.runs.add_batch(batch);
        }
        metrics::counter!("spice_checks_dispatched_total", "check" => check.to_string()).increment(nodes.len() as u64);
        self.wake.notify_one();
        Ok(Some(order))
    }

    /// Runs every enabled check that is aimed at `nodes` for them, at once.
    pub(super) async fn check_at_once(&self, nodes: &BTreeSet<NodeName>) -> Result<(), RpcError> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        let enabled: Vec<_> = state.registry.checks.values().filter(|check| check.enabled).cloned().collect();
        for check in enabled {
            let Ok(matcher) = TargetMatcher::new(&check.targets) else { continue };
            let aimed: Vec<NodeName> = nodes
                .iter()
                .filter(|node| state.inventory.get(*node).is_some_and(|labels| matcher.matches(node, labels)))
                .cloned()
                .collect();
            self.begin(state, &check.name, aimed, Cause::NodeChange, None, false).await?;
        }
        Ok(())
    }
}

/// Casts batches that are stored but not yet with the bus.
async fn send_unsent(checks: &Arc<Checks>) {
    let unsent: Vec<Batch> = checks.state.lock().await.runs.unsent().take(256).cloned().collect();
    for batch in unsent {
        let now = checks.clock.now();
        let Ok(adapter) = AdapterName::new(&batch.adapter) else { continue };
        let sent = if now >= batch.deadline {
            // Too late to ask; the deadline speaks for it.
            Ok(())
        } else {
            let args = Map::from_iter([
                ("ticket".to_owned(), json!(batch.ticket)),
                ("parameters".to_owned(), json!(batch.parameters)),
            ]);
            checks.rpc.work(Topic::Adapter, Some(&adapter), "run_check", args, Some(batch.deadline.since(now))).await
        };
        match sent {
            Ok(()) => {}
            Err(error) if error.kind == Kind::NotFound => {
                // Nobody ever served this adapter here: say so now instead of at the deadline.
                if let Err(error) = report(checks, &batch, Status::Error, &no_adapter(&adapter)).await {
                    tracing::warn!(%error, "a missing adapter could not be reported; it is repeated");
                    continue;
                }
                checks.state.lock().await.runs.mark_timed_out(batch.order, batch.batch);
            }
            Err(error) => {
                tracing::info!(%error, check.name = %batch.check, run = %batch.order, "a batch could not be handed to the bus; it is repeated");
                return;
            }
        }
        checks.state.lock().await.runs.mark_sent(batch.order, batch.batch);
        // A batch that is sent twice after a crash right here does no harm: results are idempotent.
        if let Some(batch) = checks.state.lock().await.runs.batch(batch.order, batch.batch).cloned() {
            store_batch(checks, &batch).await;
        }
    }
}

fn no_adapter(adapter: &AdapterName) -> String {
    format!("no adapter: nobody serves {adapter:?}; start one with `spiced --role adapter`", adapter = adapter.as_str())
}

/// Reports what Nodes has not stored by the deadline.
async fn report_overdue(checks: &Arc<Checks>) {
    let now = checks.clock.now();
    let overdue: Vec<Batch> = checks.state.lock().await.runs.overdue(now).take(256).cloned().collect();
    for batch in overdue {
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
            Ok(()) => (Status::Timeout, "no result was stored before the deadline".to_owned()),
            Err(adapter) => (Status::Error, no_adapter(&adapter)),
        };
        if let Err(error) = report(checks, &batch, status, &reason).await {
            tracing::info!(%error, "a time-out could not be handed to the bus; it is repeated");
            return;
        }
        metrics::counter!("spice_checks_overdue_total", "check" => batch.check.to_string())
            .increment(batch.awaited.len() as u64);
        let mut state = checks.state.lock().await;
        state.runs.mark_timed_out(batch.order, batch.batch);
        let stored = state.runs.batch(batch.order, batch.batch).cloned();
        drop(state);
        if let Some(batch) = stored {
            store_batch(checks, &batch).await;
        }
    }
}

async fn store_batch(checks: &Checks, batch: &Batch) {
    let saved = async {
        let mut changes = checks.database.begin().await?;
        storage::save_batch(&mut changes, batch).await?;
        changes.commit().await
    };
    if let Err(error) = saved.await {
        tracing::warn!(%error, "the state of a batch could not be stored; after a restart it may be sent again");
    }
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
