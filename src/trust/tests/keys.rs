//! Order and keys: late, out of order, repeated and contradicting results.

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Error, Fail, Pass, Timeout};

#[test]
fn order_is_the_run_and_never_a_clock() {
    let mut story = Story::one();
    story.wait(10 * MINUTE).run(1, Pass);
    // A later run with earlier times, from a machine whose clock is behind.
    story.wait(-5 * MINUTE).run(2, Fail);
    story.is(Untrusted);
    assert_eq!(story.node.checks["a"].shown().unwrap().order, order(2));
    let mut newer_epoch = story.seen("a", 1, Pass);
    newer_epoch.order = RunOrder { epoch: 2, run: 1 };
    assert!(story.take("a", &newer_epoch).counted, "a new epoch is later whatever its run number");
}

#[test]
fn of_different_outcomes_under_one_key_the_worse_stands_and_is_counted_once() {
    for (first, second) in [(Pass, Fail), (Fail, Pass), (Error, Fail), (Fail, Error), (Timeout, Fail)] {
        let mut story = Story::one();
        story.run(1, first);
        story.run(1, second);
        story.run(1, first);
        story.is(Untrusted);
        assert_eq!(story.node.checks["a"].conflicts(), 1, "{first} then {second}");
        assert_eq!(story.node.checks["a"].shown().unwrap().status, Fail);
    }
    for (first, second) in [(Pass, Error), (Error, Pass), (Pass, Timeout), (Timeout, Pass)] {
        let mut story = Story::one();
        story.run(1, first);
        story.run(1, second);
        story.run(1, first);
        story.is(Unknown);
        assert_eq!(story.node.checks["a"].conflicts(), 1, "{first} then {second}");
        assert_ne!(story.node.checks["a"].shown().unwrap().status, Pass);
    }
}

#[test]
fn a_pass_taken_back_leaves_what_was_before_it() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Pass);
    story.wait(MINUTE).run(2, Pass);
    story.run(2, Error);
    assert_eq!(story.is(Trusted).verdict().expires_at, Timestamp(START + 30 * MINUTE), "the pass of run 1");

    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    story.run(2, Pass);
    story.is(Trusted).run(2, Fail);
    story.is(Untrusted);
}

#[test]
fn an_older_pass_can_be_taken_back_too() {
    let twice = Judgement { recover_after: 2, hold_down_ms: 0, ..Judgement::default() };
    let mut story = Story::judged_by(twice);
    story.run(1, Fail);
    story.wait(MINUTE).run(2, Pass);
    let retracted = story.seen("a", 2, Error);
    story.wait(MINUTE).run(3, Pass);
    story.take("a", &retracted);
    story.is(Untrusted).wait(MINUTE).run(4, Pass);
    story.is(Trusted);
}

#[test]
fn a_timeout_from_checks_never_displaces_an_answer() {
    for (answer, level) in [(Pass, Trusted), (Fail, Untrusted), (Error, Unknown)] {
        let mut story = Story::one();
        story.run(1, answer);
        let filler = story.filler("a", 1);
        assert_eq!(story.take("a", &filler).note, Note::Unneeded);
        story.is(level);
        assert_eq!(story.node.checks["a"].shown().unwrap().status, answer);
        assert_eq!(story.node.checks["a"].conflicts(), 0);
    }
}

#[test]
fn after_the_timeout_of_its_run_a_pass_counts_for_nothing_and_a_failure_counts() {
    let mut story = Story::one();
    let filler = story.filler("a", 1);
    story.take("a", &filler);
    assert_eq!(story.run(1, Pass), Folded { counted: false, note: Note::LatePass });
    assert_eq!(story.is(Unknown).node.checks["a"].shown().unwrap().status, Timeout);
    assert_eq!(story.run(1, Fail), Folded { counted: true, note: Note::Failure });
    story.is(Untrusted);
    assert_eq!(story.node.checks["a"].conflicts(), 0, "nobody contradicted anybody");
}

