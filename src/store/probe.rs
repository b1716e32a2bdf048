//! Whether the database answers.

use super::{Database, StoreError, settled};

impl Database {
    /// Reads something from the database itself; what is only in memory would answer when the disk is gone.
    ///
    /// # Errors
    /// [`StoreError::Database`] when it does not answer.
    pub async fn probe(&self) -> Result<(), StoreError> {
        settled(sqlx::query("SELECT COUNT(*) FROM _sqlx_migrations").fetch_one(self.reader())).await?;
        Ok(())
    }
}
