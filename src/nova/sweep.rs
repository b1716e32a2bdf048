//! Asking Nova for all compute nodes, and telling Nodes what it does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::names::NodeName;
use crate::nodes::reconcile::MAX_NODES;
use crate::nova::snapshot::Snapshot;
use crate::openstack::{CloudError, Session};
use crate::protocol::{CloudNode, InNova};
use crate::rpc::table::Topic;
use crate::rpc::{RpcClient, RpcError};

/// A node counts as gone when so many sweeps in a row did not find it, over so many intervals at least: Nova's record of it may be made anew.
const MISSED: u32 = 3;
/// After so many sweeps Nodes is asked again what it was told, should its database have been restored.
const ASK_AGAIN: u32 = 30;

/// Why a sweep came to nothing.
#[derive(Debug)]
pub enum SweepError {
    /// Nova.
    Cloud(CloudError),
    /// Nodes.
    Nodes(RpcError),
    /// An answer that cannot be right.
    Absurd(String),
}

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cloud(error) => write!(f, "Nova's API: {error}"),
            Self::Nodes(error) => write!(f, "Nodes: {error}"),
            Self::Absurd(why) => f.write_str(why),
        }
    }
}

/// A sweep that did not end in time.
#[must_use]
pub fn late(limit: Duration) -> SweepError {
    SweepError::Absurd(format!("it took longer than {} s", limit.as_secs()))
}

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Nodes there are.
    pub nodes: usize,
    /// Nodes that Nodes was told of.
    pub told: usize,
}

#[derive(Deserialize)]
struct Page {
    nodes: Vec<CloudNode>,
    more: Option<NodeName>,
}

/// Sweeps, and remembers what Nodes was told.
pub struct Sweeper {
    rpc: RpcClient,
    session: Session,
    interval: Duration,
    /// What Nodes knows; `None`: it has to be asked.
    known: Option<BTreeMap<NodeName, InNova>>,
    since_asked: u32,
    /// Nodes that Nova does not have any more: in how many sweeps, and since when.
    missing: BTreeMap<NodeName, (u32, Instant)>,
    refused: Vec<String>,
    was_well: bool,
}

impl Sweeper {
    /// Asks `session` and tells through `rpc`.
    #[must_use]
    pub fn new(rpc: RpcClient, session: Session, interval: Duration) -> Self {
        Self {
            rpc,
            session,
            interval,
            known: None,
            since_asked: 0,
            missing: BTreeMap::new(),
            refused: Vec::new(),
            was_well: true,
        }
    }

    /// Asks Nova for everything and tells Nodes what is other than it knows. Nothing is taken as gone unless all answers came.
    ///
    /// # Errors
    /// [`SweepError`]; what Nodes was told until then stays so.
    pub async fn sweep(&mut self) -> Result<Swept, SweepError> {
        let services = self.session.compute_services().await.map_err(SweepError::Cloud)?;
        let hypervisors = self.session.hypervisors().await.map_err(SweepError::Cloud)?;
        let aggregates = self.session.aggregates().await.map_err(SweepError::Cloud)?;
        let snapshot = Snapshot::of(services, hypervisors, &aggregates);
        let mut known = match self.known.take().filter(|_| self.since_asked < ASK_AGAIN) {
            Some(known) => known,
            None => self.ask_nodes().await?,
        };
        self.since_asked += 1;
        if snapshot.nodes.is_empty() && snapshot.doubtful.is_empty() && !known.is_empty() {
            return Err(SweepError::Absurd("Nova has no compute node at all, which is not believed".to_owned()));
        }
        let fresh = |(name, nova): &(&NodeName, &InNova)| known.get(*name) != Some(*nova);
        let changed: Vec<CloudNode> = snapshot
            .nodes
            .iter()
            .filter(fresh)
            .map(|(name, nova)| CloudNode { name: name.clone(), nova: nova.clone() })
            .collect();
        let mut told = changed.len();
        for nodes in changed.chunks(MAX_NODES) {
            self.tell(nodes, &[]).await?;
        }
        known.extend(changed.into_iter().map(|node| (node.name, node.nova)));
        let gone = self.gone(&known, &snapshot);
        for names in gone.chunks(MAX_NODES) {
            if !self.tell(&[], names).await? {
                told += names.len();
                known.retain(|name, _| !names.contains(name));
            }
        }
        self.refused = snapshot.refused;
        self.known = Some(known);
        Ok(Swept { nodes: snapshot.nodes.len(), told })
    }

    /// The nodes that have been missing for long enough.
    fn gone(&mut self, known: &BTreeMap<NodeName, InNova>, snapshot: &Snapshot) -> Vec<NodeName> {
        let is_there = |name: &NodeName| snapshot.nodes.contains_key(name) || snapshot.doubtful.contains(name);
        let missing = known.keys().filter(|name| !is_there(name));
        let now = Instant::now();
        self.missing = missing
            .map(|name| {
                let (sweeps, since) = self.missing.get(name).copied().unwrap_or((0, now));
                (name.clone(), (sweeps + 1, since))
            })
            .collect();
        let long = self.interval * (MISSED - 1);
        let over = |(sweeps, since): &(u32, Instant)| *sweeps >= MISSED && now >= *since + long;
        self.missing.iter().filter(|(_, missed)| over(missed)).map(|(name, _)| name.clone()).collect()
    }

    /// What Nodes was told before, by this process or another.
    async fn ask_nodes(&mut self) -> Result<BTreeMap<NodeName, InNova>, SweepError> {
        let (mut known, mut after) = (BTreeMap::new(), None);
        loop {
            let args = after.map(|after: NodeName| ("after".to_owned(), json!(after)));
            let answer = self.rpc.call(Topic::Nodes, "node_in_nova", Map::from_iter(args)).await;
            let page = answer.and_then(|answer| serde_json::from_value(answer).map_err(RpcError::internal));
            let Page { nodes, more } = page.map_err(SweepError::Nodes)?;
            known.extend(nodes.into_iter().map(|node| (node.name, node.nova)));
            after = more;
            if after.is_none() {
                self.since_asked = 0;
                return Ok(known);
            }
        }
    }

    /// Tells Nodes; whether it holds on to those that are gone, because they are many.
    async fn tell(&self, nodes: &[CloudNode], gone: &[NodeName]) -> Result<bool, SweepError> {
        let args = Map::from_iter([("nodes".to_owned(), json!(nodes)), ("gone".to_owned(), json!(gone))]);
        let answer: Value = self.rpc.call(Topic::Nodes, "node_reconcile", args).await.map_err(SweepError::Nodes)?;
        Ok(answer["held"] == true)
    }

    /// Logs and counts what a sweep came to; a fault that lasts is logged once.
    pub fn report(&mut self, swept: &Result<Swept, SweepError>) {
        let word = if swept.is_ok() { "ok" } else { "failed" };
        metrics::counter!("spice_nova_sweeps_total", "outcome" => word).increment(1);
        match swept {
            Ok(Swept { nodes, told }) => {
                metrics::gauge!("spice_nova_nodes").set(*nodes as f64);
                metrics::gauge!("spice_nova_nodes_refused").set(self.refused.len() as f64);
                if !self.was_well || *told > 0 {
                    let refused = self.refused.join("; ");
                    tracing::info!(nodes, told, refused, "Nova was asked for its compute nodes");
                }
            }
            Err(error) if self.was_well => {
                tracing::error!(%error, "Nova's compute nodes could not be followed; it is tried again")
            }
            Err(error) => tracing::debug!(%error, "Nova's compute nodes could not be followed"),
        }
        self.was_well = swept.is_ok();
    }
}
