#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::bus::BusOptions;
use crate::nodes::recorder::tests::lab;

fn parcel(id: i64) -> (Lane, Parcel) {
    let body = serde_json::json!({
        "message_id": id.to_string(), "publisher_id": "test", "event_type": "spice.check.result", "payload": {}, "timestamp": 0, "context": {},
    });
    (Lane::Notifications, Parcel { id, lane: Lane::Notifications.as_str().to_owned(), body: body.to_string() })
}

#[tokio::test]
async fn while_nobody_takes_notifications_only_so_many_are_kept_in_memory_and_on_disk() {
    let lab = lab().await;
    let database = lab.nodes.database.clone();
    let most = i64::try_from(MAX_NOTIFICATIONS).unwrap();
    let all: Vec<_> = (1..=most + 3 * FORGET_EVERY).map(parcel).collect();
    let mut changes = database.begin().await.unwrap();
    storage::save_parcels(&mut changes, &all).await.unwrap();
    changes.commit().await.unwrap();
    // Nothing listens there, so the first of them is tried again and again.
    let bus = Bus::start(BusOptions::new("rabbit://127.0.0.1:1/"), "test").unwrap();
    let (lane, parcels) = mpsc::unbounded_channel();
    let (stop, stopping) = watch::channel(false);
    let (first, rest) = all.split_at(usize::try_from(most).unwrap());
    let restored = first.iter().map(|(_, parcel)| parcel.clone()).collect();
    let sender =
        Sender { lane: Lane::Notifications, rpc: lab.nodes.rpc.clone(), bus, database: database.clone(), pace: None };
    let running = tokio::spawn(sender.run(restored, parcels, stopping));
    for (_, parcel) in rest {
        lane.send(parcel.clone()).unwrap();
        tokio::task::yield_now().await;
    }
    let oldest = || async {
        let row = sqlx::query_scalar::<_, i64>("SELECT MIN(id) FROM nodes_outbox").fetch_one(database.reader());
        row.await.unwrap()
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        while oldest().await <= 2 * FORGET_EVERY {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the oldest go");
    stop.send(true).unwrap();
    running.await.unwrap();
    let newest: i64 =
        sqlx::query_scalar("SELECT MAX(id) FROM nodes_outbox").fetch_one(database.reader()).await.unwrap();
    assert_eq!(newest, most + 3 * FORGET_EVERY, "and the newest stay");
}
