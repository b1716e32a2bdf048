//! Whether the rows of Nodes can be read and the trust record holds.

use crate::nodes::entry::{Entry, StoredResult, Tombstone};
use crate::nodes::record::{BEGINNING, RecordEntry, hash};
use crate::store::{Examination, StoreError};

/// Reads every row, and verifies the chain of the record from its beginning.
///
/// # Errors
/// [`StoreError::Database`]; what is wrong with rows is a fault of the examination.
pub async fn examine(database: &mut Examination) -> Result<(), StoreError> {
    database.read("nodes_node", "SELECT name, body FROM nodes_node", |_, _: Entry| Ok(())).await?;
    database.read("nodes_tombstone", "SELECT name, body FROM nodes_tombstone", |_, _: Tombstone| Ok(())).await?;
    database.read("nodes_result", "SELECT id, body FROM nodes_result", |_, _: StoredResult| Ok(())).await?;
    let outbox = "SELECT id, body FROM nodes_outbox";
    database.read("nodes_outbox", outbox, |_, _: serde_json::Value| Ok(())).await?;
    let (mut last, mut head) = (0, BEGINNING.to_owned());
    let query = "SELECT seq, body, hash FROM nodes_record ORDER BY seq";
    database
        .read("nodes_record", query, |row, entry: RecordEntry| {
            use sqlx::Row;
            let columns =
                (|| Ok::<(i64, String, String), sqlx::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))();
            let (seq, text, stored) =
                columns.map_err(|error| format!("an entry of the record cannot be read: {error}"))?;
            let expected = (last + 1, std::mem::replace(&mut head, stored.clone()));
            last = seq;
            if (seq, &entry.previous) != (expected.0, &expected.1) || entry.seq != seq {
                return Err(format!("the record is broken before entry {seq}: entries were removed, added or changed"));
            }
            match hash(&text) == stored {
                true => Ok(()),
                false => Err(format!("entry {seq} of the record was changed: its hash is another")),
            }
        })
        .await
}
