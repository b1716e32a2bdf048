//! Looks after a database while nobody uses it: whether it is still there, and whether what was wrong has passed.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::error::Reason;
use super::{Database, Kind, StoreError};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Starts the task; it ends with its handle, which the database keeps.
pub(super) fn start(database: &Database) -> AbortOnDropHandle<()> {
    // Not a copy of the whole, which would keep itself.
    let (reader, writer) = (database.reader.clone(), database.writer.clone());
    let (kind, shared) = (database.kind, std::sync::Arc::downgrade(&database.shared));
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(PERIOD).await;
            let Some(shared) = shared.upgrade().filter(|_| !reader.is_closed()) else { return };
            let database = Database {
                writer: writer.clone(),
                reader: reader.clone(),
                kind,
                guard: None,
                checkpoints: None,
                shared,
            };
            look(&database).await;
        }
    }))
}

async fn look(database: &Database) {
    let trouble = database.health().trouble().map(|trouble| trouble.reason);
    let outcome = match trouble {
        // Only writing shows that one can write again.
        Some(Reason::Full | Reason::ReadOnly | Reason::Io | Reason::Locked | Reason::Damaged) => write(database).await,
        _ => read(database).await,
    };
    match database.noted(outcome) {
        Ok(()) if trouble.is_some() => database.health().recovered(),
        _ => {}
    }
}

async fn read(database: &Database) -> Result<(), StoreError> {
    database.is_the_one_opened()?;
    sqlx::query("SELECT 1").execute(&database.reader).await?;
    Ok(())
}

/// A transaction that leaves nothing behind but what any leaves.
async fn write(database: &Database) -> Result<(), StoreError> {
    database.is_the_one_opened()?;
    let statement = match (database.kind, database.shared.role) {
        (Kind::MySql, _) => "DELETE FROM spice_commit WHERE at < UNIX_TIMESTAMP() - 30 * 86400",
        (Kind::Sqlite, "checks") => "REPLACE INTO checks_meta (name, value) VALUES ('probe', '')",
        (Kind::Sqlite, _) => "REPLACE INTO nodes_meta (name, value) VALUES ('probe', '')",
    };
    let mut transaction = database.writer.begin().await?;
    sqlx::query(statement).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}
