#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::Status;
use crate::security::{DocumentKind, SignedDocument, SigningKey};

const START: Timestamp = Timestamp(1_795_320_000_000);
const ORDER: RunOrder = RunOrder { epoch: 1, run: 1 };
const TIMEOUT: Duration = Duration::from_secs(60);

fn check() -> CheckName {
    "c".parse().unwrap()
}

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn after(seconds: u64) -> Now {
    let time = Duration::from_secs(seconds);
    Now { utc: START.plus(time), monotonic: time }
}

/// One batch of one node, sent at the start with a minute to answer.
fn sent(timed_out: bool) -> Runs {
    let batch = Batch {
        order: ORDER,
        batch: 1,
        check: check(),
        adapter: "command".to_owned(),
        attempt: 1,
        ticket: SignedDocument::sign(
            DocumentKind::Ticket,
            &json!({ "issued_at": START }),
            &SigningKey::generate().unwrap(),
        )
        .unwrap(),
        parameters: serde_json::Map::new(),
        retries: 2,
        deadline: START.plus(TIMEOUT),
        awaited: [node()].into(),
        sent: true,
        sent_at: Some(START),
        heard_at: None,
        lost: None,
        safe_at: None,
        timed_out,
        ending: Ending::default(),
    };
    let run = Run {
        order: ORDER,
        check: check(),
        cause: crate::checks::run::Cause::Schedule,
        started_at: START,
        total: 1,
        outcomes: BTreeMap::new(),
        finished_at: None,
        sending: false,
        attempts: 1,
        recasts: BTreeMap::new(),
        unheard: 0,
    };
    Runs::restore(vec![run], vec![batch])
}

/// Looks every second, as the loop does; hands every report over. When it reported, and when it gave up.
fn play(runs: &mut Runs, seconds: std::ops::Range<u64>, now: impl Fn(u64) -> Now) -> (Vec<u64>, Option<u64>) {
    let mut reports = Vec::new();
    for second in seconds {
        let now = now(second);
        runs.watch(now);
        if runs.overdue(now).next().is_some() {
            runs.mark_timed_out(ORDER, 1, now.monotonic);
            reports.push(second);
        }
        if !runs.give_up(now).is_empty() {
            return (reports, Some(second));
        }
    }
    (reports, None)
}

#[test]
fn a_time_out_nodes_never_hears_of_is_repeated_and_then_the_node_is_free_for_the_next_run() {
    let mut runs = sent(false);
    assert_eq!(play(&mut runs, 0..3600, after), (vec![60, 120, 240], Some(480)));
    assert!(!runs.is_outstanding(&check(), &node()), "the next run takes the node again");
    let run = runs.run(ORDER).unwrap();
    assert_eq!((run.unheard, run.finished_at), (1, Some(after(480).utc)));
    assert!(runs.batch(ORDER, 1).is_none());
}

#[test]
fn after_a_restart_a_time_out_reported_before_is_reported_again_at_once() {
    let mut runs = sent(true);
    assert_eq!(play(&mut runs, 1000..9999, after), (vec![1000, 1060, 1180], Some(1420)));
}

#[test]
fn an_answer_to_a_repeated_time_out_ends_it() {
    let mut runs = sent(false);
    assert_eq!(play(&mut runs, 0..130, after), (vec![60, 120], None));
    let (run, complete) = runs.stored(ORDER, 1, &BTreeMap::from([(node(), Status::Timeout)]), after(130).utc).unwrap();
    assert!(complete && run.finished_at.is_some());
    assert_eq!(play(&mut runs, 130..3600, after), (Vec::new(), None));
}

proptest! {
    /// A clock set to any other time at any moment: the batch ends within its time, or at once, and is given up all the same.
    #[test]
    fn a_clock_step_keeps_no_batch(at in 1_u64..600, step in any::<i32>()) {
        let stepped = |second| {
            let now = after(second);
            Now { utc: Timestamp(now.utc.0 + if second >= at { i64::from(step) * 1000 } else { 0 }), ..now }
        };
        let mut runs = sent(false);
        let (reports, given_up) = play(&mut runs, 0..3600, stepped);
        prop_assert!(reports.first().is_some_and(|first| *first <= 60), "{reports:?}");
        prop_assert!(reports.len() <= 3);
        prop_assert_eq!(given_up, Some(480));
        prop_assert!(!runs.is_outstanding(&check(), &node()));
    }

    /// The clock was wrong when the batch was sent, or is when the process starts: it has as long as it had at first, at most.
    #[test]
    fn a_restart_under_a_wrong_clock_keeps_no_batch(step in any::<i32>()) {
        let wrong = |second| Now { utc: Timestamp(after(second).utc.0 + i64::from(step) * 1000), ..after(second) };
        let mut runs = sent(false);
        let (reports, given_up) = play(&mut runs, 0..3600, wrong);
        prop_assert!(reports.first().is_some_and(|first| *first <= 60), "{reports:?}");
        prop_assert!(given_up.is_some());
    }
}

#[test]
fn what_is_late_is_so_by_the_steady_timer_too() {
    let mut runs = sent(false);
    runs.watch(after(0));
    let late = |runs: &Runs, now: Now| {
        let past = runs.past_end(now);
        (past.results, past.unreported)
    };
    assert_eq!(late(&runs, after(59)), (0, 0));
    let set_back = Now { utc: START.minus(TIMEOUT), ..after(60) };
    assert_eq!((late(&runs, after(60)), late(&runs, set_back)), ((1, 1), (1, 1)), "a clock set back hides nothing");
    runs.mark_timed_out(ORDER, 1, set_back.monotonic);
    assert_eq!(late(&runs, set_back), (1, 0), "told, and awaited all the same");
}
