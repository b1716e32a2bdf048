//! How definitions, runs and the role's health are shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checks::definition::Check;
use crate::checks::lateness::LATE;
use crate::checks::run::Run;
use crate::checks::schedule::Schedule;
use crate::checks::{Checks, State};
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, WindowName};
use crate::protocol::TargetMatcher;

/// How many future runs are shown.
const NEXT_RUNS: usize = 5;
/// How many nodes that wait are named.
const MOST_NAMED: usize = 10;
/// How many instances of adapters that lack something are told of.
const MOST_FAULTS: usize = 20;

impl Checks {
    pub(super) fn summary(&self, state: &State, check: &Check) -> Value {
        let next = state
            .registry
            .schedule_of(check)
            .ok()
            .and_then(|schedule| schedule.next_after(state.anchor(check), self.clock.now()));
        json!({
            "name": check.name,
            "adapter": check.adapter,
            "enabled": check.enabled,
            "revision": check.revision,
            "schedule": check.schedule,
            "targets": check.targets,
            "pools": check.pools,
            "adapter_alive": state.adapters.is_alive(&check.adapter, self.clock.monotonic()),
            "next_run": next.filter(|_| check.enabled).map(|at| at.to_string()),
        })
    }

    pub(super) fn details(&self, state: &State, check: &Check) -> Value {
        let mut details = serde_json::to_value(check).unwrap_or_default();
        let schedule = state.registry.schedule_of(check).ok();
        let next: Vec<Value> =
            schedule.map(|schedule| next_runs(schedule, state.anchor(check), self.clock.now())).unwrap_or_default();
        let mut warnings = Vec::new();
        if !state.adapters.is_alive(&check.adapter, self.clock.monotonic()) {
            warnings
                .push(format!("no living adapter named {}; until one starts, every result is an error", check.adapter));
        }
        for other in
            check.after.iter().filter_map(|name| state.registry.checks.get(name)).filter(|other| !other.enabled)
        {
            let name = &other.name;
            warnings.push(format!(
                "check {name}, which has to be passed before, is disabled; once its passes expire this one runs nowhere"
            ));
        }
        let ttl = state.registry.ttl_of(check).map(|ttl| ttl.as_secs()).ok();
        if let Some(members) = details.as_object_mut() {
            members.insert("next_runs".to_owned(), json!(if check.enabled { next } else { Vec::new() }));
            members.insert("effective_ttl_s".to_owned(), json!(ttl));
            members.insert("splay_s".to_owned(), json!(state.registry.splay_of(check).as_secs()));
            members.insert("effective_schedule".to_owned(), json!(schedule));
            members.insert("nodes".to_owned(), json!(state.aimed_at(check).len()));
            members.insert("waiting".to_owned(), json!(state.planner.waiting.count(&check.name)));
            let waits = state.planner.prerequisites.waiting(&check.name);
            members.insert(
                "not_passed_before".to_owned(),
                json!({ "nodes": waits.len(), "some": waits.take(MOST_NAMED).collect::<Vec<_>>() }),
            );
            members.insert("held".to_owned(), json!(state.planner.holding.count(&check.name)));
            members
                .insert("last_run".to_owned(), json!(state.runs.latest().find(|run| run.check == check.name).map(run)));
            members.insert("slots".to_owned(), state.planner.ledger.show(&check.name));
            members.insert("warnings".to_owned(), json!(warnings));
            members.insert("created_at".to_owned(), json!(check.created_at.to_string()));
            members.insert("changed_at".to_owned(), json!(check.changed_at.to_string()));
        }
        details
    }

    pub(super) fn adapters(&self, state: &State) -> Value {
        let now = self.clock.monotonic();
        let shown = state.adapters.schemas().map(|(name, schema)| {
            let instances: BTreeMap<&str, usize> = state.adapters.instances(name, now).collect();
            let uses = |check: &&Check| check.adapter.as_str() == name;
            let checks: Vec<&CheckName> =
                state.registry.checks.values().filter(uses).map(|check| &check.name).collect();
            json!({
                "name": name,
                "alive": instances.len(),
                "instances": instances,
                "checks": checks,
                "schema": schema,
            })
        });
        shown.collect()
    }

