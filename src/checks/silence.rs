//! Nodes that were down: noticed by results, because nothing else tells.
//!
//! Every check that gets no answer from a node (an error or a time-out) is noted for it. When one of these checks is
//! answered again, the node is back, and the others so noted are run for it at once instead of at their next slot, which
//! may be a day away. A check that never gets an answer has no say in that, so that one broken verifier makes nobody come
//! back again and again. Kept in memory: after a restart the schedules alone bring nodes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CheckName, NodeName};
use crate::protocol::Status;

/// The checks each node did not answer last.
#[derive(Debug, Default)]
pub struct Silence(BTreeMap<NodeName, BTreeSet<CheckName>>);

impl Silence {
    /// Takes note of outcomes of `check`. Returns the other checks to be run at once, each with the nodes that are back.
    pub fn hear(
        &mut self,
        check: &CheckName,
        outcomes: &BTreeMap<NodeName, Status>,
    ) -> BTreeMap<CheckName, BTreeSet<NodeName>> {
        let mut back: BTreeMap<CheckName, BTreeSet<NodeName>> = BTreeMap::new();
        for (node, status) in outcomes {
            match status {
                Status::Error | Status::Timeout => {
                    self.0.entry(node.clone()).or_default().insert(check.clone());
                }
                Status::Pass | Status::Fail => {
                    let Some(unanswered) = self.0.get_mut(node) else { continue };
                    if unanswered.remove(check) {
                        for other in unanswered.iter() {
                            back.entry(other.clone()).or_default().insert(node.clone());
                        }
                    }
                    if unanswered.is_empty() {
                        self.0.remove(node);
                    }
                }
            }
        }
        back
    }

    /// Forgets checks and nodes that are gone.
    pub fn keep(&mut self, is_check: impl Fn(&CheckName) -> bool, is_node: impl Fn(&NodeName) -> bool) {
        self.0.retain(|node, checks| {
            checks.retain(|check| is_check(check));
            !checks.is_empty() && is_node(node)
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn heard(silence: &mut Silence, check: &str, node: &str, status: Status) -> Vec<String> {
        let outcomes = BTreeMap::from([(node.parse().unwrap(), status)]);
        silence.hear(&check.parse().unwrap(), &outcomes).keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_that_answers_again_is_asked_everything_it_did_not_answer() {
        let mut silence = Silence::default();
        for check in ["minute", "nightly", "weekly"] {
            assert!(heard(&mut silence, check, "n1", Status::Timeout).is_empty());
        }
        assert!(heard(&mut silence, "hourly", "n1", Status::Pass).is_empty(), "what never fell silent tells nothing");
        assert!(heard(&mut silence, "minute", "n2", Status::Pass).is_empty(), "nor does another node");
        assert_eq!(heard(&mut silence, "minute", "n1", Status::Fail), ["nightly", "weekly"], "a failure is an answer");
        assert_eq!(heard(&mut silence, "nightly", "n1", Status::Pass), ["weekly"]);
        assert!(heard(&mut silence, "weekly", "n1", Status::Pass).is_empty());
        assert!(silence.0.is_empty());
    }

    #[test]
    fn a_check_that_is_never_answered_is_not_run_again_and_again() {
        let mut silence = Silence::default();
        heard(&mut silence, "broken", "n1", Status::Error);
        for _ in 0..5 {
            assert!(heard(&mut silence, "minute", "n1", Status::Pass).is_empty());
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut silence = Silence::default();
        heard(&mut silence, "a", "n1", Status::Error);
        heard(&mut silence, "b", "n1", Status::Error);
        heard(&mut silence, "b", "n2", Status::Error);
        silence.keep(|check| check.as_str() == "a", |_| true);
        assert_eq!(silence.0.len(), 1);
        silence.keep(|_| true, |_| false);
        assert!(silence.0.is_empty());
    }
}
