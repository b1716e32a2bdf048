//! The declarative file: profiles, pools, nodes, checks and maintenance windows, in YAML or JSON.
//!
//! An entry is a complete definition: what it leaves out has the service's default, so that a file always means the same.
//! Pools are the exception: what an entry leaves out of a pool that exists stays. So does a node's identity, which cannot change.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::checks::definition::{Check, NewCheck};
use crate::checks::profile::Profile;
use crate::checks::schedule::Schedule;
use crate::checks::window::GivenWindow;
use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::protocol::Mode;

/// A file, validated.
#[derive(Debug, Default)]
pub struct Definitions {
    /// Sections that are not in the file are left alone, also when pruning.
    pub profiles: Option<Vec<Profile>>,
    /// See [`PoolEntry`].
    pub pools: Option<Vec<PoolEntry>>,
    /// See [`NodeEntry`].
    pub nodes: Option<Vec<NodeEntry>>,
    /// With the defaults filled in; and whether an adapter may be missing.
    pub checks: Option<Vec<(Check, bool)>>,
    /// With their times as the service shows them.
    pub windows: Option<Vec<GivenWindow>>,
}

/// What a pool's policy says in milliseconds, as administrators give it: in seconds.
#[must_use]
pub fn pool_as_given(policy: &Value) -> Value {
    let seconds = |pointer: &str| policy.pointer(pointer).and_then(Value::as_i64).map(|ms| ms / 1000);
    let mut given = policy.clone();
    let Some(members) = given.as_object_mut() else { return given };
    members.remove("max_silence_ms");
    members.remove("flapping");
    let known = [
        ("max_silence_s", seconds("/max_silence_ms").map(Value::from)),
        ("flap_limit", policy.pointer("/flapping/limit").cloned()),
        ("flap_window_s", seconds("/flapping/window_ms").map(Value::from)),
        ("flap_hold_down_s", seconds("/flapping/hold_down_ms").map(Value::from)),
    ];
    members.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    given
}

/// A pool's policy; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolEntry {
    /// Its name.
    pub name: PoolName,
    /// What the filter does.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// How long silence is borne.
    #[serde(default)]
    pub max_silence_s: Option<i64>,
    /// Whether the node's own word counts.
    #[serde(default)]
    pub accept_self_report: Option<bool>,
    /// After how many falls a node flaps.
    #[serde(default)]
    pub flap_limit: Option<u32>,
    /// How close to one another they are.
    #[serde(default)]
    pub flap_window_s: Option<i64>,
    /// How long it is held down then.
    #[serde(default)]
    pub flap_hold_down_s: Option<i64>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its name.
    pub name: NodeName,
    /// Its labels, all of them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its host aggregates, all of them; left as they are where absent.
    #[serde(default)]
    pub aggregates: Option<BTreeSet<String>>,
    /// Its availability zone; left as it is where absent.
    #[serde(default)]
    pub zone: Option<String>,
    /// Given when it is registered; made up where absent.
    #[serde(default)]
    pub identity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    profiles: Option<Vec<Value>>,
    #[serde(default)]
    pools: Option<Vec<Value>>,
    #[serde(default)]
    nodes: Option<Vec<Value>>,
    #[serde(default)]
    checks: Option<Vec<Value>>,
    #[serde(default)]
    windows: Option<Vec<Value>>,
}

/// The members of a check that a file decides.
pub const CHECK_MEMBERS: [&str; 15] = [
    "adapter",
    "parameters",
    "schedule",
    "description",
    "targets",
    "timeout_s",
    "retries",
    "ttl_s",
    "judgement",
    "pools",
    "enabled",
    "batch_size",
    "overlap",
    "max_batches",
    "after",
];

impl Definitions {
    /// Reads YAML, of which JSON is a part.
    ///
    /// # Errors
    /// Every fault found, each naming the entry.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| vec![error.to_string()])?;
        // A list would be taken for a file's sections in their order.
        if !value.is_object() {
            return Err(vec![
                "the file has none of the sections profiles, pools, nodes, checks and windows".to_owned(),
            ]);
        }
        let written: Written = serde_json::from_value(value).map_err(|error| vec![error.to_string()])?;
        let mut faults = Vec::new();
        let definitions = Self {
            profiles: entries("profile", written.profiles, &mut faults, |value| typed(in_words(value)?)),
            pools: entries("pool", written.pools, &mut faults, typed),
            nodes: entries("node", written.nodes, &mut faults, typed),
            checks: entries("check", written.checks, &mut faults, check),
            windows: entries("window", written.windows, &mut faults, window),
        };
        if faults.is_empty() { Ok(definitions) } else { Err(faults) }
    }
}

