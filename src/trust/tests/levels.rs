//! The three levels, and how old a result is.

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Error, Fail, Pass, Timeout};

#[test]
fn a_new_node_is_unknown() {
    assert_eq!(Story::one().verdict().reason, Reason::NeverPassed { check: check_name("a") });
    Story::one().is(Unknown);
}

#[test]
fn trusted_needs_a_fresh_pass_of_every_required_check() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    story.run(1, Pass);
    story.is(Unknown);
    let seen = story.wait(MINUTE).seen("b", 2, Pass);
    story.take("b", &seen);
    let verdict = story.is(Trusted).verdict();
    assert_eq!(verdict.expires_at, Timestamp(START + 30 * MINUTE), "the earliest expiry of all");
    assert_eq!(verdict.next_change, Some(verdict.expires_at));
    let reason = verdict.reason.to_string();
    assert_eq!(reason, "all 2 required checks passed; a expires first");
}

#[test]
fn a_pass_expires_at_its_ttl_and_not_before() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.wait(30 * MINUTE - 1).is(Trusted);
    story.wait(1);
    assert_eq!(story.unsettled().level, Unknown);
    story.is(Unknown);
    assert!(matches!(story.verdict().reason, Reason::Expired { .. }));
}

#[test]
fn a_result_is_as_old_as_its_evidence_so_late_arrival_never_extends_trust() {
    for which in 0..3 {
        let mut story = Story::one();
        story.wait(10 * MINUTE);
        let mut seen = story.seen("a", 1, Pass);
        let early = Timestamp(START);
        match which {
            0 => seen.issued_at = early,
            1 => seen.result.requested_at = early,
            _ => seen.result.verified_at = Some(early),
        }
        story.take("a", &seen);
        assert_eq!(story.verdict().expires_at, early.plus(Duration::from_secs(1_800)));
    }
    let mut story = Story::one();
    let mut seen = story.seen("a", 1, Pass);
    seen.result.verified_at = Some(Timestamp(START + 20 * SECOND));
    story.take("a", &seen);
    assert_eq!(story.verdict().expires_at, Timestamp(START + 30 * MINUTE), "a later verifier adds nothing");

    let mut story = Story::one();
    let seen = story.seen("a", 1, Pass);
    story.wait(40 * MINUTE).take("a", &seen);
    story.is(Unknown);
}

#[test]
fn a_time_beyond_the_allowed_skew_in_the_future_is_an_error() {
    for which in 0..3 {
        let mut story = Story::one();
        let mut seen = story.seen("a", 1, Pass);
        let skewed = |ms| Timestamp(START + 30 * SECOND + ms);
        let mut set = |time| match which {
            0 => seen.issued_at = time,
            1 => seen.result.requested_at = time,
            _ => seen.result.verified_at = Some(time),
        };
        set(skewed(1));
        let future = seen.clone();
        assert_eq!(story.take("a", &future), Folded { counted: false, note: Note::Future });
        let shown = story.node.checks["a"].shown().unwrap();
        assert_eq!(shown.status, Error);
        assert!(shown.reason.contains("lies in the future") && shown.reason.contains("said pass"), "{}", shown.reason);
        story.is(Unknown);
    }
    let mut story = Story::one();
    let mut seen = story.seen("a", 1, Pass);
    seen.result.verified_at = Some(Timestamp(START + 30 * SECOND));
    assert!(story.take("a", &seen).counted, "within the skew");
    story.is(Trusted);
}

#[test]
fn a_failure_dated_in_the_future_is_an_error_too() {
    let mut story = Story::one();
    let mut seen = story.seen("a", 1, Fail);
    seen.result.requested_at = Timestamp(START + MINUTE);
    assert_eq!(story.take("a", &seen).note, Note::Future);
    story.is(Unknown);
}

