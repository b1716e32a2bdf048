#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

use super::*;
use crate::bus::{Bus, BusOptions};
use crate::clock::{Clock, VirtualClock};
use crate::nodes::entry::Entry;
use crate::nodes::history;
use crate::nodes::kept::{Keeper, Kept, Packed};
use crate::nodes::storage::Parcel;
use crate::nodes::world::tests::{START, rules};
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Level, NodeResult, RunOrder, Ticket};
use crate::rpc::{Identity, Kind, RpcClient};
use crate::security::{KeyId, SharedTrustStore, SigningKey, TrustStore, TrustedKey};
use crate::store::Database;
use crate::telemetry::Sparingly;
use crate::trust::{NodeTrust, Reporter};

/// Nodes n0, n1, ... with a real database, and no broker: what is said stays in the lanes.
pub(in crate::nodes) struct Lab {
    pub(in crate::nodes) nodes: Arc<Nodes>,
    database: Database,
    pub(in crate::nodes) clock: Arc<VirtualClock>,
    events: mpsc::UnboundedReceiver<Parcel>,
    good: KeyId,
    stolen: KeyId,
    _folder: tempfile::TempDir,
}

fn key(sender: &str, revoked_since: Option<Timestamp>) -> (SigningKey, TrustedKey) {
    let key = SigningKey::generate().unwrap();
    let trusted = TrustedKey {
        key_id: key.key_id(),
        sender: sender.to_owned(),
        roles: ["checks".parse().unwrap(), "adapter:command".parse().unwrap()].into_iter().collect(),
        public_key: *key.public_key(),
        revoked_since,
        not_before: None,
        not_after: None,
        comment: None,
    };
    (key, trusted)
}

pub(in crate::nodes) fn node(index: usize) -> NodeName {
    format!("n{index}").parse().unwrap()
}

/// Puts a node in, in whatever way it came.
pub(in crate::nodes) fn put(world: &mut World, entry: Entry) {
    let row = Packed::of(&storage::node_row(&entry).1, world.keeper.like());
    world.put(entry, row);
}

pub(in crate::nodes) async fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let database =
        Database::open(&format!("sqlite://{}/nodes.sqlite", folder.path().display()), "nodes").await.unwrap();
    let clock = VirtualClock::starting_at(START);
    let (own, trusted) = key("somebody", None);
    let (_, revoked) = key("thief", Some(Timestamp(0)));
    let (good, stolen) = (trusted.key_id, revoked.key_id);
    let trust = SharedTrustStore::fixed(TrustStore::of([trusted, revoked]));
    let identity = Arc::new(Identity::new("test".parse().unwrap(), "somebody", own, trust, clock.clone()));
    let bus = Bus::start(BusOptions::new("rabbit://127.0.0.1:1/"), "test").unwrap();
    let restored = storage::restore(&database, clock.now()).await.unwrap();
    let (lanes, parcels) = crate::nodes::outbox::lanes();
    let [(_, events), ..] = parcels;
    let (publications, _) = crate::nodes::publisher::queue();
    let rules = rules();
    let known = (0..4).map(|index| {
        let trust = NodeTrust::new("identity");
        let targeting = rules.targeting(&node(index), &BTreeMap::new(), &crate::protocol::Placement::default());
        let (labels, verdicts) = (BTreeMap::new(), BTreeMap::new());
        let placement = crate::protocol::Placement::default();
        Entry { name: node(index), labels, placement, nova: None, registered_at: START, trust, verdicts, targeting }
    });
    let mut world = World {
        nodes: BTreeMap::new(),
        keeper: Keeper::default(),
        packed: 0,
        policy: None,
        refused: None,
        policy_floors: restored.policy_floors,
        rules: rules.clone(),
        is_judged: true,
        pools: BTreeMap::new(),
        digest: PoolsDigest::new(),
        version: 1,
        inventory_version: 1,
        timers: BTreeSet::new(),
        last_result: 0,
        last_outbox: 0,
        record_head: restored.record_head,
        losses: crate::nodes::degraded::Losses::default(),
        departures: Default::default(),
    };
    known.for_each(|entry| put(&mut world, entry));
    world.rebuild_pools();
    let nodes = Arc::new(Nodes {
        rpc: RpcClient::new(bus, identity.clone()),
        identity,
        database: database.clone(),
        clock: clock.clone(),
        epoch: 1,
        leading: None,
        readers_epoch: std::sync::atomic::AtomicI64::new(0),
        publisher: None,
        world: Mutex::new(world),
        lanes,
        publications,
        timers_changed: Notify::new(),
        policy_wanted: Notify::new(),
        contradictions: Sparingly::default(),
        not_in_ticket: Sparingly::default(),
        policies_refused: Sparingly::default(),
        recorder: Recorder::default(),
        figures: crate::nodes::figures::Figures::default(),
        health: crate::telemetry::health::Health::default().role("nodes"),
    });
    Lab { nodes, database, clock, events, good, stolen, _folder: folder }
}

