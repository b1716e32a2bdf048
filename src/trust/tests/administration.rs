//! Quarantine, release, override and maintenance.

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Fail, Pass};

fn trusted() -> Story {
    let mut story = Story::one();
    story.run(1, Pass);
    story.is(Trusted);
    story
}

fn grant(story: &mut Story, hours: i64) -> Result<(), OverrideError> {
    let rules = story.rules();
    let until = Timestamp(story.now.0 + hours * HOUR);
    story.node.grant_override(&rules, &pool_name("default"), "ann", "migration", None, (story.now, until))
}

#[test]
fn quarantine_stays_until_released_whatever_passes() {
    let mut story = trusted();
    story.node.quarantine("ann", "odd \u{1b}traffic", story.now);
    story.is(Untrusted).wait(HOUR).run(2, Pass);
    let reason = story.is(Untrusted).verdict().reason.to_string();
    assert!(reason.contains("quarantined by ann") && !reason.contains('\u{1b}'), "{reason}");
    story.policy.pools.push(pool("new"));
    assert_eq!(story.verdict_in("new").level, Untrusted, "in pools made later, too");
}

#[test]
fn release_leads_to_unknown_and_never_to_trusted() {
    let mut story = trusted();
    story.node.quarantine("ann", "odd", story.now);
    story.wait(MINUTE).node.release(None, Timestamp(START + MINUTE));
    assert_eq!(story.is(Unknown).verdict().reason, Reason::Forgotten { check: check_name("a") });
    let mut before = story.seen("a", 2, Pass);
    before.issued_at = Timestamp(START + MINUTE);
    story.take("a", &before);
    story.is(Unknown).wait(1).run(3, Pass);
    story.is(Trusted);
}

#[test]
fn release_ends_distrust_and_the_next_failure_distrusts_again() {
    let mut story = Story::judged_by(Judgement { fail_after: 2, ..Judgement::default() });
    story.run(1, Fail);
    story.run(2, Fail);
    story.is(Untrusted).wait(MINUTE);
    story.node.release(None, story.now);
    story.is(Unknown).run(2, Fail);
    story.is(Unknown).run(3, Fail);
    story.is(Untrusted);
}

#[test]
fn an_override_covers_unknown_only() {
    let mut story = Story::one();
    grant(&mut story, 1).unwrap();
    let verdict = story.is(Trusted).verdict();
    assert!(verdict.overridden && verdict.member().overridden);
    assert_eq!(verdict.expires_at, Timestamp(START + HOUR));
    assert!(verdict.reason.to_string().contains("ann overrides"), "{}", verdict.reason);
    story.run(1, Fail);
    assert_eq!(story.is(Untrusted).node.standings["default"].overriding, None, "dropped, not suspended");
    assert_eq!(grant(&mut story, 1), Err(OverrideError::Untrusted));
    story.node.release(None, story.now);
    story.is(Unknown);
}

#[test]
fn an_override_does_not_come_back_after_recovery_or_quarantine() {
    let mut story = Story::one();
    grant(&mut story, 10).unwrap();
    story.run(1, Fail);
    story.wait(MINUTE).run(2, Pass);
    story.is(Untrusted).wait(10 * MINUTE).is(Unknown);

    let mut story = Story::one();
    grant(&mut story, 10).unwrap();
    story.node.quarantine("ann", "odd", story.now);
    assert_eq!(grant(&mut story, 1), Err(OverrideError::Untrusted));
    story.node.release(None, story.now);
    story.is(Unknown);
}

#[test]
fn an_override_lasts_at_most_72_hours_and_ends_at_its_end() {
    let mut story = Story::one();
    assert_eq!(grant(&mut story, 73), Err(OverrideError::Duration));
    assert_eq!(grant(&mut story, 0), Err(OverrideError::Duration));
    grant(&mut story, 72).unwrap();
    story.wait(72 * HOUR - 1).is(Trusted);
    story.wait(1).is(Unknown);
    story.wait(-HOUR).is(Unknown);
}

#[test]
fn a_clock_that_steps_back_does_not_stretch_an_override() {
    let mut story = Story::one();
    grant(&mut story, 72).unwrap();
    story.wait(-HOUR).is(Unknown);
}

#[test]
fn an_override_is_bound_to_identity_and_boot() {
    let mut story = Story::one();
    story.node.agent_boot("one", story.now);
    grant(&mut story, 1).unwrap();
    let mut impostor = story.node.clone();
    impostor.facts.identity = "uuid-2".to_owned();
    story.is(Trusted);
    story.node.agent_boot("two", story.now);
    story.is(Unknown);
    story.node = impostor;
    story.is(Unknown);
}

#[test]
fn an_override_needs_owner_reason_and_pool() {
    let mut story = Story::one();
    let rules = story.rules();
    let until = Timestamp(START + HOUR);
    let mut ask = |pool: &str, owner, reason| {
        story.node.grant_override(&rules, &pool_name(pool), owner, reason, None, (Timestamp(START), until))
    };
    assert_eq!(ask("default", " ", "why"), Err(OverrideError::Unexplained));
    assert_eq!(ask("default", "ann", ""), Err(OverrideError::Unexplained));
    assert_eq!(ask("nowhere", "ann", "why"), Err(OverrideError::NoSuchPool(pool_name("nowhere"))));
}

#[test]
fn checks_that_pass_need_no_override() {
    let mut story = trusted();
    grant(&mut story, 1).unwrap();
    assert!(!story.verdict().overridden);
    story.wait(30 * MINUTE);
    assert!(story.is(Trusted).verdict().overridden);
    assert!(story.node.revoke_override(&pool_name("default")));
    story.is(Unknown);
}

#[test]
fn maintenance_never_makes_a_node_trusted() {
    for status in [None, Some(Fail)] {
        let mut story = Story::one();
        if let Some(status) = status {
            story.run(1, status);
        }
        let before = story.verdict();
        let until = Timestamp(START + HOUR);
        story.node.maintenance = Some(Maintenance { owner: "ann".into(), reason: "disks".into(), until, vouch: None });
        assert_eq!(story.verdict(), before);
        let maintenance = story.node.maintenance.clone().unwrap();
        assert!(maintenance.mutes(story.now) && !maintenance.mutes(until));
    }
}

#[test]
fn passes_do_not_survive_deletion_and_neither_does_an_override() {
    let mut story = trusted();
    grant(&mut story, 1).unwrap();
    let late = story.seen("a", 2, Pass);
    let tombstone = story.node.tombstone();
    story.wait(MINUTE).node = NodeTrust::registered_again("uuid-1", &[tombstone], story.now);
    assert_eq!(story.is(Unknown).verdict().reason, Reason::Forgotten { check: check_name("a") });
    story.take("a", &late);
    story.is(Unknown).run(3, Pass);
    story.is(Trusted);
}

#[test]
fn a_release_under_a_clock_far_ahead_does_not_bind_for_as_long() {
    let mut story = trusted();
    story.node.release(None, Timestamp(START + 1_000 * HOUR));
    story.is(Unknown).wait(MINUTE).is(Unknown).run(2, Pass);
    story.is(Trusted);
}
