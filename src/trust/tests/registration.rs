//! Deletion and registration: what a node inherits from one that was deleted.

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Error, Fail, Pass, Timeout};

const THRICE: Judgement = Judgement { fail_after: 3, recover_after: 1, hold_down_ms: 0 };

fn distrusting_after(fail_after: u32) -> Story {
    Story::judged_by(Judgement { fail_after, ..THRICE })
}

/// Registered now; a minute later the next thing happens.
fn register(story: &mut Story, tombstones: &[NodeTrust]) {
    story.node = NodeTrust::registered_again("uuid-2", tombstones, story.now);
    story.wait(MINUTE);
}

#[test]
fn a_node_deleted_and_registered_again_inherits_distrust_and_quarantine_by_name_or_identity() {
    let mut story = Story::one();
    story.run(1, Fail);
    let by_name = story.node.tombstone();
    let mut other = NodeTrust::new("uuid-2");
    other.quarantine("ann", "stolen", story.now);
    let by_identity = other.tombstone();

    story.node = NodeTrust::registered_again("uuid-2", std::slice::from_ref(&by_name), story.now);
    story.is(Untrusted).wait(20 * MINUTE).run(2, Pass);
    story.is(Trusted);
    for tombstones in [[by_name.clone(), by_identity.clone()], [by_identity, by_name]] {
        story.node = NodeTrust::registered_again("uuid-2", &tombstones, story.now);
        story.is(Untrusted);
        story.node.quarantine = None;
        story.is(Untrusted);
    }
}

#[test]
fn the_count_in_a_row_survives_deletion() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    let tombstone = story.node.tombstone();
    story.node = NodeTrust::registered_again("uuid-1", &[tombstone.clone(), tombstone], story.now);
    story.is(Unknown).run(2, Fail);
    story.is(Untrusted);
}

#[test]
fn a_pass_taken_back_after_re_registration_lets_the_failures_before_it_count_again() {
    type Runs = &'static [(i64, Status)];
    let once: Runs = &[(18, Fail), (21, Pass)];
    let twice: Runs = &[(17, Fail), (18, Fail), (20, Pass), (21, Pass)];
    let cases: [(u32, Runs, Runs, Level, &str); 12] = [
        (2, once, &[(21, Error), (27, Fail)], Untrusted, "taken back by an error"),
        (2, once, &[(21, Timeout), (27, Fail)], Untrusted, "taken back by a timeout"),
        (2, once, &[(21, Fail)], Untrusted, "taken back by a failure, which counts itself"),
        (2, once, &[(27, Fail), (21, Error)], Untrusted, "taken back after the next failure"),
        (2, once, &[(21, Error), (21, Pass), (27, Fail)], Untrusted, "a pass taken back is gone for good"),
        (2, once, &[(21, Error)], Unknown, "one failure is not two"),
        (2, once, &[(27, Fail)], Unknown, "not taken back, it still ends the row"),
        (2, once, &[(21, Pass), (27, Fail)], Unknown, "said again, it still ends the row"),
        (2, once, &[(22, Pass), (21, Error), (27, Fail)], Trusted, "a new pass ended the row, too"),
        (3, twice, &[(21, Error), (27, Fail)], Unknown, "the pass before it stands"),
        (3, twice, &[(21, Error), (20, Error), (27, Fail)], Untrusted, "all passes taken back"),
        (3, twice, &[(20, Error), (21, Error), (27, Fail)], Untrusted, "in any order"),
    ];
    for (fail_after, before, after, level, why) in cases {
        for copies in 1..=2 {
            let mut story = distrusting_after(fail_after);
            for (run, status) in before {
                story.run(*run, *status);
            }
            let tombstone = story.node.tombstone();
            register(&mut story, &vec![tombstone; copies]);
            story.is(Unknown);
            for (run, status) in after {
                story.run(*run, *status);
            }
            assert_eq!(story.verdict().level, level, "{why}, {copies} tombstones");
        }
    }
}

