//! Registration of nodes and what administrators do to them. Every action is an entry in the record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::entry::{Entry, Tombstone};
use crate::nodes::record::What;
use crate::nodes::results::nodes_changed;
use crate::nodes::traits::{check_labels, check_placement};
use crate::nodes::world::{Stage, World, new_entry};
use crate::protocol::Placement;
use crate::rpc::{Caller, RpcError};
use crate::trust::{Maintenance, NodeTrust};

/// Most nodes in one import.
const MAX_IMPORT: usize = 10_000;
/// Longest maintenance.
const MAX_MAINTENANCE_HOURS: i64 = 24 * 366;

/// A node to be registered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewNode {
    /// Its name.
    pub name: NodeName,
    /// What targets can ask for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host aggregates it is in.
    #[serde(default)]
    pub aggregates: BTreeSet<String>,
    /// Its availability zone.
    #[serde(default)]
    pub zone: Option<String>,
    /// Anything that a machine of the same name does not share; made up where absent.
    #[serde(default)]
    pub identity: Option<String>,
}

impl NewNode {
    fn placement(&self) -> Placement {
        Placement { aggregates: self.aggregates.clone(), zone: self.zone.clone() }
    }
}

/// An action on one node, with a reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Which node.
    pub name: NodeName,
    /// Why.
    pub reason: String,
}

/// An action that lasts some hours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedAction {
    /// Which node.
    pub name: NodeName,
    /// How long.
    pub hours: i64,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// For which pool, where it is for one; `default` where absent.
    #[serde(default)]
    pub pool: Option<PoolName>,
}

fn no_such_node(name: &NodeName) -> RpcError {
    RpcError::not_found(format!("there is no node named {name}; `spicectl node list` shows them"))
}

fn default_pool(pool: Option<PoolName>) -> Result<PoolName, RpcError> {
    match pool {
        Some(pool) => Ok(pool),
        None => PoolName::new("default").map_err(RpcError::internal),
    }
}

impl Nodes {
    /// Registers nodes that are not registered yet; returns the names of those that are new.
    pub(super) async fn register(&self, caller: &Caller, nodes: Vec<NewNode>) -> Result<Vec<NodeName>, RpcError> {
        if nodes.len() > MAX_IMPORT {
            return Err(RpcError::bad_request(format!("{} nodes at once; import at most {MAX_IMPORT}", nodes.len())));
        }
        let mut world = self.world.lock().await;
        let tombstones = crate::nodes::storage::tombstones(&self.database).await.map_err(RpcError::from)?;
        let now = self.clock.now();
        let mut stage = Stage::default();
        let mut fresh = BTreeSet::new();
        for node in nodes {
            check_labels(&node.labels)?;
            check_placement(&node.placement())?;
            if world.nodes.contains_key(&node.name) || fresh.contains(&node.name) {
                continue;
            }
            let identity = node.identity.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            if identity.is_empty() || identity.len() > 255 {
                return Err(RpcError::bad_request("an identity has 1 to 255 bytes"));
            }
            let entry = newcomer(&world, &tombstones, node, identity, now);
            let name = entry.name.clone();
            stage.touched.insert(name.clone(), entry);
            act(&mut stage, &name, "registered", "", caller, now);
            world.review(&mut stage, &world.rules, &name, &by(caller, "registered"), now);
            fresh.insert(name);
        }
        if !fresh.is_empty() {
            stage.parcels.push(nodes_changed(&fresh, "new"));
            self.commit(&mut world, stage).await.map_err(RpcError::from)?;
        }
        Ok(fresh.into_iter().collect())
    }

    /// Removes a node; what sticks stays for whoever comes back under its name or identity.
    pub(super) async fn delete(&self, caller: &Caller, name: &NodeName) -> Result<Value, RpcError> {
        let mut world = self.world.lock().await;
        let now = self.clock.now();
        let entry = world.open(name).ok_or_else(|| no_such_node(name))?;
        let tombstone = Tombstone { name: name.clone(), deleted_at: now, trust: entry.trust.tombstone() };
        let mut stage = Stage { buried: vec![tombstone], ..Stage::default() };
        act(&mut stage, name, "deleted", "", caller, now);
        self.commit(&mut world, stage).await.map_err(RpcError::from)?;
        Ok(Value::Null)
    }

    /// Distrusts a node until it is released.
    pub(super) async fn quarantine(&self, caller: &Caller, action: Action) -> Result<Value, RpcError> {
        let reason = explained(&action.reason)?;
        let owner = caller.sender.clone();
        self.change(caller, &action.name, "quarantined", &reason, |_, entry, now| {
            entry.trust.quarantine(&owner, &reason, now);
            Ok(())
        })
        .await
    }

    /// Ends quarantine and distrust: the node is unknown, and checked at once.
    pub(super) async fn release(&self, caller: &Caller, action: Action) -> Result<Value, RpcError> {
        let reason = explained(&action.reason)?;
        self.change(caller, &action.name, "released", &reason, |_, entry, now| {
            entry.trust.release(caller.vouch, now);
            Ok(())
        })
        .await
    }

