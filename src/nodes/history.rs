//! The results of the past, as rows. Nothing is decided by them: what trust depends on is in the node.

use sqlx::Row;

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::nodes::entry::StoredResult;
use crate::store::{Changes, Database, StoreError, settled, to_body};

/// How many results in a row share a part of the index by node; see the migration that made it.
const BLOCK: i64 = 65_536;

/// A result as it is stored.
#[derive(Debug)]
pub struct HistoryRow {
    id: i64,
    node: String,
    check: String,
    stored_at: i64,
    body: String,
}

impl HistoryRow {
    /// The row of `result` under the number `id`.
    #[must_use]
    pub fn of(id: i64, result: &StoredResult) -> Self {
        let (node, check) = (result.node.as_str().to_owned(), result.check.as_str().to_owned());
        Self { id, node, check, stored_at: result.stored_at.0, body: to_body(result) }
    }
}

/// Appends results to the history.
///
/// # Errors
/// [`StoreError`].
pub async fn save(changes: &mut Changes, rows: Vec<HistoryRow>) -> Result<(), StoreError> {
    const HEAD: &str = "INSERT INTO nodes_result (id, block, node, check_name, stored_at, body) VALUES";
    let rows = rows.into_iter().map(|row| {
        let HistoryRow { id, node, check, stored_at, body } = row;
        [id.into(), (id / BLOCK).into(), node.into(), check.into(), stored_at.into(), body.into()]
    });
    changes.execute_many(HEAD, rows, "").await
}

/// The latest results, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn latest(
    database: &Database,
    node: Option<&NodeName>,
    check: Option<&CheckName>,
    limit: i64,
) -> Result<Vec<StoredResult>, StoreError> {
    let Some(node) = node else {
        let query = match check {
            Some(_) => "SELECT id, body FROM nodes_result WHERE check_name = ? ORDER BY id DESC LIMIT ?",
            None => "SELECT id, body FROM nodes_result ORDER BY id DESC LIMIT ?",
        };
        let query = check.iter().fold(sqlx::query(query), |query, check| query.bind(check.as_str().to_owned()));
        let rows = settled(query.bind(limit).fetch_all(database.reader())).await?;
        return rows.iter().map(|row| crate::store::body("nodes_result", row)).collect();
    };
    let query = match check {
        Some(_) => {
            "SELECT id, body FROM nodes_result WHERE block = ? AND node = ? AND check_name = ? ORDER BY id DESC LIMIT ?"
        }
        None => "SELECT id, body FROM nodes_result WHERE block = ? AND node = ? ORDER BY id DESC LIMIT ?",
    };
    let ends = sqlx::query("SELECT MIN(id), MAX(id) FROM nodes_result");
    let ends = settled(ends.fetch_one(database.reader())).await?;
    let (Some(first), Some(last)) = (ends.try_get::<Option<i64>, _>(0)?, ends.try_get::<Option<i64>, _>(1)?) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut wanted = limit;
    for block in (first / BLOCK..=last / BLOCK).rev() {
        let query = sqlx::query(query).bind(block).bind(node.as_str().to_owned());
        let query = check.iter().fold(query, |query, check| query.bind(check.as_str().to_owned()));
        let rows = settled(query.bind(wanted).fetch_all(database.reader())).await?;
        wanted -= i64::try_from(rows.len()).unwrap_or(i64::MAX);
        found.extend(rows);
        if wanted <= 0 {
            break;
        }
    }
    found.iter().map(|row| crate::store::body("nodes_result", row)).collect()
}

