//! From what is wanted and what there is to what has to be done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::cli::connection::Session;
use crate::cli::definitions::{Definitions, decided, pool_as_given};
use crate::cli::error::{CliError, Exit};
use crate::cli::export;
use crate::cli::node_list::NodeList;
use crate::cli::output::word;
use crate::clock::{SystemClock, Timestamp};
use crate::names::CheckName;
use crate::rpc::table::Topic;

/// What is done to one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is not there yet.
    Create,
    /// It is otherwise.
    Change,
    /// It is there and not wanted.
    Delete,
    /// It is as wanted.
    Leave,
}

impl Action {
    /// The word shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Leave => "leave",
        }
    }
}

/// What may have to be confirmed.
const LOOSENING: [&str; 6] =
    ["check_update", "check_delete", "profile_update", "pool_update", "pool_delete", "node_update"];

/// One thing and what is done to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// `profile`, `pool`, `node`, `check` or `window`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// In words, member by member.
    pub changes: Vec<String>,
    call: Option<(Topic, &'static str, Value)>,
}

impl Step {
    /// The arguments of its call.
    pub fn arguments(&self) -> Option<&Value> {
        self.call.as_ref().map(|(_, _, arguments)| arguments)
    }

    /// Does it; where that loosens a pool, by one of the ids that were `confirmed`.
    pub async fn carry_out(&self, session: &Session, confirmed: &[String]) -> Result<(), CliError> {
        let Some((topic, method, args)) = &self.call else { return Ok(()) };
        let call = async |args: Value| match topic {
            Topic::Nodes => session.nodes(method, args).await.map(drop),
            _ => session.checks(method, args).await.map(drop),
        };
        let mut outcome = call(args.clone()).await;
        for id in confirmed.iter().filter(|_| LOOSENING.contains(method)) {
            if !matches!(&outcome, Err(error) if error.exit == Exit::Refused) {
                break;
            }
            let mut args = args.clone();
            args["confirm"] = json!(id);
            outcome = call(args).await;
        }
        outcome
    }
}

/// What the service has, by name, as far as the file is about it.
#[derive(Debug, Default)]
pub struct Current {
    profiles: BTreeMap<String, Value>,
    pools: BTreeMap<String, Value>,
    /// Of those the file does not name, only that they exist.
    nodes: BTreeMap<String, Value>,
    checks: BTreeMap<String, Value>,
    windows: BTreeMap<String, Value>,
    /// Windows that are over by then are left.
    now: Timestamp,
}

impl Current {
    /// Asks the service.
    pub async fn fetch(session: &Session, wanted: &Definitions, prune: bool) -> Result<Self, CliError> {
        let mut current = Self { now: SystemClock::shared().now(), ..Self::default() };
        if wanted.profiles.is_some() {
            current.profiles = by_name(export::rows(&session.checks("profile_list", json!({})).await?)?);
        }
        if wanted.pools.is_some() {
            current.pools = by_name(export::rows(&session.checks("pool_policies", json!({})).await?)?);
        }
        if wanted.checks.is_some() {
            current.checks = by_name(&export::checks(session).await?);
        }
        if wanted.windows.is_some() {
            current.windows = by_name(export::rows(&session.checks("window_list", json!({})).await?)?);
        }
        if let Some(nodes) = &wanted.nodes {
            let mut known = by_name(&NodeList::default().all(session).await?);
            let named: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let both = known.keys().filter(|name| named.contains(name.as_str())).map(|name| json!(name)).collect();
            let in_full = by_name(&export::shown(session, both).await?);
            if !prune {
                known.clear();
            }
            known.extend(in_full);
            current.nodes = known;
        }
        Ok(current)
    }
}

fn by_name(rows: &[Value]) -> BTreeMap<String, Value> {
    rows.iter().filter_map(|row| Some((row.get("name")?.as_str()?.to_owned(), row.clone()))).collect()
}

