//! What in a new policy asks for less than the old one. Loosening raises nobody until an administrator has confirmed it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{CheckName, PoolName};
use crate::protocol::{CheckPolicy, Mode, Policy, PoolPolicy, Requirement, Targets};

/// One way in which the new policy asks for less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loosening {
    /// The check, where it is about one.
    pub check: Option<CheckName>,
    /// The pool, where it is about one.
    pub pool: Option<PoolName>,
    /// What is loosened.
    pub what: Loosened,
}

/// What is loosened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loosened {
    /// A required check no longer exists.
    Deleted,
    /// A pool no longer requires the check.
    NotRequired,
    /// The check was made again under its name.
    Recreated,
    /// What the check does was changed.
    Revised,
    /// A disabled check that held nodes back is enabled again.
    Enabled,
    /// A node may no longer be targeted.
    TargetsNarrowed,
    /// A pass counts for longer.
    Ttl {
        /// Before, in milliseconds.
        from: i64,
        /// After.
        to: i64,
    },
    /// More failures are forgiven.
    FailAfter {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// Fewer passes end distrust.
    RecoverAfter {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// Distrust may end earlier.
    HoldDown {
        /// Before, in milliseconds.
        from: i64,
        /// After.
        to: i64,
    },
    /// The node's own word counts.
    SelfReport,
    /// The filter enforces less.
    Mode {
        /// Before.
        from: Mode,
        /// After.
        to: Mode,
    },
    /// A node flaps after more falls, or never.
    FlapLimit {
        /// Before; 0 for never.
        from: u32,
        /// After.
        to: u32,
    },
    /// Falls have to be closer to one another to count.
    FlapWindow {
        /// Before, in milliseconds.
        from: i64,
        /// After.
        to: i64,
    },
    /// A node that flaps may be trusted earlier.
    FlapHoldDown {
        /// Before, in milliseconds.
        from: i64,
        /// After.
        to: i64,
    },
    /// Readers believe the last word for longer.
    MaxSilence {
        /// Before, in milliseconds.
        from: i64,
        /// After.
        to: i64,
    },
}

impl fmt::Display for Loosening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = self.check.as_ref().map_or("", CheckName::as_str);
        let pool = self.pool.as_ref().map_or("", PoolName::as_str);
        match &self.what {
            Loosened::Deleted => write!(f, "pool {pool} required check {check}, which is deleted"),
            Loosened::NotRequired => write!(f, "pool {pool} no longer requires check {check}"),
            Loosened::Recreated => write!(f, "check {check} is another check now, under the same name"),
            Loosened::Revised => write!(f, "check {check} now does something else (a new revision)"),
            Loosened::Enabled => write!(f, "check {check} was disabled, which kept its nodes unknown, and is enabled"),
            Loosened::TargetsNarrowed => write!(f, "check {check} may no longer target some nodes it targeted"),
            Loosened::Ttl { from, to } => write!(f, "a pass of check {check} counts for {to} ms instead of {from} ms"),
            Loosened::FailAfter { from, to } => {
                write!(f, "check {check} distrusts after {to} failures in a row instead of {from}")
            }
            Loosened::RecoverAfter { from, to } => {
                write!(f, "distrust by check {check} ends after {to} passes instead of {from}")
            }
            Loosened::HoldDown { from, to } => {
                write!(f, "distrust by check {check} may end after {to} ms instead of {from} ms")
            }
            Loosened::SelfReport => write!(f, "pool {pool} now accepts a node's own word as a pass"),
            Loosened::Mode { from, to } => write!(f, "pool {pool} goes from {} to {}", mode(*from), mode(*to)),
            Loosened::FlapLimit { from, to: 0 } => {
                write!(
                    f,
                    "no node of pool {pool} flaps any more, however often it falls, instead of after {from} falls"
                )
            }
            Loosened::FlapLimit { from, to } => {
                write!(f, "a node of pool {pool} flaps after {to} falls instead of {from}")
            }
            Loosened::FlapWindow { from, to } => {
                write!(f, "falls in pool {pool} count together for {to} ms instead of {from} ms")
            }
            Loosened::FlapHoldDown { from, to } => {
                write!(f, "distrust of a node that flaps in pool {pool} may end after {to} ms instead of {from} ms")
            }
            Loosened::MaxSilence { from, to } => {
                write!(f, "readers of pool {pool} believe the last word for {to} ms instead of {from} ms")
            }
        }
    }
}