#[test]
fn a_pass_of_the_deleted_node_neither_trusts_nor_recovers_however_often_it_comes() {
    for recover_after in 1..=3 {
        let mut story = Story::judged_by(Judgement { recover_after, hold_down_ms: 0, ..Judgement::default() });
        story.run(1, Fail);
        let mut passes = Vec::new();
        for run in 2..=3 {
            let pass = story.wait(MINUTE).seen("a", run, Pass);
            story.take("a", &pass);
            passes.push(pass);
        }
        let distrusted = recover_after > 2;
        let left = if distrusted { Untrusted } else { Unknown };
        story.is(if distrusted { Untrusted } else { Trusted });
        for _ in 0..2 {
            let tombstone = story.node.tombstone();
            register(&mut story, &[tombstone]);
            for pass in &passes {
                story.is(left).take("a", pass);
            }
            story.is(left);
        }
        // Not under a clock that was stepped back behind them either.
        story.wait(-3 * MINUTE).is(left).wait(3 * MINUTE);
        for run in 4..4 + i64::from(recover_after) {
            story.wait(MINUTE).run(run, Pass);
        }
        story.is(Trusted);
    }
}

#[test]
fn a_pass_dated_after_the_registration_by_a_clock_slightly_ahead_is_forgotten_too() {
    let mut story = Story::one();
    let mut ahead = story.seen("a", 1, Pass);
    ahead.issued_at.0 += 20 * SECOND;
    ahead.result.requested_at = ahead.issued_at;
    story.take("a", &ahead);
    let tombstone = story.is(Trusted).node.tombstone();
    register(&mut story, &[tombstone]);
    story.is(Unknown).take("a", &ahead);
    assert_eq!(story.is(Unknown).verdict().reason, Reason::Forgotten { check: check_name("a") });
}

#[test]
fn a_pass_of_one_machine_does_not_end_the_row_of_another() {
    let mut story = distrusting_after(3);
    story.run(18, Fail);
    story.run(21, Pass);
    let by_name = story.node.tombstone();
    let mut story = distrusting_after(3);
    story.run(15, Fail);
    story.run(16, Pass);
    story.run(19, Fail);
    let by_identity = story.node.tombstone();
    for tombstones in [[by_name.clone(), by_identity.clone()], [by_identity, by_name]] {
        register(&mut story, &tombstones);
        story.is(Unknown).run(22, Fail);
        // Runs 19 and 22; what a pass of its own had ended stays ended.
        story.is(Unknown).run(23, Fail);
        story.is(Untrusted);

        register(&mut story, &tombstones);
        story.run(16, Error);
        story.is(Unknown).run(22, Fail);
        assert_eq!(story.is(Untrusted).node.checks["a"].row(false).count(), 3, "runs 15, 19 and 22");
    }
}

#[test]
fn one_key_that_failed_on_one_machine_and_passed_on_another_has_failed() {
    let mut story = distrusting_after(2);
    story.run(1, Pass);
    let passed = story.node.tombstone();
    let mut story = distrusting_after(2);
    story.run(1, Fail);
    let failed = story.node.tombstone();
    for tombstones in [[passed.clone(), failed.clone()], [failed, passed]] {
        register(&mut story, &tombstones);
        story.is(Unknown).run(2, Fail);
        story.is(Untrusted);
    }
}

#[test]
fn what_is_inherited_is_bounded_however_many_tombstones_there_are() {
    let largest = Judgement { fail_after: 100, recover_after: 100, hold_down_ms: 0 };
    let mut tombstones = Vec::new();
    for grave in 0..20 {
        let mut story = Story::judged_by(largest);
        for step in 0..198 {
            let status = if step < 99 { Fail } else { Pass };
            story.run(step * 20 + grave, status);
        }
        tombstones.push(story.node.tombstone());
    }
    let node = NodeTrust::registered_again("uuid-2", &tombstones, Timestamp(START));
    let bytes = serde_json::to_string(&node).unwrap().len();
    assert!(bytes < 60_000, "{bytes} bytes");
}
