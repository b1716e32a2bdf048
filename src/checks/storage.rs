//! Checks' rows: definitions, runs, batches, and the numbers that never go back.

use std::collections::BTreeMap;

use sqlx::Row;

use crate::checks::registry::Registry;
use crate::checks::run::{Batch, Run};
use crate::checks::runs::Runs;
use crate::checks::window::Window;
use crate::checks::window::opening::Mark;
use crate::clock::Timestamp;
use crate::names::CheckName;
use crate::protocol::RunOrder;
use crate::store::{Changes, Database, StoreError, settled, to_body};

/// What a restart finds.
pub struct Restored {
    /// All definitions.
    pub registry: Registry,
    /// The number of the last policy.
    pub policy_number: i64,
    /// Runs and batches in progress.
    pub runs: Runs,
    /// The moment of the last slot of each check.
    pub last_slots: BTreeMap<CheckName, Timestamp>,
    /// The last schema each adapter announced.
    pub schemas: BTreeMap<String, serde_json::Value>,
    /// What is known of maintenance windows that are open, or ended a moment ago.
    pub marks: Vec<Mark>,
    /// The ids of news acted upon, with the time they were signed.
    pub news: BTreeMap<String, Timestamp>,
}

const META: &str = "SELECT value FROM checks_meta WHERE name = ?";
const SLOT: &str = "slot:";
const SCHEMA: &str = "schema:";
const NEWS: &str = "news:";
const WINDOW: &str = "window:";

/// Reads everything.
///
/// # Errors
/// [`StoreError`].
pub async fn restore(database: &Database) -> Result<Restored, StoreError> {
    let mut registry = Registry::default();
    for check in
        database.load::<crate::checks::definition::Check>("checks_check", "SELECT name, body FROM checks_check").await?
    {
        registry.checks.insert(check.name.clone(), check);
    }
    for profile in database
        .load::<crate::checks::profile::Profile>("checks_profile", "SELECT name, body FROM checks_profile")
        .await?
    {
        registry.profiles.insert(profile.name.clone(), profile);
    }
    for pool in
        database.load::<crate::protocol::PoolPolicy>("checks_pool", "SELECT name, body FROM checks_pool").await?
    {
        registry.pools.insert(pool.name.clone(), pool);
    }
    let windows: Vec<Window> = database.load("checks_window", "SELECT name, body FROM checks_window").await?;
    registry.windows = windows.into_iter().map(|window| (window.name.clone(), window)).collect();
    let runs: Vec<Run> = database.load("checks_run", "SELECT epoch, body FROM checks_run").await?;
    let batches: Vec<Batch> = database.load("checks_batch", "SELECT epoch, body FROM checks_batch").await?;
    let mut last_slots = BTreeMap::new();
    let mut schemas = BTreeMap::new();
    let mut news = BTreeMap::new();
    let mut marks = Vec::new();
    for row in settled(sqlx::query("SELECT name, value FROM checks_meta").fetch_all(database.reader())).await? {
        let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(check) = name.strip_prefix(SLOT).and_then(|check| CheckName::new(check).ok()) {
            last_slots.insert(check, Timestamp(value.parse().unwrap_or(0)));
        } else if let Some(adapter) = name.strip_prefix(SCHEMA) {
            schemas.insert(adapter.to_owned(), serde_json::from_str(&value).unwrap_or_default());
        } else if name.starts_with(WINDOW) {
            marks.extend(serde_json::from_str::<Mark>(&value).ok());
        } else if let Some(id) = name.strip_prefix(NEWS) {
            news.insert(id.to_owned(), Timestamp(value.parse().unwrap_or(0)));
        }
    }
    let number = |value: Option<String>| value.and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
    let policy_number = number(database.meta(META, "policy_number").await?);
    Ok(Restored { registry, policy_number, runs: Runs::restore(runs, batches), last_slots, schemas, news, marks })
}

async fn put_meta(changes: &mut Changes, name: &str, value: &str) -> Result<(), StoreError> {
    changes.execute("REPLACE INTO checks_meta (name, value) VALUES (?, ?)", &[name.into(), value.into()]).await?;
    Ok(())
}

