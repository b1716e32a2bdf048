//! What administrators change: checks, profiles, pools.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checks::definition::{Check, CheckChanges, NewCheck, Profile};
use crate::checks::registry::Registry;
use crate::checks::run::Cause;
use crate::checks::schedule::Schedule;
use crate::checks::{Checks, State};
use crate::names::{CheckName, PoolName, ProfileName};
use crate::protocol::Mode;
use crate::rpc::{Caller, RpcError};
use crate::security::Role;
use crate::trust::loosens;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateCheck {
    check: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateCheck {
    name: CheckName,
    changes: CheckChanges,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteCheck {
    name: CheckName,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateProfile {
    name: ProfileName,
    #[serde(default)]
    schedule: Option<Schedule>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatePool {
    name: PoolName,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    max_silence_s: Option<i64>,
    #[serde(default)]
    accept_self_report: Option<bool>,
    #[serde(default)]
    confirm: bool,
}

impl Checks {
    pub(super) async fn check_create(self: &Arc<Self>, arguments: CreateCheck) -> Result<Value, RpcError> {
        let new: NewCheck = serde_json::from_value(arguments.check).map_err(|error| {
            RpcError::bad_request(format!("check: {}", crate::text::display_safe(&error.to_string())))
        })?;
        let missing_allowed = new.allow_missing_adapter;
        let check = Check::from_new(new, uuid::Uuid::new_v4().to_string(), self.clock.now());
        let mut state = self.state.lock().await;
        if state.registry.checks.contains_key(&check.name) {
            return Err(RpcError::conflict(format!(
                "there is a check named {} already; `spicectl check set` changes it",
                check.name
            )));
        }
        self.validate_parameters(&state, &check, missing_allowed)?;
        let next = state.registry.with_check(check.clone())?;
        self.install(&mut state, next).await?;
        if check.enabled {
            // Nobody has been judged by it yet: begin now, not a period later.
            let nodes = state.aimed_at(&check);
            self.begin(&mut state, &check.name, nodes, Cause::NodeChange).await?;
        }
        Ok(self.details(&state, &check))
    }

    pub(super) async fn check_update(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: UpdateCheck,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let old = state.registry.check(&arguments.name)?.clone();
        let missing_allowed = arguments.changes.allow_missing_adapter;
        let check = old.changed(arguments.changes, self.clock.now());
        if check.revision != old.revision {
            self.validate_parameters(&state, &check, missing_allowed)?;
        }
        let next = state.registry.with_check(check.clone())?;
        self.confirmed(&state, &next, caller, arguments.confirm)?;
        self.install(&mut state, next).await?;
        if check.enabled && (check.revision != old.revision || !old.enabled) {
            let nodes = state.aimed_at(&check);
            self.begin(&mut state, &check.name, nodes, Cause::NodeChange).await?;
        }
        Ok(self.details(&state, &check))
    }

    pub(super) async fn check_delete(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: DeleteCheck,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let next = state.registry.without_check(&arguments.name)?;
        self.confirmed(&state, &next, caller, arguments.confirm)?;
        self.install(&mut state, next).await?;
        Ok(Value::Null)
    }

    /// Lets a change through that loosens a pool only if an administrator has confirmed it.
    pub(super) fn confirmed(
        &self,
        state: &State,
        next: &Registry,
        caller: &Caller,
        confirm: bool,
    ) -> Result<(), RpcError> {
        let policy = |registry: &Registry| {
            registry.policy(&self.identity.deployment, self.epoch, state.policy_number, self.clock.now())
        };
        let loosened: Vec<String> =
            loosens(&policy(&state.registry), &policy(next)).iter().map(ToString::to_string).collect();
        if loosened.is_empty() {
            return Ok(());
        }
        let is_admin = caller.roles.contains(&Role::Admin);
        if confirm && is_admin {
            tracing::warn!(sender = caller.sender, changes = loosened.join("; "), "a pool was loosened");
            return Ok(());
        }
        let who = if is_admin { "" } else { " by a key with the role admin" };
        Err(RpcError::conflict(format!(
            "this loosens what a pool requires: {}. Nothing was changed; to do it, confirm (--confirm){who}",
            loosened.join("; ")
        )))
    }

    pub(super) fn validate_parameters(
        &self,
        state: &State,
        check: &Check,
        missing_allowed: bool,
    ) -> Result<(), RpcError> {
        let Some(schema) = state.adapters.schema(&check.adapter) else {
            if missing_allowed {
                return Ok(());
            }
            let known: Vec<&str> = state.adapters.alive(self.clock.monotonic()).map(|(name, _)| name).collect();
            let known = if known.is_empty() { "none so far".to_owned() } else { known.join(", ") };
            return Err(RpcError::bad_request(format!(
                "no adapter named {} has announced itself; known are: {known}. Start it, or register the check all the same with --allow-missing-adapter",
                check.adapter
            )));
        };
        crate::adapter::schema::compile(schema)
            .and_then(|validator| crate::adapter::schema::check(&validator, &Value::Object(check.parameters.clone())))
            .map_err(|error| RpcError::bad_request(format!("parameters of adapter {}: {error}", check.adapter)))
    }

    pub(super) async fn profile_create(self: &Arc<Self>, profile: Profile) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        if state.registry.profiles.contains_key(&profile.name) {
            return Err(RpcError::conflict(format!(
                "there is a profile named {} already; `spicectl profile set` changes it",
                profile.name
            )));
        }
        let next = state.registry.with_profile(profile)?;
        self.install(&mut state, next).await?;
        Ok(state.profiles(self.clock.now()))
    }

    pub(super) async fn profile_update(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: UpdateProfile,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let mut profile = state.registry.profiles.get(&arguments.name).cloned().ok_or_else(|| {
            RpcError::not_found(format!(
                "there is no profile named {}; `spicectl profile list` shows them",
                arguments.name
            ))
        })?;
        profile.schedule = arguments.schedule.unwrap_or(profile.schedule);
        profile.description = arguments.description.unwrap_or(profile.description);
        let next = state.registry.with_profile(profile)?;
        self.confirmed(&state, &next, caller, arguments.confirm)?;
        self.install(&mut state, next).await?;
        Ok(state.profiles(self.clock.now()))
    }

    pub(super) async fn pool_update(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: UpdatePool,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let mut next = state.registry.clone();
        let known = next.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        let pool = next.pools.get_mut(&arguments.name).ok_or_else(|| {
            RpcError::not_found(format!("there is no pool named {}; known are: {known}", arguments.name))
        })?;
        if let Some(seconds) = arguments.max_silence_s {
            if !(10..=86_400).contains(&seconds) {
                return Err(RpcError::bad_request(format!("max_silence_s is {seconds}; use 10 to 86400")));
            }
            pool.max_silence_ms = seconds * 1000;
        }
        pool.mode = arguments.mode.unwrap_or(pool.mode);
        pool.accept_self_report = arguments.accept_self_report.unwrap_or(pool.accept_self_report);
        let answer = json!(pool);
        self.confirmed(&state, &next, caller, arguments.confirm)?;
        self.install(&mut state, next).await?;
        Ok(answer)
    }
}
