//! Connections: what is set on each of them before it is used.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection as _, Row};

use super::connection::Connection;
use super::{Kind, StoreError};

/// Connections for reading.
const READERS: u32 = 3;
/// Pages of 4 KiB in SQLite's log before a commit carries them over into the file: more than there should ever be, see [`super::checkpoint`].
const SQLITE_CHECKPOINT_PAGES: u32 = 64_000;
/// What SQLite's writer keeps of the file in memory, in KiB: what one transaction touches. The rest the system keeps, for all connections together.
const SQLITE_CACHE_KIB: u32 = 4 * 1024;
/// What a reader keeps.
const READER_CACHE_KIB: u32 = 1024;
/// The smallest packet that MariaDB must take, in bytes: its own default.
const MIN_PACKET: i64 = 16 * 1024 * 1024;

/// How long somebody waits for a connection.
pub(super) const fn patience(kind: Kind) -> Duration {
    match kind {
        // The writer is in use by others; it is only a matter of their number.
        Kind::Sqlite => Duration::from_secs(30),
        // The server may be away, and whoever waits holds what others need.
        Kind::MySql => Duration::from_secs(5),
    }
}

/// What is said to a database at the beginning of each connection.
fn greeting(kind: Kind, cache_kib: u32) -> String {
    match kind {
        Kind::Sqlite => format!(
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA cache_size = -{cache_kib}; PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES};"
        ),
        // Whatever the server's defaults are: nothing is cut off silently, times are UTC, nothing waits long for a lock, and rows are locked
        // one by one, not the gaps between them, where whoever inserts would meet others for nothing.
        Kind::MySql => {
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = 1, \
             innodb_lock_wait_timeout = 10; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
                .to_owned()
        }
    }
}

async fn greet(session: &mut AnyConnection, kind: Kind, cache_kib: u32) -> Result<(), sqlx::Error> {
    // Made of literals and numbers.
    sqlx::raw_sql(sqlx::AssertSqlSafe(greeting(kind, cache_kib))).execute(&mut *session).await?;
    if kind == Kind::MySql {
        // In a Galera cluster, a read sees what another member has committed before. Servers without it refuse the variable.
        let _ = sqlx::raw_sql("SET SESSION wsrep_sync_wait = 1").execute(session).await;
    }
    Ok(())
}

/// Whether it is a member of a Galera cluster.
pub(super) async fn is_galera(session: &mut AnyConnection) -> bool {
    let row = sqlx::raw_sql("SELECT CAST(@@wsrep_on AS SIGNED)").fetch_one(session).await;
    row.is_ok_and(|row| row.try_get::<i64, _>(0).is_ok_and(|on| on == 1))
}

/// Makes the folder of an SQLite file.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    // What nodes were found to be is nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .map_err(|error| StoreError::Connection(format!("cannot create {}: {error}", folder.display())))
}

/// Options of the library, which are not to be shown: they hold the password.
fn options(connection: &Connection, mode: &str) -> Result<AnyConnectOptions, StoreError> {
    let url = match connection.kind {
        Kind::Sqlite => format!("{}?mode={mode}", connection.url),
        Kind::MySql => connection.url.clone(),
    };
    // The library's own words may quote the setting.
    url.parse().map_err(|_| StoreError::Connection("it cannot be read; see the sample configuration".to_owned()))
}

/// One connection that may make the file.
pub(super) async fn session(connection: &Connection) -> Result<AnyConnection, StoreError> {
    open(connection, "rwc").await
}

/// One connection to a database that exists.
pub(super) async fn existing(connection: &Connection) -> Result<AnyConnection, StoreError> {
    open(connection, "rw").await
}

async fn open(connection: &Connection, mode: &str) -> Result<AnyConnection, StoreError> {
    let options = options(connection, mode)?;
    let mut session = AnyConnection::connect_with(&options).await?;
    greet(&mut session, connection.kind, READER_CACHE_KIB).await?;
    if connection.kind == Kind::MySql {
        let row = sqlx::query("SELECT CAST(@@max_allowed_packet AS SIGNED)").fetch_one(&mut session).await?;
        let packet: i64 = row.try_get(0)?;
        if packet < MIN_PACKET {
            return Err(StoreError::Connection(format!(
                "the server's max_allowed_packet is {packet}; set it to at least {MIN_PACKET}"
            )));
        }
    }
    Ok(session)
}

/// The connection for writing: one, see [`super::Database`].
pub(super) async fn writer(connection: &Connection) -> Result<AnyPool, StoreError> {
    pool(connection, 1, SQLITE_CACHE_KIB).await
}

/// Connections for reading.
pub(super) async fn readers(connection: &Connection) -> Result<AnyPool, StoreError> {
    pool(connection, READERS, READER_CACHE_KIB).await
}

/// A connection beside those that work.
pub(super) async fn beside(connection: &Connection) -> Result<AnyPool, StoreError> {
    pool(connection, 1, READER_CACHE_KIB).await
}

async fn pool(connection: &Connection, count: u32, cache_kib: u32) -> Result<AnyPool, StoreError> {
    let kind = connection.kind;
    // Before a connection is given out it is asked whether it still lives: servers close idle ones.
    let pool = AnyPoolOptions::new()
        .max_connections(count)
        .acquire_timeout(patience(kind))
        .test_before_acquire(kind == Kind::MySql)
        // SQLite ends some transactions by itself when they fail, and the library goes on counting them.
        .after_release(|session, _| Box::pin(async move { Ok(!session.is_in_transaction()) }))
        .after_connect(move |session, _| Box::pin(greet(session, kind, cache_kib)));
    Ok(pool.connect_with(options(connection, "rwc")?).await?)
}
