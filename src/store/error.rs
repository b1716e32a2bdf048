//! What can go wrong with a database, and what sort of trouble that is.

use std::path::PathBuf;

use sqlx::mysql::MySqlDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection setting cannot be used.
    #[error("[database] connection: {0}")]
    Connection(String),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A later version has worked with it.
    #[error(
        "the database was written by a newer version of SPICE: its schema is {found}, and this version knows schemas up to {known}. \
         Install that version again, or restore a backup that is older than it"
    )]
    Newer {
        /// The number of its schema.
        found: i64,
        /// The last one known here.
        known: i64,
    },
    /// The file is not the one that was opened.
    #[error(
        "the database file {} was deleted or replaced while in use; put it back, or restart the service to go on with what is there now",
        .0.display()
    )]
    Replaced(PathBuf),
    /// The database refused or failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A statement of the transaction has failed before.
    #[error("the transaction has failed already; nothing was changed")]
    Over,
    /// A [`super::Guard`] found nothing: somebody else leads now. Nothing was changed.
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

/// What sort of trouble an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No space, or a limit of size reached.
    Full,
    /// Somebody else holds it.
    Locked,
    /// It, or its file system, cannot be written.
    ReadOnly,
    /// Not reached, or not serving.
    Lost,
    /// The file is another one.
    Replaced,
    /// The device fails.
    Io,
    /// What is in it cannot be right.
    Damaged,
    /// Refused because of another transaction; trying again helps.
    Conflict,
    /// Something else: most likely our fault.
    Other,
}

impl Reason {
    /// As the metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Locked => "locked",
            Self::ReadOnly => "read_only",
            Self::Lost => "lost",
            Self::Replaced => "replaced",
            Self::Io => "io",
            Self::Damaged => "damaged",
            Self::Conflict => "conflict",
            Self::Other => "other",
        }
    }

    /// Whether nothing can be stored until somebody, or time, does something about it.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        !matches!(self, Self::Conflict | Self::Other)
    }
}

impl StoreError {
    /// What sort of trouble it is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Database(error) => reason_of(error),
            Self::Replaced(_) => Reason::Replaced,
            Self::Row { .. } => Reason::Damaged,
            _ => Reason::Other,
        }
    }
}

fn reason_of(error: &sqlx::Error) -> Reason {
    let sqlx::Error::Database(refusal) = error else {
        use sqlx::Error as E;
        return match error {
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => Reason::Lost,
            _ => Reason::Other,
        };
    };
    if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_reason(refusal.number());
    }
    // The extended code holds the primary one in its lower byte.
    let code = refusal.try_downcast_ref::<SqliteError>().and_then(|_| refusal.code()?.parse::<u32>().ok());
    code.map_or(Reason::Other, |code| match code & 0xff {
        5 | 6 => Reason::Locked,
        8 => Reason::ReadOnly,
        10 => Reason::Io,
        11 | 26 => Reason::Damaged,
        13 => Reason::Full,
        14 => Reason::Lost,
        _ => Reason::Other,
    })
}

/// By the numbers of MariaDB's error list.
const fn mysql_reason(number: u16) -> Reason {
    match number {
        // Deadlock, lock wait timeout, row changed since it was read. Galera reports a failed certification as a deadlock.
        1213 | 1205 | 1020 => Reason::Conflict,
        // No space on the device, table full, quota.
        1021 | 1114 | 3 | 28 => Reason::Full,
        // Table, server or transaction is read-only.
        1036 | 1290 | 1792 | 1836 => Reason::ReadOnly,
        // Too many connections, no handshake, access denied, no such database, shutdown, killed, interrupted, not ready (Galera), timed out.
        1040 | 1043 | 1044 | 1045 | 1047 | 1049 | 1053 | 1080 | 1158..=1161 | 1203 | 1226 | 1317 | 1927 | 4031 => {
            Reason::Lost
        }
        // Cannot read or write a file.
        1024 | 1026 | 1030 => Reason::Io,
        1034 | 1194 | 1712 => Reason::Damaged,
        _ => Reason::Other,
    }
}
