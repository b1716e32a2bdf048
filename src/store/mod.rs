//! The database: connection, migrations, transactions. What the rows mean belongs to the role that owns the table.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Executor, Row, Transaction};

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

/// How many rows are written with one statement, the most first; 1 so that there is no rest.
const ROWS_AT_ONCE: [usize; 4] = [100, 20, 5, 1];

/// A database with the current schema.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
}

/// One transaction; dropped without [`Changes::commit`] it changes nothing.
pub struct Changes {
    transaction: Transaction<'static, Any>,
}

impl Database {
    /// Opens the database of `role`, creating an SQLite file where there is none, and migrates its schema.
    /// `{role}` in the setting stands for the role's name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(connection: &str, role: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let connection = connection.replace("{role}", role);
        let Some(path) = connection.strip_prefix("sqlite://") else {
            let scheme = connection.split(':').next().unwrap_or_default().to_owned();
            return Err(StoreError::Connection(format!(
                "{scheme:?} is not supported; use sqlite:///path/to/file.sqlite"
            )));
        };
        let path = path.split('?').next().unwrap_or(path);
        if let Some(folder) = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // What nodes were found to be is nobody else's business.
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(folder)
                .map_err(|error| StoreError::Connection(format!("cannot create {}: {error}", folder.display())))?;
        }
        let pool = AnyPoolOptions::new()
            // One writer at a time is SQLite's nature; readers of history come beside it.
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection
                        .execute(
                            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                             PRAGMA foreign_keys = ON;",
                        )
                        .await?;
                    Ok(())
                })
            })
            .connect(&format!("sqlite://{path}?mode=rwc"))
            .await?;
        sqlx::migrate!("src/store/migrations").run(&pool).await?;
        Ok(Self { pool })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin(&self) -> Result<Changes, StoreError> {
        Ok(Changes { transaction: self.pool.begin().await? })
    }

    /// For reading.
    #[must_use]
    pub fn reader(&self) -> &AnyPool {
        &self.pool
    }

    /// All rows of a query whose columns are a key and a JSON body.
    ///
    /// # Errors
    /// [`StoreError::Row`] naming the first row that cannot be read.
    pub async fn load<T: DeserializeOwned>(
        &self,
        table: &'static str,
        query: &'static str,
    ) -> Result<Vec<T>, StoreError> {
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        rows.iter().map(|row| body(table, row)).collect()
    }

    /// A value of a `*_meta` table.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn meta(&self, query: &'static str, name: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(query).bind(name.to_owned()).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Changes {
    /// Executes one statement with text and integer arguments.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn execute(&mut self, statement: &'static str, arguments: &[Argument<'_>]) -> Result<u64, StoreError> {
        let mut query = sqlx::query(statement);
        for argument in arguments {
            query = bound(query, *argument);
        }
        Ok(query.execute(&mut *self.transaction).await?.rows_affected())
    }

    /// Executes `head`, which ends in `VALUES`, for many rows: several with one statement, since what a statement costs is mostly the way to
    /// the database and back. The numbers of rows are few, so that the database keeps the statements it knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn execute_many<const N: usize>(
        &mut self,
        head: &'static str,
        rows: &[[Argument<'_>; N]],
    ) -> Result<(), StoreError> {
        let mut rest = rows;
        for size in ROWS_AT_ONCE {
            while let Some((rows, more)) = rest.split_at_checked(size) {
                let row = format!("({})", ["?"; N].join(", "));
                let statement = format!("{head} {}", vec![row; size].join(", "));
                // Made of a literal and question marks.
                let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
                for argument in rows.iter().flatten() {
                    query = bound(query, *argument);
                }
                query.execute(&mut *self.transaction).await?;
                rest = more;
            }
        }
        Ok(())
    }

    /// Makes everything so, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn bound<'q>(query: Query<'q>, argument: Argument<'_>) -> Query<'q> {
    match argument {
        Argument::Text(text) => query.bind(text.to_owned()),
        Argument::Integer(number) => query.bind(number),
    }
}

/// An argument of a statement.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Integer(i64),
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Argument<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Argument<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// `value` as the JSON text of a body column. Our own types always serialise; should one not, the text says so and loading
/// will name the row.
pub fn to_body<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("not serialisable: {error}"))
}

/// The body of a row of (key, body).
///
/// # Errors
/// [`StoreError::Row`].
pub fn body<T: DeserializeOwned>(table: &'static str, row: &AnyRow) -> Result<T, StoreError> {
    let key: String =
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()))?;
    let text: String = row.try_get("body")?;
    serde_json::from_str(&text).map_err(|error| StoreError::Row { table, key, error: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    async fn fresh() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::open(&format!("sqlite://{}/{{role}}.sqlite", folder.path().display()), "nodes").await.unwrap();
        (folder, database)
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening_and_the_rest_is_not() {
        let (folder, database) = fresh().await;
        let mut changes = database.begin().await.unwrap();
        changes
            .execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n1".into(), "\"kept\"".into()])
            .await
            .unwrap();
        changes.commit().await.unwrap();
        let mut changes = database.begin().await.unwrap();
        changes
            .execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n2".into(), "\"lost\"".into()])
            .await
            .unwrap();
        drop(changes);
        database.close().await;
        let again =
            Database::open(&format!("sqlite://{}/nodes.sqlite", folder.path().display()), "nodes").await.unwrap();
        let rows: Vec<String> = again.load("nodes_node", "SELECT name, body FROM nodes_node").await.unwrap();
        assert_eq!(rows, ["kept"]);
    }

    #[tokio::test]
    async fn a_damaged_row_is_named() {
        let (_folder, database) = fresh().await;
        let mut changes = database.begin().await.unwrap();
        changes
            .execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n1".into(), "{half".into()])
            .await
            .unwrap();
        changes.commit().await.unwrap();
        let error =
            database.load::<serde_json::Value>("nodes_node", "SELECT name, body FROM nodes_node").await.unwrap_err();
        assert!(error.to_string().contains("\"n1\" of nodes_node"), "{error}");
    }

    #[tokio::test]
    async fn another_database_is_refused_with_what_to_write() {
        let error = Database::open("postgresql://x", "nodes").await.unwrap_err().to_string();
        assert!(error.contains("use sqlite:///"), "{error}");
    }
}
