//! Nodes as Nova has them: those that are new are registered, those that are gone deleted, and what becomes of the others is followed.
//!
//! Whoever tells this may not raise anybody: a new node is unknown, one that comes back inherits its tombstone, a machine that was made anew is
//! unknown until checked, and a move out of the reach of a required check waits for an administrator. Many nodes that go at once are more likely
//! a fault, of Nova or of whoever tells: they stay.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::entry::{Entry, Tombstone};
use crate::nodes::registry::{NewNode, act, by, newcomer};
use crate::nodes::results::nodes_changed;
use crate::nodes::traits::{check_in_nova, loosened};
use crate::nodes::world::{Stage, World};
use crate::protocol::{CloudNode, InNova};
use crate::rpc::{Caller, RpcError};

/// Most nodes in one message.
pub const MAX_NODES: usize = 500;
/// Within this time few nodes go.
const WINDOW: Duration = Duration::from_secs(3600);
/// So many may always go.
const ALWAYS: usize = 5;
/// Of larger clouds one node in so many may go.
const ONE_IN: usize = 10;
/// Nodes in one page: their rows have to be read, while results wait.
const PAGE: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    nodes: Vec<CloudNode>,
    #[serde(default)]
    gone: Vec<NodeName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: Option<NodeName>,
}

/// How many nodes went of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Departures {
    since: Timestamp,
    count: usize,
}

impl Departures {
    /// Counts `more` at `now` out of `all` nodes; how many may go, where these are too many.
    pub fn count(&mut self, more: usize, all: usize, now: Timestamp) -> Result<(), usize> {
        if now >= self.since.plus(WINDOW) || now < self.since {
            *self = Self { since: now, count: 0 };
        }
        let most = ALWAYS.max(all / ONE_IN);
        if self.count + more > most {
            return Err(most.saturating_sub(self.count));
        }
        self.count += more;
        Ok(())
    }
}

impl Nodes {
    /// Takes in what Nova has of nodes.
    pub(super) async fn reconcile(&self, caller: &Caller, told: Told) -> Result<Value, RpcError> {
        let Told { nodes, gone } = told;
        if nodes.len() + gone.len() > MAX_NODES {
            return Err(RpcError::bad_request(format!("tell of at most {MAX_NODES} nodes at once")));
        }
        let mut world = self.world.lock().await;
        self.still_believed(&[caller.vouch])?;
        let now = self.clock.now();
        let mut stage = Stage::default();
        let mut news: BTreeMap<&'static str, BTreeSet<NodeName>> = BTreeMap::new();
        let are_new = nodes.iter().any(|node| !world.nodes.contains_key(&node.name));
        let tombstones = match are_new {
            true => crate::nodes::storage::tombstones(&self.database).await.map_err(RpcError::from)?,
            false => Vec::new(),
        };
        let mut counts = BTreeMap::from([("registered", 0), ("changed", 0), ("gone", 0)]);
        for CloudNode { name, nova } in nodes {
            check_in_nova(&nova)?;
            if stage.touched.contains_key(&name) {
                return Err(RpcError::bad_request(format!("node {name} is told of twice")));
            }
            let what = match world.nodes.contains_key(&name) {
                false => {
                    enter(&world, &mut stage, &tombstones, &name, nova, (caller, now));
                    news.entry("new").or_default().insert(name.clone());
                    "registered"
                }
                true if follow(&world, &mut stage, &name, nova, (caller, now), &mut news) => "changed",
                true => continue,
            };
            *counts.entry(what).or_default() += 1;
            world.review(&mut stage, &world.rules, &name, &by(caller, what), now);
        }
        let mut departures = world.departures;
        let gone: BTreeSet<NodeName> = gone.into_iter().filter(|name| !stage.touched.contains_key(name)).collect();
        let gone: Vec<Entry> = gone.iter().filter_map(|name| world.open(name)).filter(|it| it.nova.is_some()).collect();
        let held = departures.count(gone.len(), world.nodes.len(), now).err();
        if let Some(most) = held {
            metrics::counter!("spice_nodes_departures_held_total").increment(1);
            tracing::error!(
                gone = gone.len(),
                most,
                "Nova has many nodes no more: they stay registered; delete them with `spicectl node delete` if that is right"
            );
        } else {
            counts.insert("gone", gone.len());
            for entry in gone {
                act(&mut stage, &entry.name, "gone from Nova", "", caller, now);
                stage.buried.push(Tombstone { trust: entry.trust.tombstone(), name: entry.name, deleted_at: now });
            }
        }
        if !stage.touched.is_empty() || !stage.buried.is_empty() {
            stage.parcels.extend(news.iter().map(|(cause, nodes)| nodes_changed(nodes, cause)));
            self.commit(&mut world, stage).await.map_err(RpcError::from)?;
        }
        world.departures = departures;
        Ok(json!({
            "registered": counts["registered"],
            "changed": counts["changed"],
            "gone": counts["gone"],
            "held": held.is_some(),
        }))
    }

