//! Casting again what was lost, inside its deadline.
//!
//! Only the nodes still awaited are asked about, under a ticket of their own: the same run and deadline, the next attempt.
//! It voids nothing: results of an earlier attempt count as they would have, and of different outcomes for one node Nodes
//! takes the worse. So a loss that was none costs the adapter work and nobody trust.

use std::collections::BTreeSet;
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
    let mut watching = checks.clock.now();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        crate::telemetry::health::turn();
        if checks.state.lock().await.runs.batches().next().is_none() {
            continue;
        }
        match results_are_under_way(&checks).await {
            Ok(under_way) => look(&checks, watching, under_way).await,
            Err(error) => {
                // Whoever cannot ask the broker hears nobody either: their silence says nothing, and that of adapters neither.
                tracing::debug!(%error, "it cannot be looked for lost batches");
                watching = checks.clock.now();
                checks.state.lock().await.adapters.excuse(checks.clock.monotonic());
            }
        }
    }
}

async fn look(checks: &Checks, watching: Timestamp, results_are_under_way: bool) {
    let served = served(checks).await;
    let lost = found(checks, watching, &served).await;
    if results_are_under_way {
        return;
    }
    for (ticket, loss) in lost {
        if let Err(error) = checks.cast_again(ticket, watching, loss).await {
            tracing::info!(%error, run = %ticket.order, batch = ticket.batch, "a lost batch could not be cast again; it is tried again");
        }
    }
}

/// The adapters that have taken everything from their queues. What waits in a queue may be any batch that was sent there; where
/// there is no queue, there is nobody to ask. One that cannot be looked at holds up no other.
async fn served(checks: &Checks) -> BTreeSet<AdapterName> {
    let now = checks.clock.now();
    let asked: BTreeSet<AdapterName> = {
        let state = checks.state.lock().await;
        let open = state.runs.batches().filter(|batch| losses::can_be_cast_again(batch, now));
        open.filter_map(|batch| AdapterName::new(&batch.adapter).ok()).collect()
    };
    let looks = asked.into_iter().map(async |adapter| {
        let waiting = checks.rpc.waiting(Topic::Adapter, Some(&adapter), PATIENCE).await;
        (adapter, waiting)
    });
    let mut served = BTreeSet::new();
    for (adapter, waiting) in futures_util::future::join_all(looks).await {
        match waiting {
            Ok(Some(0)) => drop(served.insert(adapter)),
            Ok(Some(_)) => {
                let now = checks.clock.now();
                checks.state.lock().await.runs.mark_waiting(adapter.as_str(), now);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::info!(%error, adapter = %adapter, "an adapter's queue cannot be looked at; what it lost is not cast again meanwhile");
            }
        }
    }
    served
}

async fn found(checks: &Checks, watching: Timestamp, served: &BTreeSet<AdapterName>) -> Vec<(TicketRef, Loss)> {
    let now = checks.now();
    let mut guard = checks.state.lock().await;
    let state = &mut *guard;
    let lost = losses::lost(&state.runs, &state.adapters, watching, now)
        .filter(|(batch, _)| served.iter().any(|adapter| adapter.as_str() == batch.adapter))
        .map(|(batch, loss)| (TicketRef { order: batch.order, batch: batch.batch, attempt: batch.attempt }, loss))
        .take(AT_ONCE)
        .collect();
    losses::take_note(&mut state.runs, &mut state.adapters, now);
    lost
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
    async fn cast_again(&self, lost: TicketRef, watching: Timestamp, loss: Loss) -> Result<(), RpcError> {
        let mut state = self.state.lock().await;
        let now = self.now();
        let Some(batch) = state.runs.batch(lost.order, lost.batch) else { return Ok(()) };
        // Somebody may have said that he holds it, or answered, while the broker was asked.
        let still = losses::loss_of(batch, &state.adapters, watching, now) == Some(loss);
        if batch.attempt != lost.attempt || !still {
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
        let ticket = Ticket { attempt: lost.attempt + 1, nodes, issued_at: now.utc, ..first };
        let signed = self.sign_ticket(&ticket)?;
        let Some((run, next)) = state.runs.next_attempt(lost.order, lost.batch, signed, loss) else { return Ok(()) };
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        storage::save_batch(&mut changes, &next).await.map_err(RpcError::from)?;
        storage::save_run(&mut changes, &run).await.map_err(RpcError::from)?;
        changes.commit().await.map_err(RpcError::from)?;
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
