//! What people and other roles are shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::names::{CheckName, NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::history;
use crate::nodes::kept::Kept;
use crate::nodes::world::World;
use crate::protocol::Level;
use crate::rpc::RpcError;

/// Most nodes in one page of a list.
const MAX_PAGE: usize = 10_000;
/// Most results in one answer.
const MAX_RESULTS: i64 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFilter {
    #[serde(default)]
    pool: Option<PoolName>,
    #[serde(default)]
    level: Option<Level>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<NodeName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultFilter {
    #[serde(default)]
    node: Option<NodeName>,
    #[serde(default)]
    check: Option<CheckName>,
    #[serde(default)]
    limit: Option<i64>,
}

pub(super) fn no_such_pool(world: &World, name: &PoolName) -> RpcError {
    let known = world.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
    RpcError::not_found(format!("there is no pool named {name}; known are: {known}"))
}

impl Nodes {
    pub(super) async fn node_list(&self, filter: NodeFilter) -> Result<Value, RpcError> {
        let world = self.world.lock().await;
        let pool = filter.pool.map_or_else(|| PoolName::new("default").map_err(RpcError::internal), Ok)?;
        if !world.rules.pools().contains_key(&pool) && !world.rules.pools().is_empty() {
            return Err(no_such_pool(&world, &pool));
        }
        let limit = filter.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let start = filter.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let level = |entry: &Kept| entry.in_pool(&pool).map_or(Level::Unknown, |state| state.level);
        let rows = world
            .nodes
            .range((start, std::ops::Bound::Unbounded))
            .filter(|(_, entry)| filter.level.is_none_or(|wanted| level(entry) == wanted))
            .take(limit)
            .map(|(name, entry)| {
                let verdict = entry.in_pool(&pool);
                json!({
                    "name": name,
                    "trust": level(entry),
                    "expires_at": verdict.filter(|v| v.level == Level::Trusted).map(|v| v.expires_at.to_string()),
                    "reason": verdict.map(|verdict| verdict.reason.to_string()),
                    "overridden": verdict.is_some_and(|verdict| verdict.overridden),
                    "maintenance": entry.muted_until.is_some_and(|until| self.clock.now() < until),
                })
            });
        Ok(rows.collect())
    }

    pub(super) async fn node_show(&self, name: &NodeName) -> Result<Value, RpcError> {
        let world = self.world.lock().await;
        world.open(name).map(|entry| self.show(&world, &entry)).ok_or_else(|| {
            RpcError::not_found(format!("there is no node named {name}; `spicectl node list` shows them"))
        })
    }

    pub(super) fn show(&self, _world: &World, entry: &Entry) -> Value {
        let pools: BTreeMap<_, _> = entry
            .verdicts
            .iter()
            .map(|(pool, verdict)| {
                let shown = json!({
                    "trust": verdict.level,
                    "reason": verdict.reason.to_string(),
                    "expires_at": (verdict.level == Level::Trusted).then(|| verdict.expires_at.to_string()),
                    "overridden": verdict.overridden,
                    "self_reported": verdict.self_reported,
                });
                (pool, shown)
            })
            .collect();
        let checks: BTreeMap<_, _> = entry
            .trust
            .checks
            .iter()
            .filter_map(|(check, state)| Some((check, state.shown()?)))
            .map(|(check, shown)| {
                let shown = json!({
                    "status": shown.status,
                    "reason": shown.reason,
                    "run": shown.order.to_string(),
                    "evidence_at": shown.evidence_at.to_string(),
                    "recorded_at": shown.recorded_at.to_string(),
                    "self_reported": shown.self_reported,
                });
                (check, shown)
            })
            .collect();
        let boots = &entry.trust.facts.boots;
        let boot = match boots.observable() {
            true => json!({ "changes": boots.count(), "changed_at": boots.changed_at().map(|at| at.to_string()) }),
            false => json!("not observable"),
        };
        let maintenance = entry.trust.maintenance.as_ref().filter(|maintenance| maintenance.mutes(self.clock.now()));
        json!({
            "name": entry.name,
            "identity": entry.trust.facts.identity,
            "labels": entry.labels,
            "aggregates": entry.placement.aggregates,
            "zone": entry.placement.zone,
            "nova": entry.nova,
            "registered_at": entry.registered_at.to_string(),
            "pools": pools,
            "checks": checks,
            "targeted_by": entry.targeting,
            "boot": boot,
            "quarantine": entry.trust.quarantine.as_ref().map(|q| {
                json!({ "owner": q.owner, "reason": q.reason, "since": q.since.to_string() })
            }),
            "maintenance": maintenance.map(|m| {
                json!({ "owner": m.owner, "reason": m.reason, "until": m.until.to_string() })
            }),
        })
    }

    pub(super) async fn result_list(&self, filter: ResultFilter) -> Result<Value, RpcError> {
        let limit = filter.limit.unwrap_or(100).clamp(1, MAX_RESULTS);
        let results = history::latest(&self.database, filter.node.as_ref(), filter.check.as_ref(), limit)
            .await
            .map_err(RpcError::from)?;
        let row = |result: &crate::nodes::entry::StoredResult| {
            let mut row = json!(result);
            row["evidence_at"] = json!(result.evidence_at.to_string());
            row["stored_at"] = json!(result.stored_at.to_string());
            row
        };
        Ok(results.iter().map(row).collect())
    }

    pub(super) fn pool(&self, world: &World, name: &PoolName, with_members: bool) -> Value {
        let Some(pool) = world.pools.get(name) else { return Value::Null };
        let mut levels = BTreeMap::from([("trusted", 0), ("untrusted", 0), ("unknown", 0)]);
        for member in pool.members.values() {
            *levels.entry(member.level.as_str()).or_default() += 1;
        }
        let (oldest_evidence, expiring, flapping) = self.figures.of_pool(name, self.clock.now());
        let mut shown = json!({
            "name": name,
            "mode": pool.mode,
            "max_silence_s": pool.max_silence_ms / 1000,
            "nodes": pool.members.len(),
            "trusted": levels["trusted"],
            "untrusted": levels["untrusted"],
            "unknown": levels["unknown"],
            "overridden": pool.members.values().filter(|member| member.overridden).count(),
            "oldest_evidence_s": oldest_evidence,
            "expiring": expiring,
            "flapping": flapping,
        });
        if with_members {
            let members: BTreeMap<_, _> = pool
                .members
                .iter()
                .map(|(node, member)| {
                    let expires = (member.level == Level::Trusted).then(|| member.expires_at.to_string());
                    (node, json!({ "trust": member.level, "expires_at": expires, "overridden": member.overridden }))
                })
                .collect();
            shown["members"] = json!(members);
        }
        shown
    }

    pub(super) fn status(&self, world: &World) -> Value {
        let pools: Vec<Value> = world.pools.keys().map(|pool| self.pool(world, pool, false)).collect();
        json!({
            "role": "nodes",
            "database": self.database.health().as_json(),
            "deployment": self.identity.deployment,
            "epoch": self.epoch,
            "epoch_known_by_readers": self.refused_by_readers(),
            "version": world.version,
            "nodes": world.nodes.len(),
            "policy_number": world.policy.as_ref().map(|(policy, _)| policy.number),
            "policy_refused": world.refused.as_ref().map(|(policy, _)| policy.number),
            "record_entries": world.record_head.0,
            "record_head": world.record_head.1,
            "pools": pools,
            "results": self.figures.results(),
            "health": self.health.report().details,
            "unsigned_admin": self.identity.unsigned_admin,
            "key_id": self.identity.key.key_id(),
            "key_fault": self.identity.own_key_fault(),
            "trust_store": self.identity.trust.report(),
        })
    }
}
