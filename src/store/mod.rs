//! The database: connection, migrations, transactions. What the rows mean belongs to the role that owns the table.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Row, Transaction};

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
const ROWS_AT_ONCE: [usize; 5] = [500, 100, 20, 5, 1];

/// Connections for reading.
const READERS: u32 = 3;
/// Pages of 4 KiB in SQLite's log before they are carried over into the file: so many that what changes often is carried over once for many
/// changes of it, and so few that the commit which has to do it does not wait long.
const SQLITE_CHECKPOINT_PAGES: u32 = 4000;
/// What SQLite's writer keeps of the file in memory, in KiB: the nodes of a cloud, so that they are not read again for every change.
const SQLITE_CACHE_KIB: u32 = 16 * 1024;

/// A database with the current schema.
#[derive(Debug, Clone)]
pub struct Database {
    /// One connection: SQLite has one writer at a time. Those that wait for it here go in turn, where SQLite would have them sleep and try
    /// again; and what it keeps in memory stays good, which a change through another connection would make worthless.
    writer: AnyPool,
    reader: AnyPool,
    /// The simulated process that opened it.
    #[cfg(test)]
    life: crate::sim::Life,
}

/// One transaction; dropped without [`Changes::commit`] it changes nothing.
pub struct Changes {
    transaction: Held,
    #[cfg(test)]
    life: crate::sim::Life,
}

#[cfg(not(test))]
type Held = Transaction<'static, Any>;
#[cfg(test)]
type Held = crate::sim::Elsewhere<Transaction<'static, Any>>;

/// Waits for the database. A simulation does so without letting anything else happen meanwhile.
#[cfg(not(test))]
pub(crate) fn settled<F: Future>(answer: F) -> F {
    answer
}
#[cfg(test)]
pub(crate) use crate::sim::settled;

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
        let connection = format!("sqlite://{path}?mode=rwc");
        let writer = settled(sqlite_pool(1, SQLITE_CACHE_KIB).connect(&connection)).await?;
        settled(sqlx::migrate!("src/store/migrations").run(&writer)).await?;
        let reader = settled(sqlite_pool(READERS, 2 * 1024).connect(&connection)).await?;
        Ok(Self {
            writer,
            reader,
            #[cfg(test)]
            life: crate::sim::Life::current(),
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    // In a simulation it becomes another type.
    #[cfg_attr(not(test), allow(clippy::useless_conversion))]
    pub async fn begin(&self) -> Result<Changes, StoreError> {
        #[cfg(test)]
        self.life.step("before a transaction").await;
        Ok(Changes {
            transaction: settled(self.writer.begin()).await?.into(),
            #[cfg(test)]
            life: self.life.clone(),
        })
    }

    /// For reading.
    #[must_use]
    pub fn reader(&self) -> &AnyPool {
        &self.reader
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
        let rows = settled(sqlx::query(query).fetch_all(&self.reader)).await?;
        rows.iter().map(|row| body(table, row)).collect()
    }

    /// A value of a `*_meta` table.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn meta(&self, query: &'static str, name: &str) -> Result<Option<String>, StoreError> {
        let row = settled(sqlx::query(query).bind(name.to_owned()).fetch_optional(&self.reader)).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Which of `keys` a query finds; it ends in `IN`, and its only column is the key.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find(&self, query: &'static str, keys: &[&str]) -> Result<Vec<String>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let statement = format!("{query} ({})", vec!["?"; keys.len()].join(", "));
        // Made of a literal and question marks.
        let query = sqlx::query(sqlx::AssertSqlSafe(statement));
        let query = keys.iter().fold(query, |query, key| query.bind((*key).to_owned()));
        let rows = settled(query.fetch_all(&self.reader)).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        settled(self.reader.close()).await;
        settled(self.writer.close()).await;
    }
}

/// Connections to an SQLite file that keep `cache_kib` of it in memory.
fn sqlite_pool(connections: u32, cache_kib: u32) -> AnyPoolOptions {
    let pragmas = format!(
        "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA cache_size = -{cache_kib}; PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES};"
    );
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(30)).after_connect(
        move |connection, _| {
            // Made of literals and numbers.
            let pragmas = sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas.clone()));
            Box::pin(async move { pragmas.execute(connection).await.map(drop) })
        },
    )
}

impl Changes {
    /// Executes one statement with text and integer arguments.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn execute(&mut self, statement: &'static str, arguments: &[Argument<'_>]) -> Result<u64, StoreError> {
        let query = arguments.iter().cloned().fold(sqlx::query(statement), bound);
        Ok(settled(query.execute(&mut *self.transaction)).await?.rows_affected())
    }

    /// Executes `head`, which ends in `VALUES`, the rows, and `tail` for many rows: several with one statement, since what a statement costs
    /// is mostly the way to the database and back. The numbers of rows are few, so that the database keeps the statements it knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn execute_many<const N: usize>(
        &mut self,
        head: &'static str,
        mut rows: impl ExactSizeIterator<Item = [Argument<'_>; N]>,
        tail: &'static str,
    ) -> Result<(), StoreError> {
        while let Some(size) = ROWS_AT_ONCE.into_iter().find(|size| *size <= rows.len()) {
            let row = format!("({})", ["?"; N].join(", "));
            let statement = format!("{head} {} {tail}", vec![row; size].join(", "));
            // Made of literals and question marks.
            let query = sqlx::query(sqlx::AssertSqlSafe(statement));
            let query = rows.by_ref().take(size).flatten().fold(query, bound);
            settled(query.execute(&mut *self.transaction)).await?;
        }
        Ok(())
    }

    /// Makes everything so, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn commit(self) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.life.burns("before a commit") {
            settled(async { drop(self.transaction) }).await;
            return std::future::pending().await;
        }
        settled(self.transaction.commit()).await?;
        #[cfg(test)]
        self.life.step("after a commit").await;
        Ok(())
    }
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn bound<'q>(query: Query<'q>, argument: Argument<'_>) -> Query<'q> {
    match argument {
        Argument::Text(text) => query.bind(text.to_owned()),
        Argument::Owned(text) => query.bind(text),
        Argument::Integer(number) => query.bind(number),
    }
}

/// An argument of a statement.
#[derive(Debug, Clone)]
pub enum Argument<'a> {
    /// A text.
    Text(&'a str),
    /// A text that was made for the statement.
    Owned(String),
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

impl From<String> for Argument<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text)
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
mod tests;
