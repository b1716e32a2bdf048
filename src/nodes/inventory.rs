//! The list of nodes for Checks: names and what targets can ask for, in pages that fit into a message however many there are.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::world::World;
use crate::protocol::Traits;
use crate::rpc::RpcError;

/// About how large a page may become, in bytes; a message may have 16 MiB.
const PAGE: usize = 2 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    known_version: Option<i64>,
    #[serde(default)]
    after: Option<NodeName>,
}

impl Nodes {
    pub(super) async fn inventory(&self, asked: Asked) -> Result<Value, RpcError> {
        let world = self.world.lock().await;
        if asked.known_version == Some(world.inventory_version) && asked.after.is_none() {
            return Ok(json!({ "version": world.inventory_version }));
        }
        let (nodes, more) = page(&world, asked.after.as_ref());
        Ok(json!({ "version": world.inventory_version, "nodes": nodes, "more": more }))
    }
}

/// The nodes after `after`, as many as fit, and whether there are more.
fn page<'a>(world: &'a World, after: Option<&NodeName>) -> (BTreeMap<&'a NodeName, Traits>, bool) {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = world.nodes.range::<NodeName, _>((start, Bound::Unbounded)).peekable();
    let (mut nodes, mut bytes) = (BTreeMap::new(), 0);
    while bytes < PAGE {
        let Some((name, entry)) = rest.next() else { break };
        let traits = entry.traits();
        bytes += name.as_str().len() + size(&traits);
        nodes.insert(name, traits);
    }
    (nodes, rest.peek().is_some())
}

/// About how much a node takes, beside its name.
fn size(Traits { labels, placement }: &Traits) -> usize {
    let labels = labels.iter().map(|(key, value)| key.len() + value.len() + 8);
    let names = placement.aggregates.iter().chain(&placement.zone).map(|name| name.len() + 4);
    labels.chain(names).sum::<usize>() + 48
}
