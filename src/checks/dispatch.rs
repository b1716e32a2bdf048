//! The loop of the role: what is due is stored, signed and cast.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::checks::run::Batch;
use crate::checks::{Checks, begin, overdue};
use crate::names::AdapterName;
use crate::protocol::RunOrder;
use crate::protocol::ticket::DEFAULT_RETRIES;
use crate::rpc::table::Topic;
use crate::rpc::{Kind, RpcError};
use crate::telemetry::health;

/// How often the loop looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// Most batches sent before the clock is looked at again.
const AT_ONCE: usize = 256;

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
        health::turn();
        let stepped = step(&checks).await;
        health::outcome(&stepped);
        if let Err(error) = stepped {
            tracing::warn!(%error, "a scheduling step failed; it is repeated");
        }
    }
}

async fn step(checks: &Arc<Checks>) -> Result<(), RpcError> {
    // What cannot be stored must not hold up what was: each part goes on when another fails.
    let begun = begin::begin_due(checks).await;
    if let Err(error) = checks.forget_windows().await {
        tracing::info!(%error, "windows that are over could not be forgotten; it is repeated");
    }
    send_unsent(checks).await;
    overdue::report_overdue(checks).await;
    overdue::give_up(checks).await;
    begun
}

/// Casts batches that are stored but not yet with the bus.
async fn send_unsent(checks: &Arc<Checks>) {
    let unsent: Vec<(RunOrder, i64)> = {
        let state = checks.state.lock().await;
        state.runs.unsent().take(AT_ONCE).map(|batch| (batch.order, batch.batch)).collect()
    };
    // An adapter whose queue takes nothing holds up itself, and no other.
    let mut stuck: BTreeSet<AdapterName> = BTreeSet::new();
    for (order, number) in unsent {
        health::turn();
        let now = checks.clock.now();
        // Taken one by one: with the bus away, hundreds of batches are not copied at every tick.
        let Some(batch) = checks.state.lock().await.runs.batch(order, number).cloned() else { continue };
        let Ok(adapter) = AdapterName::new(&batch.adapter) else { continue };
        if stuck.contains(&adapter) {
            continue;
        }
        let sent = if now >= batch.deadline {
            // Too late to ask; the deadline speaks for it.
            Ok(())
        } else {
            checks
                .rpc
                .work(Topic::Adapter, Some(&adapter), "run_check", arguments(&batch), Some(batch.deadline.since(now)))
                .await
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

/// What `run_check` says of a batch. The usual number of retries goes without saying, so that an adapter that does not know of them takes
/// the batch.
fn arguments(batch: &Batch) -> Map<String, Value> {
    let mut arguments = Map::from_iter([
        ("ticket".to_owned(), json!(batch.ticket)),
        ("parameters".to_owned(), json!(batch.parameters)),
    ]);
    if batch.retries != DEFAULT_RETRIES {
        arguments.insert("retries".to_owned(), json!(batch.retries));
    }
    arguments
}