/// Every entry of a section, or faults that name it.
fn entries<T>(
    kind: &str,
    written: Option<Vec<Value>>,
    faults: &mut Vec<String>,
    read: impl Fn(Value) -> Result<T, String>,
) -> Option<Vec<T>> {
    let mut seen = BTreeSet::new();
    let mut read_all = Vec::new();
    for (index, value) in written?.into_iter().enumerate() {
        let name = value.get("name").and_then(Value::as_str).map(str::to_owned);
        let shown = match &name {
            Some(name) => format!("{kind} {}", crate::text::display_safe_to(name, 64)),
            None => format!("{kind} number {}", index + 1),
        };
        if !seen.insert(name.clone()) && name.is_some() {
            faults.push(format!("{shown}: stands here twice"));
        }
        match read(value) {
            Ok(entry) => read_all.push(entry),
            Err(fault) => faults.push(format!("{shown}: {fault}")),
        }
    }
    Some(read_all)
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A schedule may be written as text (`every 5m`, `15 2 * * *`, in UTC) instead of an object.
fn in_words(mut entry: Value) -> Result<Value, String> {
    if let Some(Value::String(text)) = entry.get("schedule") {
        let schedule = Schedule::parse(text, None).map_err(|error| format!("schedule: {error}"))?;
        entry["schedule"] = json!(schedule);
    }
    Ok(entry)
}

fn check(value: Value) -> Result<(Check, bool), String> {
    let new: NewCheck = typed(in_words(value)?)?;
    let missing_allowed = new.allow_missing_adapter;
    let check = Check::from_new(new, String::new(), Timestamp(0));
    let faults = check.faults();
    if faults.is_empty() { Ok((check, missing_allowed)) } else { Err(faults.join("; ")) }
}

fn window(value: Value) -> Result<GivenWindow, String> {
    typed::<GivenWindow>(in_words(value)?)?.in_order()
}

/// What a file decides of a check.
#[must_use]
pub fn decided(check: &Value) -> Map<String, Value> {
    CHECK_MEMBERS.iter().map(|name| ((*name).to_owned(), check.get(name).cloned().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_file_is_read_with_the_services_defaults() {
        let text = "\
profiles:
  - name: weekdays
    schedule: {cron: '0 6 * * 1-5', zone: Europe/Berlin}
checks:
  - name: boot
    adapter: openattestation
    schedule: every 5m
    parameters: {level: 2}
nodes:
  - {name: n1, labels: {rack: r1}}
";
        let read = Definitions::parse(text).unwrap();
        let (check, missing_allowed) = &read.checks.unwrap()[0];
        assert!(!missing_allowed && check.enabled && check.targets.all);
        assert_eq!(json!(check.schedule), json!({"every": "5m"}));
        assert_eq!(json!(check.pools), json!({"default": "required"}));
        assert_eq!(read.nodes.unwrap()[0].labels["rack"], "r1");
        assert!(read.pools.is_none(), "what is not in the file is left alone");
    }

    #[test]
    fn every_fault_names_its_entry() {
        let text = "\
profiles: [{name: p, schedule: '61 * * * *'}]
pools: [{name: default, mode: strict}]
nodes: [{name: n1}, {name: n1}, {name: -x}]
checks:
  - {name: c1, adapter: command, schedule: every 5m, parameters: {limit: 1.5}}
  - {name: c2, adapter: command, schedule: every 5m, timeout_s: 0, colour: red}
";
        let faults = Definitions::parse(text).unwrap_err();
        for entry in ["profile p", "pool default", "node n1", "node -x", "check c1", "check c2"] {
            assert!(faults.iter().any(|fault| fault.starts_with(entry)), "{entry}: {faults:?}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for text in ["", "[]", "check: []", "checks: 3", "a: b: c", "checks: [&a [*a]]"] {
            assert!(Definitions::parse(text).is_err(), "{text}");
        }
    }
}
