//! What a provider reported so far: one place per node asked about, filled at most once, worsened by contradiction.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::{NodeResult, Status};
use crate::text::{display_safe, display_safe_to};

/// How far in the future a time in a result may lie, for clocks that differ a little: 30 s.
pub(crate) const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(30);
/// Longest boot identifier kept, in characters.
const MAX_BOOT: usize = 128;

/// What became of one reported result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The first for its node.
    First,
    /// Another one for the same node; the worse of the two stands.
    Again,
    /// For a node nobody asked about; dropped.
    Unasked,
}

/// Results by node, in the order of the request.
pub(crate) struct Tally {
    slots: Vec<(NodeName, Option<NodeResult>)>,
    index: HashMap<NodeName, usize>,
}

impl Tally {
    /// An empty place for each node; a node named twice gets one.
    pub(crate) fn new(nodes: &[NodeName]) -> Self {
        let mut slots = Vec::with_capacity(nodes.len());
        let mut index = HashMap::with_capacity(nodes.len());
        for node in nodes {
            if index.contains_key(node) {
                continue;
            }
            index.insert(node.clone(), slots.len());
            slots.push((node.clone(), None));
        }
        Self { slots, index }
    }

    /// Takes one result, made safe and judged for its times at `now`.
    pub(crate) fn take(&mut self, result: NodeResult, now: Timestamp) -> Taken {
        let Some(slot) = self.index.get(&result.node).and_then(|at| self.slots.get_mut(*at)) else {
            return Taken::Unasked;
        };
        let result = sanitize(result, now);
        match &mut slot.1 {
            empty @ None => {
                *empty = Some(result);
                Taken::First
            }
            Some(stored) => {
                worsen(stored, result);
                Taken::Again
            }
        }
    }

    /// What is known of `node` so far.
    pub(crate) fn known(&self, node: &NodeName) -> Option<&NodeResult> {
        self.slots.get(*self.index.get(node)?)?.1.as_ref()
    }

    /// The nodes without a result.
    pub(crate) fn missing(&self) -> Vec<NodeName> {
        self.slots.iter().filter(|(_, result)| result.is_none()).map(|(node, _)| node.clone()).collect()
    }

    /// True when every node has a result.
    #[cfg(test)]
    fn is_full(&self) -> bool {
        self.slots.iter().all(|(_, result)| result.is_some())
    }

    /// One result per node; the missing ones become `status` with `reason`.
    pub(crate) fn finish(
        self,
        status: Status,
        reason: &str,
        requested_at: Timestamp,
        now: Timestamp,
    ) -> Vec<NodeResult> {
        self.slots
            .into_iter()
            .map(|(node, result)| {
                result.unwrap_or_else(|| NodeResult {
                    node,
                    status,
                    reason: display_safe(reason),
                    requested_at,
                    finished_at: now,
                    verified_at: None,
                    boot: None,
                    self_reported: false,
                })
            })
            .collect()
    }
}

/// Text made safe; times from the future turn the result into an error, because nothing can be said of its age.
fn sanitize(mut result: NodeResult, now: Timestamp) -> NodeResult {
    result.reason = display_safe(&result.reason);
    result.boot = result.boot.map(|boot| display_safe_to(&boot, MAX_BOOT));
    let limit = now.plus(MAX_SKEW);
    let latest = result.verified_at.unwrap_or(result.requested_at).max(result.requested_at).max(result.finished_at);
    if latest > limit {
        result.reason = display_safe(&format!(
            "the result ({}) carries a time in the future, {latest} at {now}: correct the clock of the verifier or of this adapter",
            result.status
        ));
        result.status = Status::Error;
        result.verified_at = None;
        result.requested_at = result.requested_at.min(now);
        result.finished_at = now;
    }
    // An answer cannot be older than its question.
    result.finished_at = result.finished_at.max(result.requested_at);
    result
}

/// How bad a status is: distrust outranks everything, and what could not be judged outranks a pass.
fn badness(status: Status) -> u8 {
    match status {
        Status::Pass => 0,
        Status::Timeout => 1,
        Status::Error => 2,
        Status::Fail => 3,
    }
}

fn worsen(stored: &mut NodeResult, other: NodeResult) {
    if badness(other.status) > badness(stored.status) {
        *stored = other;
        return;
    }
    if other.status == stored.status {
        // The same answer twice: as old as the older one.
        stored.requested_at = stored.requested_at.min(other.requested_at);
        stored.verified_at = match (stored.verified_at, other.verified_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        stored.self_reported |= other.self_reported;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn result(name: &str, status: Status, verified: Option<i64>) -> NodeResult {
        NodeResult {
            node: node(name),
            status,
            reason: "r".into(),
            requested_at: Timestamp(1_000),
            finished_at: Timestamp(1_000),
            verified_at: verified.map(Timestamp),
            boot: None,
            self_reported: false,
        }
    }

    #[test]
    fn times_beyond_the_skew_make_any_answer_an_error() {
        for status in [Status::Pass, Status::Fail] {
            let mut tally = Tally::new(&[node("a"), node("b")]);
            tally.take(result("a", status, Some(31_001)), Timestamp(1_000));
            tally.take(result("b", status, Some(31_000)), Timestamp(1_000));
            let results = tally.finish(Status::Timeout, "", Timestamp(0), Timestamp(1_000));
            assert_eq!(results[0].status, Status::Error, "{}", results[0].reason);
            assert_eq!(results[0].verified_at, None);
            assert_eq!(results[1].status, status);
        }
    }

    #[test]
    fn control_characters_and_length_are_cleaned() {
        let mut tally = Tally::new(&[node("a")]);
        let mut dirty = result("a", Status::Pass, None);
        dirty.reason = "\u{1b}[2J".repeat(200);
        dirty.boot = Some("b\n".repeat(500));
        tally.take(dirty, Timestamp(1_000));
        let results = tally.finish(Status::Timeout, "", Timestamp(0), Timestamp(1_000));
        assert!(results[0].reason.chars().count() <= 255 && !results[0].reason.contains('\u{1b}'));
        assert!(results[0].boot.as_ref().unwrap().chars().count() <= MAX_BOOT);
    }

    fn status() -> impl Strategy<Value = Status> {
        prop_oneof![Just(Status::Pass), Just(Status::Fail), Just(Status::Error), Just(Status::Timeout)]
    }

    proptest! {
        #[test]
        fn exactly_one_result_per_node_and_the_worst_stands(
            asked in proptest::collection::vec(0u8..6, 0..8),
            said in proptest::collection::vec((0u8..9, status()), 0..40),
        ) {
            let nodes: Vec<NodeName> = asked.iter().map(|n| node(&format!("n{n}"))).collect();
            let mut tally = Tally::new(&nodes);
            for (n, status) in &said {
                let taken = tally.take(result(&format!("n{n}"), *status, None), Timestamp(1_000));
                prop_assert_eq!(taken == Taken::Unasked, !asked.contains(n));
            }
            let full = asked.iter().all(|n| said.iter().any(|(m, _)| m == n));
            prop_assert_eq!(tally.is_full(), full);
            let results = tally.finish(Status::Timeout, "late", Timestamp(0), Timestamp(1_000));
            let mut unique = asked.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(results.len(), unique.len());
            for result in &results {
                let worst = said.iter().filter(|(n, _)| format!("n{n}") == result.node.as_str()).map(|(_, s)| badness(*s)).max();
                prop_assert_eq!(badness(result.status), worst.unwrap_or(badness(Status::Timeout)));
            }
        }
    }
}
