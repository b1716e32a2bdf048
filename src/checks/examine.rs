//! Whether the rows of Checks can be read.

use crate::checks::definition::Check;
use crate::checks::profile::Profile;
use crate::checks::run::{Batch, Run};
use crate::checks::window::Window;
use crate::protocol::PoolPolicy;
use crate::store::{Examination, StoreError};

/// Reads every row.
///
/// # Errors
/// [`StoreError::Database`]; what is wrong with rows is a fault of the examination.
pub async fn examine(database: &mut Examination) -> Result<(), StoreError> {
    database.read("checks_check", "SELECT name, body FROM checks_check", |_, _: Check| Ok(())).await?;
    database.read("checks_profile", "SELECT name, body FROM checks_profile", |_, _: Profile| Ok(())).await?;
    database.read("checks_pool", "SELECT name, body FROM checks_pool", |_, _: PoolPolicy| Ok(())).await?;
    database.read("checks_window", "SELECT name, body FROM checks_window", |_, _: Window| Ok(())).await?;
    database.read("checks_run", "SELECT run, body FROM checks_run", |_, _: Run| Ok(())).await?;
    database.read("checks_batch", "SELECT run, body FROM checks_batch", |_, _: Batch| Ok(())).await
}