impl Lab {
    /// A batch of one result, asked for and answered now.
    pub(in crate::nodes) fn batch(&self, request_id: &str, run: i64, node: NodeName, status: Status) -> Batch {
        let now = self.clock.now();
        let result = NodeResult {
            node: node.clone(),
            status,
            reason: String::new(),
            requested_at: now,
            finished_at: now,
            verified_at: None,
            boot: None,
            self_reported: false,
        };
        let ticket = Ticket {
            deployment: "test".parse().unwrap(),
            order: RunOrder { epoch: 1, run },
            batch: 1,
            attempt: 1,
            check: "c".parse().unwrap(),
            check_id: "id".to_owned(),
            revision: 1,
            adapter: "command".parse().unwrap(),
            nodes: vec![node],
            issued_at: now,
            deadline: now.plus(Duration::from_secs(60)),
        };
        Batch {
            request_id: request_id.to_owned(),
            sender: "somebody".to_owned(),
            vouch: Some(Vouch { key: self.good, at: now }),
            ticket,
            ticket_key: self.good,
            reporter: Reporter::Adapter,
            results: vec![result],
            is_caught_up: false,
        }
    }

    /// Lets batches arrive while the world is busy, so that they wait together, in their order; what became of each.
    async fn together(&self, batches: Vec<Batch>) -> Vec<Result<(), Kind>> {
        let busy = self.nodes.world.lock().await;
        let mut waiting: Vec<JoinHandle<Answer>> = Vec::new();
        for batch in batches {
            let nodes = Arc::clone(&self.nodes);
            waiting.push(tokio::spawn(async move { nodes.record(batch).await }));
            while self.nodes.recorder.0.lock().unwrap().waiting.len() < waiting.len() {
                tokio::task::yield_now().await;
            }
        }
        drop(busy);
        let mut outcomes = Vec::new();
        for answer in waiting {
            let answer = answer.await.unwrap();
            outcomes.push(answer.map(|behind| assert!(behind.is_none())).map_err(|error| error.kind));
        }
        outcomes
    }

    /// The history, oldest first: request and outcome told apart by run and node.
    async fn history(&self) -> Vec<(String, NodeName, Status)> {
        let mut rows = history::latest(&self.database, None, None, 100).await.unwrap();
        rows.reverse();
        rows.into_iter().map(|row| (row.run, row.node, row.status)).collect()
    }

    pub(in crate::nodes) async fn change(&self, statement: &'static str) {
        let mut changes = self.database.begin().await.unwrap();
        changes.execute(statement, &[]).await.unwrap();
        changes.commit().await.unwrap();
    }

    /// All that a failed commit must leave alone.
    async fn memory(&self) -> (BTreeMap<NodeName, Kept>, i64, i64, i64, (i64, String)) {
        let world = self.nodes.world.lock().await;
        (world.nodes.clone(), world.version, world.last_result, world.last_outbox, world.record_head.clone())
    }
}

#[tokio::test]
async fn batches_that_wait_together_are_stored_in_their_order_and_published_once() {
    let mut lab = lab().await;
    let failed = lab.batch("a", 1, node(0), Status::Fail);
    lab.clock.step(1000);
    let passed = lab.batch("b", 2, node(0), Status::Pass);
    let other = lab.batch("c", 2, node(1), Status::Pass);
    assert_eq!(lab.together(vec![failed, passed, other]).await, [Ok(()); 3]);
    let expected = [("1-1", 0, Status::Fail), ("1-2", 0, Status::Pass), ("1-2", 1, Status::Pass)];
    assert_eq!(lab.history().await, expected.map(|(run, index, status)| (run.to_owned(), node(index), status)));
    let world = lab.nodes.world.lock().await;
    assert_eq!(world.version, 2, "one delta");
    let verdict = world.nodes[&node(0)].pools().next().unwrap().1;
    assert_eq!(verdict.level, Level::Trusted, "the later run's pass came after the earlier run's failure");
    drop(world);
    let record = storage::record_of(&lab.database, &node(0), lab.clock.now(), 10).await.unwrap();
    let levels: Vec<_> = record.iter().rev().map(|entry| entry.text()).collect();
    assert!(levels[0].contains("untrusted") && levels[1].contains("\"to\":\"trusted\""), "{levels:?}");
    assert!(levels[1].contains(&crate::nodes::record::hash(&levels[0])), "each entry holds the hash of the one before");
    for run in ["1-1", "1-2", "1-2"] {
        assert!(lab.events.try_recv().unwrap().body.contains(run), "Checks is told of every batch, in their order");
    }
}

