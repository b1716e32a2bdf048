//! The results of the past, as rows. Nothing is decided by them: what trust depends on is in the node.

use sqlx::Row;

use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::nodes::entry::StoredResult;
use crate::store::{Changes, Database, StoreError, settled, to_body};

/// Appends results to the history, numbered from `first`.
///
/// # Errors
/// [`StoreError`].
pub async fn save(changes: &mut Changes, first: i64, results: &[StoredResult]) -> Result<(), StoreError> {
    let rows = results.iter().enumerate().map(|(index, result)| {
        let id = first.saturating_add(i64::try_from(index).unwrap_or(i64::MAX));
        let (node, check) = (result.node.as_str(), result.check.as_str());
        [id.into(), node.into(), check.into(), result.stored_at.0.into(), to_body(result).into()]
    });
    changes.execute_many("INSERT INTO nodes_result (id, node, check_name, stored_at, body) VALUES", rows, "").await
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
    let query = match (node, check) {
        (Some(_), Some(_)) => {
            "SELECT id, body FROM nodes_result WHERE node = ? AND check_name = ? ORDER BY id DESC LIMIT ?"
        }
        (Some(_), None) => "SELECT id, body FROM nodes_result WHERE node = ? ORDER BY id DESC LIMIT ?",
        (None, Some(_)) => "SELECT id, body FROM nodes_result WHERE check_name = ? ORDER BY id DESC LIMIT ?",
        (None, None) => "SELECT id, body FROM nodes_result ORDER BY id DESC LIMIT ?",
    };
    let mut query = sqlx::query(query);
    for name in node.map(NodeName::as_str).into_iter().chain(check.map(CheckName::as_str)) {
        query = query.bind(name.to_owned());
    }
    let rows = settled(query.bind(limit).fetch_all(database.reader())).await?;
    rows.iter().map(|row| crate::store::body("nodes_result", row)).collect()
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
        let results: Vec<StoredResult> = times.into_iter().map(stored_at).collect();
        let mut changes = database.begin().await.unwrap();
        save(&mut changes, 1, &results).await.unwrap();
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
}