#[test]
fn could_not_ask_is_neither_no_nor_yes() {
    for silent in [Error, Timeout] {
        let mut story = Story::one();
        assert_eq!(story.run(1, silent), Folded { counted: false, note: Note::NotJudged });
        story.is(Unknown);
        story.run(2, Pass);
        story.run(3, silent);
        story.is(Trusted).wait(30 * MINUTE).is(Unknown);
    }
}

#[test]
fn untrusted_after_fail_after_failures_in_a_row() {
    Story::one().run(1, Fail);
    let mut story = Story::one();
    story.run(1, Pass);
    story.run(2, Fail);
    story.is(Untrusted);

    let mut story = Story::judged_by(Judgement { fail_after: 3, ..Judgement::default() });
    story.run(1, Pass);
    story.run(2, Fail);
    story.run(3, Fail);
    story.is(Trusted).run(4, Fail);
    story.is(Untrusted);
}

#[test]
fn only_a_pass_resets_the_count() {
    let twice = Judgement { fail_after: 2, ..Judgement::default() };
    for between in [Error, Timeout] {
        let mut story = Story::judged_by(twice);
        story.run(1, Fail);
        story.run(2, between);
        story.is(Unknown).run(3, Fail);
        story.is(Untrusted);
    }
    let mut story = Story::judged_by(twice);
    story.run(1, Fail);
    story.run(2, Pass);
    story.run(3, Fail);
    story.is(Trusted).run(4, Fail);
    story.is(Untrusted);
}

#[test]
fn a_new_revision_does_not_reset_the_count() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    story.check_mut("a").revision = 2;
    story.is(Unknown).run(2, Fail);
    story.is(Untrusted);
}

#[test]
fn an_advisory_check_never_decides() {
    let advisory = CheckPolicy { pools: [(pool_name("default"), Requirement::Advisory)].into(), ..check("b") };
    let mut story = Story::of(vec![check("a"), advisory]);
    let seen = story.seen("b", 1, Fail);
    story.take("b", &seen);
    story.run(2, Pass);
    story.is(Trusted);
}

#[test]
fn a_failing_advisory_check_distrusts_when_it_becomes_required() {
    let mut story = Story::one();
    story.check_mut("a").pools.insert(pool_name("default"), Requirement::Advisory);
    story.run(1, Fail);
    story.is(Unknown).check_mut("a").pools.insert(pool_name("default"), Requirement::Required);
    assert_eq!(story.unsettled().level, Untrusted, "even where nothing was settled");
    story.is(Untrusted);
}

#[test]
fn lowering_fail_after_distrusts_at_once() {
    let mut story = Story::judged_by(Judgement { fail_after: 3, ..Judgement::default() });
    story.run(1, Pass);
    story.run(2, Fail);
    story.is(Trusted).check_mut("a").judgement.fail_after = 1;
    assert_eq!(story.unsettled().level, Untrusted);
    story.is(Untrusted);
}

#[test]
fn a_pool_that_requires_nothing_trusts_nobody() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.is(Trusted).check_mut("a").pools.clear();
    assert_eq!(story.verdict().reason, Reason::NothingRequired);
    story.is(Unknown);
}

#[test]
fn a_disabled_required_check_leaves_nobody_trusted() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    story.run(1, Pass);
    let seen = story.seen("b", 2, Pass);
    story.take("b", &seen);
    story.is(Trusted).check_mut("b").enabled = false;
    assert_eq!(story.verdict().reason, Reason::Disabled { check: check_name("b") });
    story.is(Unknown);
}

#[test]
fn a_required_check_that_does_not_target_the_node_does_not_make_it_trusted() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.check_mut("a").targets = Targets { nodes: [NodeName::new("n2").unwrap()].into(), ..Targets::default() };
    assert_eq!(story.verdict().reason, Reason::NothingRequired);
}

