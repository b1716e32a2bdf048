//! A batch cast again: two attempts of one run say something of the same node, in any order, some of it late.

use proptest::prelude::*;

use super::*;
use Level::{Trusted, Unknown, Untrusted};
use Status::{Error, Fail, Pass, Timeout};

/// What attempt `attempt` of run 1 says, asked for now.
fn attempt(story: &Story, attempt: i64, status: Status) -> Observation {
    Observation { attempt, ..story.seen("a", 1, status) }
}

#[test]
fn a_failure_counts_whichever_attempt_it_is_of_and_whenever_it_comes() {
    for (failing, passing) in [(1, 2), (2, 1)] {
        for failure_first in [true, false] {
            let mut story = Story::one();
            let (failure, pass) = (attempt(&story, failing, Fail), attempt(&story, passing, Pass));
            let said = if failure_first { [failure, pass] } else { [pass, failure] };
            for seen in &said {
                story.take("a", seen);
            }
            story.is(Untrusted);
            assert_eq!(story.node.checks["a"].conflicts(), 1);
            let shown = story.node.checks["a"].shown().unwrap();
            assert_eq!((shown.status, shown.attempt), (Fail, failing));
        }
    }
}

#[test]
fn after_the_time_out_a_failure_of_either_attempt_counts_and_a_pass_of_neither() {
    for number in [1, 2] {
        let mut story = Story::one();
        let (late_pass, late_failure) = (attempt(&story, number, Pass), attempt(&story, number, Fail));
        let filler = Observation { attempt: 2, ..story.filler("a", 1) };
        story.wait(MINUTE).take("a", &filler);
        assert_eq!(story.take("a", &late_pass).note, Note::LatePass);
        story.is(Unknown);
        assert!(story.take("a", &late_failure).counted);
        story.is(Untrusted);
    }
}

#[test]
fn a_time_out_leaves_what_either_attempt_answered() {
    for (number, said, level) in [(1, Pass, Trusted), (2, Pass, Trusted), (1, Fail, Untrusted), (2, Fail, Untrusted)] {
        let mut story = Story::one();
        let answer = attempt(&story, number, said);
        story.take("a", &answer);
        let filler = Observation { attempt: 2, ..story.filler("a", 1) };
        assert_eq!(story.wait(MINUTE).take("a", &filler).note, Note::Unneeded);
        story.is(level);
        assert_eq!(story.node.checks["a"].shown().unwrap().status, said);
    }
}

#[test]
fn passes_of_both_attempts_are_one_pass_as_old_as_the_older() {
    let mut story = Story::judged_by(Judgement { recover_after: 2, hold_down_ms: 0, ..Judgement::default() });
    story.run(0, Fail);
    story.wait(MINUTE);
    let first = attempt(&story, 1, Pass);
    story.wait(MINUTE);
    let second = attempt(&story, 2, Pass);
    story.take("a", &second);
    assert_eq!(story.take("a", &first).note, Note::Duplicate);
    story.is(Untrusted);
    story.wait(MINUTE).run(2, Pass);
    assert_eq!(story.is(Trusted).verdict().expires_at, Timestamp(story.now.0 + 30 * MINUTE));
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Pass), Just(Fail), Just(Error), Just(Timeout)]
}

proptest! {
    /// Three attempts and the time-out of Checks, in any order, each any number of times: distrust is never lost, and no
    /// order trusts a node that another order would not, once anything but passes was said.
    #[test]
    fn the_worst_answer_stands_in_every_order(
        answers in prop::collection::vec(status(), 1..=3),
        filler in any::<bool>(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let mut story = Story::one();
        let mut said: Vec<Observation> =
            (1..).zip(&answers).map(|(number, status)| attempt(&story, number, *status)).collect();
        said.extend(filler.then(|| Observation { attempt: 3, ..story.filler("a", 1) }));
        // At least once each, at any time, and some again.
        let mut order: Vec<usize> = (0..said.len()).collect();
        for arrival in &arrivals {
            let at = arrival.index(order.len() + 1);
            order.insert(at, arrival.index(said.len()));
        }
        for index in &order {
            story.take("a", &said[*index]);
        }
        let level = story.verdict().level;
        let level_by_answers = match () {
            () if answers.contains(&Fail) => Untrusted,
            () if answers.iter().any(|status| *status != Pass) => Unknown,
            // Passes alone: they count unless the time-out came before all of them.
            () => {
                let first_pass = order.iter().position(|index| *index < answers.len());
                let first_filler = order.iter().position(|index| *index >= answers.len());
                if first_filler.is_some_and(|filler| Some(filler) < first_pass) { Unknown } else { Trusted }
            }
        };
        prop_assert_eq!(level, level_by_answers, "{:?} in order {:?}", answers, order);
    }
}
