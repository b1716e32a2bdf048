//! Maintenance windows: times in which the scheduled runs of some nodes are held. A window always has an end.
//!
//! | file | owns |
//! |---|---|
//! | `when` | from when to when a window is open: once, or again and again |
//! | `opening` | which windows are open now, whatever the clock does and whenever the process was started |
//! | `holding` | who is held, and who is let go |
//! | `in_force` | windows in the role: registered, heeded, stored |
//! | `service` | what people call |
//!
//! A window changes nothing about trust: passes run out meanwhile, and what is known of a node stays. What was held runs once
//! when the window ends, every node in its own place of the splay.

pub mod holding;
mod in_force;
pub mod opening;
mod service;
pub mod when;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{CheckName, WindowName};
use crate::protocol::Targets;

pub use service::GivenWindow;
use when::When;

/// Most characters of a reason.
const LONGEST_REASON: usize = 1000;
/// Most checks a window may name.
const MOST_CHECKS: usize = 1000;

/// A maintenance window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its name.
    pub name: WindowName,
    /// Another one with every change.
    pub id: String,
    /// For people: why nothing is checked.
    pub reason: String,
    /// Whose runs are held.
    pub targets: Targets,
    /// Of which checks; of all where absent.
    #[serde(default)]
    pub checks: Option<BTreeSet<CheckName>>,
    /// When it is open.
    #[serde(flatten)]
    pub when: When,
    /// When it was made or last changed.
    pub changed_at: Timestamp,
}

impl Window {
    /// Whether it holds runs of `check`, on the nodes it is aimed at.
    #[must_use]
    pub fn is_about(&self, check: &CheckName) -> bool {
        self.checks.as_ref().is_none_or(|checks| checks.contains(check))
    }

    /// Whether both say the same, but for when that was said.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let Self { name, id: _, reason, targets, checks, when, changed_at: _ } = self;
        (name, reason, targets, checks, when)
            == (&other.name, &other.reason, &other.targets, &other.checks, &other.when)
    }

    /// Every fault of the definition by itself, as sentences.
    #[must_use]
    pub fn faults(&self, now: Timestamp) -> Vec<String> {
        let mut faults = self.when.faults(now);
        if self.reason.trim().is_empty() || self.reason.chars().count() > LONGEST_REASON {
            faults.push(format!("reason: say in 1 to {LONGEST_REASON} characters why nothing is checked"));
        }
        if let Err(error) = self.targets.validate() {
            faults.push(format!("targets: {error}"));
        }
        if self.targets == Targets::default() {
            faults.push("targets: name the nodes, or `all`".to_owned());
        }
        match &self.checks {
            Some(checks) if checks.is_empty() => faults.push("checks is empty; leave it out for all checks".to_owned()),
            Some(checks) if checks.len() > MOST_CHECKS => faults.push(format!("checks: name at most {MOST_CHECKS}")),
            _ => {}
        }
        faults
    }
}
