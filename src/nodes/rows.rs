//! Rows on their way into a transaction while those after them are still being made: making and writing them take about as long, and
//! each needs a processor of its own.

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clock::Timestamp;
use crate::nodes::history::{self, HistoryRow};
use crate::nodes::recorder::MAX_GROUP;
use crate::nodes::storage::{self, Lane, Parcel, RecordRow};
use crate::store::{Changes, Database, StoreError, is_simulated};

/// Rows of a transaction that is written bit by bit.
#[derive(Default)]
pub struct Rows {
    /// See [`storage::node_row`]. A later row of a node replaces an earlier one.
    pub nodes: Vec<(String, String)>,
    /// New results.
    pub results: Vec<HistoryRow>,
    /// New entries of the record.
    pub record: Vec<RecordRow>,
    /// What must be sent.
    pub parcels: Vec<(Lane, Parcel)>,
    /// Ids of work that is done with this, and until when they are remembered.
    pub seen: Vec<(String, Timestamp)>,
}

impl Rows {
    /// Writes them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save(self, changes: &mut Changes) -> Result<(), StoreError> {
        storage::save_nodes(changes, self.nodes).await?;
        history::save(changes, self.results).await?;
        storage::save_record(changes, &self.record).await?;
        storage::save_parcels(changes, &self.parcels).await?;
        storage::save_seen(changes, &self.seen).await
    }

    fn append(&mut self, mut later: Self) {
        self.nodes.append(&mut later.nodes);
        self.results.append(&mut later.results);
        self.record.append(&mut later.record);
        self.parcels.append(&mut later.parcels);
        self.seen.append(&mut later.seen);
    }
}

/// A transaction that is being written. Dropped before [`Writing::commit`], it changes nothing.
pub struct Writing {
    rows: mpsc::UnboundedSender<Rows>,
    written: BoxFuture<'static, Result<Changes, StoreError>>,
}

impl Writing {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(database: &Database) -> Result<Self, StoreError> {
        let changes = database.begin().await?;
        // As many as there are batches in a group, and one.
        let (rows, waiting) = mpsc::unbounded_channel();
        let writing = write(changes, waiting);
        if is_simulated() {
            // Another thread would take its own time; all at once in the end, then.
            return Ok(Self { rows, written: Box::pin(writing) });
        }
        let runtime = Handle::current();
        // On a thread of its own: every statement waits for the database, and behind tasks that compute it would then wait once more.
        let writing = tokio::task::spawn_blocking(move || runtime.block_on(writing));
        let written = async { writing.await.unwrap_or(Err(StoreError::Database(sqlx::Error::WorkerCrashed))) };
        Ok(Self { rows, written: Box::pin(written) })
    }

    /// Has rows written after those before. Returns at once; what goes wrong [`Writing::commit`] tells.
    pub fn write(&self, rows: Rows) {
        let _ = self.rows.send(rows);
    }

    /// Makes it so, durably, once all rows are written.
    ///
    /// # Errors
    /// [`StoreError`]: nothing has happened.
    pub async fn commit(self) -> Result<(), StoreError> {
        drop(self.rows);
        let changes = self.written.await?;
        changes.commit().await
    }
}

async fn write(mut changes: Changes, mut waiting: mpsc::UnboundedReceiver<Rows>) -> Result<Changes, StoreError> {
    let mut arrived = Vec::new();
    // All that is there at once: what a statement costs is mostly the way to the database and back.
    while waiting.recv_many(&mut arrived, MAX_GROUP).await > 0 {
        let mut rows = Rows::default();
        arrived.drain(..).for_each(|later| rows.append(later));
        rows.save(&mut changes).await?;
    }
    Ok(changes)
}
