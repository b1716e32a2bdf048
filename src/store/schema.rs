//! Bringing a database's schema up to date.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, Connection as _, Row};

use super::connection::Connection;
use super::{Kind, StoreError, connect};

/// Waits until nobody else migrates this database; given back with the connection.
const LOCK: &str = "SELECT CAST(GET_LOCK(CONCAT('spice:', MD5(DATABASE())), 3600) AS SIGNED)";

fn migrations(kind: Kind) -> Migrator {
    match kind {
        Kind::Sqlite => sqlx::migrate!("src/store/migrations/sqlite"),
        Kind::MySql => sqlx::migrate!("src/store/migrations/mysql"),
    }
}

/// The version of the schema that this program writes.
#[must_use]
pub fn known_version(kind: Kind) -> i64 {
    migrations(kind).iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The version of the schema that a database has; none in an empty one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn version(connection: &mut AnyConnection) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations WHERE success").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// Migrates forward; a newer schema is left alone and refused.
pub(super) async fn migrate(connection: &Connection) -> Result<(), StoreError> {
    // A connection of its own: closing it gives back whatever lock an unfinished migration still holds.
    let mut session = connect::session(connection).await?;
    let done = migrate_in(connection.kind, &mut session).await;
    let _ = session.close().await;
    done
}

async fn migrate_in(kind: Kind, session: &mut AnyConnection) -> Result<(), StoreError> {
    let mut migrator = migrations(kind);
    if kind == Kind::MySql {
        // The library's own lock is none on MariaDB, which does not wait for ever when it is asked to.
        migrator.set_locking(false);
        // A cluster has no locks that all its members know: of two services that migrate at once there one may fail, and is started again.
        if !connect::is_galera(session).await {
            sqlx::query(LOCK).execute(&mut *session).await?;
        }
    }
    match migrator.run_direct(None, session, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Dirty(version)) if kind == Kind::MySql => {
            // Whoever began it died in it, for it held the lock that we hold now. Every statement can be executed again.
            tracing::warn!(version, "a migration of the database was left unfinished; it is done again");
            sqlx::query("DELETE FROM _sqlx_migrations WHERE NOT success").execute(&mut *session).await?;
            Ok(migrator.run_direct(None, session, false).await?)
        }
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::Newer { found, known: known_version(kind) }),
        Err(error) => Err(error.into()),
    }
}
