//! A changed boot makes the node unknown; a restarted service does not.

use super::*;
use Level::{Trusted, Unknown};
use Status::Pass;

fn pass(story: &Story, name: &str, run: i64, boot: &str) -> Observation {
    let mut seen = story.seen(name, run, Pass);
    seen.result.boot = Some(boot.to_owned());
    seen
}

#[test]
fn a_changed_boot_makes_the_node_unknown_until_it_passes_again() {
    let mut story = Story::one();
    assert_eq!(story.node.agent_boot("one", story.now), BootSeen::First);
    story.run(1, Pass);
    story.wait(MINUTE);
    assert_eq!(story.node.agent_boot("one", story.now), BootSeen::Same);
    story.is(Trusted).wait(MINUTE);
    assert_eq!(story.node.agent_boot("two", story.now), BootSeen::Changed);
    assert_eq!(story.is(Unknown).verdict().reason, Reason::Rebooted { check: check_name("a") });
    let mut before = story.seen("a", 2, Pass);
    before.issued_at.0 -= 1;
    assert_eq!(story.take("a", &before).note, Note::OtherBoot);
    story.is(Unknown).run(3, Pass);
    story.is(Trusted);
}

#[test]
fn a_boot_that_nothing_showed_before_is_no_change() {
    let mut story = Story::one();
    assert!(!story.node.facts.boots.observable());
    story.run(1, Pass);
    story.wait(MINUTE);
    story.node.agent_boot("one", story.now);
    story.is(Trusted);
    assert!(story.node.facts.boots.observable());
}

#[test]
fn a_verifiers_report_of_another_boot_voids_the_passes_of_all_checks() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    let seen = pass(&story, "a", 1, "17");
    story.take("a", &seen);
    let seen = story.seen("b", 2, Pass);
    story.take("b", &seen);
    let seen = pass(story.is(Trusted).wait(MINUTE), "a", 3, "18");
    story.take("a", &seen);
    assert_eq!(story.is(Unknown).verdict().reason, Reason::Rebooted { check: check_name("b") });
    let seen = story.seen("b", 4, Pass);
    story.take("b", &seen);
    story.is(Trusted);
}

#[test]
fn one_reboot_seen_by_many_is_one_change() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    story.node.agent_boot("x1", story.now);
    for (name, run) in [("a", 1), ("b", 2)] {
        let seen = pass(&story, name, run, "17");
        story.take(name, &seen);
    }
    story.is(Trusted).wait(MINUTE);
    story.node.agent_boot("x2", story.now);
    story.is(Unknown).wait(MINUTE);
    for (name, run) in [("a", 3), ("b", 4)] {
        let seen = pass(&story, name, run, "18");
        story.take(name, &seen);
    }
    assert_eq!(story.is(Trusted).node.facts.boots.count(), 1);
}

#[test]
fn a_second_reboot_is_noticed_though_the_first_was_shown_by_evidence_older_than_the_notice_of_it() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    for (name, run) in [("a", 1), ("b", 2)] {
        let seen = pass(&story, name, run, "17");
        story.take(name, &seen);
    }
    // The run of b begins first and is answered last; both are of the new boot.
    let overlapping = pass(story.is(Trusted).wait(MINUTE), "b", 3, "18");
    let first = pass(story.wait(MINUTE), "a", 4, "18");
    story.take("a", &first);
    story.is(Unknown).take("b", &overlapping);
    assert_eq!(story.is(Trusted).node.facts.boots.count(), 1);
    let mut second = pass(story.wait(MINUTE), "b", 5, "19");
    second.result.status = Status::Error;
    story.take("b", &second);
    assert_eq!(story.is(Unknown).node.facts.boots.count(), 2);
}

#[test]
fn a_late_result_of_an_earlier_boot_neither_counts_nor_brings_that_boot_back() {
    let mut story = Story::one();
    let first = pass(&story, "a", 1, "17");
    let late = pass(story.wait(MINUTE), "a", 2, "17");
    let newer = pass(story.wait(MINUTE), "a", 3, "18");
    story.take("a", &first);
    story.take("a", &newer);
    story.is(Trusted).take("a", &late);
    story.is(Trusted);
    assert_eq!(story.node.facts.boots.count(), 1);
}