#[tokio::test]
async fn a_request_that_comes_twice_at_once_and_again_later_is_stored_once() {
    let mut lab = lab().await;
    let twice = || lab.batch("a", 1, node(0), Status::Pass);
    let (first, second, later) = (twice(), twice(), twice());
    let other = lab.batch("b", 1, node(1), Status::Pass);
    assert_eq!(lab.together(vec![first, second, other]).await, [Ok(()); 3]);
    assert_eq!(lab.together(vec![later]).await, [Ok(())]);
    assert_eq!(lab.history().await.len(), 2);
    assert!(lab.events.try_recv().is_ok() && lab.events.try_recv().is_ok() && lab.events.try_recv().is_err());
}

#[tokio::test]
async fn a_batch_by_a_key_that_was_revoked_meanwhile_is_refused_and_the_others_are_stored() {
    let lab = lab().await;
    let before = lab.batch("a", 1, node(0), Status::Pass);
    let mut stolen = lab.batch("b", 1, node(1), Status::Pass);
    stolen.vouch = Some(Vouch { key: lab.stolen, at: lab.clock.now() });
    let after = lab.batch("c", 1, node(2), Status::Pass);
    let outcomes = lab.together(vec![before, stolen, after]).await;
    assert_eq!(outcomes, [Ok(()), Err(Kind::Unauthorized), Ok(())]);
    let stored: Vec<NodeName> = lab.history().await.into_iter().map(|(_, node, _)| node).collect();
    assert_eq!(stored, [node(0), node(2)]);
}

#[tokio::test]
async fn a_commit_that_fails_changes_nothing_and_all_that_were_in_it_come_again() {
    let mut lab = lab().await;
    let before = lab.memory().await;
    let batches = |lab: &Lab| (0..3).map(|i| lab.batch(&format!("r{i}"), 1, node(i), Status::Pass)).collect::<Vec<_>>();
    lab.change("ALTER TABLE nodes_outbox RENAME TO taken_away").await;
    assert_eq!(lab.together(batches(&lab)).await, [Err(Kind::Internal); 3], "work that failed so is carried out later");
    assert_eq!(lab.memory().await, before);
    assert!(lab.history().await.is_empty() && lab.events.try_recv().is_err());
    lab.change("ALTER TABLE taken_away RENAME TO nodes_outbox").await;
    assert_eq!(lab.together(batches(&lab)).await, [Ok(()); 3]);
    assert_eq!(lab.history().await.len(), 3);
}

#[tokio::test]
async fn a_batch_that_can_never_be_stored_holds_up_the_others_only_once() {
    let lab = lab().await;
    lab.change(
        "CREATE TRIGGER poison BEFORE INSERT ON nodes_result WHEN NEW.node = 'n1' BEGIN SELECT RAISE(ABORT, 'never'); END",
    )
    .await;
    let batches = || (0..3).map(|i| lab.batch(&format!("r{i}"), 1, node(i), Status::Pass)).collect::<Vec<_>>();
    assert_eq!(lab.together(batches()).await, [Err(Kind::Internal); 3]);
    assert_eq!(lab.together(batches()).await, [Ok(()), Err(Kind::Internal), Ok(())]);
}

#[tokio::test]
async fn more_than_a_group_is_recorded_in_several() {
    let lab = lab().await;
    let runs = i64::try_from(MAX_GROUP).unwrap() + 3;
    let batches = (1..=runs).map(|run| lab.batch(&format!("r{run}"), run, node(0), Status::Pass)).collect();
    let outcomes = lab.together(batches).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let runs: Vec<String> = (1..=runs).map(|run| format!("1-{run}")).collect();
    assert_eq!(lab.history().await.into_iter().map(|(run, ..)| run).collect::<Vec<_>>(), runs);
}

#[tokio::test]
async fn a_revocation_judges_everybody_whom_a_lost_database_left_unjudged() {
    let lab = lab().await;
    lab.nodes.world.lock().await.is_judged = false;
    lab.nodes.honour_revocations().await.unwrap();
    let world = lab.nodes.world.lock().await;
    assert!(world.is_judged && world.nodes.values().all(|kept| kept.pools().count() == 1));
}
