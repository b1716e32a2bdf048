//! What becomes of a transaction, and of the service, when the database is in trouble: it has happened once or not at all, there is an alarm,
//! and the trouble's end is the alarm's.

use std::path::Path;
use std::time::Duration;

use spice::store::{Database, Reason, StoreError};
use sqlx::Row;

use crate::database::execute;
use crate::lab::eventually;
use crate::lab_mariadb::{Fresh, OwnMariaDb};
use crate::proxy::Proxy;

const COUNT: &str = "UPDATE nodes_seen SET forget_at = forget_at + 1 WHERE id = ?";

async fn with_counters(database: &Database) {
    for id in ["a", "b"] {
        execute(database, "INSERT INTO nodes_seen (id, forget_at) VALUES (?, 0)", &[id.into()]).await.unwrap();
    }
}

async fn counters(database: &Database) -> Vec<i64> {
    let rows = sqlx::query("SELECT forget_at FROM nodes_seen ORDER BY id").fetch_all(database.reader()).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn reason(database: &Database) -> Option<Reason> {
    database.health().trouble().map(|trouble| trouble.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_deadlock_the_one_given_up_is_tried_again_and_counts_once() {
    let fresh = Fresh::new().await;
    let database = Database::open(&fresh.connection, "nodes").await.unwrap();
    with_counters(&database).await;
    let mut ours = database.begin().await.unwrap();
    ours.execute(COUNT, &["a".into()]).await.unwrap();
    // The other has more to lose, so that ours is given up.
    let mut other = fresh.pool.begin().await.unwrap();
    for n in 0..50 {
        sqlx::query("INSERT INTO nodes_node (name, body) VALUES (?, '1')").bind(n).execute(&mut *other).await.unwrap();
    }
    sqlx::query("UPDATE nodes_seen SET forget_at = forget_at + 100 WHERE id = 'b'").execute(&mut *other).await.unwrap();
    let ours = tokio::spawn(async move {
        ours.execute(COUNT, &["b".into()]).await?;
        ours.commit().await
    });
    eventually("ours waits for the other", async || {
        let waiting = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.innodb_lock_waits w \
                       JOIN information_schema.innodb_trx t ON t.trx_id = w.requesting_trx_id WHERE t.trx_query LIKE '%nodes_seen%'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&fresh.pool).await.unwrap() > 0
    })
    .await;
    sqlx::query("UPDATE nodes_seen SET forget_at = forget_at + 100 WHERE id = 'a'").execute(&mut *other).await.unwrap();
    other.commit().await.unwrap();
    ours.await.unwrap().unwrap();
    assert_eq!(counters(&database).await, [101, 101]);
    assert_eq!(reason(&database), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ended_are_replaced_unnoticed() {
    let fresh = Fresh::new().await;
    let database = Database::open(&fresh.connection, "nodes").await.unwrap();
    with_counters(&database).await;
    assert!(fresh.end_connections().await > 0);
    execute(&database, COUNT, &["a".into()]).await.unwrap();
    // In the middle of a transaction, too.
    let mut changes = database.begin().await.unwrap();
    changes.execute(COUNT, &["a".into()]).await.unwrap();
    assert!(fresh.end_connections().await > 0);
    changes.execute(COUNT, &["b".into()]).await.unwrap();
    changes.commit().await.unwrap();
    assert_eq!(counters(&database).await, [2, 1]);
}

/// A database behind a proxy, with a transaction that is ready to be committed.
async fn behind_a_proxy(fresh: &Fresh) -> (Proxy, Database) {
    let port = fresh.port();
    let proxy = Proxy::before(port).await;
    let connection = fresh.connection.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
    let database = Database::open(&connection, "nodes").await.unwrap();
    with_counters(&database).await;
    (proxy, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_has_happened_once() {
    let fresh = Fresh::new().await;
    let (proxy, database) = behind_a_proxy(&fresh).await;
    let mut changes = database.begin().await.unwrap();
    changes.execute(COUNT, &["a".into()]).await.unwrap();
    // What we say reaches the server, its answers do not reach us; the commit goes out after the first answer that is missing, so it is
    // held up until the statement before it was answered.
    let committing = tokio::spawn(changes.commit());
    let committed = async || {
        let value: i64 =
            sqlx::query_scalar("SELECT forget_at FROM nodes_seen WHERE id = 'a'").fetch_one(&fresh.pool).await.unwrap();
        value > 0
    };
    proxy.block_down();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let on_the_server = committed().await;
    proxy.cut();
    proxy.heal();
    committing.await.unwrap().unwrap();
    assert_eq!(counters(&database).await, [1, 0], "committed on the server before the cut: {on_the_server}");
    // And it goes on.
    execute(&database, COUNT, &["b".into()]).await.unwrap();
    assert_eq!(counters(&database).await, [1, 1]);
    eventually("the alarm is over", async || reason(&database).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_under_cuts_at_every_moment_count_once_each() {
    let fresh = Fresh::new().await;
    let (proxy, database) = behind_a_proxy(&fresh).await;
    let mut done = 0;
    for delay in 0..40_u64 {
        let mut changes = database.begin().await.unwrap();
        changes.execute(COUNT, &["a".into()]).await.unwrap();
        let committing = tokio::spawn(changes.commit());
        tokio::time::sleep(Duration::from_micros(delay * 50)).await;
        match delay % 3 {
            0 => proxy.block_up(),
            1 => proxy.block_down(),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        proxy.cut();
        proxy.heal();
        if committing.await.unwrap().is_ok() {
            done += 1;
        }
    }
    assert_eq!(counters(&database).await, [done, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_an_alarm_until_it_is_back() {
    let server = OwnMariaDb::start().await;
    let fresh = server.fresh().await;
    let database = Database::open(&fresh.connection, "nodes").await.unwrap();
    with_counters(&database).await;
    server.order("kill").await;
    // Nobody uses it, and it is noticed all the same.
    eventually("the alarm is raised", async || reason(&database) == Some(Reason::Lost)).await;
    let refused = execute(&database, COUNT, &["a".into()]).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Lost, "{refused}");
    server.order("restart").await;
    eventually("the alarm is over", async || reason(&database).is_none()).await;
    execute(&database, COUNT, &["a".into()]).await.unwrap();
    assert_eq!(counters(&database).await, [1, 0]);
}

async fn sqlite(folder: &Path) -> Database {
    let database = Database::open(&format!("sqlite://{}/nodes.sqlite", folder.display()), "nodes").await.unwrap();
    with_counters(&database).await;
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_is_an_alarm_until_it_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    let path = folder.path().join("nodes.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut other = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = execute(&database, COUNT, &["a".into()]).await.unwrap_err();
    assert_eq!((refused.reason(), reason(&database)), (Reason::Locked, Some(Reason::Locked)), "{refused}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("the alarm is over", async || reason(&database).is_none()).await;
    execute(&database, COUNT, &["a".into()]).await.unwrap();
    assert_eq!(counters(&database).await, [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_into_a_file_that_was_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let database = sqlite(folder.path()).await;
    let (path, aside) = (folder.path().join("nodes.sqlite"), folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let refused = execute(&database, COUNT, &["a".into()]).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Replaced(file) if *file == path), "{refused}");
    std::fs::copy(&aside, &path).unwrap();
    let refused = execute(&database, COUNT, &["a".into()]).await.unwrap_err();
    assert!(refused.to_string().contains("replaced"), "{refused}");
    assert_eq!(reason(&database), Some(Reason::Replaced));
    std::fs::rename(&aside, &path).unwrap();
    eventually("the alarm is over", async || reason(&database).is_none()).await;
    execute(&database, COUNT, &["a".into()]).await.unwrap();
    assert_eq!(counters(&database).await, [1, 0]);
}

/// A file system of its own that can be full.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.run("mount", &["-t", "tmpfs", "-o", "size=2m", "none"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = std::process::Command::new(program).args(arguments).arg(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        self.run("umount", &["-l"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_half_written_and_space_ends_the_alarm() {
    let disk = SmallDisk::new();
    let database = sqlite(disk.0.path()).await;
    let filler = disk.0.path().join("filler");
    let mut full = Vec::new();
    while std::fs::write(&filler, &full).is_ok() {
        full.resize(full.len() + 64 * 1024, 0);
    }
    let mut changes = database.begin().await.unwrap();
    let outcome = async {
        changes.execute(COUNT, &["a".into()]).await?;
        let body = "x".repeat(20_000);
        let rows = (0..50).map(|n| [format!("node-{n}").into(), (&body).into()]);
        changes.put_many("nodes_node", ["name", "body"], rows).await?;
        changes.commit().await
    };
    let refused = outcome.await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Full, "{refused}");
    assert_eq!(reason(&database), Some(Reason::Full));
    let rows = sqlx::query("SELECT COUNT(*) FROM nodes_node").fetch_one(database.reader()).await.unwrap();
    assert_eq!((rows.get::<i64, _>(0), counters(&database).await), (0, vec![0, 0]));
    std::fs::remove_file(&filler).unwrap();
    eventually("the alarm is over", async || reason(&database).is_none()).await;
    execute(&database, COUNT, &["a".into()]).await.unwrap();
    assert_eq!(counters(&database).await, [1, 0]);
    database.close().await;
}