#[test]
fn a_check_aimed_at_other_nodes_does_not_make_this_one_unknown() {
    let mut elsewhere = check("b");
    elsewhere.targets = Targets { nodes: [NodeName::new("n2").unwrap()].into(), ..Targets::default() };
    elsewhere.enabled = false;
    let mut story = Story::of(vec![check("a"), elsewhere]);
    story.run(1, Pass);
    story.is(Trusted);
}

#[test]
fn a_deleted_check_leaves_the_node_unknown_and_its_late_results_are_ignored() {
    let mut story = Story::one();
    story.run(1, Pass);
    let late = story.seen("a", 2, Pass);
    story.is(Trusted).policy.checks.clear();
    story.is(Unknown);
    let before = story.node.clone();
    assert_eq!(story.take("a", &late).note, Note::NoSuchCheck);
    story.is(Unknown);
    assert_eq!(story.node.checks, before.checks);
}

#[test]
fn a_pass_counts_only_under_the_current_revision_and_id() {
    for (id, revision, newer) in [("a-id", 1, false), ("a-id", 3, true), ("other", 2, false)] {
        let mut story = Story::one();
        story.check_mut("a").revision = 2;
        let mut seen = story.seen("a", 1, Pass);
        (seen.check_id, seen.revision) = (id.to_owned(), revision);
        assert_eq!(story.take("a", &seen).note, Note::OtherRevision { newer });
        assert_eq!(story.node.checks["a"].shown().unwrap().revision, revision, "kept for display");
        story.is(Unknown);
        seen.result.status = Fail;
        seen.order = order(2);
        assert!(!story.take("a", &seen).counted);
        story.is(Unknown);
    }
    let mut story = Story::one();
    story.run(1, Pass);
    story.is(Trusted).check_mut("a").revision = 2;
    assert_eq!(story.verdict().reason, Reason::Redefined { check: check_name("a"), revision: 2 });
}

#[test]
fn a_definition_that_returns_does_not_bring_its_old_passes_back() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.check_mut("a").revision = 2;
    story.run(2, Pass);
    story.is(Trusted).check_mut("a").revision = 1;
    story.is(Unknown);
    story.run(3, Error);
    story.is(Unknown);
}

#[test]
fn the_nodes_own_word_can_distrust_but_never_counts_as_a_pass() {
    let mut story = Story::one();
    let mut own = story.seen("a", 1, Pass);
    own.result.self_reported = true;
    story.take("a", &own);
    assert_eq!(story.verdict().reason, Reason::OwnWord { check: check_name("a") });
    own = story.seen("a", 2, Fail);
    own.result.self_reported = true;
    story.take("a", &own);
    story.is(Untrusted);
}

#[test]
fn the_nodes_own_word_neither_resets_the_count_nor_hides_an_older_failure() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    let mut own = story.seen("a", 4, Pass);
    own.result.self_reported = true;
    story.take("a", &own);
    story.run(3, Fail);
    story.is(Untrusted);
}

#[test]
fn a_pool_may_accept_the_nodes_own_word_and_then_it_shows() {
    let mut story = Story::one();
    story.policy.pools.push(PoolPolicy { accept_self_report: true, ..pool("lab") });
    story.check_mut("a").pools.insert(pool_name("lab"), Requirement::Required);
    let mut own = story.seen("a", 1, Pass);
    own.result.self_reported = true;
    story.take("a", &own);
    story.is(Unknown);
    let verdict = story.verdict_in("lab");
    assert_eq!((verdict.level, verdict.self_reported), (Trusted, true));
}

#[test]
fn a_clock_that_steps_back_revives_nothing() {
    let mut story = Story::one();
    story.run(1, Pass);
    story.wait(31 * MINUTE).is(Unknown);
    story.wait(-20 * MINUTE).is(Unknown);
    story.run(2, Pass);
    story.is(Trusted);

    let mut story = Story::one();
    story.run(1, Pass);
    story.wait(-20 * MINUTE).is(Unknown);
    assert!(matches!(story.verdict().reason, Reason::Spent { .. }));
    story.wait(20 * MINUTE).is(Unknown);
}
