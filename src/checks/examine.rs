//! Whether the rows of Checks can be read.

use crate::checks::definition::Check;
use crate::checks::profile::Profile;
use crate::checks::run::{Batch, Run};
use crate::checks::window::Window;
use crate::protocol::PoolPolicy;
use crate::store::{Examination, StoreError};

/// The version of the schema that has windows.
const WINDOWS_SINCE: i64 = 6;

/// Reads every row of a database of this version, which may be one that was not upgraded yet.
///
/// # Errors
/// [`StoreError::Database`]; what is wrong with rows is a fault of the examination.
pub async fn examine(database: &mut Examination, version: i64) -> Result<(), StoreError> {
    database.read("checks_check", "SELECT name, body FROM checks_check", |_, _: Check| Ok(())).await?;
    database.read("checks_profile", "SELECT name, body FROM checks_profile", |_, _: Profile| Ok(())).await?;
    database.read("checks_pool", "SELECT name, body FROM checks_pool", |_, _: PoolPolicy| Ok(())).await?;
    if version >= WINDOWS_SINCE {
        database.read("checks_window", "SELECT name, body FROM checks_window", |_, _: Window| Ok(())).await?;
    }
    database.read("checks_run", "SELECT run, body FROM checks_run", |_, _: Run| Ok(())).await?;
    database.read("checks_batch", "SELECT run, body FROM checks_batch", |_, _: Batch| Ok(())).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::store::{Connection, Database};

    #[tokio::test]
    async fn a_database_that_was_not_upgraded_yet_is_examined_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/checks.sqlite", folder.path().display());
        let database = Database::open(&url, "checks").await.unwrap();
        // As the version before left it.
        let mut changes = database.begin().await.unwrap();
        changes.execute("DROP TABLE checks_window", &[]).await.unwrap();
        changes.commit().await.unwrap();
        let mut examination = Examination::open(&Connection::parse(&url, "checks").unwrap()).await.unwrap();
        let known = examination.version().await.unwrap();
        assert!(known >= WINDOWS_SINCE);
        examine(&mut examination, WINDOWS_SINCE - 1).await.unwrap();
        assert_eq!(examination.faults, Vec::<String>::new());
        assert!(examine(&mut examination, known).await.is_err(), "of this version it has to be there");
    }
}
