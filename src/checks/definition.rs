//! What an administrator registers as a check.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checks::profile::ScheduleRef;
use crate::clock::Timestamp;
use crate::names::{AdapterName, CheckName, PoolName};
use crate::protocol::ticket::{DEFAULT_RETRIES, MAX_RETRIES};
use crate::protocol::{Judgement, Requirement, Targets};

/// A registered check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name; unique while it exists.
    pub name: CheckName,
    /// Its id; never shared with a check of the same name made later.
    pub id: String,
    /// Counts changes of *what* is checked (adapter, parameters); passes of older revisions do not count.
    pub revision: i64,
    /// For people.
    pub description: String,
    /// Who carries it out.
    pub adapter: AdapterName,
    /// With what parameters; they match the adapter's schema.
    pub parameters: Map<String, Value>,
    /// For which nodes.
    pub targets: Targets,
    /// When.
    pub schedule: ScheduleRef,
    /// How long one batch may take, retries included; 1 to 1200 s.
    pub timeout_s: i64,
    /// How often the adapter asks again after a transport error, within the timeout; 0 to 10.
    #[serde(default = "default_retries")]
    pub retries: i64,
    /// How long a pass counts; derived from the schedule where absent.
    pub ttl_s: Option<i64>,
    /// How results become trust.
    pub judgement: Judgement,
    /// In which pools it counts.
    pub pools: BTreeMap<PoolName, Requirement>,
    /// Whether it runs.
    pub enabled: bool,
    /// Most nodes in one batch; 1 to 200.
    pub batch_size: i64,
    /// What becomes of a node that is due while its last run is not over.
    #[serde(default)]
    pub overlap: Overlap,
    /// Most batches of its scheduled runs under way at a time, 1 to 1000; as many as there are where absent.
    #[serde(default)]
    pub max_batches: Option<i64>,
    /// A run includes only nodes that have passed all of these: a pass of theirs that counts still, under their present definition.
    #[serde(default)]
    pub after: BTreeSet<CheckName>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub changed_at: Timestamp,
}

/// What becomes of a node that is due while an outcome of the same check is awaited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is left out of this slot.
    #[default]
    Skip,
    /// It waits, and is checked once as soon as the outcome is there, however many slots passed meanwhile.
    Queue,
}

/// What `check_create` takes; everything but the name, adapter and schedule has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCheck {
    /// See [`Check::name`].
    pub name: CheckName,
    /// See [`Check::adapter`].
    pub adapter: AdapterName,
    /// See [`Check::schedule`].
    pub schedule: ScheduleRef,
    /// See [`Check::description`].
    #[serde(default)]
    pub description: String,
    /// See [`Check::parameters`].
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// All nodes where absent.
    #[serde(default)]
    pub targets: Option<Targets>,
    /// 60 s where absent.
    #[serde(default)]
    pub timeout_s: Option<i64>,
    /// See [`Check::retries`]; 2 where absent.
    #[serde(default)]
    pub retries: Option<i64>,
    /// See [`Check::ttl_s`].
    #[serde(default)]
    pub ttl_s: Option<i64>,
    /// See [`Check::judgement`].
    #[serde(default)]
    pub judgement: Judgement,
    /// Required in pool `default` where absent.
    #[serde(default)]
    pub pools: Option<BTreeMap<PoolName, Requirement>>,
    /// True where absent.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// 100 where absent.
    #[serde(default)]
    pub batch_size: Option<i64>,
    /// See [`Check::overlap`].
    #[serde(default)]
    pub overlap: Overlap,
    /// See [`Check::max_batches`].
    #[serde(default)]
    pub max_batches: Option<i64>,
    /// See [`Check::after`].
    #[serde(default)]
    pub after: BTreeSet<CheckName>,
    /// Registers the check although no adapter of that name has announced itself.
    #[serde(default)]
    pub allow_missing_adapter: bool,
}

/// What `check_update` can change; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckChanges {
    /// See [`Check::adapter`]; a new revision.
    pub adapter: Option<AdapterName>,
    /// See [`Check::parameters`]; a new revision.
    pub parameters: Option<Map<String, Value>>,
    /// See [`Check::schedule`].
    pub schedule: Option<ScheduleRef>,
    /// See [`Check::description`].
    pub description: Option<String>,
    /// See [`Check::targets`].
    pub targets: Option<Targets>,
    /// See [`Check::timeout_s`].
    pub timeout_s: Option<i64>,
    /// See [`Check::retries`].
    pub retries: Option<i64>,
    /// See [`Check::ttl_s`]; null derives it again.
    #[serde(deserialize_with = "present")]
    pub ttl_s: Option<Option<i64>>,
    /// See [`Check::judgement`].
    pub judgement: Option<Judgement>,
    /// See [`Check::pools`].
    pub pools: Option<BTreeMap<PoolName, Requirement>>,
    /// See [`Check::enabled`].
    pub enabled: Option<bool>,
    /// See [`Check::batch_size`].
    pub batch_size: Option<i64>,
    /// See [`Check::overlap`].
    pub overlap: Option<Overlap>,
    /// See [`Check::max_batches`]; null lifts the limit.
    #[serde(deserialize_with = "present")]
    pub max_batches: Option<Option<i64>>,
    /// See [`Check::after`].
    pub after: Option<BTreeSet<CheckName>>,
    /// See [`NewCheck::allow_missing_adapter`].
    pub allow_missing_adapter: bool,
}

