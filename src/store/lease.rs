//! Who is active in a role: one row per role, timed by the database's clock, so that no other clock has to be right.
//!
//! Taking the row gives an *epoch* that is higher than all before; whoever reads what the role says takes the higher one and never
//! goes back. The holder believes in its lease by its own `CLOCK_BOOTTIME`, counted from before it asked, so it stops before anybody else may begin.
//! And whatever it believes, each of its transactions renews the row with its last statement ([`Guard`]), or changes nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::life::Life;
use crate::store::{Database, Guard, Kind, StoreError, dated, settled};

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(4);
/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// After so long without a renewal the role is given up, although nobody else may have taken it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// How long after it was given up a role is still led, so that whoever asked for it is answered.
const NOTICE: Duration = Duration::from_millis(800);

/// What is said to a kind of database.
struct Statements {
    renew: String,
    look: String,
    take: String,
    taken: String,
    resign: String,
    resigned: String,
}

impl Statements {
    fn of(kind: Kind) -> Self {
        let with_now = |statement: &str| statement.replace("{now}", kind.now_ms());
        Self {
            renew: with_now("UPDATE role_lease SET expires_at = {now} + ? WHERE role = ? AND holder = ? AND epoch = ?"),
            look: with_now(
                "SELECT holder, epoch, expires_at, CASE WHEN expires_at <= {now} THEN 1 ELSE 0 END FROM role_lease \
                 WHERE role = ?",
            ),
            take: with_now(
                "UPDATE role_lease SET holder = ?, epoch = CASE WHEN epoch + 1 > {now} THEN epoch + 1 ELSE {now} END, \
                 expires_at = {now} + ? WHERE role = ? AND epoch = ? AND expires_at = ?",
            ),
            taken: with_now(
                "INSERT INTO role_tenure (role, epoch, holder, at, cause) \
                 SELECT role, epoch, holder, {now}, 'taken' FROM role_lease WHERE role = ?",
            ),
            resign: with_now(
                "UPDATE role_lease SET epoch = ?, expires_at = {now} + ? \
                 WHERE role = ? AND holder = ? AND epoch = ? AND epoch < ?",
            ),
            resigned: with_now("INSERT INTO role_tenure (role, epoch, holder, at, cause) VALUES (?, ?, '', {now}, ?)"),
        }
    }

    fn for_kind(kind: Kind) -> &'static Self {
        static SQLITE: LazyLock<Statements> = LazyLock::new(|| Statements::of(Kind::Sqlite));
        static MYSQL: LazyLock<Statements> = LazyLock::new(|| Statements::of(Kind::MySql));
        match kind {
            Kind::Sqlite => &SQLITE,
            Kind::MySql => &MYSQL,
        }
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A role that one process at a time is active in, while it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<Inner>);

struct Inner {
    role: &'static str,
    holder: String,
    epoch: i64,
    clock: Arc<dyn Clock>,
    /// By `CLOCK_BOOTTIME`, in ms.
    until: AtomicU64,
    /// It is not renewed any more, and over at its end.
    resigned: AtomicBool,
    over: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenure").field("role", &self.role).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Tenure {
    fn new(role: &'static str, holder: &str, epoch: i64, clock: Arc<dyn Clock>) -> Self {
        let (until, resigned, over) = (AtomicU64::new(0), AtomicBool::new(false), CancellationToken::new());
        Self(Arc::new(Inner { role, holder: holder.to_owned(), epoch, clock, until, resigned, over }))
    }

