//! Distrust: what does not clear it, and the one way back.

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Error, Fail, Pass};

fn distrusted() -> Story {
    let mut story = Story::one();
    story.run(1, Fail);
    story.is(Untrusted);
    story
}

#[test]
fn distrust_outranks_unknown_and_time_alone_does_not_end_it() {
    let mut story = distrusted();
    story.wait(365 * 24 * 60 * MINUTE).is(Untrusted);
}

#[test]
fn errors_do_not_clear_distrust() {
    let mut story = distrusted();
    story.wait(20 * MINUTE).run(2, Error);
    story.is(Untrusted);
}

#[test]
fn a_reboot_does_not_clear_distrust() {
    let mut story = distrusted();
    story.node.agent_boot("one", story.now);
    story.wait(20 * MINUTE);
    assert_eq!(story.node.agent_boot("two", story.now), BootSeen::Changed);
    story.is(Untrusted);
}

#[test]
fn disabling_deleting_or_no_longer_requiring_the_check_does_not_clear_distrust() {
    let changes: [fn(&mut Story); 6] = [
        |story| story.check_mut("a").enabled = false,
        |story| story.policy.checks.clear(),
        |story| story.check_mut("a").pools.clear(),
        |story| story.check_mut("a").targets = Targets::default(),
        |story| story.check_mut("a").revision = 2,
        |story| story.check_mut("a").id = "again".to_owned(),
    ];
    for change in changes {
        let mut story = distrusted();
        change(&mut story);
        story.wait(60 * MINUTE).is(Untrusted);
    }
}

#[test]
fn a_pool_deleted_and_made_again_still_distrusts() {
    let mut story = distrusted();
    let pools = std::mem::take(&mut story.policy.pools);
    let rules = story.rules();
    assert!(story.node.review(&rules, &[], story.now).verdicts.is_empty());
    story.policy.pools = pools;
    story.is(Untrusted);
}

#[test]
fn distrust_by_a_deleted_check_says_that_only_a_release_helps() {
    let mut story = distrusted();
    story.policy.checks.clear();
    let reason = story.verdict().reason.to_string();
    assert!(reason.contains("only a release"), "{reason}");
}