    /// What Nodes was told of each node, in pages.
    pub(super) async fn in_nova(&self, After { after }: After) -> Result<Value, RpcError> {
        let world = self.world.lock().await;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = world.nodes.range::<NodeName, _>((start, Bound::Unbounded));
        let (mut nodes, mut last) = (Vec::new(), None);
        for (name, _) in rest.by_ref().take(PAGE) {
            let nova = world.open(name).and_then(|entry| entry.nova);
            nodes.extend(nova.map(|nova| CloudNode { name: name.clone(), nova: *nova }));
            last = Some(name);
        }
        let more = rest.next().and(last);
        Ok(json!({ "nodes": nodes, "more": more }))
    }
}

/// Registers a node that nobody registered.
fn enter(
    world: &World,
    stage: &mut Stage,
    tombstones: &[Tombstone],
    name: &NodeName,
    nova: InNova,
    (caller, now): (&Caller, Timestamp),
) {
    let node = NewNode {
        name: name.clone(),
        labels: BTreeMap::new(),
        aggregates: nova.placement.aggregates.clone(),
        zone: nova.placement.zone.clone(),
        identity: None,
    };
    // Beside its name whoever comes back is known by what Nova keeps of the machine.
    let mut entry = newcomer(world, tombstones, node, format!("nova:{}", nova.hypervisor), now);
    act(stage, name, "registered", "Nova has it", caller, now);
    if let Some(reason) = &nova.disabled {
        act(stage, name, "disabled in Nova", reason, caller, now);
    }
    entry.nova = Some(Box::new(nova));
    stage.touched.insert(name.clone(), entry);
}

/// Takes in what has become of a registered node; false where that is nothing.
fn follow(
    world: &World,
    stage: &mut Stage,
    name: &NodeName,
    nova: InNova,
    (caller, now): (&Caller, Timestamp),
    news: &mut BTreeMap<&'static str, BTreeSet<NodeName>>,
) -> bool {
    let Some(before) = world.open(name) else { return false };
    if before.nova.as_deref() == Some(&nova) {
        return false;
    }
    let mut entry = before.clone();
    let mut happened: Vec<(&'static str, String)> = Vec::new();
    if let Some(known) = &before.nova {
        if known.is_another(&nova) {
            entry.trust.made_anew(now);
            news.entry("made anew").or_default().insert(name.clone());
            happened.push(("made anew in Nova", format!("service {}, hypervisor {}", nova.service, nova.hypervisor)));
        }
        match (known.up, nova.up) {
            (false, true) => {
                news.entry("back").or_default().insert(name.clone());
                happened.push(("up in Nova", String::new()));
            }
            (true, false) => happened.push(("down in Nova", String::new())),
            _ => {}
        }
    }
    let disabled = before.nova.as_ref().and_then(|known| known.disabled.as_ref());
    match &nova.disabled {
        Some(reason) if disabled != Some(reason) => happened.push(("disabled in Nova", reason.clone())),
        None if disabled.is_some() => happened.push(("enabled in Nova", String::new())),
        _ => {}
    }
    if entry.placement != nova.placement {
        let targeting = world.rules.targeting(name, &entry.labels, &nova.placement);
        let moved = Entry { placement: nova.placement.clone(), targeting, ..entry.clone() };
        let loosened = loosened(world, &before, &moved);
        if loosened.is_empty() {
            entry = moved;
            news.entry("placed").or_default().insert(name.clone());
            happened.push(("placed", "Nova has it there".to_owned()));
        } else {
            let why = loosened.join("; ");
            tracing::warn!(node = %name, why, "Nova has moved a node to where less is asked of it; an administrator has to confirm that (spicectl node update)");
            happened.push(("not placed as Nova has it", why));
        }
    }
    for (action, reason) in happened {
        act(stage, name, action, &reason, caller, now);
    }
    entry.nova = Some(Box::new(nova));
    stage.touched.insert(name.clone(), entry);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_nodes_may_go_within_an_hour_and_of_a_large_cloud_a_tenth() {
        let mut departures = Departures::default();
        let now = Timestamp(1_000_000_000);
        assert_eq!(departures.count(5, 20, now), Ok(()));
        assert_eq!(departures.count(1, 20, now.plus(WINDOW / 2)), Err(0));
        assert_eq!(departures.count(95, 1000, now.plus(WINDOW / 2)), Ok(()), "the five count");
        assert_eq!(departures.count(1, 1000, now.plus(WINDOW / 2)), Err(0));
        assert_eq!(departures.count(6, 20, now.plus(WINDOW)), Err(5), "none of them goes");
        assert_eq!(departures.count(5, 20, now.plus(WINDOW)), Ok(()));
        assert_eq!(departures.count(5, 20, now.plus(Duration::from_secs(1))), Ok(()), "the clock was set back");
    }
}
