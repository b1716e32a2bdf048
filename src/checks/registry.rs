//! All definitions, as a value: changes make a new registry, which is stored before it takes the old one's place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::checks::definition::Check;
use crate::checks::profile::{Profile, ScheduleRef};
use crate::checks::schedule::{self, Schedule};
use crate::checks::window::Window;
use crate::clock::Timestamp;
use crate::names::{CheckName, DeploymentId, PoolName, ProfileName, WindowName};
use crate::protocol::{CheckPolicy, Flapping, Mode, Policy, PoolPolicy};
use crate::rpc::RpcError;

/// Most checks, and most profiles, one deployment may register.
pub(super) const MAX_DEFINITIONS: usize = 1000;
/// Most pools: every node has a line in each.
const MAX_POOLS: usize = 32;

/// Everything registered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    /// The checks.
    pub checks: BTreeMap<CheckName, Check>,
    /// The profiles.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// The pools' policies.
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    /// The maintenance windows.
    pub windows: BTreeMap<WindowName, Window>,
}

/// The pool every deployment begins with.
#[must_use]
pub fn default_pool() -> Option<PoolPolicy> {
    Some(new_pool(PoolName::new("default").ok()?))
}

/// A pool as strict as pools are made.
#[must_use]
pub fn new_pool(name: PoolName) -> PoolPolicy {
    PoolPolicy {
        name,
        mode: Mode::Enforce,
        max_silence_ms: 600_000,
        accept_self_report: false,
        flapping: Flapping::default(),
    }
}

impl Registry {
    /// The check `name`.
    ///
    /// # Errors
    /// Not found, naming what to do.
    pub fn check(&self, name: &CheckName) -> Result<&Check, RpcError> {
        self.checks.get(name).ok_or_else(|| {
            RpcError::not_found(format!("there is no check named {name}; `spicectl check list` shows them"))
        })
    }

    /// The schedule a check runs by.
    ///
    /// # Errors
    /// Not found: its profile.
    pub fn schedule_of<'a>(&'a self, check: &'a Check) -> Result<&'a Schedule, RpcError> {
        match &check.schedule {
            ScheduleRef::Inline(schedule) => Ok(schedule),
            ScheduleRef::Profile { profile } => {
                self.profiles.get(profile).map(|found| &found.schedule).ok_or_else(|| {
                    let known = self.profiles.keys().map(ProfileName::as_str).collect::<Vec<_>>().join(", ");
                    RpcError::not_found(format!("there is no profile named {profile}; known are: {known}"))
                })
            }
        }
    }

    /// The enabled checks whose schedule counts from now on: new ones, enabled ones, and those with another schedule than in
    /// `old`.
    #[must_use]
    pub fn scheduled_anew(&self, old: &Self) -> Vec<CheckName> {
        let goes_on = |check: &&Check| {
            let before = old.checks.get(&check.name).filter(|before| before.enabled && before.id == check.id);
            before.is_some_and(|before| old.schedule_of(before).ok() == self.schedule_of(check).ok())
        };
        let enabled = self.checks.values().filter(|check| check.enabled);
        enabled.filter(|check| !goes_on(check)).map(|check| check.name.clone()).collect()
    }

    /// Over how long a run of this check is spread. Looks at a year of the schedule: keep the answer.
    #[must_use]
    pub fn splay_of(&self, check: &Check) -> Duration {
        self.schedule_of(check).map_or(Duration::ZERO, |found| schedule::splay_window(found.period(check.changed_at)))
    }

    /// How long a pass of this check counts.
    ///
    /// # Errors
    /// Bad request, where the schedule is too uneven to derive one.
    pub fn ttl_of(&self, check: &Check) -> Result<Duration, RpcError> {
        if let Some(seconds) = check.ttl_s {
            return Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        }
        let schedule = self.schedule_of(check)?;
        schedule::default_ttl(schedule, check.changed_at, self.splay_of(check), check.timeout())
            .map_err(|error| RpcError::bad_request(format!("{error} (ttl_s)")))
    }

    /// This registry with a check that is new or changed.
    ///
    /// # Errors
    /// Bad request with every fault of the definition.
    pub fn with_check(&self, check: Check) -> Result<Self, RpcError> {
        let mut faults = check.faults();
        if let Err(error) = self.ttl_of(&check) {
            faults.push(error.message);
        }
        for pool in check.pools.keys().filter(|pool| !self.pools.contains_key(*pool)) {
            let known = self.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
            faults.push(format!("there is no pool named {pool}; known are: {known}"));
        }
        faults.extend(self.faults_of_order(&check));
        if !self.checks.contains_key(&check.name) && self.checks.len() >= MAX_DEFINITIONS {
            faults.push(format!("there are {MAX_DEFINITIONS} checks already; delete some"));
        }
        if !faults.is_empty() {
            return Err(RpcError::bad_request(format!("check {}: {}", check.name, faults.join("; "))));
        }
        let mut next = self.clone();
        next.checks.insert(check.name.clone(), check);
        Ok(next)
    }

    /// This registry without the check `name`.
    ///
    /// # Errors
    /// Not found, or conflict while another check runs after it.
    pub fn without_check(&self, name: &CheckName) -> Result<Self, RpcError> {
        self.check(name)?;
        let users: Vec<&str> =
            self.checks.values().filter(|check| check.after.contains(name)).map(|check| check.name.as_str()).collect();
        if !users.is_empty() {
            return Err(RpcError::conflict(format!(
                "the checks {} run after {name}; take it out of those first (`spicectl check set --after`)",
                users.join(", ")
            )));
        }
        let mut next = self.clone();
        next.checks.remove(name);
        Ok(next)
    }

