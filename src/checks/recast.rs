//! Casting again what was lost, inside its deadline.
//!
//! Only the nodes still awaited are asked about, under a ticket of their own: the same run and deadline, the next attempt.
//! It voids nothing: results of an earlier attempt count as they would have, and of different outcomes for one node Nodes
//! takes the worse. So a loss that was none costs the adapter work and nobody trust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checks::losses::{self, Loss};
use crate::checks::{Checks, storage};
use crate::clock::Timestamp;
use crate::names::AdapterName;
use crate::protocol::{Ticket, TicketRef};
use crate::rpc::RpcError;
use crate::rpc::table::Topic;

/// How often it is looked for losses.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take to say what waits in a queue.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most batches cast again at a time; the rest a moment later.
const AT_ONCE: usize = 64;

/// Runs until `stop`. Apart from the scheduling loop, which must not wait for the broker's answers.
pub async fn run(checks: Arc<Checks>, stop: CancellationToken) {
    let watching = checks.clock.now();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = look(&checks, watching).await {
            tracing::info!(%error, "lost batches could not be cast again; it is tried again");
        }
    }
}

async fn look(checks: &Checks, watching: Timestamp) -> Result<(), RpcError> {
    let lost = found(checks, watching).await;
    if lost.is_empty() || results_are_under_way(checks).await? {
        return Ok(());
    }
    let mut consumed: BTreeMap<AdapterName, bool> = BTreeMap::new();
    for (adapter, ticket, loss) in lost {
        let is_consumed = match consumed.get(&adapter) {
            Some(known) => *known,
            None => {
                // What waits there may be this batch; where there is no queue, there is nobody to ask.
                let waiting = checks.rpc.waiting(Topic::Adapter, Some(&adapter), PATIENCE).await?;
                consumed.insert(adapter.clone(), waiting == Some(0));
                waiting == Some(0)
            }
        };
        if is_consumed {
            checks.cast_again(ticket, loss).await?;
        }
    }
    Ok(())
}

async fn found(checks: &Checks, watching: Timestamp) -> Vec<(AdapterName, TicketRef, Loss)> {
    let now = checks.now();
    let mut state = checks.state.lock().await;
    for lost in state.adapters.take_lost(now.monotonic) {
        state.runs.mark_lost(&lost);
    }
    let lost = losses::lost(&state.runs, &state.adapters, watching, now);
    lost.filter_map(|(batch, loss)| {
        let ticket = TicketRef { order: batch.order, batch: batch.batch, attempt: batch.attempt };
        Some((AdapterName::new(&batch.adapter).ok()?, ticket, loss))
    })
    .take(AT_ONCE)
    .collect()
}

/// Whether results wait for Nodes, or what Nodes has stored for us: the answer that is missed may be among them.
async fn results_are_under_way(checks: &Checks) -> Result<bool, RpcError> {
    for topic in [Topic::Results, Topic::Events] {
        if checks.rpc.waiting(topic, None, PATIENCE).await?.unwrap_or(0) > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Checks {
    /// Stores the next attempt of a batch, to be sent like every batch that is stored. Nothing happens where that attempt
    /// is no longer the one awaited, or its result would count for nothing.
    async fn cast_again(&self, lost: TicketRef, loss: Loss) -> Result<(), RpcError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let Some(batch) = state.runs.batch(lost.order, lost.batch) else { return Ok(()) };
        if batch.attempt != lost.attempt || !losses::can_be_cast_again(batch, now) {
            return Ok(());
        }
        let first: Ticket = serde_json::from_str(&batch.ticket.body).map_err(RpcError::internal)?;
        let is_current = |check: &crate::checks::definition::Check| {
            check.enabled && check.id == first.check_id && check.revision == first.revision
        };
        if !state.registry.checks.get(&batch.check).is_some_and(is_current) {
            return Ok(());
        }
        let nodes: Vec<_> = batch.awaited.iter().cloned().collect();
        let asked = nodes.len();
        let ticket = Ticket { attempt: lost.attempt + 1, nodes, issued_at: now, ..first };
        let signed = self.sign_ticket(&ticket)?;
        let Some((run, next)) = state.runs.next_attempt(lost.order, lost.batch, signed, loss) else { return Ok(()) };
        let mut changes = self.database.begin().await.map_err(RpcError::internal)?;
        storage::save_batch(&mut changes, &next).await.map_err(RpcError::internal)?;
        storage::save_run(&mut changes, &run).await.map_err(RpcError::internal)?;
        changes.commit().await.map_err(RpcError::internal)?;
        state.runs.put_run(run);
        state.runs.put_attempt(next);
        metrics::counter!("spice_checks_recast_total", "reason" => loss.as_str()).increment(1);
        tracing::warn!(
            check.name = %ticket.check,
            adapter = %ticket.adapter,
            run = %lost.order,
            batch = lost.batch,
            attempt = ticket.attempt,
            nodes = asked,
            reason = loss.as_str(),
            "a batch was lost by its adapter and is sent again"
        );
        self.wake.notify_one();
        Ok(())
    }
}
