//! A policy made ready to judge many nodes by.

use std::collections::BTreeMap;

use crate::names::{CheckName, NodeName, PoolName};
use crate::protocol::{CheckPolicy, Placement, Policy, PoolPolicy, Requirement, TargetMatcher, TargetsError};

/// One check of the policy with its targets compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The check.
    pub check: CheckPolicy,
    targets: TargetMatcher,
}

impl Rule {
    /// Whether `pool` requires this check.
    #[must_use]
    pub fn required_in(&self, pool: &PoolName) -> bool {
        self.check.pools.get(pool) == Some(&Requirement::Required)
    }
}

/// A policy made ready.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    number: i64,
    checks: BTreeMap<CheckName, Rule>,
    pools: BTreeMap<PoolName, PoolPolicy>,
}

impl Rules {
    /// Compiles `policy`.
    ///
    /// # Errors
    /// [`TargetsError`] when targets are invalid; Checks refuses those at registration, so this means a policy made by
    /// something else, and the one in force has to stay.
    pub fn new(policy: &Policy) -> Result<Self, TargetsError> {
        let mut checks = BTreeMap::new();
        for check in &policy.checks {
            let targets = TargetMatcher::new(&check.targets)?;
            checks.insert(check.name.clone(), Rule { check: check.clone(), targets });
        }
        let pools = policy.pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
        Ok(Self { number: policy.number, checks, pools })
    }

    /// The policy's number.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.number
    }

    /// The check of this name, if the policy has it.
    #[must_use]
    pub fn check(&self, name: &CheckName) -> Option<&Rule> {
        self.checks.get(name)
    }

    /// All pools.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<PoolName, PoolPolicy> {
        &self.pools
    }

    /// The checks that target a node. Costs one match per check of the policy: keep it while policy, labels and
    /// placement stay.
    #[must_use]
    pub fn targeting(
        &self,
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        placement: &Placement,
    ) -> Vec<CheckName> {
        let aimed = self.checks.values().filter(|rule| rule.targets.matches(node, labels, placement));
        aimed.map(|rule| rule.check.name.clone()).collect()
    }
}
