//! What can go wrong with a database.

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection setting cannot be used.
    #[error("[database] connection: {0}")]
    Connection(String),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database refused or failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A [`Guard`] found nothing: somebody else leads now. Nothing was changed.
    #[error("the lease is lost; nothing was changed")]
    LeaseLost,
    /// A row does not hold what this version writes.
    #[error("the row {key:?} of {table} cannot be read ({error}); restore a backup or remove the row by hand")]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        error: String,
    },
}
