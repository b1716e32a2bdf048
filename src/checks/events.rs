//! What other roles tell: an adapter lives, outcomes are stored, nodes changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::checks::adapters::Sign;
use crate::checks::news::Heard;
use crate::checks::prerequisites::Definition;
use crate::checks::run::Cause;
use crate::checks::{Checks, State, storage};
use crate::names::{AdapterName, CheckName, NodeName};
use crate::protocol::ticket::MAX_HOLDING;
use crate::protocol::{RunOrder, Status, TicketRef};
use crate::rpc::{Caller, RpcError};
use crate::security::Role;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Announcement {
    adapter: AdapterName,
    instance: String,
    schema: Value,
    #[serde(default)]
    incarnation: Option<String>,
    #[serde(default)]
    holding: BTreeSet<TicketRef>,
    #[serde(default)]
    fault: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    run: String,
    batch: i64,
    outcomes: BTreeMap<NodeName, Status>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodesChanged {
    nodes: BTreeSet<NodeName>,
    #[serde(rename = "cause")]
    _cause: IgnoredAny,
}

/// What a ticket says of the definition it is for.
#[derive(Deserialize)]
struct Asked {
    check_id: String,
    revision: i64,
}

impl State {
    /// Under which definition a batch was asked, where others wait for its outcome.
    fn definition_asked(&self, order: RunOrder, batch: i64) -> Option<Definition> {
        let batch = self.runs.batch(order, batch)?;
        if !self.planner.prerequisites.is_about(&batch.check) {
            return None;
        }
        let Asked { check_id: id, revision } = serde_json::from_str(&batch.ticket.body).ok()?;
        Some(Definition { id, revision })
    }
}

impl Checks {
    pub(super) async fn adapter_announce(
        &self,
        caller: &Caller,
        announcement: Announcement,
    ) -> Result<Value, RpcError> {
        let Announcement { adapter, instance, schema, incarnation, holding, fault } = announcement;
        if !caller.roles.contains(&Role::Adapter(adapter.clone())) {
            return Err(RpcError::forbidden(format!("{} may not announce adapter {adapter}", caller.sender)));
        }
        let too_long = |text: &str| text.len() > 255;
        if holding.len() > MAX_HOLDING || too_long(&instance) || incarnation.as_deref().is_some_and(too_long) {
            return Err(RpcError::bad_request("the announcement is too large"));
        }
        let mut state = self.state.lock().await;
        if state.adapters.schema(&adapter) != Some(&schema) {
            if schema.to_string().len() > 262_144 {
                return Err(RpcError::bad_request("the announced schema is too large"));
            }
            crate::adapter::schema::compile(&schema).map_err(RpcError::bad_request)?;
        }
        let instance = crate::text::display_safe(&instance);
        let fault = fault.as_deref().map(crate::text::display_safe);
        let sign = Sign { instance: instance.clone(), incarnation, holding, fault, schema: schema.clone() };
        if state.adapters.announced(&adapter, sign, self.clock.monotonic()) {
            let mut changes = self.database.begin().await.map_err(RpcError::from)?;
            storage::save_schema(&mut changes, adapter.as_str(), &schema).await.map_err(RpcError::from)?;
            changes.commit().await.map_err(RpcError::from)?;
            tracing::info!(adapter = %adapter, instance, "an adapter announced itself");
        }
        Ok(Value::Null)
    }

    pub(super) async fn results_stored(&self, stored: Stored) -> Result<Value, RpcError> {
        let order: RunOrder = stored.run.parse().map_err(RpcError::bad_request)?;
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let definition = state.definition_asked(order, stored.batch);
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
        saved.await.map_err(RpcError::from)?;
        if let Some(definition) = definition {
            state.planner.prerequisites.hear(&run.check, &definition, run.started_at, &stored.outcomes, now);
            self.wake.notify_one();
        }
        let back = state.planner.silence.hear(&run.check, &stored.outcomes);
        if !back.is_empty() {
            // Should this fail, their next slots ask them; the outcomes that were reported are stored all the same.
            if let Err(error) = self.check_those_back(&mut state, &back).await {
                tracing::warn!(%error, "nodes that came back could not be checked at once");
            }
        }
        Ok(Value::Null)
    }

    /// Runs the checks that nodes did not answer while they were down.
    async fn check_those_back(
        &self,
        state: &mut State,
        back: &BTreeMap<CheckName, BTreeSet<NodeName>>,
    ) -> Result<(), RpcError> {
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        let wanted = |state: &State, check: &CheckName| {
            let nodes = back.get(check).into_iter().flatten();
            nodes.filter(|node| !state.runs.is_outstanding(check, node)).cloned().collect()
        };
        let begun = self.stage_at_once(state, &mut changes, wanted, Cause::NodeChange).await?;
        changes.commit().await.map_err(RpcError::from)?;
        for run in begun {
            self.send(state, Some(run));
        }
        metrics::counter!("spice_checks_nodes_returned_total")
            .increment(back.values().flatten().collect::<BTreeSet<_>>().len() as u64);
        Ok(())
    }

    /// Whether this news is to be acted upon.
    fn is_fresh(&self, state: &State, news: &Caller) -> Result<bool, RpcError> {
        match state.news.hear(&news.request_id, news.signed_at, self.clock.now()) {
            Heard::Fresh => Ok(true),
            Heard::Known => {
                metrics::counter!("spice_checks_redelivered_total").increment(1);
                Ok(false)
            }
            Heard::Untimely => {
                Err(RpcError::unauthorized("news of changed nodes counts for a day; this is older, or from the future"))
            }
        }
    }

    pub(super) async fn nodes_changed(&self, caller: &Caller, changed: NodesChanged) -> Result<Value, RpcError> {
        let Caller { request_id: id, signed_at, .. } = caller;
        if !self.is_fresh(&*self.state.lock().await, caller)? {
            return Ok(Value::Null);
        }
        self.fetch_inventory().await;
        let mut state = self.state.lock().await;
        // Delivered again after a lost connection, it may have been acted upon while the nodes were asked for.
        if !self.is_fresh(&state, caller)? {
            return Ok(Value::Null);
        }
        // Whatever changed, what they passed before may not count any more.
        state.planner.prerequisites.forget(&changed.nodes);
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        let begun = {
            let wanted = |_: &State, _: &CheckName| changed.nodes.iter().cloned().collect();
            self.stage_at_once(&mut state, &mut changes, wanted, Cause::NodeChange).await?
        };
        let over = state.news.done(id, *signed_at, self.clock.now());
        let stored = async {
            storage::save_news(&mut changes, id, *signed_at, &over).await?;
            changes.commit().await
        };
        if let Err(error) = stored.await {
            // Nothing of it happened; its redelivery is fresh.
            state.news.undo(id);
            return Err(RpcError::from(error));
        }
        for run in begun {
            self.send(&mut state, Some(run));
        }
        Ok(Value::Null)
    }
}
