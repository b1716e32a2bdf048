//! What time alone changes: expiry, the end of a hold-down or an override. And what grows too old to keep.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;
use crate::nodes::history;
use crate::nodes::kept::Kept;
use crate::nodes::world::Stage;
use crate::telemetry::health;

/// The time of day may be stepped, so it is looked at this often whatever is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most nodes judged in one transaction.
const AT_ONCE: usize = 1000;
/// How often old history is dropped.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Judges nodes again when their time has come, until `stop`.
pub async fn run(nodes: Arc<Nodes>, stop: CancellationToken) {
    loop {
        health::turn();
        let next = nodes.world.lock().await.timers.first().map(|(at, _)| *at);
        let now = nodes.clock.now();
        let pause = next.map_or(LOOK_EVERY, |at| at.since(now).min(LOOK_EVERY));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = nodes.timers_changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let reviewed = nodes.review_due().await;
        health::outcome(&reviewed);
        if let Err(error) = reviewed {
            tracing::error!(%error, "what time changed could not be stored; it is tried again");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Nodes {
    async fn review_due(&self) -> Result<(), crate::store::StoreError> {
        let mut world = self.world.lock().await;
        let now = self.clock.now();
        let due: Vec<_> = world.timers.iter().take_while(|(at, _)| *at <= now).take(AT_ONCE).cloned().collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut stage = Stage::default();
        for (_, node) in &due {
            if world.touch(&mut stage, node).is_some() {
                world.review(&mut stage, &world.rules, node, "time", now);
            }
        }
        // A timer that came too early by the rules' own reckoning must not spin.
        for entry in stage.touched.values() {
            if entry.next_change().is_some_and(|at| at <= now) {
                tracing::warn!(node = %entry.name, "a node's next change lies in the past");
            }
        }
        self.commit(&mut world, stage).await?;
        for timer in due {
            let still = world.nodes.get(&timer.1).and_then(Kept::next_change) == Some(timer.0);
            if !still || timer.0 <= now {
                world.timers.remove(&timer);
            }
        }
        Ok(())
    }
}

/// Drops results older than `history`, and ids that no message can bring again, until `stop`.
pub async fn trim(nodes: Arc<Nodes>, history: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TRIM_EVERY) => {}
        }
        let now = nodes.clock.now();
        if let Err(error) = history::trim(&nodes.database, now.minus(history), now).await {
            tracing::warn!(%error, "old history could not be dropped");
        }
    }
}
