//! The database: the same code, and the same answers, on SQLite and on MariaDB.

use serde_json::json;
use spice::store::{Argument, Changes, Database, Guard, StoreError, known_version};
use sqlx::Row;

use crate::lab_mariadb::Fresh;

/// An empty database of each kind, and what must live as long as it.
pub struct Either {
    pub connection: String,
    _folder: Option<tempfile::TempDir>,
}

impl Either {
    pub async fn both() -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = format!("sqlite://{}/{{role}}.sqlite", folder.path().display());
        let mariadb = Fresh::new().await.connection;
        [Self { connection: sqlite, _folder: Some(folder) }, Self { connection: mariadb, _folder: None }]
    }

    pub async fn open(&self) -> Database {
        Database::open(&self.connection, "nodes").await.unwrap()
    }
}

/// Executes one statement, and commits.
pub async fn execute(
    database: &Database,
    statement: &'static str,
    arguments: &[Argument<'_>],
) -> Result<(), StoreError> {
    let mut changes = database.begin().await?;
    changes.execute(statement, arguments).await?;
    changes.commit().await
}

async fn put(changes: &mut Changes, rows: &[(String, String)]) {
    let rows = rows.iter().map(|(name, body)| [name.into(), body.into()]);
    changes.put_many("nodes_node", ["name", "body"], rows).await.unwrap();
}

async fn nodes(database: &Database) -> Vec<(String, String)> {
    let rows = sqlx::query("SELECT name, body FROM nodes_node").fetch_all(database.reader()).await.unwrap();
    let mut rows: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn names_differ_by_any_byte_and_texts_come_back_whole() {
    for kind in Either::both().await {
        let database = kind.open().await;
        let names = ["node-1", "NODE-1", "node-1 ", "nöde-1", "node\u{301}-1", "節点-1", "🜚"];
        // Larger than MariaDB's TEXT, and beyond its three-byte utf8.
        let long = "🜚ü".repeat(50_000);
        let mut rows: Vec<(String, String)> =
            names.iter().map(|name| ((*name).to_owned(), json!(format!("{name} {long}")).to_string())).collect();
        rows.sort();
        let mut changes = database.begin().await.unwrap();
        put(&mut changes, &rows).await;
        changes.commit().await.unwrap();
        assert!(nodes(&database).await == rows, "{}: texts changed", kind.connection);

        // Over those of the same name, and over no other.
        rows[0].1 = json!("changed").to_string();
        let mut changes = database.begin().await.unwrap();
        put(&mut changes, &rows[..1]).await;
        changes.commit().await.unwrap();
        assert!(nodes(&database).await == rows, "{}: another row was changed", kind.connection);
        let found =
            database.find("SELECT name FROM nodes_node WHERE name IN", &["node-1", "Node-1", "🜚"]).await.unwrap();
        assert_eq!(found.len(), 2, "{found:?}");

        database.close().await;
        assert!(nodes(&kind.open().await).await == rows, "{}: texts are gone", kind.connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_packet_holds_is_written_in_one_transaction() {
    for kind in Either::both().await {
        let database = kind.open().await;
        let body = json!("x".repeat(30_000)).to_string();
        let rows: Vec<(String, String)> = (0..1000).map(|n| (format!("node-{n:04}"), body.clone())).collect();
        let mut changes = database.begin().await.unwrap();
        put(&mut changes, &rows).await;
        changes.commit().await.unwrap();
        assert!(nodes(&database).await == rows, "{}", kind.connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_happens_whole_or_not_and_a_guard_decides() {
    for kind in Either::both().await {
        let database = kind.open().await;
        execute(&database, "INSERT INTO nodes_seen (id, forget_at) VALUES ('lease', 0)", &[]).await.unwrap();
        let statement = "UPDATE nodes_seen SET forget_at = forget_at + 1 WHERE id = 'lease' AND forget_at < ?";
        let led = database.guarded(Guard { statement, arguments: vec![1.into()] });
        let insert = "INSERT INTO nodes_node (name, body) VALUES (?, ?)";
        execute(&led, insert, &["first".into(), "1".into()]).await.unwrap();
        let refused = execute(&led, insert, &["second".into(), "2".into()]).await;
        assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
        // One that is dropped, and one of which the second statement fails.
        let mut dropped = database.begin().await.unwrap();
        dropped.execute(insert, &["third".into(), "3".into()]).await.unwrap();
        drop(dropped);
        let mut failing = database.begin().await.unwrap();
        failing.execute(insert, &["fourth".into(), "4".into()]).await.unwrap();
        assert!(failing.execute(insert, &["first".into(), "5".into()]).await.is_err());
        assert!(failing.commit().await.is_err());
        assert_eq!(nodes(&database).await, [("first".to_owned(), "1".to_owned())], "{}", kind.connection);
        // What failed leaves nothing open behind it.
        execute(&database, insert, &["fifth".into(), "5".into()]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_tells_the_time_wherever_its_server_believes_to_be() {
    for kind in Either::both().await {
        let database = kind.open().await;
        let query = format!("SELECT {}", database.kind().now_ms());
        let before = chrono::Utc::now().timestamp_millis();
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(database.reader()).await.unwrap();
        let after = chrono::Utc::now().timestamp_millis();
        let told: i64 = row.get(0);
        assert!((before - 1_000..=after + 1_000).contains(&told), "{before} {told} {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    for kind in Either::both().await {
        let database = kind.open().await;
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, 'x', 0)";
        execute(&database, newer, &[]).await.unwrap();
        database.close().await;
        let text = Database::open(&kind.connection, "nodes").await.unwrap_err().to_string();
        assert!(text.contains("newer version") && text.contains("9999"), "{text}");
        assert!(text.contains(&known_version(database.kind()).to_string()), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_share_a_database_or_have_one_each() {
    let fresh = Fresh::new().await;
    // Both at once, on an empty database.
    let (nodes, checks) =
        tokio::join!(Database::open(&fresh.connection, "nodes"), Database::open(&fresh.connection, "checks"));
    let (nodes, checks) = (nodes.unwrap(), checks.unwrap());
    execute(&nodes, "INSERT INTO nodes_node (name, body) VALUES ('n', '1')", &[]).await.unwrap();
    execute(&checks, "INSERT INTO checks_check (name, body) VALUES ('c', '1')", &[]).await.unwrap();
    let found: Vec<i64> = checks.load("nodes_node", "SELECT name, body FROM nodes_node").await.unwrap();
    assert_eq!(found, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_died_half_way_is_done_again() {
    let fresh = Fresh::new().await;
    Database::open(&fresh.connection, "nodes").await.unwrap().close().await;
    // As it is when the process died after the first tables: what it does commits by itself.
    for statement in [
        "UPDATE _sqlx_migrations SET success = 0 ORDER BY version DESC LIMIT 1",
        "DROP TABLE spice_commit",
        "DROP TABLE nodes_outbox",
        "INSERT INTO nodes_node (name, body) VALUES ('n', '\"kept\"')",
    ] {
        sqlx::query(statement).execute(&fresh.pool).await.unwrap();
    }
    let database = Database::open(&fresh.connection, "nodes").await.unwrap();
    execute(&database, "INSERT INTO nodes_outbox (id, lane, body) VALUES (1, 'events', '1')", &[]).await.unwrap();
    assert_eq!(nodes(&database).await, [("n".to_owned(), "\"kept\"".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_nowhere() {
    let fresh = Fresh::new().await;
    let database = Database::open(&fresh.connection, "nodes").await.unwrap();
    let wrong = fresh.connection.replace("p%40ss", "hunter2");
    let refused = Database::open(&wrong, "nodes").await.unwrap_err();
    for text in [format!("{database:?}"), format!("{refused:?} {refused}")] {
        assert!(!text.contains("p%40ss") && !text.contains("p@ss") && !text.contains("hunter2"), "{text}");
    }
}
