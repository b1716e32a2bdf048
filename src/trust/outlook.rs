//! What would change a verdict, and when, as sentences for people.

use crate::protocol::Level;

use super::judge::Verdict;
use super::reason::Reason;

impl Verdict {
    /// What would change this verdict.
    #[must_use]
    pub fn outlook(&self) -> String {
        let mut told = outlook(&self.reason);
        if self.level == Level::Trusted && !self.overridden {
            told = format!("at {} it becomes unknown unless {told}", self.expires_at);
        }
        told
    }
}

fn outlook(reason: &Reason) -> String {
    match reason {
        Reason::AllPassed { first_to_expire, .. } => format!(
            "check {first_to_expire} passes again before; a failure of a required check makes it untrusted, a changed boot unknown"
        ),
        Reason::Overridden { until, covers, .. } => format!(
            "the override ends at {until}, and before that when the node's boot or identity changes, a required check fails \
             or an administrator ends it; without it: {}",
            outlook(covers)
        ),
        Reason::Quarantined { .. } => {
            "only a release by an administrator ends a quarantine; the node is then unknown and checked at once"
                .to_owned()
        }
        Reason::Failed { needed: 0, .. } => {
            "the policy has no such check any more, so only a release by an administrator ends the distrust".to_owned()
        }
        Reason::Failed { check, passes, needed, hold_down_ends, others, .. } => {
            let missing = needed.saturating_sub(*passes);
            let passes = match missing {
                0 => String::new(),
                1 => format!("one more pass of check {check}, of a run begun after the failure, and "),
                n => format!("{n} more passes of check {check}, of runs begun after the failure, and "),
            };
            let others = match others {
                0 => String::new(),
                n => format!(", and recovery from the failures of {n} more checks"),
            };
            format!(
                "to leave distrust it takes {passes}the end of the hold-down at {hold_down_ends}{others}; or a release by an \
                 administrator. It is then unknown until a pass from after that"
            )
        }
        Reason::NothingRequired => {
            "it can be trusted once a check that the pool requires is aimed at it and passes".to_owned()
        }
        Reason::Disabled { check } => format!("it can be trusted once check {check} is enabled and passes"),
        Reason::Redefined { check, revision } => {
            format!("it is trusted when check {check} passes under its revision {revision} and no other is missing")
        }
        Reason::NeverPassed { check }
        | Reason::Expired { check, .. }
        | Reason::Rebooted { check }
        | Reason::Forgotten { check }
        | Reason::Spent { check } => {
            format!("it is trusted when check {check} passes, with evidence from now on, and no other is missing")
        }
        Reason::OwnWord { check } => {
            format!("it is trusted when somebody other than the node says that check {check} passes")
        }
    }
}
