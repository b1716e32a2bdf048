//! Nodes' rows.

use sqlx::Row;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::nodes::entry::{Entry, Tombstone};
use crate::nodes::policy::{PolicyFloors, StoredPolicy};
use crate::nodes::record::{BEGINNING, RecordEntry, hash};
use crate::store::{Changes, Database, StoreError, settled, to_body};

/// What a restart finds, beside the nodes.
pub struct Restored {
    /// The last policy, as it was signed.
    pub policy: Option<StoredPolicy>,
    /// How far each key of Checks has numbered policies.
    pub policy_floors: PolicyFloors,
    /// The highest result id.
    pub last_result: i64,
    /// The number and hash of the last entry of the record.
    pub record_head: (i64, String),
    /// The highest outbox id.
    pub last_outbox: i64,
    /// What must still be sent, in order.
    pub outbox: Vec<Parcel>,
}

/// A way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Work for Checks: stored outcomes, nodes that changed.
    Events,
    /// Notifications for Ceilometer.
    Notifications,
    /// Those among them that do not wait behind the others.
    Alarms,
}

impl Lane {
    /// Every one.
    pub const ALL: [Lane; 3] = [Lane::Events, Lane::Notifications, Lane::Alarms];

    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Notifications => "notifications",
            Self::Alarms => "alarms",
        }
    }

    /// What the loop that empties it is called.
    #[must_use]
    pub fn loop_name(self) -> &'static str {
        match self {
            Self::Events => "outbox_events",
            Self::Notifications => "outbox_notifications",
            Self::Alarms => "outbox_alarms",
        }
    }
}

/// Something that must be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Its place in the order.
    pub id: i64,
    /// By which way.
    pub lane: String,
    /// What.
    pub body: String,
}

/// Names differ by any byte, so they have one order.
const NODES_AFTER: &str = "SELECT name, body FROM nodes_node WHERE name > ? ORDER BY name LIMIT 500";
const META: &str = "SELECT value FROM nodes_meta WHERE name = ?";

/// Reads everything but the nodes.
///
/// # Errors
/// [`StoreError`].
pub async fn restore(database: &Database, now: Timestamp) -> Result<Restored, StoreError> {
    let policy = database.meta(META, "policy").await?.and_then(|text| read_policy(&text, now));
    let floors = database.meta(META, "policy_floors").await?.and_then(|text| serde_json::from_str(&text).ok());
    let last = |row: Option<sqlx::any::AnyRow>| row.and_then(|row| row.try_get::<i64, _>(0).ok()).unwrap_or(0);
    let reader = database.reader();
    let last_result = last(
        settled(sqlx::query("SELECT id FROM nodes_result ORDER BY id DESC LIMIT 1").fetch_optional(reader)).await?,
    );
    let head =
        settled(sqlx::query("SELECT seq, hash FROM nodes_record ORDER BY seq DESC LIMIT 1").fetch_optional(reader))
            .await?;
    let record_head = match head {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (0, BEGINNING.to_owned()),
    };
    let mut outbox = Vec::new();
    for row in settled(sqlx::query("SELECT id, lane, body FROM nodes_outbox ORDER BY id").fetch_all(reader)).await? {
        outbox.push(Parcel { id: row.try_get(0)?, lane: row.try_get(1)?, body: row.try_get(2)? });
    }
    let last_outbox = outbox.last().map_or(0, |parcel| parcel.id);
    let policy_floors = floors.unwrap_or_default();
    Ok(Restored { policy, policy_floors, last_result, record_head, last_outbox, outbox })
}

/// The next rows of nodes after a name, as they are stored; none where there are no more.
///
/// # Errors
/// [`StoreError`].
pub async fn node_rows(database: &Database, after: &str) -> Result<Vec<(String, String)>, StoreError> {
    database.page(NODES_AFTER, after).await
}

async fn put_meta(changes: &mut Changes, name: &str, value: &str) -> Result<(), StoreError> {
    changes.execute("REPLACE INTO nodes_meta (name, value) VALUES (?, ?)", &[name.into(), value.into()]).await?;
    Ok(())
}

/// A row of an earlier version holds the document alone; then it is as if it had come now.
fn read_policy(text: &str, now: Timestamp) -> Option<StoredPolicy> {
    let alone = |_| serde_json::from_str(text).ok().map(|document| StoredPolicy { document, received_at: now });
    serde_json::from_str(text).map_or_else(alone, Some)
}

/// Writes the policy in force, or that there is none, and how far policies were numbered.
///
/// # Errors
/// [`StoreError`].
pub async fn save_policy(
    changes: &mut Changes,
    policy: Option<&StoredPolicy>,
    floors: &PolicyFloors,
) -> Result<(), StoreError> {
    match policy {
        Some(policy) => put_meta(changes, "policy", &to_body(policy)).await?,
        None => drop(changes.execute("DELETE FROM nodes_meta WHERE name = ?", &["policy".into()]).await?),
    }
    put_meta(changes, "policy_floors", &to_body(floors)).await
}

