//! Run-now: one check, or every check of some nodes. The same pipeline as scheduled runs, without splay.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checks::run::Cause;
use crate::checks::{Checks, State};
use crate::names::{CheckName, NodeName};
use crate::rpc::RpcError;

/// How many nodes one run-now may name.
const MAX_NAMED_NODES: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCheck {
    name: CheckName,
    #[serde(default)]
    nodes: Option<BTreeSet<NodeName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckNodes {
    nodes: BTreeSet<NodeName>,
}

impl Checks {
    pub(super) async fn check_run(&self, arguments: RunCheck) -> Result<Value, RpcError> {
        // The newest list of nodes, so that a node registered a moment ago can be named.
        self.fetch_inventory().await;
        let mut state = self.state.lock().await;
        let check = state.registry.check(&arguments.name)?.clone();
        if !check.enabled {
            return Err(RpcError::conflict(format!("check {} is disabled; enable it first", check.name)));
        }
        let aimed = state.aimed_at(&check);
        let nodes = match arguments.nodes {
            None => aimed,
            Some(named) if named.len() > MAX_NAMED_NODES => {
                return Err(RpcError::bad_request(format!("name at most {MAX_NAMED_NODES} nodes, or none for all")));
            }
            Some(named) => {
                let aimed: BTreeSet<NodeName> = aimed.into_iter().collect();
                let strangers: Vec<&str> = named.difference(&aimed).take(10).map(NodeName::as_str).collect();
                if !strangers.is_empty() {
                    return Err(RpcError::bad_request(format!(
                        "check {} is not aimed at {} (or no such node is registered)",
                        check.name,
                        strangers.join(", ")
                    )));
                }
                named.into_iter().collect()
            }
        };
        if nodes.is_empty() {
            return Err(RpcError::conflict(format!(
                "check {} is aimed at no registered node; `spicectl node list` shows them",
                check.name
            )));
        }
        let total = nodes.len();
        let now = self.clock.now();
        let lack = |node: &&NodeName| state.planner.prerequisites.lacks(&check.after, node, now).next().is_some();
        let waiting = nodes.iter().filter(lack).count();
        let order = self.begin(&mut state, &check.name, nodes, Cause::Request).await?;
        let Some(order) = order else {
            return Err(RpcError::conflict(format!(
                "no node of these has passed what check {} runs after ({}); it runs there as soon as they have",
                check.name,
                check.after.iter().map(CheckName::as_str).collect::<Vec<_>>().join(", ")
            )));
        };
        Ok(json!({ "run": order.to_string(), "nodes": total - waiting, "waiting": waiting }))
    }

    /// Runs every check for nodes that somebody knows to be back, or wants to know about.
    pub(super) async fn node_check(&self, arguments: CheckNodes) -> Result<Value, RpcError> {
        let CheckNodes { nodes } = arguments;
        if nodes.is_empty() || nodes.len() > MAX_NAMED_NODES {
            return Err(RpcError::bad_request(format!("name 1 to {MAX_NAMED_NODES} nodes")));
        }
        self.fetch_inventory().await;
        let mut state = self.state.lock().await;
        let unknown = nodes.iter().filter(|node| !state.inventory.contains_key(*node)).take(10);
        let unknown: Vec<&str> = unknown.map(NodeName::as_str).collect();
        if !unknown.is_empty() {
            return Err(RpcError::not_found(format!(
                "no such node is registered: {}; `spicectl node list` shows them",
                unknown.join(", ")
            )));
        }
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        let wanted = |_: &State, _: &CheckName| nodes.iter().cloned().collect();
        let begun = self.stage_at_once(&mut state, &mut changes, wanted, Cause::Request).await?;
        changes.commit().await.map_err(RpcError::from)?;
        let told = begun.into_iter().filter_map(|run| {
            let order = self.send(&mut state, Some(run))?;
            let run = state.runs.run(order)?;
            Some(json!({ "run": order.to_string(), "check": run.check, "nodes": run.total }))
        });
        Ok(told.collect())
    }
}
