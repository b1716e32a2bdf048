//! The loop of the role: what is due is stored, signed and cast.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use crate::checks::run::{Batch, Cause, Run};
use crate::checks::{Checks, State, overdue, storage};
use crate::names::{AdapterName, CheckName, NodeName};
use crate::protocol::targets::TargetMatcher;
use crate::protocol::{RunOrder, Ticket};
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
            biased;
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
    overdue::report_overdue(checks).await;
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
            attempts: 1,
            recasts: std::collections::BTreeMap::new(),
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
                attempt: 1,
                ticket: self.sign_ticket(&ticket)?,
                parameters: definition.parameters.clone(),
                deadline: ticket.deadline,
                awaited: chunk.iter().cloned().collect(),
                sent: false,
                sent_at: None,
                heard_at: None,
                lost: None,
                safe_at: None,
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
    pub(super) async fn check_at_once(&self, state: &mut State, nodes: &BTreeSet<NodeName>) -> Result<(), RpcError> {
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
    // An adapter whose queue takes nothing holds up itself, and no other.
    let mut stuck: BTreeSet<AdapterName> = BTreeSet::new();
    for batch in unsent {
        let now = checks.clock.now();
        let Ok(adapter) = AdapterName::new(&batch.adapter) else { continue };
        if stuck.contains(&adapter) {
            continue;
        }
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
            Err(error) if error.kind == Kind::NotFound && batch.attempt == 1 => {
                // Nobody ever served this adapter here: say so now instead of at the deadline.
                if let Err(error) = overdue::report_no_adapter(checks, &batch, &adapter).await {
                    tracing::warn!(%error, "a missing adapter could not be reported; it is repeated");
                    continue;
                }
            }
            // Somebody did serve it and may yet answer an earlier attempt; the deadline speaks for this one.
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => {
                tracing::info!(%error, check.name = %batch.check, run = %batch.order, "a batch could not be handed to the bus; it is repeated");
                if !*checks.bus.connected().borrow() {
                    return;
                }
                stuck.insert(adapter);
                continue;
            }
        }
        // A batch that is sent twice after a crash right here does no harm: results are idempotent.
        checks.mark(&batch, |runs| runs.mark_sent(batch.order, batch.batch, now)).await;
    }
}
