//! What SQLite has in its log is carried over into the file beside the commits: done within them, as SQLite does when left alone, every
//! few thousandth page makes a commit wait for all those before it.
//!
//! See <https://sqlite.org/wal.html>, section 2.3 ("Avoiding Excessively Large WAL Files"), for what ends a log.

use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyPool;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// From the first commit until its pages are carried over. The longer, the fewer pages: one that changes often is carried over once.
const EVERY: Duration = Duration::from_secs(2);
/// How often what was committed meanwhile is carried over after the rest, so that little is left for the end.
const ROUNDS: usize = 2;
/// Carries over what no reader and no writer stands in the way of, waiting for nobody.
const CARRY_OVER: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Carries over what is committed, until it is dropped.
#[derive(Debug)]
pub(super) struct Checkpoints {
    committed: Arc<Notify>,
    running: AbortOnDropHandle<()>,
}

impl Checkpoints {
    /// `beside` is a connection of its own, `writer` the one that writes.
    pub fn start(beside: AnyPool, writer: AnyPool) -> Self {
        let committed = Arc::new(Notify::new());
        let running = tokio::spawn(run(beside, writer, committed.clone()));
        Self { committed, running: AbortOnDropHandle::new(running) }
    }

    /// Something was committed.
    pub fn committed(&self) {
        self.committed.notify_one();
    }

    /// No more of it: SQLite carries over the rest when the last connection closes.
    pub fn stop(&self) {
        self.running.abort();
    }
}

async fn run(beside: AnyPool, writer: AnyPool, committed: Arc<Notify>) {
    loop {
        committed.notified().await;
        tokio::time::sleep(EVERY).await;
        let carried_over = async {
            for _ in 0..ROUNDS {
                sqlx::query(CARRY_OVER).execute(&beside).await?;
            }
            // Only while nobody writes can the log be carried over to its end, and begin anew: without this it would grow for as long as
            // there is work.
            sqlx::query(CARRY_OVER).execute(&writer).await
        };
        if let Err(error) = carried_over.await {
            // Nothing is lost: it stays in the log, and SQLite carries it over itself once there is very much.
            tracing::debug!(%error, "the database's log was not carried over");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Instant;

    use crate::store::Database;

    /// How often the log has begun anew (<https://sqlite.org/fileformat2.html#walformat>: the fourth number of its header).
    fn beginnings(log: &std::path::Path) -> u32 {
        let bytes = std::fs::read(log).unwrap();
        u32::from_be_bytes(bytes[12..16].try_into().unwrap())
    }

    #[tokio::test]
    async fn the_log_begins_anew_while_there_is_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("sqlite://{}/nodes.sqlite", folder.path().display());
        let database = Database::open(&path, "nodes").await.unwrap();
        let commit = async || {
            let mut changes = database.begin().await.unwrap();
            let statement = "REPLACE INTO nodes_outbox (id, lane, body) VALUES (1, 'events', 'something')";
            changes.execute(statement, &[]).await.unwrap();
            changes.commit().await.unwrap();
        };
        commit().await;
        let (log, begun) = (folder.path().join("nodes.sqlite-wal"), Instant::now());
        let first = beginnings(&log);
        while beginnings(&log) == first {
            assert!(begun.elapsed() < super::EVERY * 10, "commits follow each other, and the log only grows");
            commit().await;
        }
    }
}
