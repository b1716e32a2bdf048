#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::clock::Timestamp;

/// Boot time as a test sets it. The database's time goes on by itself.
#[derive(Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Two processes on one database.
struct Two {
    a: (Database, Candidate),
    b: (Database, Candidate),
    clock: Arc<HandClock>,
    _folder: tempfile::TempDir,
}

async fn two() -> Two {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let one = async |holder: &str| {
        let connection = format!("sqlite://{}/nodes.sqlite", folder.path().display());
        let database = Database::open(&connection, "nodes").await.unwrap();
        let candidate = Candidate::new("nodes", holder.to_owned(), database.clone(), clock.clone());
        (database, candidate)
    };
    Two { a: one("a").await, b: one("b").await, clock: clock.clone(), _folder: folder }
}

async fn set(database: &Database, statement: &'static str) {
    let mut changes = database.begin().await.unwrap();
    assert_eq!(changes.execute(statement, &["nodes".into()]).await.unwrap(), 1);
    changes.commit().await.unwrap();
}

/// Its time is over, as by the clock of the database.
async fn run_out(database: &Database) {
    set(database, "UPDATE role_lease SET expires_at = 0 WHERE role = ?").await;
}

async fn write(database: &Database, node: &str) -> Result<(), StoreError> {
    let mut changes = database.begin().await?;
    changes.execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &[node.into(), "1".into()]).await?;
    changes.commit().await
}