    /// Shows an unknown node as trusted for some hours.
    pub(super) async fn grant_override(&self, caller: &Caller, action: TimedAction) -> Result<Value, RpcError> {
        let reason = explained(&action.reason)?;
        let pool = default_pool(action.pool)?;
        let lasts = hours(action.hours, 72)?;
        let owner = caller.sender.clone();
        self.change(caller, &action.name, "overridden", &reason, |world, entry, now| {
            entry
                .trust
                .grant_override(&world.rules, &pool, &owner, &reason, caller.vouch, (now, now.plus(lasts)))
                .map_err(|error| RpcError::conflict(error.to_string()))
        })
        .await
    }

    /// Ends an override.
    pub(super) async fn end_override(&self, caller: &Caller, name: &NodeName) -> Result<Value, RpcError> {
        self.change(caller, name, "override ended", "", |world, entry, _| {
            for pool in world.rules.pools().keys() {
                entry.trust.revoke_override(pool);
            }
            Ok(())
        })
        .await
    }

    /// Mutes actions on a node; no hours end it.
    pub(super) async fn maintain(&self, caller: &Caller, action: TimedAction) -> Result<Value, RpcError> {
        if action.hours == 0 {
            return self
                .change(caller, &action.name, "maintenance ended", "", |_, entry, _| {
                    entry.trust.maintenance = None;
                    Ok(())
                })
                .await;
        }
        let reason = explained(&action.reason)?;
        let lasts = hours(action.hours, MAX_MAINTENANCE_HOURS)?;
        let owner = caller.sender.clone();
        self.change(caller, &action.name, "in maintenance", &reason, |_, entry, now| {
            let (reason, until) = (reason.clone(), now.plus(lasts));
            entry.trust.maintenance = Some(Maintenance { owner, reason, until, vouch: caller.vouch });
            Ok(())
        })
        .await
    }

    /// Changes one node, records who did it, judges it again. A release is told to Checks, so that it is checked at once.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        name: &NodeName,
        action: &str,
        reason: &str,
        change: impl FnOnce(&World, &mut Entry, Timestamp) -> Result<(), RpcError>,
    ) -> Result<Value, RpcError> {
        let mut world = self.world.lock().await;
        self.still_believed(&[caller.vouch])?;
        let now = self.clock.now();
        let mut stage = Stage::default();
        let entry = world.touch(&mut stage, name).ok_or_else(|| no_such_node(name))?;
        change(&world, entry, now)?;
        act(&mut stage, name, action, reason, caller, now);
        world.review(&mut stage, &world.rules, name, &by(caller, action), now);
        if ["released", "relabelled", "placed"].contains(&action) {
            stage.parcels.push(nodes_changed(&BTreeSet::from([name.clone()]), action));
        }
        self.commit(&mut world, stage).await.map_err(RpcError::from)?;
        tracing::info!(node = %name, sender = caller.sender, action, reason, "an administrator acted on a node");
        Ok(world.open(name).map(|entry| self.show(&world, &entry)).unwrap_or(json!(null)))
    }
}

/// A node that was not registered. What sticks to its name or its identity sticks to it.
pub(super) fn newcomer(
    world: &World,
    tombstones: &[Tombstone],
    node: NewNode,
    identity: String,
    now: Timestamp,
) -> Entry {
    let is_of_it = |grave: &&Tombstone| grave.name == node.name || grave.trust.facts.identity == identity;
    let graves: Vec<NodeTrust> = tombstones.iter().filter(is_of_it).map(|grave| grave.trust.clone()).collect();
    let trust = match graves.is_empty() {
        true => NodeTrust::new(&identity),
        false => NodeTrust::registered_again(&identity, &graves, now),
    };
    let placement = node.placement();
    let targeting = world.rules.targeting(&node.name, &node.labels, &placement);
    let NewNode { name, labels, .. } = node;
    let verdicts = BTreeMap::new();
    Entry { name, labels, placement, nova: None, registered_at: now, trust, verdicts, targeting }
}

pub(super) fn act(stage: &mut Stage, node: &NodeName, action: &str, reason: &str, caller: &Caller, now: Timestamp) {
    let what = What::Action { action: action.to_owned(), reason: crate::text::display_safe(reason) };
    stage.record.push(new_entry(node, what, &by(caller, action), now));
}

pub(super) fn by(caller: &Caller, action: &str) -> String {
    format!("{action} by {}", caller.sender)
}

fn explained(reason: &str) -> Result<String, RpcError> {
    let reason = crate::text::display_safe(reason.trim());
    if reason.is_empty() {
        return Err(RpcError::bad_request("say why (--reason): it is kept in the record"));
    }
    Ok(reason)
}

fn hours(hours: i64, most: i64) -> Result<Duration, RpcError> {
    if !(1..=most).contains(&hours) {
        return Err(RpcError::bad_request(format!("hours is {hours}; use 1 to {most}")));
    }
    Ok(Duration::from_secs(u64::try_from(hours).unwrap_or(1) * 3600))
}
