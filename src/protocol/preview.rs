//! What a policy would change, before it is in force.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names::{NodeName, PoolName};

use super::policy::{CheckPolicy, PoolPolicy};
use super::publication::Level;

/// Most nodes that are named of one change; of more there is only the number.
pub const MOST_NAMED: usize = 1000;

/// What Checks asks Nodes: what would this change?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The number of the policy it would follow; Nodes has to judge by it first.
    pub follows: i64,
    /// All checks there would be.
    pub checks: Vec<CheckPolicy>,
    /// All pools there would be.
    pub pools: Vec<PoolPolicy>,
}

/// The answer: every node judged under the policy in force and under the candidate, at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// How many nodes were judged.
    pub nodes: usize,
    /// Who would have another level, by pool and levels.
    pub changes: Vec<LevelChange>,
}

/// Nodes that would go from one level to another in a pool. A pool that is not there has nobody but unknown nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelChange {
    /// The pool.
    pub pool: PoolName,
    /// Their level now.
    pub from: Level,
    /// What it would be.
    pub to: Level,
    /// How many.
    pub count: usize,
    /// The first of them by name, [`MOST_NAMED`] at most.
    pub nodes: BTreeSet<NodeName>,
}

impl LevelChange {
    /// Whether the nodes would be better trusted than now.
    #[must_use]
    pub fn raises(&self) -> bool {
        self.to > self.from
    }
}

impl Preview {
    /// Those who would be raised.
    pub fn raised(&self) -> impl Iterator<Item = &LevelChange> {
        self.changes.iter().filter(|change| change.raises())
    }

    /// Whether nobody is raised here who is not raised in `shown`, too. Where not all are named, their number decides.
    #[must_use]
    pub fn raises_no_more_than(&self, shown: &Self) -> bool {
        self.raised().all(|change| {
            let of =
                |other: &&LevelChange| (&other.pool, other.from, other.to) == (&change.pool, change.from, change.to);
            shown.changes.iter().find(of).is_some_and(|other| {
                let all_named = other.count == other.nodes.len() && change.count == change.nodes.len();
                if all_named { change.nodes.is_subset(&other.nodes) } else { change.count <= other.count }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn preview(from: Level, to: Level, count: usize, nodes: &[&str]) -> Preview {
        let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
        Preview { nodes: 9, changes: vec![LevelChange { pool: "default".parse().unwrap(), from, to, count, nodes }] }
    }

    #[test]
    fn somebody_else_or_somebody_more_is_more_than_was_shown() {
        use Level::{Trusted, Unknown, Untrusted};
        let shown = preview(Unknown, Trusted, 2, &["a", "b"]);
        for (now, holds) in [
            (preview(Unknown, Trusted, 2, &["a", "b"]), true),
            (preview(Unknown, Trusted, 1, &["b"]), true),
            (preview(Unknown, Trusted, 2, &["a", "c"]), false),
            (preview(Unknown, Trusted, 3, &["a", "b", "c"]), false),
            (preview(Untrusted, Trusted, 1, &["a"]), false),
            (preview(Trusted, Unknown, 7, &[]), true),
            (preview(Unknown, Trusted, 5000, &["a", "b"]), false),
            (Preview::default(), true),
        ] {
            assert_eq!(now.raises_no_more_than(&shown), holds, "{now:?}");
        }
        let many = preview(Unknown, Trusted, 5000, &["a", "b"]);
        assert!(preview(Unknown, Trusted, 4999, &["b", "c"]).raises_no_more_than(&many));
        assert!(!preview(Unknown, Trusted, 5001, &["a", "b"]).raises_no_more_than(&many));
    }
}
