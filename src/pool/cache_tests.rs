#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::names::{DeploymentId, NodeName};
use crate::protocol::{Level, MemberState, Mode};

const NOW: Timestamp = Timestamp(1_000_000);
/// Our steady clock, at the same moment.
const STEADY: Duration = Duration::from_secs(77);

/// So much after it was said.
fn after(ms: u64) -> Received {
    let way = Duration::from_millis(ms);
    Received { utc: NOW.plus(way), steady: STEADY + way }
}

fn at_once() -> Received {
    after(0)
}

fn deployment() -> DeploymentId {
    DeploymentId::new("test").unwrap()
}

fn pool() -> PoolName {
    PoolName::new("default").unwrap()
}

fn node(index: u8) -> NodeName {
    NodeName::new(&format!("n{index}")).unwrap()
}

fn member(level: Level, expires: i64) -> MemberState {
    MemberState { level, expires_at: Timestamp(expires), overridden: false }
}

fn pools(members: &[(u8, MemberState)]) -> BTreeMap<PoolName, PoolState> {
    let members = members.iter().map(|(index, state)| (node(*index), *state)).collect();
    BTreeMap::from([(pool(), PoolState { mode: Mode::Enforce, max_silence_ms: 600_000, members })])
}

fn snapshot(epoch: i64, version: i64, nonce: &str, members: &[(u8, MemberState)]) -> Snapshot {
    Snapshot {
        deployment: deployment(),
        epoch,
        version,
        nonce: nonce.to_owned(),
        pools: pools(members),
        sent_at: NOW,
        not_after: NOW.plus(Duration::from_secs(10)),
    }
}

fn delta(epoch: i64, version: i64, changes: &[(u8, Option<MemberState>)]) -> Delta {
    let changes = changes.iter().map(|(index, state)| (node(*index), *state)).collect();
    Delta {
        deployment: deployment(),
        epoch,
        version,
        changes: BTreeMap::from([(pool(), changes)]),
        sent_at: NOW,
        not_after: NOW.plus(Duration::from_secs(10)),
    }
}

fn heartbeat(epoch: i64, version: i64, digest: &str) -> Heartbeat {
    Heartbeat {
        deployment: deployment(),
        epoch,
        version,
        digest: digest.to_owned(),
        policy_number: 1,
        record_head: String::new(),
        sent_at: NOW,
        not_after: NOW.plus(Duration::from_secs(10)),
    }
}

fn holding_one_trusted_node() -> Cache {
    let mut cache = Cache::default();
    assert_eq!(
        cache.snapshot(snapshot(5, 10, "n", &[(1, member(Level::Trusted, 9_000_000))]), "n", STEADY, at_once()),
        Heard::Changed
    );
    cache
}

#[test]
fn a_heartbeat_agrees_only_with_the_same_epoch_version_and_digest() {
    let mut cache = holding_one_trusted_node();
    let digest = PoolsDigest::of(&pools(&[(1, member(Level::Trusted, 9_000_000))])).hex();
    assert_eq!(cache.heartbeat(&heartbeat(5, 10, &digest), at_once()), Heard::Agrees);
    assert_eq!(cache.heartbeat(&heartbeat(5, 10, "other"), at_once()), Heard::Differs);
    assert_eq!(cache.heartbeat(&heartbeat(5, 11, &digest), at_once()), Heard::Differs);
    assert_eq!(cache.heartbeat(&heartbeat(6, 1, &digest), at_once()), Heard::Differs);
}

