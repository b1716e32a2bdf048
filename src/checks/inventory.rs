//! The list of nodes checks are aimed at, kept as Nodes has it. What is known stays when Nodes does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::checks::Checks;
use crate::checks::planner::Inventory;
use crate::checks::prerequisites::Definition;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::Traits;
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
    nodes: Option<BTreeMap<NodeName, Traits>>,
    #[serde(default)]
    more: bool,
}

#[derive(serde::Deserialize)]
struct Told {
    passed: BTreeMap<NodeName, Timestamp>,
    /// The last node looked at, where there are more.
    #[serde(default)]
    more: Option<NodeName>,
}

/// Pages of the list, put together.
#[derive(Default)]
struct Listed {
    nodes: Vec<(NodeName, Arc<Traits>)>,
    /// What several nodes have in common is kept once.
    known: BTreeSet<Arc<Traits>>,
}

impl Listed {
    fn add(&mut self, page: BTreeMap<NodeName, Traits>) {
        for (name, traits) in page {
            let traits = self.known.get(&traits).cloned().unwrap_or_else(|| {
                let traits = Arc::new(traits);
                self.known.insert(Arc::clone(&traits));
                traits
            });
            self.nodes.push((name, traits));
        }
    }

    fn last(&self) -> Option<&NodeName> {
        self.nodes.last().map(|(name, _)| name)
    }

    fn whole(self) -> Inventory {
        self.nodes.into_iter().collect()
    }
}

/// How often it is begun anew where the list changes while its pages are fetched; then it is tried again later.
const TRIES: usize = 5;

/// Keeps the list up to date until `stop`. Apart from the scheduling loop, which must not wait for Nodes.
pub async fn keep(checks: Arc<Checks>, stop: CancellationToken) {
    loop {
        crate::telemetry::health::turn();
        checks.fetch_inventory().await;
        let all_told = checks.fetch_passed().await;
        let pause = match checks.state.lock().await.inventory_version {
            Some(_) if all_told => ASK_EVERY.1,
            _ => ASK_EVERY.0,
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
        let mut answer = self.fetch_pages(known).await;
        for _ in 1..TRIES {
            match answer {
                Ok(None) => answer = self.fetch_pages(known).await,
                _ => break,
            }
        }
        match answer {
            Ok(None) => tracing::info!("the list of nodes changes faster than it can be read; the one known is used"),
            Ok(Some((version, nodes))) => {
                let mut state = self.state.lock().await;
                // Two may have asked at once; versions only grow.
                if let Some(nodes) = nodes.filter(|_| state.inventory_version.is_none_or(|known| version > known)) {
                    state.planner.silence.keep(|_| true, |node| nodes.contains_key(node));
                    state.planner.prerequisites.keep(|node| nodes.contains_key(node));
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

    /// Asks who has passed what other checks wait for, where that is not known; false where it is still not known.
    async fn fetch_passed(&self) -> bool {
        let asked = self.state.lock().await.planner.prerequisites.to_ask();
        let mut all_told = true;
        for (check, definition) in asked {
            match self.fetch_passed_of(&check, &definition).await {
                Ok(until) => {
                    self.state.lock().await.planner.prerequisites.told(&check, &definition, until);
                    self.wake.notify_one();
                }
                Err(error) => {
                    all_told = false;
                    tracing::debug!(%error, check.name = %check, "who has passed it is not known yet; checks that run after it wait");
                }
            }
        }
        all_told
    }

    async fn fetch_passed_of(
        &self,
        check: &CheckName,
        Definition { id, revision }: &Definition,
    ) -> Result<BTreeMap<NodeName, Timestamp>, RpcError> {
        let (mut all, mut after) = (BTreeMap::new(), None::<NodeName>);
        loop {
            let args = json!({ "check": check, "check_id": id, "revision": revision, "after": after });
            let args: Map<String, Value> = serde_json::from_value(args).map_err(RpcError::internal)?;
            let answer = self.rpc.call_within(Topic::Nodes, "node_passed", args, PATIENCE).await?;
            let Told { passed, more } = serde_json::from_value(answer).map_err(RpcError::internal)?;
            all.extend(passed);
            match more {
                Some(last) if after.as_ref().is_none_or(|after| last > *after) => after = Some(last),
                _ => return Ok(all),
            }
        }
    }

    /// All pages of one version, or only its number where it is `known`; `None` where it changed in between.
    async fn fetch_pages(&self, known: Option<i64>) -> Result<Option<(i64, Option<Inventory>)>, RpcError> {
        let first = self.fetch_page(json!({ "known_version": known })).await?;
        let Some(nodes) = first.nodes else { return Ok(Some((first.version, None))) };
        let mut listed = Listed::default();
        listed.add(nodes);
        let mut more = first.more;
        while more {
            let page = self.fetch_page(json!({ "after": listed.last() })).await?;
            let Some(further) = page.nodes.filter(|further| page.version == first.version && !further.is_empty())
            else {
                return Ok(None);
            };
            listed.add(further);
            more = page.more;
        }
        Ok(Some((first.version, Some(listed.whole()))))
    }

    async fn fetch_page(&self, args: Value) -> Result<Answer, RpcError> {
        let args: Map<String, Value> = serde_json::from_value(args).map_err(RpcError::internal)?;
        let answer = self.rpc.call_within(Topic::Nodes, "node_inventory", args, PATIENCE).await?;
        serde_json::from_value(answer).map_err(RpcError::internal)
    }
}
