//! The list of nodes for Checks: names and what targets can ask for, in pages that fit into a message however many there are; and who of them has
//! passed a check that others wait for.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::names::{CheckName, NodeName};
use crate::nodes::Nodes;
use crate::nodes::world::World;
use crate::protocol::Traits;
use crate::rpc::RpcError;
use crate::trust::passed_until;

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

/// How many nodes a page of those that passed looks at: their rows have to be read, while results wait.
const PAGE_OF_PASSED: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedWhoPassed {
    check: CheckName,
    check_id: String,
    revision: i64,
    #[serde(default)]
    after: Option<NodeName>,
}

impl Nodes {
    pub(super) async fn passed(&self, asked: AskedWhoPassed) -> Result<Value, RpcError> {
        let AskedWhoPassed { check, check_id, revision, after } = asked;
        let now = self.clock.now();
        let world = self.world.lock().await;
        let rule = world.rules.check(&check);
        let Some(rule) = rule.filter(|rule| rule.check.id == check_id && rule.check.revision == revision) else {
            return Err(RpcError::conflict(format!("the policy in force has no such definition of check {check} yet")));
        };
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = world.nodes.range::<NodeName, _>((start, Bound::Unbounded));
        let (mut passed, mut last) = (BTreeMap::new(), None);
        for (name, _) in rest.by_ref().take(PAGE_OF_PASSED) {
            let until = world.open(name).and_then(|entry| passed_until(&entry.trust, &rule.check, now));
            passed.extend(until.map(|until| (name, until)));
            last = Some(name);
        }
        let more = rest.next().and(last);
        Ok(json!({ "passed": passed, "more": more }))
    }

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