    pub(super) fn status(&self, state: &State, dead_letters: Option<u32>) -> Value {
        let now = self.now();
        let adapters: BTreeMap<&str, usize> = state.adapters.alive(now.monotonic).collect();
        let faults = state.adapters.faults(now.monotonic).take(MOST_FAULTS);
        let faults: Vec<String> =
            faults.map(|(adapter, instance, fault)| format!("adapter {adapter} ({instance}): {fault}")).collect();
        let (late, missed) = state.planner.ledger.late_and_missed();
        let past_end = state.runs.past_end(now);
        let open = state.planner.holding.openings.open_until(now);
        let windows: BTreeMap<&WindowName, String> =
            open.map(|(window, until)| (&window.name, until.to_string())).collect();
        let behind: BTreeMap<&CheckName, u64> = state
            .behind(now.utc)
            .into_iter()
            .filter(|(_, behind)| *behind > LATE)
            .map(|(check, behind)| (check, behind.as_secs()))
            .collect();
        json!({
            "role": "checks",
            "database": self.database.health().as_json(),
            "deployment": self.identity.deployment,
            "epoch": self.epoch,
            "policy_number": state.policy_number,
            "checks": state.registry.checks.len(),
            "enabled_checks": state.registry.checks.values().filter(|check| check.enabled).count(),
            "known_nodes": state.inventory.len(),
            "outstanding": state.runs.outstanding(),
            "overdue": past_end.unreported,
            "late_slots": late,
            "missed_slots": missed,
            "waiting": state.planner.waiting.checks().map(|check| state.planner.waiting.count(check)).sum::<usize>(),
            "held": state.planner.holding.total(),
            "not_passed_before": state.planner.prerequisites.total(),
            "windows_open": windows,
            "late": past_end.results,
            "behind": behind,
            "health": self.health.report().details,
            "adapters": adapters,
            "adapter_faults": faults,
            "dead_letters": dead_letters,
            "unsigned_admin": self.identity.unsigned_admin,
            "key_id": self.identity.key.key_id(),
            "key_fault": self.identity.own_key_fault(),
            "trust_store": self.identity.trust.report(),
        })
    }
}

impl State {
    pub(super) fn aimed_at(&self, check: &Check) -> Vec<NodeName> {
        let Ok(matcher) = TargetMatcher::new(&check.targets) else { return Vec::new() };
        let aimed = self.inventory.iter().filter(|(node, traits)| matcher.means(node, traits));
        aimed.map(|(node, _)| node.clone()).collect()
    }

    /// From when an interval schedule counts, for showing its next runs.
    pub(super) fn anchor(&self, check: &Check) -> Timestamp {
        self.planner.last_slot(&check.name).unwrap_or(check.changed_at)
    }

    pub(super) fn profiles(&self, now: Timestamp) -> Value {
        let profiles = self.registry.profiles.values().map(|profile| {
            let users: Vec<&CheckName> = self.registry.users_of(&profile.name).map(|check| &check.name).collect();
            json!({
                "name": profile.name,
                "schedule": profile.schedule,
                "description": profile.description,
                "used_by": users,
                // An interval counts from when a check came to it; shown as for one that does so now.
                "next_runs": next_runs(&profile.schedule, now, now),
            })
        });
        profiles.collect()
    }
}

/// The next runs of a schedule, in UTC and in its zone.
fn next_runs(schedule: &Schedule, anchor: Timestamp, now: Timestamp) -> Vec<Value> {
    let local = |at: Timestamp| at.to_utc().map(|at| at.with_timezone(&schedule.zone()).to_rfc3339());
    let runs = schedule.next_runs(anchor, now, NEXT_RUNS).into_iter();
    runs.map(|at| json!({ "utc": at.to_string(), "local": local(at) })).collect()
}

/// A run as it is shown.
pub(super) fn run(run: &Run) -> Value {
    json!({
        "run": run.order.to_string(),
        "check": run.check,
        "cause": run.cause,
        "started_at": run.started_at.to_string(),
        "finished_at": run.finished_at.map(|at| at.to_string()),
        "nodes": run.total,
        "done": run.done(),
        "outcomes": run.outcomes,
        "attempts": run.attempts,
        "recasts": run.recasts,
        "unheard": run.unheard,
        "finished": run.finished_at.is_some(),
    })
}
