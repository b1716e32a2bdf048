//! Transactions, and when they are tried again.
//!
//! A transaction of SPICE only writes: what it says never depends on what it read. So it can be said again from its beginning when the database
//! gave it up (a deadlock, a lock that did not come, a cluster that refuses at the commit, a connection that broke), and it has either
//! happened once or not at all:
//! - Before the commit was asked for, nothing has happened.
//! - Where the connection broke while it was committed, the number that the transaction itself wrote into `spice_commit` tells. Until the
//!   server can be asked, nobody is told anything: whoever waits must not go on from either assumption.
//!
//! SQLite needs none of it: it is this process that commits, and it knows.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::error::Reason;
use super::settled::{Held, held};
use super::{Argument, Database, Kind, StoreError, dated, settled};

/// How many rows are written with one statement, the most first; 1 so that there is no rest.
const ROWS_AT_ONCE: [usize; 6] = [1000, 200, 100, 20, 5, 1];
/// Bytes of arguments in one statement of several rows, at most: well below what a server takes.
const BYTES_AT_ONCE: usize = 2 * 1024 * 1024;
/// How often a transaction is tried.
const ATTEMPTS: u32 = 8;
/// How long the first new attempt waits; each further one twice as long, and a part of it by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Between two questions whether a commit has happened.
const DOUBT_PAUSE: Duration = Duration::from_millis(250);

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
    database: Database,
    transaction: Option<Held>,
    /// What was said, to say it again; empty on SQLite.
    said: Vec<Statement>,
    attempts: u32,
}

#[derive(Clone)]
struct Statement {
    sql: Cow<'static, str>,
    arguments: Vec<Argument<'static>>,
}

impl Statement {
    async fn execute(self, transaction: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        // Made of literals and question marks.
        let query = sqlx::query(sqlx::AssertSqlSafe(dated(self.sql)));
        let query = self.arguments.into_iter().fold(query, |query, argument| match argument {
            Argument::Text(text) => query.bind(text.to_owned()),
            Argument::Owned(text) => query.bind(text),
            Argument::Integer(number) => query.bind(number),
        });
        Ok(settled(query.execute(transaction)).await?.rows_affected())
    }
}

/// How a commit ended.
enum End {
    Done,
    /// It has not happened.
    Failed(StoreError),
    /// Nobody knows yet.
    Doubtful(StoreError),
}

impl Changes {
    pub(super) async fn begin(database: Database) -> Result<Self, StoreError> {
        #[cfg(test)]
        database.shared.life.step("before a transaction").await;
        let mut changes = Self { database, transaction: None, said: Vec::new(), attempts: 1 };
        let begun = changes.begin_again().await;
        changes.database.noted(begun)?;
        Ok(changes)
    }

