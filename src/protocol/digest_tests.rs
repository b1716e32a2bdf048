#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn member(level: Level, expires_at: i64, overridden: bool) -> MemberState {
    MemberState { level, expires_at: Timestamp(expires_at), overridden }
}

#[test]
fn every_field_of_every_element_matters() {
    let hexes: Vec<String> = [
        ("p", "n", member(Level::Trusted, 1, false)),
        ("p", "n", member(Level::Trusted, 2, false)),
        ("p", "n", member(Level::Trusted, 1, true)),
        ("p", "n", member(Level::Unknown, 1, false)),
        ("p", "n", member(Level::Untrusted, 1, false)),
        ("p", "nn", member(Level::Trusted, 1, false)),
        ("pn", "n", member(Level::Trusted, 1, false)),
    ]
    .iter()
    .map(|(p, n, state)| {
        let mut digest = PoolsDigest::new();
        digest.add(&pool(p), &node(n), state);
        digest.hex()
    })
    .chain([(Mode::Enforce, 1), (Mode::Soft, 1), (Mode::Observe, 1), (Mode::Enforce, 2)].map(|(mode, silence)| {
        let mut digest = PoolsDigest::new();
        digest.add_pool(&pool("p"), mode, silence);
        digest.hex()
    }))
    .chain([PoolsDigest::new().hex()])
    .collect();
    let distinct: std::collections::BTreeSet<&String> = hexes.iter().collect();
    assert_eq!(distinct.len(), hexes.len());
    assert!(hexes.iter().all(|hex| hex.len() == 64));
}

#[test]
fn the_digest_is_fixed_so_that_releases_agree() {
    let mut digest = PoolsDigest::new();
    digest.add_pool(&pool("default"), Mode::Enforce, 600_000);
    digest.add(&pool("default"), &node("n1"), &member(Level::Trusted, 1_795_320_000_000, false));
    // Computed apart from this code, with Python's hashlib.
    assert_eq!(digest.hex(), "b54f582df33aaafed9a6994baf6ef141b9a4b1eba768362fba7f6b4c08891560");
}

fn members() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..3u8, 0..6u8, 0..4u8), 0..60)
}

proptest! {
    #[test]
    fn kept_by_changes_it_equals_the_one_computed_from_nothing(changes in members()) {
        let mut pools: BTreeMap<PoolName, PoolState> = BTreeMap::new();
        let mut digest = PoolsDigest::new();
        for p in 0..3 {
            digest.add_pool(&pool(&format!("p{p}")), Mode::Soft, 7);
            let state = PoolState { mode: Mode::Soft, max_silence_ms: 7, members: BTreeMap::new() };
            pools.insert(pool(&format!("p{p}")), state);
        }
        for (p, n, what) in changes {
            let (p, n) = (pool(&format!("p{p}")), node(&format!("n{n}")));
            let members = &mut pools.get_mut(&p).unwrap().members;
            if let Some(old) = members.remove(&n) {
                digest.remove(&p, &n, &old);
            }
            if what > 0 {
                let new = member(Level::Trusted, i64::from(what), what == 3);
                digest.add(&p, &n, &new);
                members.insert(n, new);
            }
        }
        prop_assert_eq!(digest, PoolsDigest::of(&pools));
        for (name, state) in &pools {
            for (n, member) in &state.members {
                digest.remove(name, n, member);
            }
            digest.remove_pool(name, state.mode, state.max_silence_ms);
        }
        prop_assert_eq!(digest, PoolsDigest::new());
    }
}
