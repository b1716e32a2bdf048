//! Hostile publications: whatever becomes of one on its way, a cache holds what Nodes said, or what it held before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, json};
use tokio::sync::mpsc;

use super::Publication;
use super::cache::{Cache, Heard};
use super::file::{Moment, PoolFolder};
use super::lateness::Received;
use super::listener::Listener;
use crate::clock::Timestamp;
use crate::fuzz::{Memory, Target, fuzz};
use crate::names::{NodeName, PoolName};
use crate::protocol::digest::PoolsDigest;
use crate::protocol::{Delta, Heartbeat, Level, MemberState, Mode, PoolState, Snapshot};
use crate::rpc::server::fuzz::Peer;
use crate::rpc::table::Topic;
use crate::security::SignedDocument;
use crate::security::document::Content;

const WORDS: &[&str] = &[
    "trusted",
    "untrusted",
    "unknown",
    "level",
    "expires_at",
    "overridden",
    "pool_delta",
    "pool_heartbeat",
    "heartbeat",
    "delta",
    "snapshot",
    "epoch",
    "version",
    "changes",
    "compute-1",
    "compute-2",
    "default",
    "kind",
    "body",
    "signature",
];
const MEMORY: Memory = Memory { per_byte: 400, fixed: 256 * 1024 };

fn member(level: Level, expires: i64) -> MemberState {
    MemberState { level, expires_at: Timestamp(expires), overridden: false }
}

fn node(number: u8) -> NodeName {
    format!("compute-{number}").parse().unwrap()
}

fn pool() -> PoolName {
    "default".parse().unwrap()
}

/// One node trusted, one not, one nobody knows.
fn pools() -> BTreeMap<PoolName, PoolState> {
    let members = BTreeMap::from([
        (node(1), member(Level::Trusted, 1_795_330_000_000)),
        (node(2), member(Level::Untrusted, 0)),
        (node(3), member(Level::Unknown, 0)),
    ]);
    BTreeMap::from([(pool(), PoolState { mode: Mode::Enforce, max_silence_ms: 600_000, members })])
}

const STEADY: Duration = Duration::from_secs(77);

fn at_once() -> Received {
    Received { utc: Peer::said_at(), steady: STEADY }
}

struct Said {
    nodes: Peer,
    snapshot: Snapshot,
    delta: Delta,
    heartbeat: Heartbeat,
}

impl Said {
    fn by_nodes() -> Self {
        let (deployment, now) = ("test".parse().unwrap(), Peer::said_at());
        let not_after = now.plus(Duration::from_secs(10));
        let snapshot = Snapshot {
            deployment,
            epoch: 5,
            version: 10,
            nonce: "n".to_owned(),
            pools: pools(),
            sent_at: now,
            not_after,
        };
        let changes = BTreeMap::from([(node(1), Some(member(Level::Untrusted, 0))), (node(3), None)]);
        let delta = Delta {
            deployment: snapshot.deployment.clone(),
            epoch: 5,
            version: 11,
            changes: BTreeMap::from([(pool(), changes)]),
            sent_at: now,
            not_after,
        };
        let heartbeat = Heartbeat {
            deployment: snapshot.deployment.clone(),
            epoch: 5,
            version: 10,
            digest: PoolsDigest::of(&pools()).hex(),
            policy_number: 3,
            record_head: "ab".repeat(32),
            sent_at: now,
            not_after,
        };
        Self { nodes: Peer::trusted_as("nodes"), snapshot, delta, heartbeat }
    }

    fn body<T: Content>(&self, method: &str, content: &T) -> Vec<u8> {
        let (identity, _) = self.nodes.identity_at(Peer::said_at());
        let document = SignedDocument::seal(content, &identity.key).unwrap();
        let args = Map::from_iter([("document".to_owned(), json!(document))]);
        self.nodes.body(Topic::Pool, method, args, true)
    }

    /// What the role makes of a body.
    fn heard(&self, body: &[u8]) -> Option<Publication> {
        let (identity, clock) = self.nodes.identity_at(Peer::said_at());
        let (queue, mut heard) = mpsc::channel(1);
        let _ = self.nodes.hears(Topic::Pool, true, body, Arc::new(Listener { queue, identity, clock }));
        heard.try_recv().ok()
    }