async fn written(database: &Database) -> i64 {
    let row = sqlx::query("SELECT COUNT(*) FROM nodes_node").fetch_one(database.reader()).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn one_of_two_is_active_and_the_other_when_it_is_given_back() {
    let Two { a: (db_a, mut a), b: (_, mut b), _folder: _kept, .. } = two().await;
    let first = a.attempt().await.unwrap().unwrap();
    assert!(b.attempt().await.unwrap().is_none());
    assert_eq!(b.seen().unwrap().holder, "a");
    assert!(a.attempt().await.unwrap().is_none(), "not twice in one process either");
    first.release(&db_a).await.unwrap();
    assert!(first.left().is_zero());
    let second = b.attempt().await.unwrap().expect("it is free");
    assert!(second.epoch() > first.epoch());
    let tenures = sqlx::query("SELECT COUNT(*) FROM role_tenure").fetch_one(db_a.reader()).await.unwrap();
    assert_eq!(tenures.get::<i64, _>(0), 2, "who was active is kept");
}

#[tokio::test]
async fn who_was_paused_while_another_took_over_changes_nothing() {
    let Two { a: (db_a, mut a), b: (db_b, mut b), clock, _folder: _kept, .. } = two().await;
    let old = a.attempt().await.unwrap().unwrap();
    let writes_of_old = old.over_database(&db_a);
    write(&writes_of_old, "before").await.unwrap();
    // a sleeps; its lease runs out.
    run_out(&db_a).await;
    let new = b.attempt().await.unwrap().unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(!old.left().is_zero(), "a does not know it yet");
    let refused = write(&writes_of_old, "after").await;
    assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
    assert_eq!(written(&db_a).await, 1);
    assert!(old.renew(&db_a).await.is_err());
    assert!(old.left().is_zero() && old.over().is_cancelled(), "now it knows");
    old.release(&db_a).await.unwrap();
    write(&new.over_database(&db_b), "by the new one").await.unwrap();
    assert_eq!(written(&db_a).await, 2, "giving back what another has takes nothing away");
}

#[tokio::test]
async fn who_is_late_says_nothing_until_the_row_is_found_as_it_was_left() {
    let Two { a: (db_a, mut a), clock, _folder: _kept, .. } = two().await;
    let tenure = a.attempt().await.unwrap().unwrap();
    assert!(tenure.left() > Duration::from_secs(3));
    clock.advance(LEASE);
    assert!(tenure.left().is_zero() && !tenure.over().is_cancelled());
    tenure.renew(&db_a).await.unwrap();
    assert!(tenure.left() > Duration::from_secs(3));
    write(&tenure.over_database(&db_a), "late").await.unwrap();
}

#[tokio::test]
async fn a_clock_of_the_database_that_was_set_back_keeps_nobody_waiting() {
    let Two { a: (_, mut a), b: (db_b, mut b), clock, _folder: _kept, .. } = two().await;
    a.attempt().await.unwrap().unwrap();
    // a is gone, and the clock shows an hour less than when it last renewed.
    set(&db_b, "UPDATE role_lease SET expires_at = expires_at + 3600000 WHERE role = ?").await;
    assert!(b.attempt().await.unwrap().is_none());
    clock.advance(LEASE);
    assert!(b.attempt().await.unwrap().is_none());
    clock.advance(Duration::from_millis(1));
    assert!(b.attempt().await.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_is_renewed_is_never_taken_whatever_the_clocks_say() {
    let Two { a: (db_a, mut a), b: (_, mut b), clock, _folder: _kept, .. } = two().await;
    let tenure = a.attempt().await.unwrap().unwrap();
    for _ in 0..5 {
        clock.advance(Duration::from_secs(3));
        // Renewals of one millisecond are told apart by their time.
        tokio::time::sleep(Duration::from_millis(2)).await;
        tenure.renew(&db_a).await.unwrap();
        assert!(b.attempt().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_epoch_is_above_all_before_it_whatever_the_clock_says() {
    let Two { a: (db_a, mut a), _folder: _kept, .. } = two().await;
    set(&db_a, "UPDATE role_lease SET epoch = 9000000000000 WHERE role = ?").await;
    assert_eq!(a.attempt().await.unwrap().unwrap().epoch(), 9_000_000_000_001);
}

#[tokio::test]
async fn what_keeps_the_lease_ends_when_another_has_it() {
    let Two { a: (db_a, mut a), b: (_, mut b), clock, _folder: _kept, .. } = two().await;
    let tenure = a.attempt().await.unwrap().unwrap();
    run_out(&db_a).await;
    b.attempt().await.unwrap().unwrap();
    clock.advance(LEASE);
    tokio::time::timeout(Duration::from_secs(30), tenure.keep(&db_a)).await.expect("it ends");
    assert!(tenure.over().is_cancelled());
}

#[tokio::test]
async fn who_resigns_may_answer_and_is_followed_by_a_higher_epoch() {
    let Two { a: (db_a, mut a), b: (_, mut b), clock, _folder: _kept } = two().await;
    let tenure = a.attempt().await.unwrap().unwrap();
    let epoch = tenure.epoch() + 1_000_000_000;
    tenure.resign(&db_a, epoch, "for a test").await.unwrap();
    assert!(!tenure.left().is_zero() && tenure.left() <= NOTICE);
    assert!(tenure.renew(&db_a).await.is_err(), "it changes nothing any more");
    clock.advance(NOTICE);
    run_out(&db_a).await;
    assert!(tenure.left().is_zero());
    assert_eq!(b.attempt().await.unwrap().unwrap().epoch(), epoch + 1);
    let refused = tenure.resign(&db_a, epoch, "once more").await;
    assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
}

#[tokio::test]
async fn nobody_waits_for_the_lease_of_who_died_on_this_machine() {
    let Two { a: (_, a), b: (_, b), _folder: folder, .. } = two().await;
    let lives = folder.path().join("lives");
    let begin = || Arc::new(Life::begin(&lives, "controller-1").unwrap());
    let (dying, waiting) = (begin(), begin());
    let (mut a, mut b) = (a.living(Arc::clone(&dying)), b.living(waiting));
    let first = a.attempt().await.unwrap().unwrap();
    assert!(b.attempt().await.unwrap().is_none(), "it lives");
    assert_eq!(b.seen().unwrap().holder, dying.holder());
    // The kernel lets go of its lock and leaves the file, as after a SIGKILL.
    let file = std::fs::read_dir(&lives).unwrap().map(|entry| entry.unwrap().path());
    let file =
        file.filter(|path| dying.holder().ends_with(path.file_stem().unwrap().to_str().unwrap())).last().unwrap();
    let text = std::fs::read(&file).unwrap();
    drop((a, dying));
    std::fs::write(&file, text).unwrap();
    let second = b.attempt().await.unwrap().expect("it died");
    assert!(second.epoch() > first.epoch());
}
