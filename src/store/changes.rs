//! Transactions.

use std::sync::Arc;

use sqlx::{Any, AnyPool, Transaction};

use super::StoreError;

/// How many rows are written with one statement, the most first; 1 so that there is no rest.
const ROWS_AT_ONCE: [usize; 5] = [500, 100, 20, 5, 1];

/// What a commit depends on: a statement that is executed as the last one inside the transaction. Where it changes no row, nothing is
/// committed and the answer is [`StoreError::LeaseLost`].
///
/// It is an `UPDATE` that gives its row another value, not a `SELECT`: so it keeps the row locked until the commit is done, and a cluster that
/// certifies changes only when they are committed finds two that contradict each other.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The statement, made of literals and question marks; [`super::Kind::now_ms`] is the time to compare with.
    pub statement: &'static str,
    /// Its arguments.
    pub arguments: Vec<Argument<'static>>,
}

/// One transaction; dropped without [`Changes::commit`] it changes nothing.
pub struct Changes {
    transaction: Transaction<'static, Any>,
    guard: Option<Arc<Guard>>,
}

impl Changes {
    pub(super) async fn begin(writer: &AnyPool, guard: Option<Arc<Guard>>) -> Result<Self, StoreError> {
        Ok(Self { transaction: writer.begin().await?, guard })
    }

    /// Executes one statement with text and integer arguments.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn execute(&mut self, statement: &'static str, arguments: &[Argument<'_>]) -> Result<u64, StoreError> {
        let query = arguments.iter().cloned().fold(sqlx::query(statement), bound);
        Ok(query.execute(&mut *self.transaction).await?.rows_affected())
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
            query.execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Makes everything so, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::LeaseLost`] where the database has a [`Guard`] that does not hold.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if let Some(guard) = self.guard.take()
            && self.execute(guard.statement, &guard.arguments).await? == 0
        {
            return Err(StoreError::LeaseLost);
        }
        Ok(self.transaction.commit().await?)
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
