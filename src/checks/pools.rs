//! Pools' policies: made, changed and deleted by administrators.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checks::Checks;
use crate::checks::audit::Author;
use crate::checks::consent::{Agreed, Consent};
use crate::checks::registry::{Registry, new_pool};
use crate::names::PoolName;
use crate::protocol::{Mode, PoolPolicy};
use crate::rpc::{Caller, RpcError};
use crate::trust::flap::MAX_FALLS;

/// The longest window and hold-down of flapping: 30 days.
const LONGEST_FLAPPING_S: i64 = 30 * 86_400;

/// A pool's policy as far as it is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenPool {
    name: PoolName,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    max_silence_s: Option<i64>,
    #[serde(default)]
    accept_self_report: Option<bool>,
    #[serde(default)]
    flap_limit: Option<u32>,
    #[serde(default)]
    flap_window_s: Option<i64>,
    #[serde(default)]
    flap_hold_down_s: Option<i64>,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeletePool {
    name: PoolName,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

impl GivenPool {
    fn put_into(&self, pool: &mut PoolPolicy) -> Result<(), RpcError> {
        let within = |name: &str, given: Option<i64>, most: i64| match given {
            Some(seconds) if !(10..=most).contains(&seconds) => {
                Err(RpcError::bad_request(format!("{name} is {seconds}; use 10 to {most}")))
            }
            given => Ok(given.map(|seconds| seconds * 1000)),
        };
        let (silence, flapping) = (&mut pool.max_silence_ms, &mut pool.flapping);
        *silence = within("max_silence_s", self.max_silence_s, 86_400)?.unwrap_or(*silence);
        let window = within("flap_window_s", self.flap_window_s, LONGEST_FLAPPING_S)?;
        flapping.window_ms = window.unwrap_or(flapping.window_ms);
        let hold_down = within("flap_hold_down_s", self.flap_hold_down_s, LONGEST_FLAPPING_S)?;
        flapping.hold_down_ms = hold_down.unwrap_or(flapping.hold_down_ms);
        if let Some(limit) = self.flap_limit {
            if limit as usize > MAX_FALLS {
                let text = format!("flap_limit is {limit}; use 1 to {MAX_FALLS}, or 0 so that no node flaps");
                return Err(RpcError::bad_request(text));
            }
            flapping.limit = limit;
        }
        pool.mode = self.mode.unwrap_or(pool.mode);
        pool.accept_self_report = self.accept_self_report.unwrap_or(pool.accept_self_report);
        Ok(())
    }
}

impl Checks {
    pub(super) async fn pool_create(self: &Arc<Self>, caller: &Caller, given: GivenPool) -> Result<Value, RpcError> {
        let consent = Consent { confirm: given.confirm.clone(), dry_run: given.dry_run };
        self.change_pools(caller, consent, |registry| {
            let mut pool = new_pool(given.name.clone());
            given.put_into(&mut pool)?;
            Ok((registry.with_pool(pool.clone())?, json!(pool)))
        })
        .await
    }

    pub(super) async fn pool_update(self: &Arc<Self>, caller: &Caller, given: GivenPool) -> Result<Value, RpcError> {
        let consent = Consent { confirm: given.confirm.clone(), dry_run: given.dry_run };
        self.change_pools(caller, consent, |registry| {
            let mut pool = registry.pool(&given.name)?.clone();
            given.put_into(&mut pool)?;
            let mut next = registry.clone();
            let answer = json!(pool);
            next.pools.insert(pool.name.clone(), pool);
            Ok((next, answer))
        })
        .await
    }

    pub(super) async fn pool_delete(self: &Arc<Self>, caller: &Caller, given: DeletePool) -> Result<Value, RpcError> {
        let consent = Consent { confirm: given.confirm, dry_run: given.dry_run };
        self.change_pools(caller, consent, |registry| Ok((registry.without_pool(&given.name)?, Value::Null))).await
    }

    async fn change_pools(
        self: &Arc<Self>,
        caller: &Caller,
        consent: Consent,
        change: impl FnOnce(&Registry) -> Result<(Registry, Value), RpcError>,
    ) -> Result<Value, RpcError> {
        let state = self.state.lock().await;
        let (next, answer) = change(&state.registry)?;
        match self.agreed(state, &next, caller, &consent).await? {
            Agreed::Made { mut state, confirmed } => {
                self.install(&mut state, next, &Author::new(caller, confirmed)).await?;
                Ok(answer)
            }
            Agreed::Shown(preview) => Ok(preview),
        }
    }
}