    /// Of which role.
    #[must_use]
    pub fn role(&self) -> &'static str {
        self.0.role
    }

    /// Under which epoch.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// How long the lease certainly lasts; zero when it may be over, and nothing may be said in the role's name.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.0.over.is_cancelled() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.0.until.load(Ordering::SeqCst)).saturating_sub(self.now())
    }

    /// Cancelled once another process has taken the role over, or it was given up.
    #[must_use]
    pub fn over(&self) -> CancellationToken {
        self.0.over.clone()
    }

    /// Ends it in this process.
    pub fn end(&self) {
        self.0.over.cancel();
    }

    fn now(&self) -> Duration {
        self.0.clock.boottime()
    }

    /// It was renewed by what was sent to the database at `asked_at`.
    fn renewed(&self, asked_at: Duration) {
        let until = u64::try_from((asked_at + LEASE).as_millis()).unwrap_or(u64::MAX);
        self.0.until.fetch_max(until, Ordering::SeqCst);
    }

    /// The same database, in which every transaction renews this lease or changes nothing.
    #[must_use]
    pub fn over_database(&self, database: &Database) -> Database {
        let statement = &Statements::for_kind(database.kind()).renew;
        let arguments =
            vec![ms(LEASE).into(), self.role().to_owned().into(), self.0.holder.clone().into(), self.epoch().into()];
        database.guarded(Guard { statement, arguments })
    }

    /// Renews it now.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another process has the role; it is over then.
    pub async fn renew(&self, database: &Database) -> Result<(), StoreError> {
        let asked_at = self.now();
        let renewed = self.over_database(database).begin().await?.commit().await;
        match renewed {
            Ok(()) => self.renewed(asked_at),
            Err(StoreError::LeaseLost) => self.end(),
            Err(_) => {}
        }
        renewed
    }

    fn since_renewal(&self) -> Duration {
        let until = Duration::from_millis(self.0.until.load(Ordering::SeqCst));
        (self.now() + LEASE).saturating_sub(until)
    }

    /// Keeps the lease until another process has it, or the database has not answered for long. It may be late and still find the row as it left
    /// it: then nobody was active in between, and it goes on.
    pub async fn keep(&self, database: &Database) {
        let mut told = false;
        while !self.0.over.is_cancelled() {
            if self.0.resigned.load(Ordering::SeqCst) {
                tokio::time::sleep(self.left()).await;
                return self.end();
            }
            let pause = RENEW_EVERY.saturating_sub(self.since_renewal());
            if !pause.is_zero() {
                tokio::select! {
                    biased;
                    () = self.0.over.cancelled() => return,
                    () = tokio::time::sleep(pause) => continue,
                }
            }
            let patience = GIVE_UP_AFTER.saturating_sub(self.since_renewal()).max(RENEW_EVERY);
            let error = match tokio::time::timeout(patience, self.renew(database)).await {
                Ok(Ok(())) => {
                    told = false;
                    continue;
                }
                // It is over, and everybody who asks knows.
                Ok(Err(StoreError::LeaseLost)) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if !told {
                tracing::warn!(
                    role = self.role(),
                    error,
                    "the lease cannot be renewed in the database; it is tried again"
                );
                told = true;
            }
            if self.since_renewal() >= GIVE_UP_AFTER {
                return self.end();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Gives the role up in a moment, and has every later tenure begin with an epoch above `epoch`; kept with its `cause`. What is said until then is
    /// believed: nobody else begins before.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    pub async fn resign(&self, database: &Database, epoch: i64, cause: &str) -> Result<(), StoreError> {
        let Statements { resign, resigned, .. } = Statements::for_kind(database.kind());
        let mut changes = database.begin().await?;
        let asked_at = self.now();
        let (role, holder) = (self.role(), &self.0.holder);
        let own = [epoch.into(), ms(NOTICE).into(), role.into(), holder.into(), self.epoch().into(), epoch.into()];
        if changes.execute(resign, &own).await? == 0 {
            return Err(StoreError::LeaseLost);
        }
        changes.execute(resigned, &[role.into(), epoch.into(), cause.into()]).await?;
        changes.commit().await?;
        self.0.resigned.store(true, Ordering::SeqCst);
        let until = u64::try_from((asked_at + NOTICE).as_millis()).unwrap_or(0);
        self.0.until.fetch_min(until, Ordering::SeqCst);
        Ok(())
    }

    /// Gives the role up, so that another process may take it at once.
    ///
    /// # Errors
    /// [`StoreError`]; the lease then runs out.
    pub async fn release(&self, database: &Database) -> Result<(), StoreError> {
        self.end();
        let mut changes = database.begin().await?;
        let own = [self.role().into(), (&self.0.holder).into(), self.epoch().into()];
        changes
            .execute("UPDATE role_lease SET expires_at = 0 WHERE role = ? AND holder = ? AND epoch = ?", &own)
            .await?;
        changes.commit().await
    }
}

/// What a standby sees of the active one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who is, or was, active.
    pub holder: String,
    /// Under which epoch.
    pub epoch: i64,
    expires_at: i64,
    is_over: bool,
}

/// Wants to become active in a role.
pub struct Candidate {
    role: &'static str,
    holder: String,
    database: Database,
    clock: Arc<dyn Clock>,
    /// This process, where others of this machine can be told dead from it.
    life: Option<Arc<Life>>,
    /// What was seen last, and since when it has been so.
    last: Option<(Seen, Duration)>,
}

impl Candidate {
    /// For `role`, as `holder`, which no other process calls itself.
    #[must_use]
    pub fn new(role: &'static str, holder: String, database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { role, holder, database, clock, life: None, last: None }
    }

    /// The same, which does not wait for the lease of a process that `life` knows is dead; its holder is that life.
    #[must_use]
    pub fn living(mut self, life: Arc<Life>) -> Self {
        life.holder().clone_into(&mut self.holder);
        self.life = Some(life);
        self
    }

    /// Who was seen active last.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.last.as_ref().map(|(seen, _)| seen)
    }

    /// Takes the role if nobody has it, or who has it is certainly dead. A lease that has not been renewed for as long as it lasts is over whatever the database's clock says, so a clock
    /// that was set back keeps nobody waiting.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempt(&mut self) -> Result<Option<Tenure>, StoreError> {
        let seen = self.look().await?;
        let now = self.clock.boottime();
        let since = match &self.last {
            Some((last, since)) if last.expires_at == seen.expires_at && last.epoch == seen.epoch => *since,
            _ => now,
        };
        let is_silent = now.saturating_sub(since) > LEASE;
        let is_dead = !seen.is_over && self.life.as_ref().is_some_and(|life| life.is_dead(&seen.holder));
        if is_dead {
            tracing::info!(role = self.role, died = seen.holder, epoch = seen.epoch, "who was active has died");
        }
        let (may_take, expires_at, seen_epoch) = (seen.is_over || is_silent || is_dead, seen.expires_at, seen.epoch);
        self.last = Some((seen, since));
        if !may_take {
            return Ok(None);
        }
        let Statements { take, taken, .. } = Statements::for_kind(self.database.kind());
        let asked_at = self.clock.boottime();
        let mut changes = self.database.begin().await?;
        // As it was seen: of two who want it one comes first.
        let arguments =
            [(&self.holder).into(), ms(LEASE).into(), self.role.into(), seen_epoch.into(), expires_at.into()];
        if changes.execute(take, &arguments).await? == 0 {
            return Ok(None);
        }
        changes.execute(taken, &[self.role.into()]).await?;
        changes.commit().await?;
        let row = sqlx::query("SELECT epoch FROM role_lease WHERE role = ? AND holder = ?");
        let row = row.bind(self.role).bind(self.holder.clone());
        let row = settled(row.fetch_one(self.database.reader())).await?;
        let tenure = Tenure::new(self.role, &self.holder, row.try_get(0)?, self.clock.clone());
        tenure.renewed(asked_at);
        Ok(Some(tenure))
    }

    async fn look(&self) -> Result<Seen, StoreError> {
        let look: &'static str = &Statements::for_kind(self.database.kind()).look;
        // Made of literals and question marks.
        let row = sqlx::query(sqlx::AssertSqlSafe(dated(look.into()))).bind(self.role);
        let row = settled(row.fetch_one(self.database.reader())).await?;
        Ok(Seen {
            holder: row.try_get(0)?,
            epoch: row.try_get(1)?,
            expires_at: row.try_get(2)?,
            is_over: row.try_get::<i64, _>(3)? == 1,
        })
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
