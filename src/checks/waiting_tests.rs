#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::checks::endings::Ending;
use crate::checks::run::Batch;
use crate::clock::Timestamp;
use crate::protocol::{RunOrder, Status};
use crate::security::{DocumentKind, SignedDocument, SigningKey};

const NOW: Timestamp = Timestamp(1_795_320_000_000);

fn check(settings: serde_json::Value) -> Check {
    let mut new = json!({ "name": "c", "adapter": "command", "schedule": { "every": "1m" } });
    new.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Check::from_new(serde_json::from_value(new).unwrap(), "id".to_owned(), NOW)
}

fn nodes(range: std::ops::Range<usize>) -> Vec<NodeName> {
    range.map(|n| NodeName::new(&format!("n{n}")).unwrap()).collect()
}

/// One batch of a run of the check, under way.
fn under_way(run: i64, range: std::ops::Range<usize>) -> Batch {
    Batch {
        order: RunOrder { epoch: 1, run },
        batch: 1,
        check: "c".parse().unwrap(),
        adapter: "command".to_owned(),
        attempt: 1,
        ticket: SignedDocument::sign(DocumentKind::Ticket, &run, &SigningKey::generate().unwrap()).unwrap(),
        parameters: serde_json::Map::new(),
        retries: 2,
        deadline: NOW,
        awaited: nodes(range).into_iter().collect(),
        sent: true,
        sent_at: Some(NOW),
        heard_at: None,
        lost: None,
        safe_at: None,
        timed_out: false,
        ending: Ending::default(),
    }
}

fn answered(runs: &mut Runs, run: i64, range: std::ops::Range<usize>) {
    let outcomes: BTreeMap<NodeName, Status> = nodes(range).into_iter().map(|node| (node, Status::Pass)).collect();
    runs.stored(RunOrder { epoch: 1, run }, 1, &outcomes, NOW);
}

#[test]
fn a_node_whose_last_run_is_not_over_is_left_out_and_the_others_are_not() {
    let runs = Runs::restore(Vec::new(), vec![under_way(1, 0..2)]);
    let mut waiting = Waiting::default();
    let admitted = waiting.admit(&check(json!({})), &runs, nodes(0..4));
    assert_eq!(admitted, Admitted { now: nodes(2..4), skipped: nodes(0..2) });
    assert_eq!(waiting.checks().count(), 0);
}

#[test]
fn queued_it_waits_and_goes_once_however_many_slots_passed() {
    let mut runs = Runs::restore(Vec::new(), vec![under_way(1, 0..2)]);
    let (mut waiting, check) = (Waiting::default(), check(json!({ "overlap": "queue" })));
    for _ in 0..3 {
        assert_eq!(waiting.admit(&check, &runs, nodes(0..2)), Admitted::default());
    }
    answered(&mut runs, 1, 0..1);
    assert_eq!(waiting.admit(&check, &runs, Vec::new()).now, nodes(0..1), "as soon as its outcome is there");
    answered(&mut runs, 1, 1..2);
    assert_eq!(waiting.admit(&check, &runs, Vec::new()).now, nodes(1..2));
    assert_eq!(waiting.admit(&check, &runs, Vec::new()), Admitted::default(), "and once only");
}

#[test]
fn no_more_batches_than_allowed_are_under_way_and_nobody_is_forgotten() {
    let (mut runs, mut waiting) = (Runs::default(), Waiting::default());
    let check = check(json!({ "max_batches": 2, "batch_size": 3 }));
    let mut due = nodes(0..10);
    let mut asked = std::collections::BTreeSet::new();
    for run in 1..=5 {
        let admitted = waiting.admit(&check, &runs, std::mem::take(&mut due));
        assert!(admitted.skipped.is_empty() && admitted.now.len() <= 6);
        assert!(admitted.now.iter().all(|node| asked.insert(node.clone())), "nobody is asked twice");
        let mut batch = under_way(run, 0..0);
        batch.awaited = admitted.now.iter().cloned().collect();
        runs.add_batch(batch.clone());
        runs.add_batch(Batch { batch: 2, awaited: nodes(90..91).into_iter().collect(), ..batch });
        assert_eq!(waiting.admit(&check, &runs, Vec::new()), Admitted::default(), "both places are taken");
        let outcomes = |of: Vec<NodeName>| of.into_iter().map(|node| (node, Status::Pass)).collect();
        let order = RunOrder { epoch: 1, run };
        runs.stored(order, 1, &outcomes(admitted.now), NOW);
        runs.remove_batch((order, 1));
        runs.stored(order, 2, &outcomes(nodes(90..91)), NOW);
    }
    assert_eq!(asked.len(), 10);
    assert_eq!(waiting.count(&check.name), 0);
}

#[test]
fn nobody_waits_for_a_check_that_is_gone() {
    let runs = Runs::restore(Vec::new(), vec![under_way(1, 0..2)]);
    let mut waiting = Waiting::default();
    waiting.admit(&check(json!({ "overlap": "queue" })), &runs, nodes(0..2));
    waiting.keep(|_| false);
    assert!(!waiting.is_waited_for(&"c".parse().unwrap()));
}