    /// What is wrong with the checks that `check` runs after.
    fn faults_of_order(&self, check: &Check) -> Vec<String> {
        let unknown = check.after.iter().filter(|name| **name != check.name && !self.checks.contains_key(*name));
        let mut faults: Vec<String> =
            unknown.map(|name| format!("after: there is no check named {name}; register it first")).collect();
        let mut path = vec![&check.after];
        let mut seen = BTreeSet::new();
        while let Some(after) = path.pop() {
            if after.contains(&check.name) {
                let text = "after: it would run after itself, by way of the checks it names; it would never run";
                faults.push(text.to_owned());
                break;
            }
            let further = after.iter().filter_map(|name| self.checks.get(name)).filter(|next| seen.insert(&next.name));
            path.extend(further.map(|next| &next.after));
        }
        faults
    }

    /// This registry with a profile that is new or changed.
    ///
    /// # Errors
    /// Bad request, where a check that uses it could not live with it.
    pub fn with_profile(&self, profile: Profile) -> Result<Self, RpcError> {
        if !self.profiles.contains_key(&profile.name) && self.profiles.len() >= MAX_DEFINITIONS {
            return Err(RpcError::bad_request(format!("there are {MAX_DEFINITIONS} profiles already; delete some")));
        }
        let mut next = self.clone();
        next.profiles.insert(profile.name.clone(), profile.clone());
        for check in self.users_of(&profile.name) {
            next.ttl_of(check).map_err(|error| {
                RpcError::bad_request(format!("check {} uses this profile: {}", check.name, error.message))
            })?;
        }
        Ok(next)
    }

    /// This registry without the profile `name`.
    ///
    /// # Errors
    /// Not found, or conflict while a check uses it.
    pub fn without_profile(&self, name: &ProfileName) -> Result<Self, RpcError> {
        let users: Vec<&str> = self.users_of(name).map(|check| check.name.as_str()).collect();
        if !users.is_empty() {
            return Err(RpcError::conflict(format!(
                "profile {name} is used by {}; give those checks another schedule first",
                users.join(", ")
            )));
        }
        let mut next = self.clone();
        if next.profiles.remove(name).is_none() {
            return Err(RpcError::not_found(format!(
                "there is no profile named {name}; `spicectl profile list` shows them"
            )));
        }
        Ok(next)
    }

    /// The pool `name`.
    ///
    /// # Errors
    /// Not found, naming those there are.
    pub fn pool(&self, name: &PoolName) -> Result<&PoolPolicy, RpcError> {
        self.pools.get(name).ok_or_else(|| {
            let known = self.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
            RpcError::not_found(format!("there is no pool named {name}; known are: {known}"))
        })
    }

    /// This registry with a pool that is new.
    ///
    /// # Errors
    /// Conflict where there is one of this name.
    pub fn with_pool(&self, pool: PoolPolicy) -> Result<Self, RpcError> {
        if self.pools.contains_key(&pool.name) {
            return Err(RpcError::conflict(format!(
                "there is a pool named {} already; `spicectl pool set` changes it",
                pool.name
            )));
        }
        if self.pools.len() >= MAX_POOLS {
            return Err(RpcError::bad_request(format!("there are {MAX_POOLS} pools already; delete some")));
        }
        let mut next = self.clone();
        next.pools.insert(pool.name.clone(), pool);
        Ok(next)
    }

    /// This registry without the pool `name`.
    ///
    /// # Errors
    /// Not found; conflict while a check names it, or where it is `default`, which flavors ask for without naming it.
    pub fn without_pool(&self, name: &PoolName) -> Result<Self, RpcError> {
        self.pool(name)?;
        if name.as_str() == "default" {
            return Err(RpcError::conflict(
                "pool default cannot be deleted: flavors with trust:trusted_host ask for it; \
                 `spicectl pool set default --mode observe` makes it refuse nobody",
            ));
        }
        let users: Vec<&str> = self
            .checks
            .values()
            .filter(|check| check.pools.contains_key(name))
            .map(|check| check.name.as_str())
            .collect();
        if !users.is_empty() {
            return Err(RpcError::conflict(format!(
                "pool {name} is named by the checks {}; take it out of those first (`spicectl check set --pool`)",
                users.join(", ")
            )));
        }
        let mut next = self.clone();
        next.pools.remove(name);
        Ok(next)
    }

    /// The checks that use a profile.
    pub fn users_of(&self, name: &ProfileName) -> impl Iterator<Item = &Check> {
        self.checks
            .values()
            .filter(move |check| matches!(&check.schedule, ScheduleRef::Profile { profile } if profile == name))
    }

    /// The complete policy these definitions make.
    #[must_use]
    pub fn policy(&self, deployment: &DeploymentId, epoch: i64, number: i64, now: Timestamp) -> Policy {
        let checks = self.checks.values().map(|check| CheckPolicy {
            name: check.name.clone(),
            id: check.id.clone(),
            revision: check.revision,
            adapter: check.adapter.clone(),
            enabled: check.enabled,
            targets: check.targets.clone(),
            // A TTL that cannot be derived cannot be registered; should one slip through, no pass counts.
            ttl_ms: self.ttl_of(check).map_or(0, |ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
            judgement: check.judgement,
            pools: check.pools.clone(),
        });
        Policy {
            deployment: deployment.clone(),
            epoch,
            number,
            issued_at: now,
            checks: checks.collect(),
            pools: self.pools.values().cloned().collect(),
        }
    }
}
