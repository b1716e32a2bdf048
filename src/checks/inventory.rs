//! The list of nodes checks are aimed at, kept as Nodes has it. What is known stays when Nodes does not answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use crate::checks::Checks;
use crate::checks::planner::Inventory;
use crate::rpc::RpcError;
use crate::rpc::table::Topic;

/// How often Nodes is asked; at first until it answers. An unchanged list costs a few bytes.
const ASK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(serde::Deserialize)]
struct Answer {
    version: i64,
    #[serde(default)]
    nodes: Option<Inventory>,
}

/// Keeps the list up to date until `stop`. Apart from the scheduling loop, which must not wait for Nodes.
pub async fn keep(checks: Arc<Checks>, stop: CancellationToken) {
    loop {
        checks.fetch_inventory().await;
        let pause = match checks.state.lock().await.inventory_version {
            Some(_) => ASK_EVERY.1,
            None => ASK_EVERY.0,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Checks {
    /// Fetches the list of nodes if it changed.
    pub(super) async fn fetch_inventory(&self) {
        let known = self.state.lock().await.inventory_version;
        let args = Map::from_iter([("known_version".to_owned(), json!(known))]);
        let answer = self.rpc.call_within(Topic::Nodes, "node_inventory", args, PATIENCE).await;
        let answer = answer.and_then(|answer| serde_json::from_value::<Answer>(answer).map_err(RpcError::internal));
        match answer {
            Ok(Answer { version, nodes }) => {
                let mut state = self.state.lock().await;
                // Two may have asked at once; versions only grow.
                if let Some(nodes) = nodes.filter(|_| state.inventory_version.is_none_or(|known| version > known)) {
                    state.inventory = nodes;
                    state.inventory_version = Some(version);
                    self.wake.notify_one();
                }
            }
            Err(error) => {
                metrics::counter!("spice_checks_inventory_failures_total").increment(1);
                tracing::debug!(%error, "the list of nodes could not be fetched; the one known is used");
            }
        }
    }
}
