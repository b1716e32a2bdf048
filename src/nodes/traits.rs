//! What targets can ask for of a node: labels, aggregates, availability zone. To take a node out of the reach of a required check loosens what the
//! pool asks of it, as changing the check would: it needs an administrator's word for exactly that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::world::World;
use crate::protocol::{InNova, Placement, Requirement};
use crate::rpc::{Caller, RpcError};
use crate::security::Role;
use crate::security::keys::sha256;
use crate::store::to_body;

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
    /// The id of what was shown, where an administrator confirms it.
    #[serde(default)]
    pub confirm: Option<String>,
}

/// What an entry loses against the one before: pools that require a check which is no longer aimed at it, as sentences.
pub(super) fn loosened(world: &World, before: &Entry, after: &Entry) -> Vec<String> {
    let gone = before.targeting.iter().filter(|check| !after.targeting.contains(check));
    let required = gone.filter_map(|check| world.rules.check(check)).flat_map(|rule| {
        let pools = rule.check.pools.iter().filter(|(_, requirement)| **requirement == Requirement::Required);
        pools.map(|(pool, _)| {
            format!("pool {pool} requires check {}, which would not be aimed at it any more", rule.check.name)
        })
    });
    required.collect()
}

/// In which pools the entry would rise at once.
fn raised(world: &World, before: &Entry, after: &Entry, now: Timestamp) -> Vec<String> {
    let review = after.trust.clone().review(&world.rules, &after.targeting, now);
    let higher = review.verdicts.iter().filter_map(|(pool, verdict)| {
        let from = before.verdicts.get(pool)?.level;
        (verdict.level > from).then(|| format!("in pool {pool} it would be {} instead of {from}", verdict.level))
    });
    higher.collect()
}

/// Lets a change through that loosens nothing, or that an administrator has confirmed.
fn agreed(
    world: &World,
    before: &Entry,
    after: &Entry,
    now: Timestamp,
    caller: &Caller,
    confirm: Option<&str>,
) -> Result<(), RpcError> {
    let loosened = loosened(world, before, after);
    if loosened.is_empty() {
        return Ok(());
    }
    let raised = raised(world, before, after, now);
    // Another change, another state of the node or another effect has another id.
    let change =
        (&before.name, (&before.labels, &before.placement), (&after.labels, &after.placement), &loosened, &raised);
    let id: String = hex::encode(sha256(to_body(&change).as_bytes())).chars().take(12).collect();
    let is_admin = caller.roles.contains(&Role::Admin);
    if is_admin && confirm == Some(id.as_str()) {
        tracing::warn!(sender = caller.sender, node = %before.name, changes = loosened.join("; "), "a node is asked for less");
        return Ok(());
    }
    let other = confirm.map(|_| "what was confirmed is something else; ").filter(|_| is_admin).unwrap_or_default();
    let who = if is_admin { "" } else { " by a key with the role admin" };
    let raised = if raised.is_empty() { "It would not rise at once".to_owned() } else { capital(&raised.join(", ")) };
    Err(RpcError::conflict(format!(
        "{other}this loosens what is asked of node {}: {}. {raised}. Nothing was changed; to do it, confirm exactly this (--confirm {id}){who}",
        before.name,
        loosened.join("; ")
    )))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Whether a text from outside is short enough to keep, and safe to show.
fn fits(text: &str, least: usize) -> bool {
    (least..=LABEL_LIMITS.1).contains(&text.chars().count()) && crate::text::display_safe(text) == text
}

/// What Nova has of a node is kept and shown: its texts are as bounded as those that people give.
pub(super) fn check_in_nova(nova: &InNova) -> Result<(), RpcError> {
    let named = [&nova.host, &nova.service, &nova.hypervisor].iter().all(|text| fits(text, 1));
    if !named || !nova.disabled.as_ref().is_none_or(|reason| fits(reason, 0)) {
        let length = LABEL_LIMITS.1;
        return Err(RpcError::bad_request(format!(
            "host, service and hypervisor have 1 to {length} printable characters, the reason for being disabled has at most {length}"
        )));
    }
    check_placement(&nova.placement)
}

pub(super) fn check_placement(placement: &Placement) -> Result<(), RpcError> {
    let (count, length) = LABEL_LIMITS;
    if placement.aggregates.len() > count
        || !placement.aggregates.iter().chain(&placement.zone).all(|name| fits(name, 1))
    {
        return Err(RpcError::bad_request(format!(
            "a node is in at most {count} aggregates, and names of aggregates and zones have 1 to {length} printable characters"
        )));
    }
    Ok(())
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), RpcError> {
    let (count, length) = LABEL_LIMITS;
    if labels.len() > count || !labels.iter().all(|(key, value)| fits(key, 1) && fits(value, 1)) {
        return Err(RpcError::bad_request(format!(
            "a node has at most {count} labels, key and value of 1 to {length} printable characters each"
        )));
    }
    Ok(())
}

impl Nodes {
    /// Replaces what targets can ask for of a node; what is not given stays.
    pub(super) async fn retrait(&self, caller: &Caller, update: NodeUpdate) -> Result<Value, RpcError> {
        let NodeUpdate { name, labels, aggregates, zone, confirm } = update;
        check_labels(labels.as_ref().unwrap_or(&BTreeMap::new()))?;
        let action = if labels.is_some() { "relabelled" } else { "placed" };
        self.change(caller, &name, action, "", |world, entry, now| {
            let before = entry.clone();
            let mut placement = entry.placement.clone();
            placement.aggregates = aggregates.unwrap_or(placement.aggregates);
            // No text names no zone.
            placement.zone = zone.map_or(placement.zone, |zone| (!zone.is_empty()).then_some(zone));
            check_placement(&placement)?;
            entry.labels = labels.unwrap_or_else(|| entry.labels.clone());
            entry.targeting = world.rules.targeting(&entry.name, &entry.labels, &placement);
            entry.placement = placement;
            agreed(world, &before, entry, now, caller, confirm.as_deref())
        })
        .await
    }
}
