//! Why a node is, or was, trusted or not; and the record as it is stored, for whoever verifies or exports it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::chain::Head;
use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::record::{self, RecordEntry, RecordFilter, What};
use crate::nodes::storage;
use crate::protocol::Level;
use crate::rpc::RpcError;

/// Entries of the record that are shown in one answer.
const SHOWN: usize = 20;
/// Entries of a node that are looked at for its levels; a pool whose level has not changed for so long is not told of.
const LOOKED_AT: i64 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    name: NodeName,
    #[serde(default)]
    at: Option<Timestamp>,
}

/// What the record says of a node at one moment.
#[derive(Default)]
struct Told<'a> {
    registered: bool,
    /// The entry that made the level in each pool what it was.
    levels: BTreeMap<&'a PoolName, &'a RecordEntry>,
}

impl<'a> Told<'a> {
    /// From entries up to that moment, newest first.
    fn by(entries: &'a [RecordEntry]) -> Self {
        let mut told = Self { registered: !entries.is_empty(), levels: BTreeMap::new() };
        for entry in entries {
            match &entry.what {
                What::Trust { pool, .. } => drop(told.levels.entry(pool).or_insert(entry)),
                // What was before it was another registration.
                What::Action { action, .. } if action == "registered" => break,
                What::Action { action, .. } if action == "deleted" => {
                    told.registered = false;
                    break;
                }
                What::Action { .. } => {}
            }
        }
        told
    }
}

impl Nodes {
    pub(super) async fn node_why(&self, why: Why) -> Result<Value, RpcError> {
        let at = why.at.unwrap_or_else(|| self.clock.now());
        let entries = storage::record_of(&self.database, &why.name, at, LOOKED_AT).await.map_err(RpcError::from)?;
        let told = Told::by(&entries);
        let world = self.world.lock().await;
        let entry = world.open(&why.name);
        if entry.is_none() && entries.is_empty() {
            return Err(RpcError::not_found(format!("nothing is known of a node named {}", why.name)));
        }
        let pools: BTreeMap<&PoolName, Value> = match (why.at, &entry) {
            (None, Some(entry)) => levels_now(entry, &told),
            _ => told.levels.iter().map(|(pool, entry)| (*pool, level_then(entry))).collect(),
        };
        Ok(json!({
            "name": why.name,
            "at": at.to_string(),
            "registered": if why.at.is_none() { entry.is_some() } else { told.registered },
            "pools": pools,
            "record": entries.iter().take(SHOWN).map(entry_as_json).collect::<Vec<_>>(),
        }))
    }

    /// A part of the record, and where all of it ends now.
    pub(super) async fn record_list(&self, filter: RecordFilter) -> Result<Value, RpcError> {
        let head = {
            let (seq, hash) = self.world.lock().await.record_head.clone();
            Head { seq, hash }
        };
        let entries = record::links(&self.database, &filter).await.map_err(RpcError::from)?;
        Ok(json!({ "entries": entries, "head": head }))
    }
}

/// The levels in force, each with the entry of the record that says since when and why.
fn levels_now<'a>(entry: &'a Entry, told: &Told) -> BTreeMap<&'a PoolName, Value> {
    let levels = entry.verdicts.iter().map(|(pool, verdict)| {
        let mut level = json!({
            "trust": verdict.level,
            "reason": verdict.reason.to_string(),
            "overridden": verdict.overridden,
            "self_reported": verdict.self_reported,
            "until": (verdict.level == Level::Trusted).then(|| verdict.expires_at.to_string()),
            "outlook": verdict.outlook(),
        });
        match told.levels.get(pool) {
            Some(entry) if matches!(&entry.what, What::Trust { to, .. } if *to == verdict.level) => {
                decided_by(&mut level, entry);
            }
            // Unknown from the beginning is no change, so it has no entry.
            _ => level["since"] = json!(entry.registered_at.to_string()),
        }
        (pool, level)
    });
    levels.collect()
}

/// A level as the record said it.
fn level_then(entry: &RecordEntry) -> Value {
    let What::Trust { to, overridden, reason, until, outlook, .. } = &entry.what else { return Value::Null };
    let mut level = json!({
        "trust": to,
        "reason": reason,
        "overridden": overridden,
        "until": until.map(|at| at.to_string()),
        "outlook": outlook,
    });
    decided_by(&mut level, entry);
    level
}

fn decided_by(level: &mut Value, entry: &RecordEntry) {
    level["since"] = json!(entry.at.to_string());
    level["cause"] = json!(entry.cause);
    level["policy"] = json!(entry.policy);
    level["result"] = json!(entry.result);
    level["entry"] = json!(entry.seq);
}

fn entry_as_json(entry: &RecordEntry) -> Value {
    let what = match &entry.what {
        What::Trust { pool, from, to, reason, .. } => format!("{pool}: {from} -> {to}: {reason}"),
        What::Action { action, reason } if reason.is_empty() => action.clone(),
        What::Action { action, reason } => format!("{action}: {reason}"),
    };
    json!({ "seq": entry.seq, "at": entry.at.to_string(), "what": what, "cause": entry.cause, "policy": entry.policy })
}