#[test]
fn the_way_back_is_enough_passes_and_the_hold_down() {
    let mut story = Story::judged_by(Judgement { recover_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    story.wait(5 * MINUTE).run(2, Pass);
    story.wait(6 * MINUTE).is(Untrusted);
    story.run(3, Pass);
    story.is(Trusted);
}

#[test]
fn one_pass_is_counted_once_towards_recovery() {
    let mut story = Story::judged_by(Judgement { recover_after: 2, hold_down_ms: 0, ..Judgement::default() });
    story.run(1, Fail);
    story.wait(MINUTE).run(2, Pass);
    story.run(2, Pass);
    story.is(Untrusted);
}

#[test]
fn the_end_of_the_hold_down_ends_distrust_but_time_alone_never_makes_trusted() {
    let mut story = distrusted();
    story.wait(MINUTE).run(2, Pass);
    let verdict = story.is(Untrusted).verdict();
    assert_eq!(verdict.next_change, Some(Timestamp(START + 10 * MINUTE)));
    assert!(verdict.reason.to_string().contains("1 of 1 passes since"), "{}", verdict.reason);
    story.wait(9 * MINUTE - 1).is(Untrusted);
    story.wait(1).is(Unknown);
    story.run(3, Pass);
    story.is(Trusted);
}

#[test]
fn a_pass_from_the_hold_down_counts_for_nothing_though_it_comes_after_its_end() {
    let mut story = distrusted();
    story.wait(9 * MINUTE).run(2, Pass);
    story.wait(MINUTE - 1).is(Untrusted);
    let asked_before = story.seen("a", 3, Pass);
    story.wait(1).is(Unknown);
    let asked_at_the_end = story.seen("a", 4, Pass);
    story.take("a", &asked_before);
    story.is(Unknown);
    story.take("a", &asked_at_the_end);
    story.is(Trusted);
}

#[test]
fn time_alone_makes_nobody_trusted_when_the_check_that_distrusts_is_not_required_any_more() {
    let changes: [fn(&mut CheckPolicy); 3] = [
        |check| check.pools.clear(),
        |check| check.pools = [(pool_name("default"), Requirement::Advisory)].into(),
        |check| check.targets = Targets::default(),
    ];
    for change in changes {
        let mut story = Story::of(vec![check("a"), check("b")]);
        let failure = story.seen("b", 1, Fail);
        story.take("b", &failure);
        story.is(Untrusted).wait(MINUTE);
        change(story.check_mut("b"));
        story.run(2, Pass);
        let pass = story.seen("b", 3, Pass);
        story.take("b", &pass);
        story.is(Untrusted).wait(9 * MINUTE).is(Unknown);
        assert_eq!(story.verdict().reason, Reason::Spent { check: check_name("a") });
        story.run(4, Pass);
        story.is(Trusted);
    }
}

#[test]
fn a_pass_after_the_hold_down_trusts_at_once() {
    let mut story = distrusted();
    assert_eq!(story.verdict().next_change, None, "time alone changes nothing");
    story.wait(10 * MINUTE).run(2, Pass);
    story.is(Trusted);
}

#[test]
fn only_runs_that_began_after_the_last_failure_count() {
    let mut story = Story::judged_by(Judgement { hold_down_ms: 0, ..Judgement::default() });
    let mut overlapping = story.seen("a", 2, Pass);
    let mut failure = story.seen("a", 1, Fail);
    failure.result.finished_at = Timestamp(START + MINUTE);
    overlapping.issued_at = Timestamp(START + MINUTE);
    overlapping.result.requested_at = Timestamp(START + MINUTE);
    story.wait(2 * MINUTE).take("a", &failure);
    story.take("a", &overlapping);
    story.is(Untrusted);
    overlapping.order = order(3);
    overlapping.issued_at.0 += 1;
    overlapping.result.requested_at.0 += 1;
    story.take("a", &overlapping);
    story.is(Trusted);
}

#[test]
fn every_failure_starts_the_way_back_again() {
    let twice = Judgement { fail_after: 3, recover_after: 2, ..Judgement::default() };
    let mut story = Story::judged_by(twice);
    for run in 1..=3 {
        story.run(run, Fail);
    }
    story.wait(8 * MINUTE).run(4, Pass);
    // One failure is not enough for distrust, but it is the last failure now.
    story.wait(MINUTE).run(5, Fail);
    story.wait(MINUTE).run(6, Pass);
    story.wait(8 * MINUTE).run(7, Pass);
    story.is(Untrusted).wait(MINUTE).run(8, Pass);
    story.is(Trusted);
}

#[test]
fn a_failure_and_a_pass_between_two_reviews_still_distrust() {
    let mut story = Story::one();
    story.run(1, Fail);
    story.wait(1).run(2, Pass);
    story.is(Untrusted);
}

#[test]
fn passes_of_another_revision_do_not_end_distrust() {
    let mut story = distrusted();
    story.wait(20 * MINUTE).run(2, Pass);
    story.check_mut("a").revision = 2;
    story.is(Untrusted).run(3, Pass);
    story.is(Trusted);
}

#[test]
fn the_nodes_own_word_never_ends_distrust() {
    let mut story = distrusted();
    story.wait(20 * MINUTE);
    let mut own = story.seen("a", 2, Pass);
    own.result.self_reported = true;
    story.take("a", &own);
    story.is(Untrusted);
}

#[test]
fn a_pass_taken_back_after_recovery_distrusts_again() {
    let mut story = distrusted();
    story.wait(20 * MINUTE).run(2, Pass);
    story.is(Trusted).run(2, Error);
    story.is(Untrusted);
}

#[test]
fn every_distrusting_check_has_to_recover() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    for name in ["a", "b"] {
        let seen = story.seen(name, 1, Fail);
        story.take(name, &seen);
    }
    assert!(story.verdict().reason.to_string().contains("1 more failed too"));
    story.wait(11 * MINUTE).run(2, Pass);
    story.is(Untrusted);
    let seen = story.seen("b", 2, Pass);
    story.take("b", &seen);
    story.is(Trusted);
}

#[test]
fn a_failure_under_a_clock_far_ahead_does_not_bind_for_as_long() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.wait(100 * HOUR).run(2, Fail);
    story.is(Untrusted);
    // The clock is set right. From now on it is as if the node had failed now.
    story.wait(-100 * HOUR).is(Untrusted).wait(MINUTE).run(3, Pass);
    story.is(Untrusted).wait(10 * MINUTE).run(4, Pass);
    story.is(Trusted);
}

#[test]
fn passes_that_expired_under_a_clock_far_ahead_do_not_spend_those_that_come() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.wait(100 * HOUR).run(2, Pass);
    story.is(Trusted).wait(HOUR).is(Unknown);
    story.wait(-101 * HOUR).is(Unknown).run(3, Pass);
    story.is(Trusted);
}
