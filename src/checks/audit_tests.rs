#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::chain::Verifier;
use crate::checks::registry::{default_pool, new_pool};
use crate::protocol::Mode;

const NOW: Timestamp = Timestamp(1_795_320_000_000);

fn author(sender: &str) -> Author {
    Author { sender: sender.to_owned(), key_id: Some("k".to_owned()), confirmed: vec!["it is looser".to_owned()] }
}

/// A database in which three changes were recorded, one after the other.
async fn recorded() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database =
        Database::open(&format!("sqlite://{}/checks.sqlite", folder.path().display()), "checks").await.unwrap();
    let empty = Registry::default();
    let mut one = empty.clone();
    let pool = default_pool().unwrap();
    one.pools.insert(pool.name.clone(), pool);
    let mut two = one.clone();
    two.pools.values_mut().for_each(|pool| pool.mode = Mode::Observe);
    let gold = new_pool("gold".parse().unwrap());
    two.pools.insert(gold.name.clone(), gold);
    let mut three = two.clone();
    three.pools.remove("gold");
    for (number, (old, new)) in (1..).zip([(&empty, &one), (&one, &two), (&two, &three)]) {
        let mut changes = database.begin().await.unwrap();
        save(&database, &mut changes, (old, new), &author("ann"), number, NOW).await.unwrap();
        changes.commit().await.unwrap();
    }
    (folder, database)
}

async fn verified(database: &Database) -> Result<Head, crate::chain::Break> {
    let mut verifier = Verifier::default();
    for link in links(database, 0, 100).await.unwrap() {
        verifier.follow(&link)?;
    }
    Ok(verifier.head().clone())
}

#[tokio::test]
async fn every_change_is_an_entry_that_says_who_what_and_from_what_to_what() {
    let (_folder, database) = recorded().await;
    let entries: Vec<AuditEntry> =
        links(&database, 0, 100).await.unwrap().iter().map(|link| serde_json::from_str(&link.text).unwrap()).collect();
    let told: Vec<_> =
        entries.iter().map(|e| (e.action.as_str(), e.kind.as_str(), e.name.as_str(), e.policy)).collect();
    let expected = [
        ("created", "pool", "default", 1),
        ("changed", "pool", "default", 2),
        ("created", "pool", "gold", 2),
        ("deleted", "pool", "gold", 3),
    ];
    assert_eq!(told, expected);
    let changed = BTreeMap::from([("mode".to_owned(), (json!("enforce"), json!("observe")))]);
    assert_eq!(entries[1].changes, changed, "only what differs");
    assert_eq!((entries[1].sender.as_str(), entries[1].confirmed.len()), ("ann", 1));
    assert_eq!(entries[3].changes["mode"], (json!("enforce"), Value::Null), "what was deleted can be read");
}

#[tokio::test]
async fn the_record_of_changes_is_a_chain_to_its_head_and_shows_what_was_tampered_with() {
    let (_folder, database) = recorded().await;
    assert_eq!(verified(&database).await.unwrap(), head(&database).await.unwrap());
    assert_eq!(links(&database, 2, 1).await.unwrap()[0].seq, 3, "page by page");
    let mut changes = database.begin().await.unwrap();
    let lie = "UPDATE checks_record SET body = replace(body, 'ann', 'bob') WHERE seq = ?";
    changes.execute(lie, &[2.into()]).await.unwrap();
    changes.commit().await.unwrap();
    assert_eq!(verified(&database).await.unwrap_err().seq, 2);
}
