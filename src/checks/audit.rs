//! Checks' own record: who changed which definition, when and how, hash-chained like the record of trust.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row;

use crate::chain::{BEGINNING, Head, Link, hash};
use crate::checks::Checks;
use crate::checks::registry::Registry;
use crate::clock::Timestamp;
use crate::rpc::{Caller, RpcError};
use crate::store::{Changes, Database, StoreError, settled, to_body};

/// Most entries in one answer.
const MAX_PAGE: i64 = 1000;
/// What changes with every change and says nothing.
const UNTOLD: [&str; 2] = ["changed_at", "created_at"];

/// Who changes definitions, and what an administrator has confirmed with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Author {
    sender: String,
    key_id: Option<String>,
    confirmed: Vec<String>,
}

impl Author {
    /// The service itself, at its very first start.
    pub(super) fn of_the_service() -> Self {
        Self { sender: "spiced".to_owned(), ..Self::default() }
    }

    pub(super) fn new(caller: &Caller, confirmed: Vec<String>) -> Self {
        let key_id = caller.vouch.map(|vouch| vouch.key.to_string());
        Self { sender: caller.sender.clone(), key_id, confirmed }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AuditEntry {
    seq: i64,
    at: Timestamp,
    /// Who did it.
    sender: String,
    /// With which key; absent where unsigned or the service itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// `created`, `changed` or `deleted`.
    action: String,
    /// `check`, `profile`, `pool` or `window`.
    kind: String,
    /// Its name.
    name: String,
    /// Before and after, member by member; of what is created or deleted the whole.
    changes: BTreeMap<String, (Value, Value)>,
    /// The number of the policy this made.
    policy: i64,
    /// What was loosened with an administrator's confirmation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    confirmed: Vec<String>,
    previous: String,
}

/// Appends what differs between two registries.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn save(
    database: &Database,
    changes: &mut Changes,
    (old, new): (&Registry, &Registry),
    author: &Author,
    policy: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Head { mut seq, hash: mut previous } = head(database).await?;
    let mut rows = Vec::new();
    for (kind, name, before, after) in differences(old, new) {
        seq += 1;
        let entry = AuditEntry {
            seq,
            at,
            sender: author.sender.clone(),
            key_id: author.key_id.clone(),
            action: action(&before, &after).to_owned(),
            kind: kind.to_owned(),
            name,
            changes: members(&before, &after),
            policy,
            confirmed: author.confirmed.clone(),
            previous,
        };
        let text = to_body(&entry);
        previous = hash(&text);
        rows.push((seq, text, previous.clone()));
    }
    let rows = rows.iter().map(|(seq, text, hash)| [(*seq).into(), at.0.into(), text.into(), hash.into()]);
    changes.execute_many("INSERT INTO checks_record (seq, at, body, hash) VALUES", rows, "").await
}

/// Where the record ends.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn head(database: &Database) -> Result<Head, StoreError> {
    let query = sqlx::query("SELECT seq, hash FROM checks_record ORDER BY seq DESC LIMIT 1");
    Ok(match settled(query.fetch_optional(database.reader())).await? {
        Some(row) => Head { seq: row.try_get(0)?, hash: row.try_get(1)? },
        None => Head { seq: 0, hash: BEGINNING.to_owned() },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditFilter {
    #[serde(default)]
    after: i64,
    #[serde(default)]
    limit: Option<i64>,
}

/// Entries as they are stored, in their order.
///
/// # Errors
/// [`StoreError`].
pub async fn links(database: &Database, after: i64, limit: i64) -> Result<Vec<Link>, StoreError> {
    let query = sqlx::query("SELECT seq, at, body, hash FROM checks_record WHERE seq > ? ORDER BY seq LIMIT ?");
    let rows = settled(query.bind(after).bind(limit.clamp(1, MAX_PAGE)).fetch_all(database.reader())).await?;
    let link = |row: &sqlx::any::AnyRow| {
        let (seq, at, text, hash) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Link { seq, node: None, at, text, hash })
    };
    rows.iter().map(link).collect()
}

impl Checks {
    pub(super) async fn audit_list(&self, filter: AuditFilter) -> Result<Value, RpcError> {
        let limit = filter.limit.unwrap_or(MAX_PAGE);
        let entries = links(&self.database, filter.after, limit).await.map_err(RpcError::from)?;
        let head = head(&self.database).await.map_err(RpcError::from)?;
        Ok(json!({ "entries": entries, "head": head }))
    }
}

type Difference = (&'static str, String, Value, Value);

fn differences(old: &Registry, new: &Registry) -> Vec<Difference> {
    let mut found = Vec::new();
    macro_rules! compare {
        ($kind:literal, $field:ident) => {
            for name in old.$field.keys().chain(new.$field.keys().filter(|name| !old.$field.contains_key(*name))) {
                let (before, after) = (old.$field.get(name), new.$field.get(name));
                if before != after {
                    found.push(($kind, name.to_string(), json!(before), json!(after)));
                }
            }
        };
    }
    compare!("profile", profiles);
    compare!("pool", pools);
    compare!("check", checks);
    compare!("window", windows);
    found
}

fn action(before: &Value, after: &Value) -> &'static str {
    match (before.is_null(), after.is_null()) {
        (true, _) => "created",
        (_, true) => "deleted",
        _ => "changed",
    }
}

fn members(before: &Value, after: &Value) -> BTreeMap<String, (Value, Value)> {
    let names = [before, after].into_iter().filter_map(Value::as_object).flat_map(|members| members.keys());
    let of = |value: &Value, name: &str| value.get(name).cloned().unwrap_or_default();
    names
        .filter(|name| !UNTOLD.contains(&name.as_str()))
        .map(|name| (name.clone(), (of(before, name), of(after, name))))
        .filter(|(_, (before, after))| before != after)
        .collect()
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
