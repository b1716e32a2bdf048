#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use std::time::Duration;

use crate::checks::planner::Now;
use crate::checks::run::Cause;
use crate::security::DocumentKind;

const NOW: Timestamp = Timestamp(1_795_320_000_000);

fn order() -> RunOrder {
    RunOrder { epoch: 1, run: 1 }
}

fn node(index: usize) -> NodeName {
    NodeName::new(&format!("n{index}")).unwrap()
}

fn batch(number: i64, nodes: std::ops::Range<usize>) -> Batch {
    let key = crate::security::SigningKey::generate().unwrap();
    Batch {
        order: order(),
        batch: number,
        check: "c".parse().unwrap(),
        adapter: "command".to_owned(),
        attempt: 1,
        ticket: SignedDocument::sign(DocumentKind::Ticket, &number, &key).unwrap(),
        parameters: serde_json::Map::new(),
        retries: 2,
        deadline: NOW.plus(std::time::Duration::from_secs(60)),
        awaited: nodes.map(node).collect(),
        sent: true,
        sent_at: Some(NOW),
        heard_at: None,
        lost: None,
        safe_at: None,
        timed_out: false,
        ending: crate::checks::endings::Ending::default(),
    }
}

fn two_batches_of_three() -> Runs {
    let run = Run {
        order: order(),
        check: "c".parse().unwrap(),
        cause: Cause::Schedule,
        started_at: NOW,
        total: 6,
        outcomes: BTreeMap::new(),
        finished_at: None,
        sending: false,
        attempts: 1,
        recasts: BTreeMap::new(),
        unheard: 0,
    };
    Runs::restore(vec![run], vec![batch(1, 0..3), batch(4, 3..6)])
}

fn outcomes(nodes: &[usize], status: Status) -> BTreeMap<NodeName, Status> {
    nodes.iter().map(|index| (node(*index), status)).collect()
}

#[test]
fn a_run_is_finished_when_its_last_outcome_is_stored() {
    let mut runs = two_batches_of_three();
    runs.stored(order(), 1, &outcomes(&[0, 1, 2], Status::Pass), NOW);
    assert_eq!(runs.run(order()).unwrap().finished_at, None);
    assert!(!runs.is_outstanding(&"c".parse().unwrap(), &node(0)));
    assert!(runs.is_outstanding(&"c".parse().unwrap(), &node(3)));
    runs.stored(order(), 4, &outcomes(&[3, 4, 5], Status::Fail), NOW);
    let run = runs.run(order()).unwrap();
    assert_eq!((run.finished_at, run.done()), (Some(NOW), 6));
    assert_eq!(runs.outstanding(), 0);
}

#[test]
fn only_what_is_awaited_past_the_deadline_is_overdue_and_only_once() {
    let mut runs = two_batches_of_three();
    let at = |seconds| Now { utc: NOW.plus(Duration::from_secs(seconds)), monotonic: Duration::from_secs(seconds) };
    runs.stored(order(), 1, &outcomes(&[0, 1, 2], Status::Pass), NOW);
    assert_eq!(runs.overdue(at(59)).count(), 0);
    assert_eq!(runs.overdue(at(60)).map(|batch| batch.batch).collect::<Vec<_>>(), [4]);
    runs.mark_timed_out(order(), 4, at(60).monotonic);
    assert_eq!(runs.overdue(at(61)).count(), 0);
}

#[test]
fn a_node_asked_about_by_two_runs_is_outstanding_until_both_have_answered() {
    let mut runs = two_batches_of_three();
    let other = RunOrder { epoch: 1, run: 2 };
    runs.add_batch(Batch { order: other, ..batch(1, 0..1) });
    runs.stored(order(), 1, &outcomes(&[0], Status::Pass), NOW);
    assert!(runs.is_outstanding(&"c".parse().unwrap(), &node(0)));
    runs.stored(other, 1, &outcomes(&[0], Status::Pass), NOW);
    assert!(!runs.is_outstanding(&"c".parse().unwrap(), &node(0)));
}

proptest! {
    /// Reports may come twice, in any order and in any pieces: every node is counted once, by its first report.
    #[test]
    fn every_node_is_counted_once(reports in prop::collection::vec((prop::bool::ANY, prop::collection::vec(0_usize..8, 0..5), 0_u8..2), 0..40)) {
        let mut runs = two_batches_of_three();
        let mut seen = std::collections::BTreeSet::new();
        for (first, nodes, status) in reports {
            let status = if status == 0 { Status::Pass } else { Status::Timeout };
            let (number, range) = if first { (1, 0..3) } else { (4, 3..6) };
            seen.extend(nodes.iter().copied().filter(|index| range.contains(index)));
            runs.stored(order(), number, &outcomes(&nodes, status), NOW);
        }
        let run = runs.run(order()).unwrap();
        prop_assert_eq!(run.done(), i64::try_from(seen.len()).unwrap());
        prop_assert_eq!(runs.outstanding(), 6 - seen.len());
        prop_assert_eq!(run.finished_at.is_some(), seen.len() == 6);
    }
}