#[test]
fn a_run_stays_closed_however_many_follow() {
    let mut story = Story::one();
    for run in 1..=50 {
        let filler = story.filler("a", run);
        story.take("a", &filler);
    }
    for run in 1..=50 {
        assert!(!story.run(run, Pass).counted, "{run}");
    }
    story.is(Unknown).run(51, Pass);
    story.is(Trusted);
}

#[test]
fn a_late_pass_counts_for_nothing() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    story.run(3, Fail);
    assert_eq!(story.is(Untrusted).run(2, Pass).note, Note::LatePass);
    story.is(Untrusted);

    let mut story = Story::one();
    let newer = story.seen("a", 2, Pass);
    story.take("a", &newer);
    story.wait(20 * MINUTE);
    assert_eq!(story.run(1, Pass).note, Note::LatePass, "it would hold for longer");
    story.wait(10 * MINUTE).is(Unknown);
}

#[test]
fn a_pass_that_overtook_an_error_is_not_late() {
    let mut story = Story::one();
    story.run(2, Error);
    assert!(story.run(1, Pass).counted);
    assert_eq!(story.is(Trusted).node.checks["a"].shown().unwrap().status, Error, "the newer is shown");
}

#[test]
fn a_late_failure_counts_unless_a_later_run_has_passed() {
    let mut story = Story::one();
    story.run(5, Error);
    assert!(story.run(4, Fail).counted);
    story.is(Untrusted);

    let mut story = Story::one();
    story.run(5, Pass);
    assert_eq!(story.run(4, Fail), Folded { counted: false, note: Note::Superseded });
    story.is(Trusted);
    // Unless that pass is taken back.
    story.run(5, Error);
    story.is(Untrusted);
}

#[test]
fn an_out_of_order_failure_counts_in_the_row() {
    let mut story = Story::judged_by(Judgement { fail_after: 3, ..Judgement::default() });
    for run in [7, 5, 6] {
        story.is(Unknown).run(run, Fail);
    }
    story.is(Untrusted);
}

#[test]
fn the_same_failure_twice_is_one_failure() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    assert_eq!(story.run(1, Fail).note, Note::Duplicate);
    let mut again = story.seen("a", 1, Fail);
    again.attempt = 2;
    story.take("a", &again);
    story.is(Unknown);
}

#[test]
fn of_two_passes_under_one_key_the_weaker_stands() {
    let mut story = Story::one();
    let older = story.seen("a", 1, Pass);
    story.wait(MINUTE).run(1, Pass);
    story.take("a", &older);
    assert_eq!(story.verdict().expires_at, Timestamp(START + 30 * MINUTE));
    let mut own = older;
    own.result.self_reported = true;
    story.take("a", &own);
    story.is(Unknown);
}

#[test]
fn an_older_result_never_overwrites_a_newer_one_on_display() {
    let mut story = Story::one();
    story.run(2, Pass);
    story.run(1, Fail);
    let shown = story.node.checks["a"].shown().unwrap();
    assert_eq!((shown.order, shown.status), (order(2), Pass));
}

#[test]
fn memory_is_bounded() {
    let mut story = Story::judged_by(Judgement { fail_after: 100, recover_after: 100, ..Judgement::default() });
    let mut longest = 0;
    for run in 0..600 {
        let status = [Fail, Error, Pass][usize::try_from(run / 200).unwrap()];
        story.run(run, status);
        longest = longest.max(serde_json::to_string(&story.node).unwrap().len());
    }
    let plain = Story::one().node;
    assert!(longest < 60_000, "{longest} bytes for the largest judgement, {plain:?}");
}

#[test]
fn hostile_text_is_made_safe_before_it_is_kept() {
    let mut story = Story::one();
    let mut seen = story.seen("a", 1, Fail);
    seen.result.reason = "\u{1b}[2J\u{202e}".repeat(100);
    story.take("a", &seen);
    let reason = story.verdict().reason.to_string();
    assert!(!reason.contains('\u{1b}') && !reason.contains('\u{202e}') && reason.len() < 600, "{reason}");
}
