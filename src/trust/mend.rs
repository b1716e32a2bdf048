//! What a clock that was far ahead has dated does not bind a node until that time has come.

use crate::clock::Timestamp;

use super::MAX_SKEW;
use super::node::NodeTrust;

impl NodeTrust {
    /// Once the clock is set right, a release, a failure, a change of boot and spent evidence of times to come count as of now: the node stays what it is,
    /// and leaves it as it would have without them. True where something changed.
    pub(super) fn mend_clock(&mut self, now: Timestamp) -> bool {
        let limit = now.plus(MAX_SKEW);
        let mut changed = self.facts.boots.mend_clock(limit, now);
        if self.facts.forget_up_to.is_some_and(|at| at > limit) {
            self.facts.forget_up_to = Some(now);
            self.checks.values_mut().for_each(|state| state.forget_passes());
            changed = true;
        }
        let failures =
            self.checks.values_mut().flat_map(|state| &mut state.failures).map(|failure| &mut failure.failed_at);
        let distrust = self.standings.values_mut().flat_map(|standing| standing.distrust.values_mut());
        for failed_at in failures.chain(distrust.map(|distrust| &mut distrust.failed_at)).filter(|at| **at > limit) {
            *failed_at = now;
            changed = true;
        }
        for standing in self.standings.values_mut() {
            changed |= standing.mend_falls(limit, now);
            for (check, spent) in
                standing.spent.iter_mut().filter(|(_, spent)| spent.evidence.is_some_and(|at| at > limit))
            {
                // All passes there are, and none that comes.
                let newest = self.checks.get(check).and_then(|state| state.passes.iter().map(|pass| pass.order).max());
                spent.run = spent.run.max(newest);
                spent.evidence = None;
                changed = true;
            }
        }
        changed
    }
}