/// Writes nodes, each as its [`node_row`].
///
/// # Errors
/// [`StoreError`].
pub async fn save_nodes(changes: &mut Changes, nodes: Vec<(String, String)>) -> Result<(), StoreError> {
    let rows = nodes.into_iter().map(|(name, body)| [name.into(), body.into()]);
    changes.put_many("nodes_node", ["name", "body"], rows).await
}

/// A node as [`save_nodes`] writes it.
#[must_use]
pub fn node_row(entry: &Entry) -> (String, String) {
    (entry.name.as_str().to_owned(), to_body(entry))
}

/// Removes a node, leaving what sticks.
///
/// # Errors
/// [`StoreError`].
pub async fn bury_node(changes: &mut Changes, tombstone: &Tombstone) -> Result<(), StoreError> {
    save_tombstone(changes, tombstone).await?;
    changes.execute("DELETE FROM nodes_node WHERE name = ?", &[tombstone.name.as_str().into()]).await?;
    Ok(())
}

/// Writes a tombstone again.
///
/// # Errors
/// [`StoreError`].
pub async fn save_tombstone(changes: &mut Changes, tombstone: &Tombstone) -> Result<(), StoreError> {
    let body = to_body(tombstone);
    let arguments = [tombstone.name.as_str().into(), (&body).into()];
    changes.execute("REPLACE INTO nodes_tombstone (name, body) VALUES (?, ?)", &arguments).await?;
    Ok(())
}

/// All tombstones.
///
/// # Errors
/// [`StoreError`].
pub async fn tombstones(database: &Database) -> Result<Vec<Tombstone>, StoreError> {
    database.load("nodes_tombstone", "SELECT name, body FROM nodes_tombstone").await
}

/// An entry of the record as it is stored.
pub struct RecordRow {
    seq: i64,
    node: NodeName,
    at: Timestamp,
    text: String,
    /// Covers the entry, and through it all before it.
    pub hash: String,
}

impl RecordRow {
    /// The row of an entry that has its number and its predecessor's hash.
    #[must_use]
    pub fn of(entry: &RecordEntry) -> Self {
        let text = entry.text();
        Self { seq: entry.seq, node: entry.node.clone(), at: entry.at, hash: hash(&text), text }
    }
}

/// Appends entries to the record.
///
/// # Errors
/// [`StoreError`].
pub async fn save_record(changes: &mut Changes, rows: &[RecordRow]) -> Result<(), StoreError> {
    let rows = rows.iter().map(|row| {
        let (text, hash) = ((&row.text).into(), (&row.hash).into());
        [row.seq.into(), row.node.as_str().into(), row.at.0.into(), text, hash]
    });
    changes.execute_many("INSERT INTO nodes_record (seq, node, at, body, hash) VALUES", rows, "").await
}

/// Writes what must be sent.
///
/// # Errors
/// [`StoreError`].
pub async fn save_parcels(changes: &mut Changes, parcels: &[(Lane, Parcel)]) -> Result<(), StoreError> {
    let rows = parcels.iter().map(|(_, parcel)| [parcel.id.into(), (&parcel.lane).into(), (&parcel.body).into()]);
    changes.execute_many("INSERT INTO nodes_outbox (id, lane, body) VALUES", rows, "").await
}

/// Forgets what was sent.
///
/// # Errors
/// [`StoreError`].
pub async fn forget_sent(changes: &mut Changes, lane: &str, up_to: i64) -> Result<(), StoreError> {
    changes.execute("DELETE FROM nodes_outbox WHERE lane = ? AND id <= ?", &[lane.into(), up_to.into()]).await?;
    Ok(())
}

/// Which of the works `ids` were done already.
///
/// # Errors
/// [`StoreError`].
pub async fn seen(database: &Database, ids: &[&str]) -> Result<Vec<String>, StoreError> {
    database.find("SELECT id FROM nodes_seen WHERE id IN", ids).await
}

/// Takes note that works are done, with their effect, and until when that is remembered.
///
/// # Errors
/// [`StoreError`].
pub async fn save_seen(changes: &mut Changes, seen: &[(String, Timestamp)]) -> Result<(), StoreError> {
    let rows = seen.iter().map(|(id, forget_at)| [id.into(), forget_at.0.into()]);
    changes.execute_many("INSERT INTO nodes_seen (id, forget_at) VALUES", rows, "").await
}

/// The latest entries of a node's record at or before a time, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn record_of(
    database: &Database,
    node: &NodeName,
    at: Timestamp,
    limit: i64,
) -> Result<Vec<RecordEntry>, StoreError> {
    let query = "SELECT seq, body FROM nodes_record WHERE node = ? AND at <= ? ORDER BY seq DESC LIMIT ?";
    let rows =
        settled(sqlx::query(query).bind(node.as_str().to_owned()).bind(at.0).bind(limit).fetch_all(database.reader()))
            .await?;
    rows.iter().map(|row| crate::store::body("nodes_record", row)).collect()
}