/// Drops results stored before a time, and ids that are old enough. Results lie in the order in which they came, so it looks at the oldest
/// until it finds one to keep; a few at a time, because results have to wait meanwhile.
///
/// # Errors
/// [`StoreError`].
pub async fn trim(database: &Database, results_before: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    const AT_ONCE: i64 = 5_000;
    const OLDEST: &str = "SELECT MAX(id), COUNT(*) FROM (SELECT id, stored_at FROM nodes_result ORDER BY id LIMIT ?) AS oldest \
                          WHERE stored_at < ? OR stored_at > ?";
    // A clock that was far ahead must not keep its results, and all that came after them, for ever.
    let results_after = now.plus(now.since(results_before));
    loop {
        let oldest = sqlx::query(OLDEST).bind(AT_ONCE).bind(results_before.0).bind(results_after.0);
        let oldest = settled(oldest.fetch_one(database.reader())).await?;
        let count: i64 = oldest.try_get(1)?;
        if count > 0 {
            let arguments = [oldest.try_get::<i64, _>(0)?.into(), results_before.0.into(), results_after.0.into()];
            let mut changes = database.begin().await?;
            changes
                .execute("DELETE FROM nodes_result WHERE id <= ? AND (stored_at < ? OR stored_at > ?)", &arguments)
                .await?;
            changes.commit().await?;
        }
        if count < AT_ONCE {
            break;
        }
    }
    let mut changes = database.begin().await?;
    changes.execute("DELETE FROM nodes_seen WHERE forget_at < ?", &[now.0.into()]).await?;
    changes.commit().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;
    use crate::protocol::Status;

    const NOW: Timestamp = Timestamp(1_795_320_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn stored_at(at: Timestamp) -> StoredResult {
        StoredResult {
            node: "n1".parse().unwrap(),
            check: "c".parse().unwrap(),
            run: "1-1".to_owned(),
            attempt: 1,
            revision: 1,
            status: Status::Pass,
            reason: String::new(),
            evidence_at: at,
            stored_at: at,
            sender: String::new(),
            key_id: String::new(),
            ticket_key_id: String::new(),
            counted: true,
            latency_ms: 0,
        }
    }

    /// What is left of results stored at these times, in this order.
    async fn left_of(times: Vec<Timestamp>) -> Vec<Timestamp> {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("sqlite://{}/nodes.sqlite", folder.path().display());
        let database = Database::open(&path, "nodes").await.unwrap();
        let rows = (1..).zip(times).map(|(id, at)| HistoryRow::of(id, &stored_at(at))).collect();
        let mut changes = database.begin().await.unwrap();
        save(&mut changes, rows).await.unwrap();
        changes.commit().await.unwrap();
        trim(&database, NOW.minus(DAY), NOW).await.unwrap();
        let mut left = latest(&database, None, None, 10_000).await.unwrap();
        left.reverse();
        left.into_iter().map(|result| result.stored_at).collect()
    }

    #[tokio::test]
    async fn the_history_is_trimmed_at_its_beginning_however_much_is_too_old() {
        let (old, young) = (NOW.minus(2 * DAY), NOW.minus(DAY / 2));
        let mut times = vec![old; 11_000];
        times.extend([young, NOW]);
        assert_eq!(left_of(times).await, [young, NOW]);
        assert_eq!(left_of(vec![]).await, []);
    }

    #[tokio::test]
    async fn results_of_a_clock_that_was_far_ahead_keep_no_others() {
        let mut times = vec![NOW.plus(365 * DAY); 6_000];
        times.extend([NOW.minus(2 * DAY), NOW]);
        assert_eq!(left_of(times).await, [NOW]);
    }

    #[tokio::test]
    async fn the_results_of_a_node_are_found_over_all_blocks_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("sqlite://{}/nodes.sqlite", folder.path().display());
        let database = Database::open(&path, "nodes").await.unwrap();
        let of = |node: &str, check: &str, attempt: i64| StoredResult {
            node: node.parse().unwrap(),
            check: check.parse().unwrap(),
            attempt,
            ..stored_at(NOW)
        };
        let rows =
            [(1, "n1", "a"), (2, "n2", "a"), (BLOCK - 1, "n1", "b"), (BLOCK, "n1", "a"), (5 * BLOCK + 7, "n1", "a")];
        let rows = rows.into_iter().map(|(id, node, check)| HistoryRow::of(id, &of(node, check, id))).collect();
        let mut changes = database.begin().await.unwrap();
        save(&mut changes, rows).await.unwrap();
        changes.commit().await.unwrap();
        let ids = async |node: Option<&str>, check: Option<&str>, limit| -> Vec<i64> {
            let node = node.map(|node| node.parse().unwrap());
            let check = check.map(|check| check.parse().unwrap());
            let found = latest(&database, node.as_ref(), check.as_ref(), limit).await.unwrap();
            found.into_iter().map(|result| result.attempt).collect()
        };
        assert_eq!(ids(Some("n1"), None, 10).await, [5 * BLOCK + 7, BLOCK, BLOCK - 1, 1]);
        assert_eq!(ids(Some("n1"), None, 2).await, [5 * BLOCK + 7, BLOCK]);
        assert_eq!(ids(Some("n1"), Some("a"), 10).await, [5 * BLOCK + 7, BLOCK, 1]);
        assert_eq!(ids(Some("n2"), None, 10).await, [2]);
        assert_eq!(ids(None, Some("a"), 3).await, [5 * BLOCK + 7, BLOCK, 2]);
        assert_eq!(ids(Some("n3"), None, 10).await, [0; 0]);
    }
}
