#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::{
    CheckPolicy, Delta, Flapping, Judgement, Mode, NodeResult, PoolPolicy, Requirement, RunOrder, Status, Targets,
    publication,
};
use crate::trust::{NodeTrust, Observation, Reporter};

pub(in crate::nodes) const START: Timestamp = Timestamp(1_795_320_000_000);

pub(in crate::nodes) fn rules() -> Rules {
    let pool: PoolName = "default".parse().unwrap();
    let check = CheckPolicy {
        name: "c".parse().unwrap(),
        id: "id".to_owned(),
        revision: 1,
        adapter: "command".parse().unwrap(),
        enabled: true,
        targets: Targets { all: true, ..Targets::default() },
        ttl_ms: 60_000,
        judgement: Judgement { fail_after: 1, recover_after: 1, hold_down_ms: 0 },
        pools: [(pool.clone(), Requirement::Required)].into(),
    };
    let pool = PoolPolicy {
        name: pool,
        mode: Mode::Enforce,
        max_silence_ms: 600_000,
        accept_self_report: false,
        flapping: Flapping::default(),
    };
    let policy = Policy {
        deployment: "test".parse().unwrap(),
        epoch: 1,
        number: 1,
        issued_at: START,
        checks: vec![check],
        pools: vec![pool],
    };
    Rules::new(&policy).unwrap()
}

fn world() -> World {
    let mut world = World {
        nodes: BTreeMap::new(),
        keeper: Keeper::default(),
        packed: 0,
        policy: None,
        refused: None,
        policy_floors: PolicyFloors::default(),
        rules: rules(),
        is_judged: true,
        pools: BTreeMap::new(),
        digest: PoolsDigest::new(),
        version: 1,
        inventory_version: 1,
        timers: BTreeSet::new(),
        last_result: 0,
        last_outbox: 0,
        record_head: (0, String::new()),
        losses: crate::nodes::degraded::Losses::default(),
        departures: Default::default(),
    };
    world.rebuild_pools();
    world
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8),
    Delete(u8),
    Result(u8, Status),
    Quarantine(u8),
    Release(u8),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![Just(Status::Pass), Just(Status::Fail), Just(Status::Error), Just(Status::Timeout)];
    prop_oneof![
        (0_u8..6).prop_map(Step::Register),
        (0_u8..6).prop_map(Step::Delete),
        (0_u8..6, status).prop_map(|(node, status)| Step::Result(node, status)),
        (0_u8..6).prop_map(Step::Quarantine),
        (0_u8..6).prop_map(Step::Release),
        (1_u16..90).prop_map(Step::Wait),
    ]
}

fn name(index: u8) -> NodeName {
    NodeName::new(&format!("n{index}")).unwrap()
}

fn stage(world: &World, step: &Step, run: i64, now: Timestamp) -> Stage {
    let mut stage = Stage::default();
    match step {
        Step::Register(index) if !world.nodes.contains_key(&name(*index)) => {
            let entry = Entry {
                name: name(*index),
                labels: BTreeMap::new(),
                placement: crate::protocol::Placement::default(),
                nova: None,
                registered_at: now,
                trust: NodeTrust::new("identity"),
                verdicts: BTreeMap::new(),
                targeting: world.rules.targeting(
                    &name(*index),
                    &BTreeMap::new(),
                    &crate::protocol::Placement::default(),
                ),
            };
            stage.touched.insert(name(*index), entry);
            world.review(&mut stage, &world.rules, &name(*index), "test", now);
        }
        Step::Delete(index) => {
            if let Some(entry) = world.open(&name(*index)) {
                stage.buried.push(Tombstone { name: name(*index), deleted_at: now, trust: entry.trust.tombstone() });
            }
        }
        Step::Result(index, status) => {
            if let Some(entry) = world.touch(&mut stage, &name(*index)) {
                let result = NodeResult {
                    node: name(*index),
                    status: *status,
                    reason: String::new(),
                    requested_at: now,
                    finished_at: now,
                    verified_at: None,
                    boot: None,
                    self_reported: false,
                };
                let seen = Observation {
                    order: RunOrder { epoch: 1, run },
                    attempt: 1,
                    check_id: "id".to_owned(),
                    revision: 1,
                    issued_at: now,
                    reporter: Reporter::Adapter,
                    reported_by: None,
                    ticket_by: None,
                    result,
                };
                entry.trust.record(&world.rules, &"c".parse().unwrap(), &seen, now);
                world.review(&mut stage, &world.rules, &name(*index), "test", now);
            }
        }
        Step::Quarantine(index) | Step::Release(index) => {
            if let Some(entry) = world.touch(&mut stage, &name(*index)) {
                match step {
                    Step::Quarantine(_) => entry.trust.quarantine("me", "test", now),
                    _ => entry.trust.release(None, now),
                }
                world.review(&mut stage, &world.rules, &name(*index), "test", now);
            }
        }
        Step::Wait(_) => {
            let due: Vec<_> = world.timers.iter().take_while(|(at, _)| *at <= now).cloned().collect();
            for (_, node) in due {
                world.touch(&mut stage, &node);
                world.review(&mut stage, &world.rules, &node, "time", now);
            }
        }
        Step::Register(_) => {}
    }
    stage
}

proptest! {
    /// Whatever happens to the nodes: a reader that follows the deltas holds what the nodes' verdicts say, nobody is shown
    /// as trusted past the expiry, every change of level has its entry in the record, and every timer belongs to a node.
    #[test]
    fn deltas_digest_record_and_timers_follow_the_verdicts(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = world();
        let mut now = START;
        let mut reader = world.pools.clone();
        let mut reader_digest = PoolsDigest::of(&reader);
        for (run, step) in (1_i64..).zip(&steps) {
            now = now.plus(Duration::from_secs(if let Step::Wait(seconds) = step { u64::from(*seconds) } else { 1 }));
            let stage = stage(&world, step, run, now);
            let changes = world.pool_changes(&stage);
            for change in &stage.trust {
                prop_assert!(stage.record.iter().any(|entry| entry.node == change.node), "a change without its entry");
            }
            let delta = Delta {
                deployment: "test".parse().unwrap(), epoch: 1, version: 1, changes, sent_at: now, not_after: now,
            };
            world.install(stage);
            publication::apply_delta(&mut reader, &mut reader_digest, &delta).unwrap();
            publication::apply_delta(&mut world.pools, &mut world.digest, &delta).unwrap();
            let (pools, digest) = (world.pools.clone(), world.digest.hex());
            world.rebuild_pools();
            prop_assert_eq!(&world.pools, &pools, "the deltas say what the verdicts say");
            prop_assert_eq!(&reader, &pools);
            prop_assert_eq!(&digest, &PoolsDigest::of(&pools).hex());
            prop_assert_eq!(&reader_digest.hex(), &digest);
            let timers: BTreeSet<_> =
                world.nodes.iter().filter_map(|(node, kept)| Some((kept.next_change()?, node.clone()))).collect();
            prop_assert_eq!(&world.timers, &timers);
            for node in world.nodes.keys() {
                let before = world.open(node).unwrap();
                let mut again = Stage { touched: [(node.clone(), before.clone())].into(), ..Stage::default() };
                let is_other = world.review(&mut again, &world.rules, node, "test", now);
                prop_assert!(is_other || again.touched[node] == before, "{node} changed unnoticed");
            }
            if matches!(step, Step::Wait(_)) {
                for pool in reader.values() {
                    for (node, member) in &pool.members {
                        prop_assert!(member.level != Level::Trusted || member.expires_at > now, "{node} outlived its passes");
                    }
                }
            }
        }
    }
}
