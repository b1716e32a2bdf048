//! What people and other roles call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::checks::definition::{Check, CheckChanges, NewCheck, Profile};
use crate::checks::runs::{Cause, Run};
use crate::checks::schedule::Schedule;
use crate::checks::{Checks, State, storage};
use crate::names::{AdapterName, CheckName, NodeName, PoolName, ProfileName};
use crate::protocol::targets::TargetMatcher;
use crate::protocol::{Mode, RunOrder, Status};
use crate::rpc::table::Method;
use crate::rpc::{Caller, RpcError, Service, typed};
use crate::security::Role;
use crate::trust::loosens;

/// How many future runs are shown.
const NEXT_RUNS: usize = 5;
/// How many nodes one run-now may name.
const MAX_NAMED_NODES: usize = 100_000;

#[async_trait]
impl Service for Arc<Checks> {
    async fn handle(
        &self,
        method: &'static Method,
        caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        match method.name {
            "check_create" => self.check_create(typed(args)?).await,
            "check_update" => self.check_update(&caller, typed(args)?).await,
            "check_delete" => self.check_delete(&caller, typed(args)?).await,
            "check_list" => {
                let _: NoArguments = typed(args)?;
                let state = self.state.lock().await;
                Ok(state.registry.checks.values().map(|check| self.summary(&state, check)).collect())
            }
            "check_show" => {
                let Named::<CheckName> { name } = typed(args)?;
                let state = self.state.lock().await;
                Ok(self.details(&state, state.registry.check(&name)?))
            }
            "check_run" => self.check_run(typed(args)?).await,
            "profile_create" => self.profile_create(typed(args)?).await,
            "profile_update" => self.profile_update(&caller, typed(args)?).await,
            "profile_delete" => {
                let Named::<ProfileName> { name } = typed(args)?;
                let mut state = self.state.lock().await;
                let next = state.registry.without_profile(&name)?;
                self.install(&mut state, next).await?;
                Ok(Value::Null)
            }
            "profile_list" => {
                let _: NoArguments = typed(args)?;
                Ok(self.state.lock().await.profiles())
            }
            "pool_update" => self.pool_update(&caller, typed(args)?).await,
            "pool_policies" => {
                let _: NoArguments = typed(args)?;
                let state = self.state.lock().await;
                Ok(json!(state.registry.pools.values().collect::<Vec<_>>()))
            }
            "run_show" => {
                let RunArguments { run } = typed(args)?;
                let order: RunOrder = run.parse().map_err(RpcError::bad_request)?;
                let state = self.state.lock().await;
                let found = state.runs.run(order).ok_or_else(|| {
                    RpcError::not_found(format!(
                        "there is no run {order} (any more); `spicectl run list` shows the latest"
                    ))
                })?;
                Ok(run_as_json(found))
            }
            "run_list" => {
                let RunFilter { check, limit } = typed(args)?;
                let limit = limit.unwrap_or(20).min(super::runs::KEPT_RUNS);
                let state = self.state.lock().await;
                let wanted = |run: &&Run| check.as_ref().is_none_or(|check| run.check == *check);
                Ok(state.runs.latest().filter(wanted).take(limit).map(run_as_json).collect())
            }
            "status" => {
                let _: NoArguments = typed(args)?;
                Ok(self.status(&*self.state.lock().await))
            }
            "adapter_announce" => self.adapter_announce(&caller, typed(args)?).await,
            "policy_get" => {
                let _: NoArguments = typed(args)?;
                Ok(json!({ "document": self.signed_policy().await? }))
            }
            "results_stored" => self.results_stored(typed(args)?).await,
            "nodes_changed" => self.nodes_changed(typed(args)?).await,
            other => Err(RpcError::internal(format!("method {other} is in the table but not served"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named<T> {
    name: T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateCheck {
    check: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateCheck {
    name: CheckName,
    changes: CheckChanges,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteCheck {
    name: CheckName,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunCheck {
    name: CheckName,
    #[serde(default)]
    nodes: Option<BTreeSet<NodeName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateProfile {
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
struct UpdatePool {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunArguments {
    run: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFilter {
    #[serde(default)]
    check: Option<CheckName>,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Announcement {
    adapter: AdapterName,
    instance: String,
    schema: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    run: String,
    batch: i64,
    outcomes: BTreeMap<NodeName, Status>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesChanged {
    nodes: BTreeSet<NodeName>,
    #[serde(rename = "cause")]
    _cause: IgnoredAny,
}

impl Checks {
    async fn check_create(self: &Arc<Self>, arguments: CreateCheck) -> Result<Value, RpcError> {
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
            self.begin(&mut state, &check.name, nodes, Cause::NodeChange, None, false).await?;
        }
        Ok(self.details(&state, &check))
    }

    async fn check_update(self: &Arc<Self>, caller: &Caller, arguments: UpdateCheck) -> Result<Value, RpcError> {
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
            self.begin(&mut state, &check.name, nodes, Cause::NodeChange, None, false).await?;
        }
        Ok(self.details(&state, &check))
    }

    async fn check_delete(self: &Arc<Self>, caller: &Caller, arguments: DeleteCheck) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let next = state.registry.without_check(&arguments.name)?;
        self.confirmed(&state, &next, caller, arguments.confirm)?;
        self.install(&mut state, next).await?;
        Ok(Value::Null)
    }

    /// Lets a change through that loosens a pool only if an administrator has confirmed it.
    fn confirmed(
        &self,
        state: &State,
        next: &super::registry::Registry,
        caller: &Caller,
        confirm: bool,
    ) -> Result<(), RpcError> {
        let policy = |registry: &super::registry::Registry| {
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

    fn validate_parameters(&self, state: &State, check: &Check, missing_allowed: bool) -> Result<(), RpcError> {
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

    async fn check_run(&self, arguments: RunCheck) -> Result<Value, RpcError> {
        // The newest list of nodes, so that a node registered a moment ago can be named.
        let known = self.state.lock().await.inventory_version;
        self.fetch_inventory(known).await;
        let mut state = self.state.lock().await;
        let check = state.registry.check(&arguments.name)?.clone();
        if !check.enabled {
            return Err(RpcError::conflict(format!("check {} is disabled; enable it first", check.name)));
        }
        let aimed = state.aimed_at(&check);
        let nodes = match arguments.nodes {
            None => aimed,
            Some(named) if named.len() > MAX_NAMED_NODES => {
                return Err(RpcError::bad_request(format!("name at most {MAX_NAMED_NODES} nodes, or none for all")));
            }
            Some(named) => {
                let aimed: BTreeSet<NodeName> = aimed.into_iter().collect();
                let strangers: Vec<&str> = named.difference(&aimed).take(10).map(NodeName::as_str).collect();
                if !strangers.is_empty() {
                    return Err(RpcError::bad_request(format!(
                        "check {} is not aimed at {} (or no such node is registered)",
                        check.name,
                        strangers.join(", ")
                    )));
                }
                named.into_iter().collect()
            }
        };
        if nodes.is_empty() {
            return Err(RpcError::conflict(format!(
                "check {} is aimed at no registered node; `spicectl node list` shows them",
                check.name
            )));
        }
        let total = nodes.len();
        let order = self.begin(&mut state, &check.name, nodes, Cause::Request, None, false).await?;
        Ok(json!({ "run": order.map(|order| order.to_string()), "nodes": total }))
    }

    async fn profile_create(self: &Arc<Self>, profile: Profile) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        if state.registry.profiles.contains_key(&profile.name) {
            return Err(RpcError::conflict(format!(
                "there is a profile named {} already; `spicectl profile set` changes it",
                profile.name
            )));
        }
        let next = state.registry.with_profile(profile)?;
        self.install(&mut state, next).await?;
        Ok(state.profiles())
    }

    async fn profile_update(self: &Arc<Self>, caller: &Caller, arguments: UpdateProfile) -> Result<Value, RpcError> {
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
        Ok(state.profiles())
    }

    async fn pool_update(self: &Arc<Self>, caller: &Caller, arguments: UpdatePool) -> Result<Value, RpcError> {
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

    async fn adapter_announce(&self, caller: &Caller, announcement: Announcement) -> Result<Value, RpcError> {
        let Announcement { adapter, instance, schema } = announcement;
        if !caller.roles.contains(&Role::Adapter(adapter.clone())) {
            return Err(RpcError::forbidden(format!("{} may not announce adapter {adapter}", caller.sender)));
        }
        if schema.to_string().len() > 262_144 || instance.len() > 255 {
            return Err(RpcError::bad_request("the announcement is too large"));
        }
        crate::adapter::schema::compile(&schema).map_err(RpcError::bad_request)?;
        let mut state = self.state.lock().await;
        let instance = crate::text::display_safe(&instance);
        if state.adapters.announced(&adapter, &instance, &schema, self.clock.monotonic()) {
            let mut changes = self.database.begin().await.map_err(RpcError::internal)?;
            storage::save_schema(&mut changes, adapter.as_str(), &schema).await.map_err(RpcError::internal)?;
            changes.commit().await.map_err(RpcError::internal)?;
            tracing::info!(adapter = %adapter, instance, "an adapter announced itself");
        }
        Ok(Value::Null)
    }

    async fn results_stored(&self, stored: Stored) -> Result<Value, RpcError> {
        let order: RunOrder = stored.run.parse().map_err(RpcError::bad_request)?;
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let Some((run, complete)) = state.runs.stored(order, stored.batch, &stored.outcomes, now) else {
            return Ok(Value::Null);
        };
        let trimmed = state.runs.trim();
        let batch = (!complete).then(|| state.runs.batch(order, stored.batch).cloned()).flatten();
        // Only Checks' own view of a run: should this be lost, its redelivery or the deadline repairs it.
        let saved = async {
            let mut changes = self.database.begin().await?;
            match &batch {
                Some(batch) => storage::save_batch(&mut changes, batch).await?,
                None => storage::delete_batch(&mut changes, order, stored.batch).await?,
            }
            storage::save_run(&mut changes, &run).await?;
            for order in trimmed {
                storage::delete_run(&mut changes, order).await?;
            }
            changes.commit().await
        };
        saved.await.map_err(RpcError::internal)?;
        Ok(Value::Null)
    }

    async fn nodes_changed(&self, changed: NodesChanged) -> Result<Value, RpcError> {
        self.fetch_inventory(None).await;
        self.check_at_once(&changed.nodes).await?;
        Ok(Value::Null)
    }

    fn summary(&self, state: &State, check: &Check) -> Value {
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

    fn details(&self, state: &State, check: &Check) -> Value {
        let mut details = serde_json::to_value(check).unwrap_or_default();
        let schedule = state.registry.schedule_of(check).ok();
        let next: Vec<Value> = schedule
            .map(|schedule| {
                let runs = schedule.next_runs(state.anchor(check), self.clock.now(), NEXT_RUNS);
                let local =
                    |at: crate::clock::Timestamp| at.to_utc().map(|at| at.with_timezone(&schedule.zone()).to_rfc3339());
                runs.into_iter().map(|at| json!({ "utc": at.to_string(), "local": local(at) })).collect()
            })
            .unwrap_or_default();
        let mut warnings = Vec::new();
        if !state.adapters.is_alive(&check.adapter, self.clock.monotonic()) {
            warnings
                .push(format!("no living adapter named {}; until one starts, every result is an error", check.adapter));
        }
        let ttl = state.registry.ttl_of(check).map(|ttl| ttl.as_secs()).ok();
        if let Some(members) = details.as_object_mut() {
            members.insert("next_runs".to_owned(), json!(if check.enabled { next } else { Vec::new() }));
            members.insert("effective_ttl_s".to_owned(), json!(ttl));
            members.insert("splay_s".to_owned(), json!(state.registry.splay_of(check).as_secs()));
            members.insert("effective_schedule".to_owned(), json!(schedule));
            members.insert("nodes".to_owned(), json!(state.aimed_at(check).len()));
            members.insert("warnings".to_owned(), json!(warnings));
            members.insert("created_at".to_owned(), json!(check.created_at.to_string()));
            members.insert("changed_at".to_owned(), json!(check.changed_at.to_string()));
        }
        details
    }

    fn status(&self, state: &State) -> Value {
        let now = self.now();
        let adapters: BTreeMap<&str, usize> = state.adapters.alive(now.monotonic).collect();
        json!({
            "role": "checks",
            "deployment": self.identity.deployment,
            "epoch": self.epoch,
            "policy_number": state.policy_number,
            "checks": state.registry.checks.len(),
            "enabled_checks": state.registry.checks.values().filter(|check| check.enabled).count(),
            "known_nodes": state.inventory.len(),
            "outstanding": state.runs.outstanding(),
            "overdue": state.runs.overdue(now.utc).count(),
            "adapters": adapters,
            "unsigned_admin": self.identity.unsigned_admin,
        })
    }
}

impl State {
    fn aimed_at(&self, check: &Check) -> Vec<NodeName> {
        let Ok(matcher) = TargetMatcher::new(&check.targets) else { return Vec::new() };
        let aimed = self.inventory.iter().filter(|(node, labels)| matcher.matches(node, labels));
        aimed.map(|(node, _)| node.clone()).collect()
    }

    /// From when an interval schedule counts, for showing its next runs.
    fn anchor(&self, check: &Check) -> crate::clock::Timestamp {
        self.planner.last_slot(&check.name).unwrap_or(check.changed_at)
    }

    fn profiles(&self) -> Value {
        let profiles = self.registry.profiles.values().map(|profile| {
            let users: Vec<&CheckName> = self.registry.users_of(&profile.name).map(|check| &check.name).collect();
            json!({
                "name": profile.name,
                "schedule": profile.schedule,
                "description": profile.description,
                "used_by": users,
            })
        });
        profiles.collect()
    }
}

fn run_as_json(run: &Run) -> Value {
    json!({
        "run": run.order.to_string(),
        "check": run.check,
        "cause": run.cause,
        "started_at": run.started_at.to_string(),
        "finished_at": run.finished_at.map(|at| at.to_string()),
        "nodes": run.total,
        "done": run.done(),
        "outcomes": run.outcomes,
        "finished": run.finished_at.is_some(),
    })
}
