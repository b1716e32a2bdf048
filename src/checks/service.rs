//! What people and other roles call.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::checks::audit::Author;
use crate::checks::run::Run;
use crate::checks::runs::KEPT_RUNS;
use crate::checks::{Checks, views};
use crate::names::{CheckName, ProfileName, WindowName};
use crate::protocol::RunOrder;
use crate::rpc::table::Method;
use crate::rpc::{Caller, Named, NoArguments, RpcError, Service, typed};

#[async_trait]
impl Service for Arc<Checks> {
    async fn handle(
        &self,
        method: &'static Method,
        caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        match method.name {
            "check_create" => self.check_create(&caller, typed(args)?).await,
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
            "node_check" => self.node_check(typed(args)?).await,
            "profile_create" => self.profile_create(&caller, typed(args)?).await,
            "profile_update" => self.profile_update(&caller, typed(args)?).await,
            "profile_delete" => {
                let Named::<ProfileName> { name } = typed(args)?;
                let mut state = self.state.lock().await;
                let next = state.registry.without_profile(&name)?;
                self.install(&mut state, next, &Author::new(&caller, Vec::new())).await?;
                Ok(Value::Null)
            }
            "profile_list" => {
                let _: NoArguments = typed(args)?;
                Ok(self.state.lock().await.profiles(self.clock.now()))
            }
            "window_set" => self.window_set(&caller, typed(args)?).await,
            "window_delete" => self.window_delete(&caller, typed(args)?).await,
            "window_list" => {
                let _: NoArguments = typed(args)?;
                Ok(self.windows(&*self.state.lock().await))
            }
            "window_show" => {
                let Named::<WindowName> { name } = typed(args)?;
                let state = self.state.lock().await;
                Ok(self.window_details(&state, state.registry.window(&name)?))
            }
            "pool_create" => self.pool_create(&caller, typed(args)?).await,
            "pool_delete" => self.pool_delete(&caller, typed(args)?).await,
            "audit_list" => self.audit_list(typed(args)?).await,
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
                Ok(views::run(found))
            }
            "run_list" => {
                let RunFilter { check, limit } = typed(args)?;
                let limit = limit.unwrap_or(20).min(KEPT_RUNS);
                let state = self.state.lock().await;
                let wanted = |run: &&Run| check.as_ref().is_none_or(|check| run.check == *check);
                Ok(state.runs.latest().filter(wanted).take(limit).map(views::run).collect())
            }
            "dead_letter_list" => self.dead_letter_list(typed(args)?).await,
            "dead_letter_show" => self.dead_letter_show(typed(args)?).await,
            "dead_letter_requeue" => self.dead_letter_requeue(&caller, typed(args)?).await,
            "dead_letter_drop" => self.dead_letter_drop(&caller, typed(args)?).await,
            "adapter_list" => {
                let _: NoArguments = typed(args)?;
                Ok(self.adapters(&*self.state.lock().await))
            }
            "status" => {
                let _: NoArguments = typed(args)?;
                // Asked before the state is locked: the broker may be slow.
                let dead_letters = self.dead_letter_count().await;
                Ok(self.status(&*self.state.lock().await, dead_letters))
            }
            "adapter_announce" => self.adapter_announce(&caller, typed(args)?).await,
            "policy_get" => {
                let _: NoArguments = typed(args)?;
                Ok(json!({ "document": self.signed_policy().await? }))
            }
            "results_stored" => self.results_stored(typed(args)?).await,
            "nodes_changed" => self.nodes_changed(&caller, typed(args)?).await,
            other => Err(RpcError::internal(format!("method {other} is in the table but not served"))),
        }
    }
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
