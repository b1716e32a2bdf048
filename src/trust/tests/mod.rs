//! Tests of the rules: one per sentence of the design, and random histories against an oracle of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod administration;
mod attempts;
mod boots;
mod flapping;
mod histories;
mod keys;
mod levels;
mod loosening;
mod oracle;
mod recovery;
mod registration;
mod revocation;
mod stored;

use std::collections::BTreeMap;

use super::*;
use crate::clock::Timestamp;
use crate::names::{AdapterName, CheckName, DeploymentId, NodeName, PoolName};
use crate::protocol::{
    CheckPolicy, Flapping, Judgement, Level, Mode, NodeResult, Policy, PoolPolicy, Requirement, RunOrder, Status,
    Targets,
};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const START: i64 = 1_795_320_000_000;

fn check_name(name: &str) -> CheckName {
    CheckName::new(name).unwrap()
}

fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn order(run: i64) -> RunOrder {
    RunOrder { epoch: 1, run }
}

fn check(name: &str) -> CheckPolicy {
    CheckPolicy {
        name: check_name(name),
        id: format!("{name}-id"),
        revision: 1,
        adapter: AdapterName::new("tpm2").unwrap(),
        enabled: true,
        targets: Targets { all: true, ..Targets::default() },
        ttl_ms: 30 * MINUTE,
        judgement: Judgement::default(),
        pools: [(pool_name("default"), Requirement::Required)].into(),
    }
}

fn pool(name: &str) -> PoolPolicy {
    PoolPolicy {
        name: pool_name(name),
        mode: Mode::Enforce,
        max_silence_ms: 10 * MINUTE,
        accept_self_report: false,
        flapping: Flapping::default(),
    }
}

fn policy(checks: Vec<CheckPolicy>) -> Policy {
    Policy {
        deployment: DeploymentId::new("test").unwrap(),
        epoch: 1,
        number: 1,
        issued_at: Timestamp(START),
        checks,
        pools: vec![pool("default")],
    }
}

/// A node in pool `default`, a policy and a clock.
struct Story {
    node: NodeTrust,
    policy: Policy,
    now: Timestamp,
}

impl Story {
    fn of(checks: Vec<CheckPolicy>) -> Self {
        Self { node: NodeTrust::new("uuid-1"), policy: policy(checks), now: Timestamp(START) }
    }

    /// One check `a`.
    fn one() -> Self {
        Self::of(vec![check("a")])
    }

    fn judged_by(judgement: Judgement) -> Self {
        Self::of(vec![CheckPolicy { judgement, ..check("a") }])
    }

    fn rules(&self) -> Rules {
        Rules::new(&self.policy).unwrap()
    }

    fn check_mut(&mut self, name: &str) -> &mut CheckPolicy {
        self.policy.checks.iter_mut().find(|check| check.name.as_str() == name).unwrap()
    }

    fn wait(&mut self, ms: i64) -> &mut Self {
        self.now.0 += ms;
        self
    }

    /// A result of check `name` whose run began and was answered now.
    fn seen(&self, name: &str, run: i64, status: Status) -> Observation {
        let definition = self.policy.checks.iter().find(|check| check.name.as_str() == name);
        Observation {
            order: order(run),
            attempt: 1,
            check_id: definition.map_or_else(|| format!("{name}-id"), |check| check.id.clone()),
            revision: definition.map_or(1, |check| check.revision),
            issued_at: self.now,
            reporter: Reporter::Adapter,
            reported_by: None,
            ticket_by: None,
            result: NodeResult {
                node: NodeName::new("n1").unwrap(),
                status,
                reason: format!("{status} of run {run}"),
                requested_at: self.now,
                finished_at: self.now,
                verified_at: None,
                boot: None,
                self_reported: false,
            },
        }
    }

    fn filler(&self, name: &str, run: i64) -> Observation {
        Observation { reporter: Reporter::Checks, ..self.seen(name, run, Status::Timeout) }
    }

    fn take(&mut self, name: &str, seen: &Observation) -> Folded {
        let rules = self.rules();
        let folded = self.node.record(&rules, &check_name(name), seen, self.now).folded;
        // What is stored must be what was decided on.
        let stored = serde_json::to_string(&self.node).unwrap();
        assert_eq!(serde_json::from_str::<NodeTrust>(&stored).unwrap(), self.node);
        folded
    }

    /// Check `a` says `status` in run `run`, begun and answered now.
    fn run(&mut self, run: i64, status: Status) -> Folded {
        let seen = self.seen("a", run, status);
        self.take("a", &seen)
    }

    fn verdict(&mut self) -> Verdict {
        self.verdict_in("default")
    }

    fn verdict_in(&mut self, pool: &str) -> Verdict {
        let rules = self.rules();
        let targeting =
            rules.targeting(&NodeName::new("n1").unwrap(), &BTreeMap::new(), &crate::protocol::Placement::default());
        self.node
            .review(&rules, &targeting, self.now)
            .verdicts
            .remove(&pool_name(pool))
            .map(|verdict| *verdict)
            .unwrap()
    }

    #[track_caller]
    fn is(&mut self, level: Level) -> &mut Self {
        let verdict = self.verdict();
        assert_eq!(verdict.level, level, "{}", verdict.reason);
        self
    }

    /// Judged by `judge` alone, with nothing settled.
    fn unsettled(&self) -> Verdict {
        let rules = self.rules();
        let names =
            rules.targeting(&NodeName::new("n1").unwrap(), &BTreeMap::new(), &crate::protocol::Placement::default());
        let none = Standing::default();
        let standing = self.node.standings.get("default").map_or(&none, |standing| standing.as_ref());
        let targeting = names.iter().filter_map(|name| rules.check(name));
        judge(&rules.pools()[&pool_name("default")], &rules, targeting, &self.node, standing, self.now)
    }
}