#[test]
fn an_older_epoch_is_never_believed_again() {
    let mut cache = holding_one_trusted_node();
    assert_eq!(cache.heartbeat(&heartbeat(4, 99, ""), at_once()), Heard::Dropped("older_epoch"));
    assert_eq!(cache.delta(&delta(4, 11, &[(1, None)]), at_once()), Heard::Dropped("older_epoch"));
    assert_eq!(cache.snapshot(snapshot(4, 99, "n", &[]), "n", STEADY, at_once()), Heard::Dropped("older_epoch"));
    assert_eq!(cache.snapshot(snapshot(5, 9, "n", &[]), "n", STEADY, at_once()), Heard::Dropped("older_epoch"));
    let mut restarted = Cache::not_before(5);
    assert_eq!(restarted.snapshot(snapshot(4, 99, "n", &[]), "n", STEADY, at_once()), Heard::Dropped("older_epoch"));
}

#[test]
fn no_delta_is_applied_onto_another_epochs_state_or_over_a_gap() {
    let mut cache = holding_one_trusted_node();
    assert_eq!(cache.delta(&delta(6, 11, &[(1, None)]), at_once()), Heard::Differs);
    assert_eq!(cache.delta(&delta(5, 12, &[(1, None)]), at_once()), Heard::Differs);
    assert_eq!(Cache::not_before(5).delta(&delta(5, 1, &[]), at_once()), Heard::Differs);
    assert_eq!(cache.delta(&delta(5, 11, &[(1, Some(member(Level::Untrusted, 0)))]), at_once()), Heard::Changed);
    assert_eq!(
        cache.delta(&delta(5, 11, &[(1, Some(member(Level::Trusted, 9)))]), at_once()),
        Heard::Dropped("older_version")
    );
    assert_eq!(cache.pools().unwrap()[&pool()].members[&node(1)].level, Level::Untrusted);
}

#[test]
fn a_recorded_publication_is_dropped_once_its_time_is_over() {
    let mut cache = holding_one_trusted_node();
    let later = after(10_000 + 251);
    let raised = [(1, Some(member(Level::Trusted, 9_900_000)))];
    assert_eq!(cache.delta(&delta(5, 11, &raised), later), Heard::Differs, "asked for once: a clock may have been set");
    assert_eq!(cache.delta(&delta(5, 11, &raised), later), Heard::Dropped("too_late"));
    assert_eq!(cache.heartbeat(&heartbeat(5, 10, ""), later), Heard::Dropped("too_late"));
    assert_eq!(cache.snapshot(snapshot(6, 1, "n", &[]), "n", STEADY, later), Heard::Dropped("too_late"));
    assert_eq!(cache.version(), (5, 10));
    let much_later = after(10_000 + 30_251);
    assert_eq!(
        cache.heartbeat(&heartbeat(6, 1, ""), after(40_000)),
        Heard::Differs,
        "another epoch is only asked about"
    );
    assert_eq!(cache.heartbeat(&heartbeat(6, 1, ""), much_later), Heard::Dropped("too_late"));
    assert_eq!(cache.delta(&delta(5, 11, &raised), after(10_250)), Heard::Extended, "in time, with the margin");
}

#[test]
fn wrong_clocks_neither_let_a_late_word_in_nor_keep_a_timely_one_out() {
    for wrong in [-40_000_000, -3_600_000, 3_600_000, 40_000_000] {
        let ours = |ms: u64| Received { utc: Timestamp(NOW.0 + wrong).plus(Duration::from_millis(ms)), ..after(ms) };
        let mut cache = Cache::default();
        let taken = snapshot(5, 10, "n", &[(1, member(Level::Trusted, 9_000_000))]);
        assert_eq!(cache.snapshot(taken, "n", STEADY, ours(0)), Heard::Changed);
        assert_eq!(cache.delta(&delta(5, 11, &[(1, None)]), ours(9_900)), Heard::Changed);
        let late = cache.delta(&delta(5, 12, &[(2, Some(member(Level::Trusted, 9)))]), ours(10_300));
        assert_eq!((late, cache.version()), (Heard::Differs, (5, 11)));
    }
}

