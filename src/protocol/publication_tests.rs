#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn trusted(expires_at: i64) -> MemberState {
    MemberState { level: Level::Trusted, expires_at: Timestamp(expires_at), overridden: false }
}

fn held() -> BTreeMap<PoolName, PoolState> {
    let members = [(node("n1"), trusted(5)), (node("n2"), trusted(6))].into();
    [(pool("default"), PoolState { mode: Mode::Enforce, max_silence_ms: 1, members })].into()
}

fn delta(pool_name: &str, changes: &[(&str, Option<MemberState>)]) -> Delta {
    let changes = changes.iter().map(|(name, state)| (node(name), *state)).collect();
    Delta {
        deployment: DeploymentId::new("d").unwrap(),
        epoch: 1,
        version: 2,
        changes: [(pool(pool_name), changes)].into(),
        sent_at: Timestamp(0),
        not_after: Timestamp(9),
    }
}

#[test]
fn a_delta_changes_adds_and_removes_and_the_digest_follows() {
    let (mut pools, mut digest) = (held(), PoolsDigest::of(&held()));
    let change = delta("default", &[("n1", Some(trusted(9))), ("n2", None), ("n3", Some(trusted(1)))]);
    assert_eq!(apply_delta(&mut pools, &mut digest, &change), Ok(3));
    let members = &pools[&pool("default")].members;
    assert_eq!(members.len(), 2);
    assert_eq!(members[&node("n1")], trusted(9));
    assert_eq!(digest, PoolsDigest::of(&pools));
    let again = delta("default", &[("n1", Some(trusted(9)))]);
    assert_eq!(apply_delta(&mut pools, &mut digest, &again), Ok(0));
    assert_eq!(digest, PoolsDigest::of(&pools));
}

#[test]
fn a_delta_for_other_pools_than_held_is_refused_and_changes_nothing() {
    let (mut pools, mut digest) = (held(), PoolsDigest::of(&held()));
    let mut foreign = delta("default", &[("n1", Some(trusted(99)))]);
    foreign.changes.insert(pool("zzz"), BTreeMap::new());
    assert_eq!(apply_delta(&mut pools, &mut digest, &foreign), Err(DeltaError::UnknownPool(pool("zzz"))));
    let stranger = delta("default", &[("n1", None), ("n9", None)]);
    let error = apply_delta(&mut pools, &mut digest, &stranger).unwrap_err();
    assert_eq!(error, DeltaError::NotAMember { pool: pool("default"), node: node("n9") });
    assert_eq!((pools, digest), (held(), PoolsDigest::of(&held())));
}
