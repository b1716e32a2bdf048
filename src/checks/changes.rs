//! What administrators change: checks and profiles.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::checks::audit::Author;
use crate::checks::consent::{Agreed, Consent};
use crate::checks::definition::{Check, CheckChanges, NewCheck};
use crate::checks::profile::Profile;
use crate::checks::run::Cause;
use crate::checks::schedule::Schedule;
use crate::checks::{Checks, State};
use crate::names::{CheckName, ProfileName};
use crate::rpc::{Caller, RpcError};

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
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteCheck {
    name: CheckName,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
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
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

impl Checks {
    pub(super) async fn check_create(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: CreateCheck,
    ) -> Result<Value, RpcError> {
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
        self.install(&mut state, next, &Author::new(caller, Vec::new())).await?;
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
        let state = self.state.lock().await;
        let old = state.registry.check(&arguments.name)?.clone();
        let missing_allowed = arguments.changes.allow_missing_adapter;
        let check = old.changed(arguments.changes, self.clock.now());
        if check.revision != old.revision {
            self.validate_parameters(&state, &check, missing_allowed)?;
        }
        let next = state.registry.with_check(check.clone())?;
        let consent = Consent { confirm: arguments.confirm, dry_run: arguments.dry_run };
        let (mut state, confirmed) = match self.agreed(state, &next, caller, &consent).await? {
            Agreed::Made { state, confirmed } => (state, confirmed),
            Agreed::Shown(preview) => return Ok(preview),
        };
        self.install(&mut state, next, &Author::new(caller, confirmed)).await?;
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
        let state = self.state.lock().await;
        let next = state.registry.without_check(&arguments.name)?;
        let consent = Consent { confirm: arguments.confirm, dry_run: arguments.dry_run };
        let (mut state, confirmed) = match self.agreed(state, &next, caller, &consent).await? {
            Agreed::Made { state, confirmed } => (state, confirmed),
            Agreed::Shown(preview) => return Ok(preview),
        };
        self.install(&mut state, next, &Author::new(caller, confirmed)).await?;
        Ok(Value::Null)
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

    pub(super) async fn profile_create(self: &Arc<Self>, caller: &Caller, profile: Profile) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        if state.registry.profiles.contains_key(&profile.name) {
            return Err(RpcError::conflict(format!(
                "there is a profile named {} already; `spicectl profile set` changes it",
                profile.name
            )));
        }
        let next = state.registry.with_profile(profile)?;
        self.install(&mut state, next, &Author::new(caller, Vec::new())).await?;
        Ok(state.profiles(self.clock.now()))
    }

    pub(super) async fn profile_update(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: UpdateProfile,
    ) -> Result<Value, RpcError> {
        let state = self.state.lock().await;
        let mut profile = state.registry.profiles.get(&arguments.name).cloned().ok_or_else(|| {
            RpcError::not_found(format!(
                "there is no profile named {}; `spicectl profile list` shows them",
                arguments.name
            ))
        })?;
        profile.schedule = arguments.schedule.unwrap_or(profile.schedule);
        profile.description = arguments.description.unwrap_or(profile.description);
        let next = state.registry.with_profile(profile)?;
        let consent = Consent { confirm: arguments.confirm, dry_run: arguments.dry_run };
        let (mut state, confirmed) = match self.agreed(state, &next, caller, &consent).await? {
            Agreed::Made { state, confirmed } => (state, confirmed),
            Agreed::Shown(preview) => return Ok(preview),
        };
        self.install(&mut state, next, &Author::new(caller, confirmed)).await?;
        Ok(state.profiles(self.clock.now()))
    }
}
