//! The database: connection, migrations, transactions, and whether it can be used. What the rows mean belongs to the role that owns the table.
//!
//! The same code runs on SQLite and MariaDB; where their SQL differs, it stands here: [`Kind`], [`Changes::put_many`], and a folder of
//! migrations for each.

mod argument;
mod changes;
mod checkpoint;
mod connect;
mod connection;
mod error;
mod examine;
mod health;
mod kind;
pub mod lease;
pub mod life;
mod probe;
mod schema;
mod settled;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row};

use checkpoint::Checkpoints;

pub use argument::Argument;
pub use changes::{Changes, Guard};
pub use connection::Connection;
pub use error::{Reason, StoreError};
pub use examine::Examination;
pub use health::{Health, Trouble};
pub use kind::Kind;
pub use schema::known_version;
pub(crate) use settled::{dated, is_simulated, settled};

/// Room that is made for the text of a row at first, in bytes.
const BODY: usize = 1024;

/// A database with the current schema.
#[derive(Debug, Clone)]
pub struct Database {
    /// One connection: SQLite has one writer at a time. Those that wait for it here go in turn, where SQLite would have them sleep and try
    /// again; and what it keeps in memory stays good, which a change through another connection would make worthless. In MariaDB, what one
    /// role writes never waits for its own locks.
    writer: AnyPool,
    reader: AnyPool,
    kind: Kind,
    guard: Option<Arc<Guard>>,
    /// SQLite's.
    checkpoints: Option<Arc<Checkpoints>>,
    shared: Arc<Shared>,
}

/// What all copies have in common.
#[derive(Debug)]
struct Shared {
    role: &'static str,
    health: Health,
    /// The file, and which one it was when it was opened.
    file: Option<(PathBuf, FileId)>,
    /// Whose commits these are, in a database that many use.
    writer_name: String,
    commits: AtomicI64,
    /// Ends the watch with the last copy.
    watch: std::sync::OnceLock<tokio_util::task::AbortOnDropHandle<()>>,
    /// The simulated process that opened it.
    #[cfg(test)]
    life: crate::sim::Life,
}

/// Device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Database {
    /// Opens the database of `role`, creating an SQLite file where there is none, and migrates its schema.
    /// `{role}` in the setting stands for the role's name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(connection: &str, role: &'static str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let connection = Connection::parse(connection, role)?;
        if let Some(path) = &connection.path {
            connect::make_folder(path)?;
        }
        settled(schema::migrate(&connection)).await?;
        let file = connection.path.clone().and_then(|path| file_id(&path).map(|id| (path, id)));
        let shared = Arc::new(Shared {
            role,
            health: Health::new(role, connect::patience(connection.kind)),
            file,
            writer_name: format!("{role}-{}", uuid::Uuid::new_v4().simple()),
            commits: AtomicI64::new(0),
            watch: std::sync::OnceLock::new(),
            #[cfg(test)]
            life: crate::sim::Life::current(),
        });
        let writer = settled(connect::writer(&connection)).await?;
        let reader = settled(connect::readers(&connection)).await?;
        let checkpoints = match connection.kind {
            // What goes on by itself takes its own time.
            _ if is_simulated() => None,
            Kind::Sqlite => Some(Arc::new(Checkpoints::start(connect::beside(&connection).await?, writer.clone()))),
            Kind::MySql => None,
        };
        let database = Self { writer, reader, kind: connection.kind, guard: None, checkpoints, shared };
        database.forget_old_commits().await?;
        if !is_simulated() {
            let _ = database.shared.watch.set(watch::start(&database));
        }
        Ok(database)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self) -> Result<Changes, StoreError> {
        #[cfg(test)]
        self.shared.life.running().await;
        Changes::begin(self.clone()).await
    }

    /// The same database, in which every transaction depends on `guard`.
    #[must_use]
    pub fn guarded(&self, guard: Guard) -> Self {
        Self { guard: Some(Arc::new(guard)), ..self.clone() }
    }

    /// What kind of database it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it can be used.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// For reading.
    #[must_use]
    pub fn reader(&self) -> &AnyPool {
        &self.reader
    }

    /// Takes note of what a database answered.
    fn noted<T, E: Into<StoreError>>(&self, outcome: Result<T, E>) -> Result<T, StoreError> {
        outcome.map_err(Into::into).inspect_err(|error| self.shared.health.failed(error))
    }

    /// What SQLite writes into a file that was deleted is gone with the process.
    fn is_the_one_opened(&self) -> Result<(), StoreError> {
        match &self.shared.file {
            Some((path, id)) if file_id(path) != Some(*id) => Err(StoreError::Replaced(path.clone())),
            _ => Ok(()),
        }
    }

    fn writer_name(&self) -> &str {
        &self.shared.writer_name
    }

    fn next_commit(&self) -> i64 {
        self.shared.commits.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Those of writers that ended long ago.
    async fn forget_old_commits(&self) -> Result<(), StoreError> {
        if self.kind == Kind::MySql {
            let forget = "DELETE FROM spice_commit WHERE at < UNIX_TIMESTAMP() - 30 * 86400";
            self.noted(sqlx::query(forget).execute(&self.writer).await)?;
        }
        Ok(())
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
        let rows = self.noted(settled(sqlx::query(query).fetch_all(&self.reader)).await)?;
        rows.iter().map(|row| body(table, row)).collect()
    }

    /// Some rows of a query like that of [`Database::load`], those after a key, as text: see [`read_body`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn page(&self, query: &'static str, after: &str) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.noted(settled(sqlx::query(query).bind(after.to_owned()).fetch_all(&self.reader)).await)?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// A value of a `*_meta` table.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn meta(&self, query: &'static str, name: &str) -> Result<Option<String>, StoreError> {
        let row = self.noted(settled(sqlx::query(query).bind(name.to_owned()).fetch_optional(&self.reader)).await)?;
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
        let rows = self.noted(settled(query.fetch_all(&self.reader)).await)?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.stop();
        }
        settled(self.reader.close()).await;
        settled(self.writer.close()).await;
    }
}

/// `value` as the JSON text of a body column. Our own types always serialise; should one not, the text says so and loading
/// will name the row.
pub fn to_body<T: Serialize>(value: &T) -> String {
    // Most rows are some hundred bytes long: grown from nothing, each would be copied several times.
    let mut body = Vec::with_capacity(BODY);
    let written = serde_json::to_writer(&mut body, value).map_err(|error| error.to_string());
    let text = written.and_then(|()| String::from_utf8(body).map_err(|error| error.to_string()));
    text.unwrap_or_else(|error| format!("not serialisable: {error}"))
}

/// The body of a row of (key, body).
///
/// # Errors
/// [`StoreError::Row`].
pub fn body<T: DeserializeOwned>(table: &'static str, row: &AnyRow) -> Result<T, StoreError> {
    let key: String =
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()))?;
    let text: String = row.try_get("body")?;
    read_body(table, &key, &text)
}

/// The same, of a row that was read.
///
/// # Errors
/// [`StoreError::Row`].
pub fn read_body<T: DeserializeOwned>(table: &'static str, key: &str, text: &str) -> Result<T, StoreError> {
    let unreadable =
        |error: serde_json::Error| StoreError::Row { table, key: key.to_owned(), error: error.to_string() };
    serde_json::from_str(text).map_err(unreadable)
}

#[cfg(test)]
mod tests;