/// Everything in `new` that asks for less than `old`; empty when nobody can be raised by it.
#[must_use]
pub fn loosens(old: &Policy, new: &Policy) -> Vec<Loosening> {
    let mut found = Vec::new();
    let checks: BTreeMap<&CheckName, &CheckPolicy> = new.checks.iter().map(|check| (&check.name, check)).collect();
    for before in &old.checks {
        match checks.get(&before.name) {
            Some(after) => check_loosens(before, after, &mut found),
            None => {
                let required = before.pools.iter().filter(|(_, need)| **need == Requirement::Required);
                found.extend(required.map(|(pool, _)| on(Some(before), Some(pool), Loosened::Deleted)));
            }
        }
    }
    let pools: BTreeMap<&PoolName, &PoolPolicy> = new.pools.iter().map(|pool| (&pool.name, pool)).collect();
    for before in &old.pools {
        // A pool that is gone matches no host, so deleting one raises nobody.
        if let Some(after) = pools.get(&before.name) {
            pool_loosens(before, after, &mut found);
        }
    }
    found
}

fn on(check: Option<&CheckPolicy>, pool: Option<&PoolName>, what: Loosened) -> Loosening {
    Loosening { check: check.map(|check| check.name.clone()), pool: pool.cloned(), what }
}

fn check_loosens(old: &CheckPolicy, new: &CheckPolicy, found: &mut Vec<Loosening>) {
    let required: Vec<_> =
        old.pools.iter().filter(|(_, n)| **n == Requirement::Required).map(|(pool, _)| pool).collect();
    if required.is_empty() {
        // It decided nothing, so nothing can become looser.
        return;
    }
    for pool in required {
        if new.pools.get(pool) != Some(&Requirement::Required) {
            found.push(on(Some(old), Some(pool), Loosened::NotRequired));
        }
    }
    let mut note = |applies: bool, what: Loosened| {
        if applies {
            found.push(on(Some(old), None, what));
        }
    };
    note(old.id != new.id, Loosened::Recreated);
    let redone = old.revision != new.revision || old.adapter != new.adapter;
    note(old.id == new.id && redone, Loosened::Revised);
    note(!old.enabled && new.enabled, Loosened::Enabled);
    note(!covers(&new.targets, &old.targets), Loosened::TargetsNarrowed);
    note(new.ttl_ms > old.ttl_ms, Loosened::Ttl { from: old.ttl_ms, to: new.ttl_ms });
    let (before, after) = (old.judgement, new.judgement);
    let fail = Loosened::FailAfter { from: before.fail_after, to: after.fail_after };
    note(after.fail_after > before.fail_after, fail);
    let recover = Loosened::RecoverAfter { from: before.recover_after, to: after.recover_after };
    note(after.recover_after < before.recover_after, recover);
    let hold = Loosened::HoldDown { from: before.hold_down_ms, to: after.hold_down_ms };
    note(after.hold_down_ms < before.hold_down_ms, hold);
}

/// Whether everyone whom `old` targets is certainly targeted by `new`. Patterns are compared as texts.
fn covers(new: &Targets, old: &Targets) -> bool {
    if new.all {
        return true;
    }
    let labels = |targets: &Targets| !targets.labels.is_empty();
    // Fewer labels asked for match more nodes.
    let labels_cover = !labels(old) || (labels(new) && new.labels.iter().all(|(k, v)| old.labels.get(k) == Some(v)));
    let placement = new.aggregates.is_superset(&old.aggregates) && new.zones.is_superset(&old.zones);
    !old.all
        && new.nodes.is_superset(&old.nodes)
        && new.patterns.is_superset(&old.patterns)
        && placement
        && labels_cover
}

fn pool_loosens(old: &PoolPolicy, new: &PoolPolicy, found: &mut Vec<Loosening>) {
    let mut note = |applies: bool, what: Loosened| {
        if applies {
            found.push(on(None, Some(&old.name), what));
        }
    };
    note(!old.accept_self_report && new.accept_self_report, Loosened::SelfReport);
    note(strictness(new.mode) < strictness(old.mode), Loosened::Mode { from: old.mode, to: new.mode });
    let silence = Loosened::MaxSilence { from: old.max_silence_ms, to: new.max_silence_ms };
    note(new.max_silence_ms > old.max_silence_ms, silence);
    let (before, after) = (old.flapping, new.flapping);
    if before.limit > 0 {
        let rarer = after.limit == 0 || after.limit > before.limit;
        note(rarer, Loosened::FlapLimit { from: before.limit, to: after.limit });
        let window = Loosened::FlapWindow { from: before.window_ms, to: after.window_ms };
        note(after.window_ms < before.window_ms, window);
        let hold = Loosened::FlapHoldDown { from: before.hold_down_ms, to: after.hold_down_ms };
        note(after.hold_down_ms < before.hold_down_ms, hold);
    }
}

fn strictness(mode: Mode) -> u8 {
    match mode {
        Mode::Observe => 0,
        Mode::Soft => 1,
        Mode::Enforce => 2,
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Soft => "soft",
        Mode::Enforce => "enforce",
    }
}