/// What has to be done, in an order in which it can be done.
#[must_use]
pub fn plan(wanted: &Definitions, current: &Current, prune: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for profile in wanted.profiles.iter().flatten() {
        let whole = json!(profile);
        let call = |changes: Map<String, Value>| {
            (Topic::Checks, "profile_update", with(changes, &[("name", json!(profile.name))]))
        };
        let create = (Topic::Checks, "profile_create", whole.clone());
        steps.push(step(
            "profile",
            profile.name.as_str(),
            current.profiles.get(profile.name.as_str()),
            whole,
            create,
            call,
        ));
    }
    for pool in wanted.pools.iter().flatten() {
        let there = current.pools.get(pool.name.as_str()).map(pool_as_given);
        let given = json!({
            "mode": pool.mode,
            "max_silence_s": pool.max_silence_s,
            "accept_self_report": pool.accept_self_report,
            "flap_limit": pool.flap_limit,
            "flap_window_s": pool.flap_window_s,
            "flap_hold_down_s": pool.flap_hold_down_s,
        });
        let given: Map<String, Value> = given
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let call =
            |changes: Map<String, Value>| (Topic::Checks, "pool_update", with(changes, &[("name", json!(pool.name))]));
        let create = (Topic::Checks, "pool_create", with(given.clone(), &[("name", json!(pool.name))]));
        steps.push(step("pool", pool.name.as_str(), there.as_ref(), Value::Object(given), create, call));
    }
    for node in wanted.nodes.iter().flatten() {
        let mut traits = json!({ "labels": node.labels });
        if let Some(aggregates) = &node.aggregates {
            traits["aggregates"] = json!(aggregates);
        }
        if let Some(zone) = &node.zone {
            traits["zone"] = json!(zone);
        }
        let mut create = traits.clone();
        create["name"] = json!(node.name);
        if let Some(identity) = &node.identity {
            create["identity"] = json!(identity);
        }
        let call =
            |changes: Map<String, Value>| (Topic::Nodes, "node_update", with(changes, &[("name", json!(node.name))]));
        let there = current.nodes.get(node.name.as_str());
        steps.push(step("node", node.name.as_str(), there, traits, (Topic::Nodes, "node_create", create), call));
    }
    for (check, missing_allowed) in in_order(wanted.checks.iter().flatten(), |(check, _)| {
        (check.name.as_str(), check.after.iter().map(CheckName::as_str).collect())
    }) {
        let members = decided(&json!(check));
        let allowed: &[(&str, Value)] =
            if *missing_allowed { &[("allow_missing_adapter", Value::Bool(true))] } else { &[] };
        let mut whole = with(members.clone(), allowed);
        whole["name"] = json!(check.name);
        let call = |changes: Map<String, Value>| {
            let args = json!({ "name": check.name, "changes": with(changes, allowed) });
            (Topic::Checks, "check_update", args)
        };
        let create = (Topic::Checks, "check_create", json!({ "check": whole }));
        let there = current.checks.get(check.name.as_str());
        steps.push(step("check", check.name.as_str(), there, Value::Object(members), create, call));
    }
    for window in wanted.windows.iter().flatten() {
        let (name, whole) = (window.name.as_str(), json!(window));
        let set = || (Topic::Checks, "window_set", whole.clone());
        let mut step = step("window", name, current.windows.get(name), whole.clone(), set(), |_| set());
        if window.over_at().is_some_and(|over| over <= current.now) {
            step = Step { action: Action::Leave, changes: Vec::new(), call: None, ..step };
        }
        steps.push(step);
    }
    if prune {
        steps.extend(unwanted(wanted, current));
    }
    steps
}

