//! What loosens a policy, and what does not.

use super::*;

fn sentences(change: impl Fn(&mut Policy)) -> Vec<String> {
    let old = policy(vec![check("a"), check("b")]);
    let mut new = old.clone();
    change(&mut new);
    loosens(&old, &new).iter().map(ToString::to_string).collect()
}

#[test]
fn the_same_policy_and_a_stricter_one_loosen_nothing() {
    assert!(sentences(|_| ()).is_empty());
    let stricter = sentences(|new| {
        new.checks.push(check("c"));
        let check = &mut new.checks[0];
        check.enabled = false;
        check.ttl_ms -= 1;
        check.judgement.recover_after += 1;
        check.judgement.hold_down_ms += 1;
        new.pools[0].max_silence_ms -= 1;
        let flapping = &mut new.pools[0].flapping;
        (flapping.limit, flapping.window_ms, flapping.hold_down_ms) =
            (2, flapping.window_ms + 1, flapping.hold_down_ms + 1);
    });
    assert_eq!(stricter, Vec::<String>::new());
}

#[test]
fn every_way_of_asking_for_less_is_named() {
    type Case = (fn(&mut Policy), &'static str);
    let cases: [Case; 18] = [
        (|new| drop(new.checks.remove(0)), "pool default required check a, which is deleted"),
        (|new| new.checks[0].pools.clear(), "pool default no longer requires check a"),
        (
            |new| new.checks[0].pools = [(pool_name("default"), Requirement::Advisory)].into(),
            "pool default no longer requires check a",
        ),
        (|new| new.checks[0].id = "new".into(), "check a is another check now, under the same name"),
        (|new| new.checks[0].revision = 2, "check a now does something else (a new revision)"),
        (
            |new| new.checks[0].adapter = AdapterName::new("x").unwrap(),
            "check a now does something else (a new revision)",
        ),
        (|new| new.checks[0].targets = Targets::default(), "check a may no longer target some nodes it targeted"),
        (|new| new.checks[0].ttl_ms += 1, "a pass of check a counts for 1800001 ms instead of 1800000 ms"),
        (|new| new.checks[0].judgement.fail_after = 2, "check a distrusts after 2 failures in a row instead of 1"),
        (|new| new.checks[0].judgement.recover_after = 0, "distrust by check a ends after 0 passes instead of 1"),
        (|new| new.checks[0].judgement.hold_down_ms = 5, "distrust by check a may end after 5 ms instead of 600000 ms"),
        (|new| new.pools[0].accept_self_report = true, "pool default now accepts a node's own word as a pass"),
        (|new| new.pools[0].mode = Mode::Soft, "pool default goes from enforce to soft"),
        (
            |new| new.pools[0].max_silence_ms += 1,
            "readers of pool default believe the last word for 600001 ms instead of 600000 ms",
        ),
        (|new| new.pools[0].flapping.limit = 4, "a node of pool default flaps after 4 falls instead of 3"),
        (
            |new| new.pools[0].flapping.limit = 0,
            "no node of pool default flaps any more, however often it falls, instead of after 3 falls",
        ),
        (
            |new| new.pools[0].flapping.window_ms = 1,
            "falls in pool default count together for 1 ms instead of 86400000 ms",
        ),
        (
            |new| new.pools[0].flapping.hold_down_ms = 1,
            "distrust of a node that flaps in pool default may end after 1 ms instead of 86400000 ms",
        ),
    ];
    for (change, sentence) in cases {
        assert_eq!(sentences(change), [sentence]);
    }
}

#[test]
fn enabling_a_disabled_required_check_loosens() {
    let mut old = policy(vec![check("a")]);
    old.checks[0].enabled = false;
    let new = policy(vec![check("a")]);
    assert_eq!(loosens(&old, &new).len(), 1);
    assert!(loosens(&new, &old).is_empty());
}

#[test]
fn an_advisory_check_can_change_freely() {
    let mut old = policy(vec![check("a")]);
    old.checks[0].pools = [(pool_name("default"), Requirement::Advisory)].into();
    let mut new = old.clone();
    new.checks[0].ttl_ms *= 9;
    new.checks[0].revision = 7;
    assert!(loosens(&old, &new).is_empty());
    assert!(loosens(&old, &policy(vec![])).is_empty());
}

#[test]
fn targets_are_narrowed_unless_all_who_were_meant_still_are() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let wide = Targets { patterns: ["c-*".to_owned()].into(), labels: labels(&[("z", "1")]), ..Targets::default() };
    let narrower = [
        Targets { patterns: ["c-1*".to_owned()].into(), ..wide.clone() },
        Targets { labels: labels(&[("z", "1"), ("y", "2")]), ..wide.clone() },
        Targets { labels: labels(&[]), ..wide.clone() },
        Targets { labels: labels(&[("z", "2")]), ..wide.clone() },
    ];
    let wider = [
        Targets { all: true, ..Targets::default() },
        Targets { nodes: [NodeName::new("n9").unwrap()].into(), ..wide.clone() },
    ];
    let found = |to: &Targets| {
        let (mut old, mut new) = (policy(vec![check("a")]), policy(vec![check("a")]));
        old.checks[0].targets = wide.clone();
        new.checks[0].targets = to.clone();
        loosens(&old, &new).len()
    };
    assert!(narrower.iter().all(|targets| found(targets) == 1));
    assert!(wider.iter().all(|targets| found(targets) == 0));
}
