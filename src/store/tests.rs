#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

async fn fresh() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database =
        Database::open(&format!("sqlite://{}/{{role}}.sqlite", folder.path().display()), "nodes").await.unwrap();
    (folder, database)
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_the_rest_is_not() {
    let (folder, database) = fresh().await;
    let mut changes = database.begin().await.unwrap();
    changes
        .execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n1".into(), "\"kept\"".into()])
        .await
        .unwrap();
    changes.commit().await.unwrap();
    let mut changes = database.begin().await.unwrap();
    changes
        .execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n2".into(), "\"lost\"".into()])
        .await
        .unwrap();
    drop(changes);
    database.close().await;
    let again = Database::open(&format!("sqlite://{}/nodes.sqlite", folder.path().display()), "nodes").await.unwrap();
    let rows: Vec<String> = again.load("nodes_node", "SELECT name, body FROM nodes_node").await.unwrap();
    assert_eq!(rows, ["kept"]);
}

#[tokio::test]
async fn a_damaged_row_is_named() {
    let (_folder, database) = fresh().await;
    let mut changes = database.begin().await.unwrap();
    changes.execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &["n1".into(), "{half".into()]).await.unwrap();
    changes.commit().await.unwrap();
    let error =
        database.load::<serde_json::Value>("nodes_node", "SELECT name, body FROM nodes_node").await.unwrap_err();
    assert!(error.to_string().contains("\"n1\" of nodes_node"), "{error}");
}

#[tokio::test]
async fn another_database_is_refused_with_what_to_write() {
    let error = Database::open("postgresql://x", "nodes").await.unwrap_err().to_string();
    assert!(error.contains("PostgreSQL is not supported; use mysql://"), "{error}");
}

#[tokio::test]
async fn any_number_of_rows_is_written_once_each() {
    let (_folder, database) = fresh().await;
    for count in [0_i64, 1, 4, 5, 627, 1500] {
        let mut changes = database.begin().await.unwrap();
        changes.execute("DELETE FROM nodes_seen", &[]).await.unwrap();
        let rows: Vec<i64> = (0..count).collect();
        let rows = rows.iter().map(|row| [format!("r{row}").into(), (*row).into()]);
        changes.execute_many("INSERT INTO nodes_seen (id, forget_at) VALUES", rows, "").await.unwrap();
        changes.commit().await.unwrap();
        let row = sqlx::query("SELECT COUNT(*), SUM(forget_at) FROM nodes_seen").fetch_one(database.reader()).await;
        let row = row.unwrap();
        assert_eq!(row.get::<i64, _>(0), count);
        assert_eq!(row.try_get::<i64, _>(1).unwrap_or(0), count * (count - 1).max(0) / 2);
    }
}

/// What the lease of a role does: whoever holds it counts on.
const GUARD: &str = "UPDATE nodes_meta SET value = value + 1 WHERE name = 'lease' AND value < ?";

#[tokio::test]
async fn a_transaction_whose_guard_does_not_hold_changes_nothing() {
    let (_folder, database) = fresh().await;
    let mut changes = database.begin().await.unwrap();
    changes.execute("INSERT INTO nodes_meta (name, value) VALUES ('lease', '0')", &[]).await.unwrap();
    changes.commit().await.unwrap();
    let led = database.guarded(Guard { statement: GUARD, arguments: vec![1.into()] });
    for (name, holds) in [("first", true), ("second", false)] {
        let mut changes = led.begin().await.unwrap();
        let arguments = [name.into(), "\"x\"".into()];
        changes.execute("INSERT INTO nodes_node (name, body) VALUES (?, ?)", &arguments).await.unwrap();
        let outcome = changes.commit().await;
        assert_eq!(outcome.is_ok(), holds, "{outcome:?}");
        assert!(holds || matches!(outcome, Err(StoreError::LeaseLost)));
    }
    let rows = sqlx::query("SELECT name FROM nodes_node").fetch_all(database.reader()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>(), ["first"]);
}

#[tokio::test]
async fn the_database_tells_the_time_in_milliseconds() {
    let (_folder, database) = fresh().await;
    let query = format!("SELECT {}", database.kind().now_ms());
    let before = chrono::Utc::now().timestamp_millis();
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(database.reader()).await.unwrap();
    let after = chrono::Utc::now().timestamp_millis();
    let told: i64 = row.get(0);
    assert!((before - 1_000..=after + 1_000).contains(&told), "{before} {told} {after}");
}