#[test]
fn what_never_held_is_dropped() {
    let mut cache = holding_one_trusted_node();
    let void = Heartbeat { not_after: NOW, ..heartbeat(6, 1, "") };
    assert_eq!(cache.heartbeat(&void, at_once()), Heard::Dropped("never_valid"));
    let void = Delta { not_after: NOW, ..delta(5, 11, &[(1, None)]) };
    assert_eq!(cache.delta(&void, at_once()), Heard::Dropped("never_valid"));
    let void = Snapshot { not_after: NOW, ..snapshot(6, 1, "n", &[]) };
    assert_eq!(cache.snapshot(void, "n", STEADY, at_once()), Heard::Dropped("never_valid"));
}

#[test]
fn an_answer_of_somebody_who_was_paused_before_sending_it_is_dropped() {
    let mut cache = Cache::not_before(4);
    let signed_at_once = snapshot(5, 10, "n", &[(1, member(Level::Trusted, 9_000_000))]);
    assert_eq!(cache.snapshot(signed_at_once.clone(), "n", STEADY, after(10_001)), Heard::Dropped("too_late"));
    assert_eq!(cache.snapshot(signed_at_once, "n", STEADY, after(10_000)), Heard::Changed);
}

#[test]
fn a_recorded_snapshot_does_not_answer_a_new_question() {
    let mut cache = holding_one_trusted_node();
    assert_eq!(cache.snapshot(snapshot(5, 11, "old", &[]), "new", STEADY, at_once()), Heard::Dropped("wrong_nonce"));
}

#[test]
fn a_mere_extension_is_told_from_a_change_of_trust() {
    let mut cache = holding_one_trusted_node();
    assert_eq!(cache.delta(&delta(5, 11, &[(1, Some(member(Level::Trusted, 9_500_000)))]), at_once()), Heard::Extended);
    assert_eq!(cache.delta(&delta(5, 12, &[(1, Some(member(Level::Trusted, 9_400_000)))]), at_once()), Heard::Changed);
    assert_eq!(cache.delta(&delta(5, 13, &[(2, Some(member(Level::Trusted, 9_400_000)))]), at_once()), Heard::Changed);
}

proptest! {
    /// Whatever is lost, repeated or reordered, a cache that a heartbeat agrees with holds exactly what Nodes holds.
    #[test]
    fn agreement_means_equality(
        deliveries in prop::collection::vec((0_usize..12, 0_u8..3), 1..60),
        levels in prop::collection::vec((0_u8..4, 0_u8..3, 0_i64..5), 12),
    ) {
        let mut truth = pools(&[]);
        let mut digest = PoolsDigest::of(&truth);
        let mut said = vec![(1_i64, truth.clone(), digest.hex())];
        let mut deltas = Vec::new();
        for (step, (index, level, expires)) in levels.iter().enumerate() {
            let state = match level {
                0 => member(Level::Trusted, *expires),
                1 => member(Level::Untrusted, 0),
                _ => member(Level::Unknown, 0),
            };
            let change = delta(5, step as i64 + 2, &[(*index, Some(state))]);
            publication::apply_delta(&mut truth, &mut digest, &change).unwrap();
            deltas.push(change);
            said.push((step as i64 + 2, truth.clone(), digest.hex()));
        }
        let mut cache = Cache::default();
        for (which, kind) in deliveries {
            let heard = match kind {
                0 => cache.delta(&deltas[which], at_once()),
                1 => {
                    let (version, _, digest) = &said[which];
                    let heard = cache.heartbeat(&heartbeat(5, *version, digest), at_once());
                    if heard == Heard::Agrees {
                        prop_assert_eq!(cache.pools().unwrap(), &said[which].1);
                    }
                    heard
                }
                _ => {
                    let (version, state, _) = said[which].clone();
                    let mut answer = snapshot(5, version, "n", &[]);
                    answer.pools = state;
                    cache.snapshot(answer, "n", STEADY, at_once())
                }
            };
            if let (true, (_, version)) = (heard != Heard::Differs && cache.pools().is_some(), cache.version()) {
                prop_assert_eq!(cache.pools().unwrap(), &said[version as usize - 1].1);
            }
        }
    }
}