#[test]
fn an_earlier_boot_heard_of_late_is_a_change_nobody_had_noticed() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    let before = pass(&story, "a", 1, "17");
    let seen = story.seen("b", 2, Pass);
    story.take("b", &seen);
    let after = pass(story.wait(MINUTE), "a", 3, "18");
    story.take("a", &after);
    story.is(Trusted).take("a", &before);
    story.is(Unknown);
}

#[test]
fn a_reboot_noticed_under_a_clock_far_ahead_does_not_make_what_comes_later_older_than_it() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    let shows = pass(&story, "a", 1, "17");
    story.take("a", &shows);
    let silent = story.seen("b", 2, Pass);
    story.take("b", &silent);
    story.wait(100 * HOUR);
    let shows = pass(&story, "a", 3, "18");
    story.take("a", &shows);
    story.is(Unknown).wait(-100 * HOUR).is(Unknown).wait(MINUTE);
    let shows = pass(&story, "a", 4, "18");
    story.take("a", &shows);
    // This one does not show its boot; only its time tells that it is of the present one.
    let silent = story.seen("b", 5, Pass);
    story.take("b", &silent);
    assert_eq!(story.is(Trusted).node.facts.boots.count(), 1);
}

#[test]
fn an_agents_reboot_is_noticed_though_its_boot_before_was_seen_under_a_clock_far_ahead() {
    let mut story = Story::one();
    for boot in ["one", "two"] {
        story.node.agent_boot(boot, Timestamp(START + 100 * HOUR));
    }
    story.run(1, Pass);
    story.is(Unknown).wait(MINUTE).run(2, Pass);
    story.is(Trusted).wait(MINUTE);
    assert_eq!(story.node.agent_boot("three", story.now), BootSeen::Changed);
    story.is(Unknown);
}

#[test]
fn a_reboot_that_one_showed_under_a_clock_far_ahead_is_still_the_same_when_another_shows_it() {
    let mut story = Story::of(vec![check("a"), check("b")]);
    story.wait(100 * HOUR);
    for (name, run) in [("a", 1), ("b", 2)] {
        let seen = pass(&story, name, run, "17");
        story.take(name, &seen);
    }
    let seen = pass(story.is(Trusted).wait(MINUTE), "a", 3, "18");
    story.take("a", &seen);
    story.is(Unknown).wait(-100 * HOUR).is(Unknown);
    for (name, run) in [("b", 4), ("a", 5)] {
        let seen = pass(story.wait(MINUTE), name, run, "18");
        story.take(name, &seen);
    }
    assert_eq!(story.is(Trusted).node.facts.boots.count(), 1);
}

#[test]
fn boots_shown_by_a_failed_or_redefined_result_count_as_well_but_not_by_the_future() {
    let mut story = Story::one();
    let seen = pass(&story, "a", 1, "17");
    story.take("a", &seen);
    let mut future = pass(&story, "a", 2, "18");
    future.result.verified_at = Some(Timestamp(START + MINUTE));
    story.take("a", &future);
    assert_eq!(story.node.facts.boots.count(), 0);
    let mut redefined = pass(story.wait(1), "a", 3, "18");
    redefined.revision = 9;
    story.take("a", &redefined);
    story.is(Unknown);
    assert_eq!(story.node.facts.boots.count(), 1);
}

#[test]
fn long_and_many_boot_texts_are_bounded() {
    let mut boots = Boots::default();
    let long = "x".repeat(10_000);
    for source in 0..1_000 {
        boots.observe(&format!("s{source}"), &long, None, Timestamp(source), Timestamp(source));
    }
    assert!(serde_json::to_string(&boots).unwrap().len() < 20_000);
    assert_eq!(boots.observe("s999", &long, None, Timestamp(1_000), Timestamp(1_000)), BootSeen::Same);
    let other = format!("{long}y");
    assert_eq!(boots.observe("s999", &other, None, Timestamp(1_001), Timestamp(1_001)), BootSeen::Changed);
}
