//! Why a node has its level, as data and as a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::CheckName;

/// Why a node has its level in a pool. Where several reasons hold, the one to act on first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// trusted: every required check has a pass that counts.
    AllPassed {
        /// How many checks are required.
        checks: u32,
        /// The check whose pass expires first.
        first_to_expire: CheckName,
    },
    /// trusted by an administrator's word.
    Overridden {
        /// Who answers for it.
        owner: String,
        /// Why.
        why: String,
        /// Until when.
        until: Timestamp,
        /// What the node would be without it.
        covers: Box<Reason>,
    },
    /// untrusted: an administrator quarantined the node.
    Quarantined {
        /// Who.
        owner: String,
        /// Why.
        why: String,
        /// Since when.
        since: Timestamp,
    },
    /// untrusted: a required check failed.
    Failed {
        /// The check.
        check: CheckName,
        /// What it said.
        cause: String,
        /// Since when.
        since: Timestamp,
        /// Passes made since the last failure.
        passes: u32,
        /// Passes needed; zero where the check no longer exists and only a release helps.
        needed: u32,
        /// The end of the hold-down.
        hold_down_ends: Timestamp,
        /// How often it fell within the pool's window, where that makes it flap, so that the hold-down is longer; zero where not.
        #[serde(default, skip_serializing_if = "is_zero")]
        falls: u32,
        /// How many other checks distrust the node as well.
        others: u32,
    },
    /// unknown: the pool requires nothing of this node.
    NothingRequired,
    /// unknown: a required check is disabled.
    Disabled {
        /// The check.
        check: CheckName,
    },
    /// unknown: never passed, as far as is remembered.
    NeverPassed {
        /// The check.
        check: CheckName,
    },
    /// unknown: the last pass is too old.
    Expired {
        /// The check.
        check: CheckName,
        /// Since when it is too old.
        at: Timestamp,
    },
    /// unknown: passed under an earlier definition only.
    Redefined {
        /// The check.
        check: CheckName,
        /// The revision that has to be passed.
        revision: i64,
    },
    /// unknown: passed under an earlier boot only.
    Rebooted {
        /// The check.
        check: CheckName,
    },
    /// unknown: only the node itself says that it passes.
    OwnWord {
        /// The check.
        check: CheckName,
    },
    /// unknown: passes from before a release or registration are forgotten.
    Forgotten {
        /// The check.
        check: CheckName,
    },
    /// unknown: the pass was seen expired, dated in the future, or made during the hold-down, and does not count again.
    Spent {
        /// The check.
        check: CheckName,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllPassed { checks: 1, first_to_expire } => write!(f, "the required check {first_to_expire} passed"),
            Self::AllPassed { checks, first_to_expire } => {
                write!(f, "all {checks} required checks passed; {first_to_expire} expires first")
            }
            Self::Overridden { owner, why, until, covers } => {
                write!(f, "{owner} overrides until {until}: {why} (otherwise unknown: {covers})")
            }
            Self::Quarantined { owner, why, since } => {
                write!(f, "quarantined by {owner} since {since}: {why}; it stays until released")
            }
            Self::Failed { check, cause, since, passes, needed, hold_down_ends, falls, others } => {
                write!(f, "check {check} failed, distrusted since {since}: {cause}; ")?;
                match needed {
                    0 => f.write_str("the policy no longer has this check, so only a release ends this")?,
                    n => write!(f, "{passes} of {n} passes since, hold-down until {hold_down_ends}")?,
                }
                if *falls > 0 {
                    write!(f, ", longer because it fell {falls} times in short order (it flaps)")?;
                }
                if *others > 0 {
                    write!(f, "; {others} more failed too")?;
                }
                Ok(())
            }
            Self::NothingRequired => f.write_str("the pool requires no check that targets this node"),
            Self::Disabled { check } => write!(f, "required check {check} is disabled"),
            Self::NeverPassed { check } => write!(f, "required check {check} has not passed yet"),
            Self::Expired { check, at } => write!(f, "the last pass of required check {check} expired at {at}"),
            Self::Redefined { check, revision } => {
                write!(f, "required check {check} has not passed under its revision {revision} yet")
            }
            Self::Rebooted { check } => {
                write!(f, "required check {check} has not passed since the node's boot changed")
            }
            Self::OwnWord { check } => {
                write!(f, "required check {check} passed by the node's own word only, which this pool does not accept")
            }
            Self::Forgotten { check } => {
                write!(f, "required check {check} has not passed since the node was released or registered again")
            }
            Self::Spent { check } => write!(
                f,
                "required check {check} has no pass that still counts (expired, in the future, or from a hold-down)"
            ),
        }
    }
}
