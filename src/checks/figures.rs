//! What an operator wants to know of the schedules: counted every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checks::Checks;
use crate::telemetry::health;

/// How often it is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Counts every few seconds, until `stop`.
pub async fn keep(checks: Arc<Checks>, stop: CancellationToken) {
    // What was told once is told to be nothing when it is gone.
    let mut told: (BTreeSet<String>, BTreeSet<String>) = Default::default();
    loop {
        health::turn();
        checks.count(&mut told).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

impl Checks {
    async fn count(&self, (told_checks, told_adapters): &mut (BTreeSet<String>, BTreeSet<String>)) {
        let state = self.state.lock().await;
        let now = self.now();
        metrics::gauge!("spice_checks_held").set(state.planner.holding.total() as f64);
        metrics::gauge!("spice_checks_not_passed_before").set(state.planner.prerequisites.total() as f64);
        metrics::gauge!("spice_checks_outstanding").set(state.runs.outstanding() as f64);
        metrics::gauge!("spice_checks_windows_open").set(state.planner.holding.openings.open().count() as f64);
        metrics::gauge!("spice_checks_late").set(state.runs.past_end(now).results as f64);
        let behind: BTreeMap<String, Duration> =
            state.behind(now.utc).into_iter().map(|(check, behind)| (check.to_string(), behind)).collect();
        let alive: BTreeMap<String, usize> =
            state.adapters.alive(now.monotonic).map(|(adapter, alive)| (adapter.to_owned(), alive)).collect();
        drop(state);
        for check in behind.keys().chain(told_checks.iter()) {
            let behind = behind.get(check).copied().unwrap_or_default();
            metrics::gauge!("spice_checks_behind_seconds", "check" => check.clone()).set(behind.as_secs_f64());
        }
        for adapter in alive.keys().chain(told_adapters.iter()) {
            let alive = alive.get(adapter).copied().unwrap_or_default();
            metrics::gauge!("spice_checks_adapters_alive", "adapter" => adapter.clone()).set(alive as f64);
        }
        *told_checks = behind.into_keys().collect();
        *told_adapters = alive.into_keys().collect();
    }
}