type Call = (Topic, &'static str, Value);

fn name_of(thing: &Value) -> &str {
    thing.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The checks that one runs after.
fn names_before(check: &Value) -> BTreeSet<&str> {
    check.get("after").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// `things` in an order in which each comes after those it names, as far as there is one.
fn in_order<'a, T>(
    things: impl Iterator<Item = &'a T>,
    names: impl Fn(&'a T) -> (&'a str, BTreeSet<&'a str>),
) -> Vec<&'a T> {
    let mut left: Vec<(&str, BTreeSet<&str>, &T)> =
        things.map(|thing| (names(thing).0, names(thing).1, thing)).collect();
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let waits: BTreeSet<&str> = left.iter().map(|(name, _, _)| *name).collect();
        let is_ready = |after: &BTreeSet<&str>| after.is_disjoint(&waits);
        let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, after, _)| is_ready(after));
        // Where they wait for one another the service says so.
        let (ready, rest) = if ready.is_empty() { (rest, ready) } else { (ready, rest) };
        ordered.extend(ready.into_iter().map(|(_, _, thing)| thing));
        left = rest;
    }
    ordered
}

/// What has to be done about one thing: `whole` is what the file says, `there` what the service has.
fn step(
    kind: &'static str,
    name: &str,
    there: Option<&Value>,
    whole: Value,
    create: Call,
    change: impl FnOnce(Map<String, Value>) -> Call,
) -> Step {
    let name = name.to_owned();
    let Some(there) = there else {
        return Step { action: Action::Create, kind, name, changes: Vec::new(), call: Some(create) };
    };
    let members = whole.as_object().cloned().unwrap_or_default();
    let differs = |(member, value): &(String, Value)| there.get(member).unwrap_or(&Value::Null) != value;
    let changed: Map<String, Value> = members.into_iter().filter(differs).collect();
    if changed.is_empty() {
        return Step { action: Action::Leave, kind, name, changes: Vec::new(), call: None };
    }
    let told = |(member, value): (&String, &Value)| {
        format!("{member}: {} -> {}", in_words(there.get(member)), in_words(Some(value)))
    };
    let changes = changed.iter().map(told).collect();
    Step { action: Action::Change, kind, name, changes, call: Some(change(changed)) }
}

fn in_words(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "(default)".to_owned(),
        Some(value) => word(value),
    }
}

fn with(mut members: Map<String, Value>, more: &[(&str, Value)]) -> Value {
    members.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(members)
}

/// What a section of the file does not name; windows first, then checks, since they use profiles and pools.
fn unwanted(wanted: &Definitions, current: &Current) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut delete = |kind, named: Option<BTreeSet<&str>>, there: &BTreeMap<String, Value>, topic, method| {
        let Some(named) = named else { return };
        let gone = there.iter().filter(|(name, _)| !named.contains(name.as_str())).map(|(_, thing)| thing);
        let ordered = in_order(gone, |thing| (name_of(thing), names_before(thing)));
        for name in ordered.into_iter().rev().map(name_of).map(str::to_owned) {
            let call = Some((topic, method, json!({ "name": name })));
            steps.push(Step { action: Action::Delete, kind, name: name.clone(), changes: Vec::new(), call });
        }
    };
    let windows = wanted.windows.as_ref().map(|all| all.iter().map(|window| window.name.as_str()).collect());
    delete("window", windows, &current.windows, Topic::Checks, "window_delete");
    let checks = wanted.checks.as_ref().map(|all| all.iter().map(|(check, _)| check.name.as_str()).collect());
    delete("check", checks, &current.checks, Topic::Checks, "check_delete");
    let profiles = wanted.profiles.as_ref().map(|all| all.iter().map(|profile| profile.name.as_str()).collect());
    delete("profile", profiles, &current.profiles, Topic::Checks, "profile_delete");
    // Pool default is always there.
    let pools = wanted.pools.as_ref().map(|all| all.iter().map(|pool| pool.name.as_str()).chain(["default"]).collect());
    delete("pool", pools, &current.pools, Topic::Checks, "pool_delete");
    let nodes = wanted.nodes.as_ref().map(|all| all.iter().map(|node| node.name.as_str()).collect());
    delete("node", nodes, &current.nodes, Topic::Nodes, "node_delete");
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