    /// A cache that took the snapshot.
    fn cache(&self) -> Cache {
        let mut cache = Cache::default();
        assert_eq!(cache.snapshot(self.snapshot.clone(), "n", STEADY, at_once()), Heard::Changed);
        cache
    }
}

#[test]
fn a_changed_publication_raises_nobody() {
    let said = Said::by_nodes();
    let before = pools();
    let mut after = pools();
    crate::protocol::publication::apply_delta(&mut after, &mut PoolsDigest::of(&before), &said.delta).unwrap();
    let (delta, heartbeat) = (said.body("pool_delta", &said.delta), said.body("pool_heartbeat", &said.heartbeat));
    assert!(matches!(said.heard(&delta), Some(Publication::Delta(heard, ..)) if heard == said.delta));
    assert!(matches!(said.heard(&heartbeat), Some(Publication::Heartbeat(heard, _)) if heard == said.heartbeat));
    let judge = |body: &[u8]| {
        let mut cache = said.cache();
        match said.heard(body) {
            Some(Publication::Delta(heard, ..)) => {
                cache.delta(&heard, at_once());
            }
            Some(Publication::Heartbeat(heard, _)) => {
                cache.heartbeat(&heard, at_once());
            }
            None => {}
        }
        let held = cache.pools().unwrap();
        assert!(*held == before || *held == after, "{held:?}");
    };
    let mut seeds = vec![delta, heartbeat];
    // Signed by somebody else, or for another level.
    let raised =
        BTreeMap::from([(pool(), BTreeMap::from([(node(2), Some(member(Level::Trusted, 1_795_330_000_000)))]))]);
    seeds.push(Said::by_nodes().body("pool_delta", &Delta { changes: raised, ..said.delta.clone() }));
    fuzz(&Target { name: "publications", seeds, words: WORDS, memory: MEMORY, judge: &judge });
}

#[test]
fn content_that_nodes_itself_got_wrong_never_breaks_a_cache() {
    let said = Said::by_nodes();
    let older = Snapshot { version: 9, ..said.snapshot.clone() };
    let earlier = Snapshot { epoch: 4, version: 99, ..said.snapshot.clone() };
    let seeds = [json!(said.snapshot), json!(older), json!(earlier), json!(said.delta), json!(said.heartbeat)];
    let seeds = seeds.iter().map(|content| content.to_string().into_bytes()).collect();
    let judge = |body: &[u8]| {
        let mut cache = said.cache();
        let Ok(value) = crate::security::parse_strict(body) else { return };
        let heard = if let Ok(delta) = Delta::deserialize(&value) {
            assert_eq!(Delta::deserialize(json!(delta)).unwrap(), delta);
            cache.delta(&delta, at_once())
        } else if let Ok(snapshot) = Snapshot::deserialize(&value) {
            assert_eq!(Snapshot::deserialize(json!(snapshot)).unwrap(), snapshot);
            cache.snapshot(snapshot, "n", STEADY, at_once())
        } else if let Ok(heartbeat) = Heartbeat::deserialize(&value) {
            assert_eq!(Heartbeat::deserialize(json!(heartbeat)).unwrap(), heartbeat);
            cache.heartbeat(&heartbeat, at_once())
        } else {
            return;
        };
        assert!(cache.version() >= (5, 10), "never back: {heard:?}");
        // What is held is always what its digest says.
        let (epoch, version) = cache.version();
        let digest = PoolsDigest::of(cache.pools().unwrap()).hex();
        let agreeing = Heartbeat { epoch, version, digest, ..said.heartbeat.clone() };
        assert_eq!(cache.heartbeat(&agreeing, at_once()), Heard::Agrees);
    };
    fuzz(&Target { name: "pool_contents", seeds, words: WORDS, memory: MEMORY, judge: &judge });
}

#[test]
fn a_pool_file_left_behind_is_read_or_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = PoolFolder::open(folder.path(), "test".parse().unwrap()).unwrap();
    files.write_pool((7, 1), &pools(), &Moment::now(Peer::said_at()).unwrap()).unwrap();
    let path = folder.path().join("pool");
    let good = std::fs::read(&path).unwrap();
    assert_eq!(files.last_epoch().map(|(epoch, _)| epoch), Some(7));
    let judge = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        let _ = files.last_epoch();
    };
    fuzz(&Target {
        name: "pool_file",
        seeds: vec![good],
        words: &["epoch", "deployment", "test", "\n"],
        memory: MEMORY,
        judge: &judge,
    });
}
