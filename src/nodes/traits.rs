//! What targets can ask for of a node: labels, aggregates, availability zone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::protocol::Placement;
use crate::rpc::{Caller, RpcError};

/// Most labels or aggregates of one node, and most characters of a label's key or value or of a name.
const LABEL_LIMITS: (usize, usize) = (64, 255);

/// Which of a node's traits are replaced.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeUpdate {
    /// Which node.
    pub name: NodeName,
    /// See [`NewNode::labels`].
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// See [`NewNode::aggregates`].
    #[serde(default)]
    pub aggregates: Option<BTreeSet<String>>,
    /// See [`NewNode::zone`]; an empty text: in none.
    #[serde(default)]
    pub zone: Option<String>,
}

pub(super) fn check_placement(placement: &Placement) -> Result<(), RpcError> {
    let (count, length) = LABEL_LIMITS;
    let fits = |text: &str| (1..=length).contains(&text.chars().count()) && crate::text::display_safe(text) == text;
    if placement.aggregates.len() > count || !placement.aggregates.iter().chain(&placement.zone).all(|name| fits(name))
    {
        return Err(RpcError::bad_request(format!(
            "a node is in at most {count} aggregates, and names of aggregates and zones have 1 to {length} printable characters"
        )));
    }
    Ok(())
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), RpcError> {
    let (count, length) = LABEL_LIMITS;
    let fits = |text: &str| (1..=length).contains(&text.chars().count()) && crate::text::display_safe(text) == text;
    if labels.len() > count || !labels.iter().all(|(key, value)| fits(key) && fits(value)) {
        return Err(RpcError::bad_request(format!(
            "a node has at most {count} labels, key and value of 1 to {length} printable characters each"
        )));
    }
    Ok(())
}

impl Nodes {
    /// Replaces what targets can ask for of a node; what is not given stays.
    pub(super) async fn retrait(&self, caller: &Caller, update: NodeUpdate) -> Result<Value, RpcError> {
        let NodeUpdate { name, labels, aggregates, zone } = update;
        check_labels(labels.as_ref().unwrap_or(&BTreeMap::new()))?;
        let action = if labels.is_some() { "relabelled" } else { "placed" };
        self.change(caller, &name, action, "", |world, entry, _| {
            let mut placement = entry.placement.clone();
            placement.aggregates = aggregates.unwrap_or(placement.aggregates);
            // No text names no zone.
            placement.zone = zone.map_or(placement.zone, |zone| (!zone.is_empty()).then_some(zone));
            check_placement(&placement)?;
            entry.labels = labels.unwrap_or_else(|| entry.labels.clone());
            entry.targeting = world.rules.targeting(&entry.name, &entry.labels, &placement);
            entry.placement = placement;
            Ok(())
        })
        .await
    }
}
