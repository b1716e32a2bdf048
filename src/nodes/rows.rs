//! Rows on their way into a transaction while those after them are still being made: making and writing them take about as long, and
//! each needs a processor of its own.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::nodes::history::{self, HistoryRow};
use crate::nodes::storage;
use crate::store::{Changes, Database, StoreError};

/// Rows of nodes and of the history.
#[derive(Debug, Default)]
pub struct Rows {
    /// See [`storage::node_row`]. A later row of a node replaces an earlier one.
    pub nodes: Vec<(String, String)>,
    /// New results.
    pub results: Vec<HistoryRow>,
}

/// A transaction that is being written. Dropped before [`Writing::finish`], it changes nothing.
pub struct Writing {
    rows: mpsc::UnboundedSender<Rows>,
    written: JoinHandle<Result<Changes, StoreError>>,
}

impl Writing {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(database: &Database) -> Result<Self, StoreError> {
        let changes = database.begin().await?;
        // As many as there are batches in a group.
        let (rows, waiting) = mpsc::unbounded_channel();
        Ok(Self { rows, written: tokio::spawn(write(changes, waiting)) })
    }

    /// Has rows written after those before. Returns at once; what goes wrong [`Writing::finish`] tells.
    pub fn write(&self, rows: Rows) {
        let _ = self.rows.send(rows);
    }

    /// Waits until all rows are written; the transaction is still to be committed.
    ///
    /// # Errors
    /// [`StoreError`]: the transaction is undone.
    pub async fn finish(self) -> Result<Changes, StoreError> {
        drop(self.rows);
        self.written.await.unwrap_or(Err(StoreError::Database(sqlx::Error::WorkerCrashed)))
    }
}

async fn write(mut changes: Changes, mut waiting: mpsc::UnboundedReceiver<Rows>) -> Result<Changes, StoreError> {
    while let Some(Rows { nodes, results }) = waiting.recv().await {
        storage::save_nodes(&mut changes, nodes).await?;
        history::save(&mut changes, results).await?;
    }
    Ok(changes)
}