/// Writes the difference between two registries, and the number of the policy it makes.
///
/// # Errors
/// [`StoreError`].
pub async fn save_registry(
    changes: &mut Changes,
    old: &Registry,
    new: &Registry,
    policy_number: i64,
) -> Result<(), StoreError> {
    macro_rules! save {
        ($field:ident, $put:literal, $delete:literal) => {
            for (name, value) in &new.$field {
                if old.$field.get(name) != Some(value) {
                    changes.execute($put, &[name.as_str().into(), (&to_body(value)).into()]).await?;
                }
            }
            for name in old.$field.keys().filter(|name| !new.$field.contains_key(*name)) {
                changes.execute($delete, &[name.as_str().into()]).await?;
            }
        };
    }
    save!(checks, "REPLACE INTO checks_check (name, body) VALUES (?, ?)", "DELETE FROM checks_check WHERE name = ?");
    save!(
        profiles,
        "REPLACE INTO checks_profile (name, body) VALUES (?, ?)",
        "DELETE FROM checks_profile WHERE name = ?"
    );
    save!(windows, "REPLACE INTO checks_window (name, body) VALUES (?, ?)", "DELETE FROM checks_window WHERE name = ?");
    save!(pools, "REPLACE INTO checks_pool (name, body) VALUES (?, ?)", "DELETE FROM checks_pool WHERE name = ?");
    for name in old.checks.keys().filter(|name| !new.checks.contains_key(*name)) {
        changes.execute("DELETE FROM checks_meta WHERE name = ?", &[(&format!("{SLOT}{name}")).into()]).await?;
    }
    put_meta(changes, "policy_number", &policy_number.to_string()).await
}

/// Writes the moment of a check's last slot.
///
/// # Errors
/// [`StoreError`].
pub async fn save_slot(changes: &mut Changes, check: &CheckName, slot: Timestamp) -> Result<(), StoreError> {
    put_meta(changes, &format!("{SLOT}{check}"), &slot.0.to_string()).await
}

/// Writes what is known of maintenance windows, by their ids; removes what is absent.
///
/// # Errors
/// [`StoreError`].
pub async fn save_marks(changes: &mut Changes, marks: &BTreeMap<String, Option<Mark>>) -> Result<(), StoreError> {
    for (id, mark) in marks {
        let name = format!("{WINDOW}{id}");
        match mark {
            Some(mark) => put_meta(changes, &name, &to_body(mark)).await?,
            None => drop(changes.execute("DELETE FROM checks_meta WHERE name = ?", &[(&name).into()]).await?),
        }
    }
    Ok(())
}

/// Writes the schema an adapter announced.
///
/// # Errors
/// [`StoreError`].
pub async fn save_schema(changes: &mut Changes, adapter: &str, schema: &serde_json::Value) -> Result<(), StoreError> {
    put_meta(changes, &format!("{SCHEMA}{adapter}"), &to_body(schema)).await
}

/// Writes that news was acted upon, and forgets what is `over`.
///
/// # Errors
/// [`StoreError`].
pub async fn save_news(
    changes: &mut Changes,
    id: &str,
    signed_at: Timestamp,
    over: &[String],
) -> Result<(), StoreError> {
    for id in over {
        changes.execute("DELETE FROM checks_meta WHERE name = ?", &[(&format!("{NEWS}{id}")).into()]).await?;
    }
    put_meta(changes, &format!("{NEWS}{id}"), &signed_at.0.to_string()).await
}

/// Writes a run.
///
/// # Errors
/// [`StoreError`].
pub async fn save_run(changes: &mut Changes, run: &Run) -> Result<(), StoreError> {
    let RunOrder { epoch, run: number } = run.order;
    let body = to_body(run);
    let arguments = [epoch.into(), number.into(), (&body).into()];
    changes.execute("REPLACE INTO checks_run (epoch, run, body) VALUES (?, ?, ?)", &arguments).await?;
    Ok(())
}

/// Removes a run.
///
/// # Errors
/// [`StoreError`].
pub async fn delete_run(changes: &mut Changes, order: RunOrder) -> Result<(), StoreError> {
    changes
        .execute("DELETE FROM checks_run WHERE epoch = ? AND run = ?", &[order.epoch.into(), order.run.into()])
        .await?;
    Ok(())
}

/// Writes a batch.
///
/// # Errors
/// [`StoreError`].
pub async fn save_batch(changes: &mut Changes, batch: &Batch) -> Result<(), StoreError> {
    let body = to_body(batch);
    let arguments = [batch.order.epoch.into(), batch.order.run.into(), batch.batch.into(), (&body).into()];
    changes.execute("REPLACE INTO checks_batch (epoch, run, batch, body) VALUES (?, ?, ?, ?)", &arguments).await?;
    Ok(())
}

/// Removes a batch that is complete.
///
/// # Errors
/// [`StoreError`].
pub async fn delete_batch(changes: &mut Changes, order: RunOrder, batch: i64) -> Result<(), StoreError> {
    let arguments = [order.epoch.into(), order.run.into(), batch.into()];
    changes.execute("DELETE FROM checks_batch WHERE epoch = ? AND run = ? AND batch = ?", &arguments).await?;
    Ok(())
}