/// Most checks one waits for.
const MAX_AFTER: i64 = 16;

fn default_retries() -> i64 {
    DEFAULT_RETRIES
}

/// Tells an explicit null from an absent member.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::<i64>::deserialize(deserializer).map(Some)
}

impl Check {
    /// The check a [`NewCheck`] asks for, at revision 1.
    #[must_use]
    pub fn from_new(new: NewCheck, id: String, now: Timestamp) -> Self {
        let in_default = || {
            let default = PoolName::new("default").ok()?;
            Some(BTreeMap::from([(default, Requirement::Required)]))
        };
        Self {
            name: new.name,
            id,
            revision: 1,
            description: new.description,
            adapter: new.adapter,
            parameters: new.parameters,
            targets: new.targets.unwrap_or(Targets { all: true, ..Targets::default() }),
            schedule: new.schedule,
            timeout_s: new.timeout_s.unwrap_or(60),
            retries: new.retries.unwrap_or(DEFAULT_RETRIES),
            ttl_s: new.ttl_s,
            judgement: new.judgement,
            pools: new.pools.or_else(in_default).unwrap_or_default(),
            enabled: new.enabled.unwrap_or(true),
            batch_size: new.batch_size.unwrap_or(100),
            overlap: new.overlap,
            max_batches: new.max_batches,
            after: new.after,
            created_at: now,
            changed_at: now,
        }
    }

    /// This check with `changes`; the revision counts up where *what* is checked changed.
    #[must_use]
    pub fn changed(&self, changes: CheckChanges, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.adapter = changes.adapter.unwrap_or(next.adapter);
        next.parameters = changes.parameters.unwrap_or(next.parameters);
        next.schedule = changes.schedule.unwrap_or(next.schedule);
        next.description = changes.description.unwrap_or(next.description);
        next.targets = changes.targets.unwrap_or(next.targets);
        next.timeout_s = changes.timeout_s.unwrap_or(next.timeout_s);
        next.retries = changes.retries.unwrap_or(next.retries);
        next.ttl_s = changes.ttl_s.unwrap_or(next.ttl_s);
        next.judgement = changes.judgement.unwrap_or(next.judgement);
        next.pools = changes.pools.unwrap_or(next.pools);
        next.enabled = changes.enabled.unwrap_or(next.enabled);
        next.batch_size = changes.batch_size.unwrap_or(next.batch_size);
        next.overlap = changes.overlap.unwrap_or(next.overlap);
        next.max_batches = changes.max_batches.unwrap_or(next.max_batches);
        next.after = changes.after.unwrap_or(next.after);
        if next.adapter != self.adapter || next.parameters != self.parameters {
            next.revision += 1;
        }
        if next != *self {
            next.changed_at = now;
        }
        next
    }

    /// [`Check::timeout_s`] as a duration.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.timeout_s).unwrap_or(60))
    }

    /// Every fault in the numbers and texts of the definition, as sentences.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |name: &str, value: i64, low: i64, high: i64| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} is {value}; use {low} to {high}"));
            }
        };
        within("timeout_s", self.timeout_s, 1, 1200);
        within("retries", self.retries, 0, MAX_RETRIES);
        within("batch_size", self.batch_size, 1, 200);
        if let Some(most) = self.max_batches {
            within("max_batches", most, 1, 1000);
        }
        within("the number of checks in after", i64::try_from(self.after.len()).unwrap_or(i64::MAX), 0, MAX_AFTER);
        within("judgement.fail_after", i64::from(self.judgement.fail_after), 1, 100);
        within("judgement.recover_after", i64::from(self.judgement.recover_after), 1, 100);
        within("judgement.hold_down_ms", self.judgement.hold_down_ms, 0, 30 * 86_400_000);
        if let Some(ttl) = self.ttl_s {
            within("ttl_s", ttl, 1, 366 * 86_400);
        }
        if self.description.chars().count() > 1000 {
            faults.push("description is longer than 1000 characters; shorten it".to_owned());
        }
        if let Err(error) = self.targets.validate() {
            faults.push(format!("targets: {error}"));
        }
        if self.pools.is_empty() {
            faults.push("pools is empty; name at least one pool and `required` or `advisory`".to_owned());
        }
        let parameters = Value::Object(self.parameters.clone());
        if let Err(error) = crate::security::canonical::canonicalize(&parameters) {
            faults.push(format!("parameters: {error}"));
        } else if parameters.to_string().len() > 65_536 {
            faults.push("parameters are larger than 64 KiB; shorten them".to_owned());
        }
        faults
    }
}