    /// Executes one statement with text and integer arguments; how many rows it changed. Where the transaction is tried again, other
    /// writers may have changed what earlier statements said of theirs: nothing may depend on that.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the transaction is over then.
    pub async fn execute(&mut self, statement: &'static str, arguments: &[Argument<'_>]) -> Result<u64, StoreError> {
        let arguments = arguments.iter().cloned().map(Argument::into_owned).collect();
        self.say(Statement { sql: Cow::Borrowed(statement), arguments }).await
    }

    /// Executes `head`, which ends in `VALUES`, the rows, and `tail` for many rows: several with one statement, since what a statement costs
    /// is mostly the way to the database and back. The numbers of rows are few, so that the database keeps the statements it knows.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the transaction is over then.
    pub async fn execute_many<const N: usize>(
        &mut self,
        head: &str,
        mut rows: impl Iterator<Item = [Argument<'_>; N]>,
        tail: &str,
    ) -> Result<(), StoreError> {
        let mut waiting = VecDeque::new();
        loop {
            waiting.extend(rows.by_ref().take(ROWS_AT_ONCE[0] - waiting.len()));
            if waiting.is_empty() {
                return Ok(());
            }
            let size = rows_of_next(&waiting);
            let row = format!("({})", ["?"; N].join(", "));
            let sql = Cow::Owned(format!("{head} {} {tail}", vec![row; size].join(", ")));
            let arguments = waiting.drain(..size).flatten().map(Argument::into_owned).collect();
            self.say(Statement { sql, arguments }).await?;
        }
    }

    /// Writes rows of a table whose first column is its key, over those that have the same key. Unlike `REPLACE` it leaves a row where it
    /// is: less is written, and what is changed together stays together.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the transaction is over then.
    pub async fn put_many<const N: usize>(
        &mut self,
        table: &'static str,
        columns: [&'static str; N],
        rows: impl Iterator<Item = [Argument<'_>; N]>,
    ) -> Result<(), StoreError> {
        let head = format!("INSERT INTO {table} ({}) VALUES", columns.join(", "));
        let kind = self.database.kind;
        let assign = |column: &&str| match kind {
            Kind::Sqlite => format!("{column} = excluded.{column}"),
            Kind::MySql => format!("{column} = VALUES({column})"),
        };
        let assigned = columns.iter().skip(1).map(assign).collect::<Vec<_>>().join(", ");
        let tail = match kind {
            Kind::Sqlite => format!("ON CONFLICT ({}) DO UPDATE SET {assigned}", columns[0]),
            Kind::MySql => format!("ON DUPLICATE KEY UPDATE {assigned}"),
        };
        self.execute_many(&head, rows, &tail).await
    }

    /// Makes everything so, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::LeaseLost`] where the database has a [`Guard`] that does not hold.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.database.shared.life.burns("before a commit") {
            drop(self);
            return std::future::pending().await;
        }
        #[cfg(test)]
        if self.database.shared.life.is_full() {
            self.give_up().await;
            let full = sqlx::Error::Io(std::io::ErrorKind::StorageFull.into());
            return self.database.noted(Err(StoreError::Database(full)));
        }
        let outcome = self.commit_somehow().await;
        let outcome = self.database.noted(outcome);
        if outcome.is_ok() {
            self.database.health().recovered();
            if let Some(checkpoints) = &self.database.checkpoints {
                checkpoints.committed();
            }
        }
        #[cfg(test)]
        self.database.shared.life.step("after a commit").await;
        outcome
    }

    async fn commit_somehow(&mut self) -> Result<(), StoreError> {
        loop {
            let number = self.database.next_commit();
            let error = match self.commit_once(number).await {
                End::Done => return Ok(()),
                End::Doubtful(error) if has_happened(self.database.clone(), number, &error).await => return Ok(()),
                End::Failed(error) | End::Doubtful(error) => error,
            };
            self.say_all_again(error).await?;
        }
    }

    async fn commit_once(&mut self, number: i64) -> End {
        let Some(mut transaction) = self.transaction.take() else { return End::Failed(StoreError::Over) };
        let database = &self.database;
        if database.kind == Kind::MySql {
            let noted = Statement {
                sql: Cow::Borrowed("REPLACE INTO spice_commit (writer, number, at) VALUES (?, ?, UNIX_TIMESTAMP())"),
                arguments: vec![database.writer_name().to_owned().into(), number.into()],
            };
            if let Err(error) = noted.execute(&mut transaction).await {
                return End::Failed(error.into());
            }
        }
        if let Some(guard) = &database.guard {
            let Guard { statement, arguments } = Guard::clone(guard);
            match (Statement { sql: Cow::Borrowed(statement), arguments }).execute(&mut transaction).await {
                Ok(0) => return End::Failed(StoreError::LeaseLost),
                Ok(_) => {}
                Err(error) => return End::Failed(error.into()),
            }
        }
        match settled(transaction.commit()).await.map_err(StoreError::from) {
            Ok(()) => End::Done,
            // A conflict is told instead of the commit; everything else may have come after it.
            Err(error) if database.kind == Kind::Sqlite || error.reason() == Reason::Conflict => End::Failed(error),
            Err(error) => End::Doubtful(error),
        }
    }

    async fn say(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let transaction = self.transaction.as_mut().ok_or(StoreError::Over)?;
        let outcome = if self.database.kind == Kind::Sqlite {
            statement.execute(transaction).await
        } else {
            self.said.push(statement.clone());
            statement.execute(transaction).await
        };
        let outcome = match outcome {
            Ok(rows) => Ok(rows),
            Err(error) => self.say_all_again(error.into()).await,
        };
        self.database.noted(outcome)
    }

    /// After `error`, which ended the transaction: says all of it again, as often as is sensible. How many rows its last statement changed.
    async fn say_all_again(&mut self, mut error: StoreError) -> Result<u64, StoreError> {
        loop {
            self.give_up().await;
            let helps = self.database.kind == Kind::MySql && matches!(error.reason(), Reason::Conflict | Reason::Lost);
            if !helps || self.attempts >= ATTEMPTS {
                return Err(error);
            }
            let pause = FIRST_PAUSE * 2_u32.pow(self.attempts);
            self.attempts += 1;
            metrics::counter!("spice_database_retries_total", "reason" => error.reason().as_str()).increment(1);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            self.begin_again().await?;
            let Some(transaction) = self.transaction.as_mut() else { return Err(StoreError::Over) };
            let mut rows = Ok(0);
            for statement in &self.said {
                rows = statement.clone().execute(transaction).await;
                if rows.is_err() {
                    break;
                }
            }
            match rows {
                Ok(rows) => return Ok(rows),
                Err(again) => error = again.into(),
            }
        }
    }

    async fn begin_again(&mut self) -> Result<(), StoreError> {
        self.database.is_the_one_opened()?;
        self.transaction = Some(held(settled(self.database.writer.begin()).await?));
        Ok(())
    }

    async fn give_up(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            // What cannot be rolled back has been already, or its connection is gone.
            let _ = settled(transaction.rollback()).await;
        }
    }
}

/// Whether a commit that was interrupted has happened; waits until the server can say.
async fn has_happened(database: Database, number: i64, error: &StoreError) -> bool {
    // Locked while its transaction lives, so that the answer is the last word.
    const QUESTION: &str = "SELECT number FROM spice_commit WHERE writer = ? FOR UPDATE";
    database.health().failed(error);
    tracing::warn!(%error, "the connection was lost while something was committed; nothing goes on until it is known whether it was");
    loop {
        tokio::time::sleep(DOUBT_PAUSE).await;
        let asked = async {
            let mut transaction = database.writer.begin().await?;
            let question = sqlx::query(QUESTION).bind(database.writer_name().to_owned());
            let row = question.fetch_optional(&mut *transaction).await?;
            let last: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
            transaction.rollback().await?;
            Ok::<_, sqlx::Error>(last)
        };
        match asked.await {
            Ok(last) => return last == Some(number),
            Err(error) => database.health().failed(&error.into()),
        }
    }
}

/// How many of the rows that wait go into the next statement.
fn rows_of_next<const N: usize>(waiting: &VecDeque<[Argument<'_>; N]>) -> usize {
    let mut bytes = 0;
    let fits = |row: &&[Argument<'_>; N]| {
        bytes += row.iter().map(Argument::bytes).sum::<usize>();
        bytes <= BYTES_AT_ONCE
    };
    let fitting = waiting.iter().take_while(fits).count().max(1);
    ROWS_AT_ONCE.into_iter().find(|size| *size <= fitting).unwrap_or(1)
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("statements", &self.said.len()).finish_non_exhaustive()
    }
}
