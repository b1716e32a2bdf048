//! A database looked at from outside, as it is: nothing is created, migrated or changed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::connection::Connection;
use super::{Kind, StoreError, body, connect, known_version, schema};

/// Most faults that are told one by one.
const MOST_FAULTS: usize = 20;

/// What was found in a database.
pub struct Examination {
    session: AnyConnection,
    kind: Kind,
    /// How many rows each table has.
    pub rows: BTreeMap<&'static str, u64>,
    /// What is wrong, the first of it.
    pub faults: Vec<String>,
    /// How much more is wrong.
    pub more_faults: u64,
}

impl Examination {
    /// Opens a database that exists.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(connection: &Connection) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let session = connect::existing(connection).await?;
        Ok(Self { session, kind: connection.kind, rows: BTreeMap::new(), faults: Vec::new(), more_faults: 0 })
    }

    /// The version of its schema; another one than this program's is a fault.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn version(&mut self) -> Result<i64, StoreError> {
        let (found, known) = (schema::version(&mut self.session).await?.unwrap_or_default(), known_version(self.kind));
        if found > known {
            self.fault(StoreError::Newer { found, known }.to_string());
        }
        Ok(found)
    }

    /// Whether the file is sound: every page and every index of SQLite. MariaDB looks after its own.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn integrity(&mut self) -> Result<(), StoreError> {
        if self.kind == Kind::Sqlite {
            let rows = sqlx::query("PRAGMA integrity_check").fetch_all(&mut self.session).await?;
            for row in rows {
                let told: String = row.try_get(0)?;
                if told != "ok" {
                    self.fault(format!("integrity: {told}"));
                }
            }
        }
        Ok(())
    }

    /// Reads every row of a query whose columns are a key and a JSON body, and shows each to `look`, which says what is wrong with it.
    ///
    /// # Errors
    /// [`StoreError::Database`]; a row that cannot be read is a fault.
    pub async fn read<T: DeserializeOwned>(
        &mut self,
        table: &'static str,
        query: &'static str,
        mut look: impl FnMut(&AnyRow, T) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let (mut count, mut faults) = (0, Vec::new());
        let mut rows = sqlx::query(query).fetch(&mut self.session);
        while let Some(row) = rows.try_next().await? {
            count += 1;
            match body::<T>(table, &row) {
                Ok(value) => faults.extend(look(&row, value).err()),
                Err(error) => faults.push(error.to_string()),
            }
        }
        drop(rows);
        self.rows.insert(table, count);
        faults.into_iter().for_each(|fault| self.fault(fault));
        Ok(())
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }

    /// Writes a copy of an SQLite database into a new file, which nobody else may read. It is as the database is at one moment, also while
    /// a service uses it.
    ///
    /// # Errors
    /// The file exists, or cannot be written; nothing is left of it then.
    pub async fn copy_to(&mut self, file: &Path) -> Result<(), StoreError> {
        let told = |error: std::io::Error| StoreError::Connection(format!("{}: {error}", file.display()));
        let path = file.to_str().ok_or_else(|| StoreError::Connection("the file's name is not UTF-8".to_owned()))?;
        // Made before anything is in it, so that it is never readable for others; SQLite fills an empty file.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(told)?;
        let written = async {
            sqlx::query("VACUUM INTO ?").bind(path.to_owned()).execute(&mut self.session).await?;
            made.sync_all().map_err(told)
        };
        let outcome = written.await;
        if outcome.is_err() {
            let _ = std::fs::remove_file(file);
        }
        outcome
    }
}
