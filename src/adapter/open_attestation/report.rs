//! What is reported about a node, and when: verdicts at once, timeouts only when nothing better can come any more.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::{NodeResult, Status};

use super::batch::{Run, locked};
use super::reply::{Level, Said, Verdict};

impl Run<'_> {
    /// Reports every verdict; returns the nodes without one.
    pub(super) async fn report_verdicts(
        &self,
        nodes: &[NodeName],
        mut verdicts: HashMap<NodeName, Verdict>,
        requested_at: Timestamp,
    ) -> Vec<NodeName> {
        self.verifier_answers.store(true, Ordering::Relaxed);
        let mut missing = Vec::new();
        for node in nodes {
            let Some(verdict) = verdicts.remove(node) else {
                missing.push(node.clone());
                continue;
            };
            if matches!(&verdict, Ok(said) if said.level == Level::Timeout) {
                // The verifier waited for it, and so did all that were asked about with it.
                self.suspect(std::slice::from_ref(node));
            } else {
                self.provider.culprits.forget(node);
            }
            let (status, reason, at) = match verdict {
                Ok(said) => self.judge(said),
                Err(told) => (Status::Error, told, None),
            };
            self.report(node, status, &reason, requested_at, at).await;
        }
        missing
    }

    fn judge(&self, said: Said) -> (Status, String, Option<Timestamp>) {
        let at = said.at;
        match said.level {
            Level::Trusted => {
                let age = at.map(|at| self.request.now().since(at)).unwrap_or_default();
                if self.max_age.is_some_and(|limit| age > limit) {
                    let told =
                        format!("the verifier says trusted, but its verdict is {} s old (max_age_s)", age.as_secs());
                    return (Status::Error, told, at);
                }
                (Status::Pass, "the verifier says trusted".to_owned(), at)
            }
            Level::Untrusted => (
                Status::Fail,
                "the verifier says untrusted: measurements differ from its known-good values".to_owned(),
                at,
            ),
            Level::Unknown => (
                Status::Error,
                "the verifier says unknown: the host is not enrolled there, or could not be judged".to_owned(),
                at,
            ),
            Level::Timeout => {
                (Status::Timeout, "the verifier says timeout: it had no report from the host".to_owned(), at)
            }
            Level::Pending => (Status::Error, "the verifier says pending: it has no verdict yet".to_owned(), at),
            Level::Other(level) => (Status::Error, format!("the verifier gives an unknown trust level {level:?}"), at),
        }
    }

    pub(super) fn suspect(&self, nodes: &[NodeName]) {
        locked(&self.suspects).extend(nodes.iter().cloned());
    }

    /// No answer in time; said at the end, if nothing better came.
    pub(super) fn report_late(&self, nodes: &[NodeName], reason: &str, requested_at: Timestamp) {
        if nodes.len() <= 8 {
            // A small group that never got its answer is asked one by one next time.
            self.suspect(nodes);
        }
        let mut provisional = locked(&self.provisional);
        for node in nodes {
            provisional.insert(node.clone(), (Status::Timeout, reason.to_owned(), requested_at));
        }
    }

    pub(super) async fn report_all(&self, nodes: &[NodeName], reason: &str, requested_at: Timestamp) {
        for node in nodes {
            self.report(node, Status::Error, reason, requested_at, None).await;
        }
    }

    pub(super) async fn report(
        &self,
        node: &NodeName,
        status: Status,
        reason: &str,
        requested_at: Timestamp,
        at: Option<Timestamp>,
    ) {
        locked(&self.provisional).remove(node);
        let first = locked(&self.done).insert(node.clone());
        // The answers of two requests may differ: then the worse stands, so a second one only counts as a failure.
        if !first && status != Status::Fail {
            return;
        }
        let result = NodeResult {
            node: node.clone(),
            status,
            reason: reason.to_owned(),
            requested_at,
            finished_at: self.request.now(),
            verified_at: at,
            boot: None,
            self_reported: false,
        };
        // Nobody listens any more: the deadline passed.
        let _ = self.results.send(result).await;
    }
}
