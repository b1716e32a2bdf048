//! Results: verified by their ticket, judged, stored, reported to Checks as stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::entry::StoredResult;
use crate::nodes::notify::ResultVolume;
use crate::nodes::storage::{self, Lane};
use crate::nodes::world::{Stage, World};
use crate::protocol::{NodeResult, Status, Ticket};
use crate::rpc::{Caller, RpcError, typed};
use crate::security::{KeyId, Role, SignedDocument, Vouch};
use crate::store::to_body;
use crate::trust::{BootSeen, Note, Observation, Reporter};

/// Most results in one message: a batch.
const MAX_RESULTS: usize = 200;
/// How long after a ticket's deadline the ids of its messages are remembered. A replay after that is judged by the
/// ticket and the order of runs alone, which never let it raise anything.
const REMEMBER: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordResults {
    ticket: SignedDocument,
    results: Vec<NodeResult>,
}

impl Nodes {
    /// Takes in the results of a batch. Done, here, means stored.
    pub(super) async fn record_results(&self, caller: &Caller, args: Map<String, Value>) -> Result<Value, RpcError> {
        let RecordResults { ticket: document, results } = typed(args)?;
        let (ticket, ticket_key, reporter) = self.read_ticket(caller, &document, &results)?;
        if storage::is_seen(&self.database, &caller.request_id).await.map_err(RpcError::internal)? {
            // Delivered again after its effect was stored: done.
            metrics::counter!("spice_nodes_redelivered_total").increment(1);
            return Ok(Value::Null);
        }
        self.catch_up_with(&ticket).await?;
        let mut world = self.world.lock().await;
        let now = self.clock.now();
        let ticket_by = Some(Vouch { key: ticket_key, at: ticket.issued_at.max(now) });
        self.still_believed(&[caller.vouch, ticket_by])?;
        let mut stage = Stage::default();
        let mut outcomes: BTreeMap<NodeName, Status> = BTreeMap::new();
        let mut rebooted: BTreeSet<NodeName> = BTreeSet::new();
        let in_ticket: BTreeSet<&NodeName> = ticket.nodes.iter().collect();
        for mut result in results {
            if !in_ticket.contains(&result.node) {
                metrics::counter!("spice_nodes_results_refused_total", "reason" => "not_in_ticket").increment(1);
                tracing::warn!(sender = caller.sender, node = %result.node, run = %ticket.order, "a result for a node that is not in the ticket was dropped");
                continue;
            }
            result.reason = crate::text::display_safe(&result.reason);
            outcomes.insert(result.node.clone(), result.status);
            let observation = Observation::under(&ticket, reporter, result).vouched(caller.vouch, ticket_by);
            self.stage_result(&world, &mut stage, &mut rebooted, &ticket, observation, &caller.sender, now);
        }
        stage.seen.push((caller.request_id.clone(), ticket.deadline.plus(REMEMBER)));
        let args = json!({ "run": ticket.order.to_string(), "batch": ticket.batch, "outcomes": outcomes });
        stage.parcels.push((Lane::Events, to_body(&("results_stored", args))));
        if !rebooted.is_empty() {
            stage.parcels.push(nodes_changed(&rebooted, "boot"));
        }
        metrics::counter!("spice_nodes_results_total").increment(outcomes.len() as u64);
        self.commit(&mut world, stage).await.map_err(RpcError::internal)?;
        Ok(Value::Null)
    }

    /// Who may report what: the holder of the ticket's adapter role anything, Checks only what nobody answered.
    fn read_ticket(
        &self,
        caller: &Caller,
        document: &SignedDocument,
        results: &[NodeResult],
    ) -> Result<(Ticket, KeyId, Reporter), RpcError> {
        let by_checks = |key: &crate::security::TrustedKey| key.roles.contains(&Role::Checks);
        let (ticket, key): (Ticket, _) = document
            .open_for(&self.identity.deployment, &self.identity.trust.current(), self.clock.now(), by_checks)
            .map_err(|error| RpcError::unauthorized(format!("the ticket is not believed: {error}")))?;
        if results.len() > MAX_RESULTS {
            return Err(RpcError::bad_request(format!(
                "{} results in one message; send at most {MAX_RESULTS}",
                results.len()
            )));
        }
        if caller.roles.contains(&Role::Adapter(ticket.adapter.clone())) {
            return Ok((ticket, key.key_id, Reporter::Adapter));
        }
        let only_fillers = results.iter().all(|result| matches!(result.status, Status::Timeout | Status::Error));
        if caller.roles.contains(&Role::Checks) && only_fillers {
            return Ok((ticket, key.key_id, Reporter::Checks));
        }
        Err(RpcError::forbidden(format!(
            "{} may not report these results under a ticket of adapter {}",
            caller.sender, ticket.adapter
        )))
    }

    /// A ticket may be of a check, or a revision, that Checks made a moment ago: then its policy is asked for first.
    async fn catch_up_with(&self, ticket: &Ticket) -> Result<(), RpcError> {
        let is_behind = {
            let world = self.world.lock().await;
            let known = world.rules.check(&ticket.check).map(|rule| &rule.check);
            let newer_than_policy = world
                .policy
                .as_ref()
                .is_none_or(|(policy, _)| (policy.epoch, policy.issued_at) < (ticket.order.epoch, ticket.issued_at));
            let covered = known.is_some_and(|check| check.id == ticket.check_id && check.revision >= ticket.revision);
            !covered && newer_than_policy
        };
        if !is_behind {
            return Ok(());
        }
        match self.ask_for_policy().await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == crate::rpc::Kind::Conflict => Ok(()),
            Err(error) => Err(RpcError::unavailable(format!("the policy of a newer ticket could not be had: {error}"))),
        }
    }

    #[allow(clippy::too_many_arguments)] // one result, who says it, and where it goes
    fn stage_result(
        &self,
        world: &World,
        stage: &mut Stage,
        rebooted: &mut BTreeSet<NodeName>,
        ticket: &Ticket,
        observation: Observation,
        sender: &str,
        now: Timestamp,
    ) {
        let result = &observation.result;
        let node = result.node.clone();
        let latency_ms = result.finished_at.0.saturating_sub(result.requested_at.0).clamp(0, 86_400_000);
        let Some(entry) = world.touch(stage, &node) else {
            // Deleted meanwhile: a late message never brings a node back.
            metrics::counter!("spice_nodes_results_refused_total", "reason" => "no_such_node").increment(1);
            return;
        };
        let before = entry.trust.checks.get(&ticket.check).and_then(|state| state.shown()).map(|shown| shown.status);
        let recorded = entry.trust.record(&world.rules, &ticket.check, &observation, now);
        if matches!(recorded.folded.note, Note::Conflict { .. }) {
            metrics::counter!("spice_nodes_results_contradicted_total", "check" => ticket.check.to_string())
                .increment(1);
            if let Some(others) = self.contradictions.log() {
                tracing::warn!(sender, node = %node, check.name = %ticket.check, run = %ticket.order, others, "results of one run contradict each other; the worse one stands");
            }
        }
        if recorded.boot == Some(BootSeen::Changed) {
            rebooted.insert(node.clone());
        }
        let stored = StoredResult {
            node: node.clone(),
            check: ticket.check.clone(),
            run: ticket.order.to_string(),
            attempt: ticket.attempt,
            revision: ticket.revision,
            status: observation.result.status,
            reason: observation.result.reason.clone(),
            evidence_at: observation.evidence_at(),
            stored_at: now,
            sender: sender.to_owned(),
            key_id: observation.reported_by.map(|vouch| vouch.key.to_string()).unwrap_or_default(),
            ticket_key_id: observation.ticket_by.map(|vouch| vouch.key.to_string()).unwrap_or_default(),
            counted: recorded.folded.counted,
            latency_ms,
        };
        if let Some(publisher) = &self.publisher {
            let wanted = match publisher.results {
                ResultVolume::All => true,
                ResultVolume::Changes => before != Some(stored.status),
                ResultVolume::None => false,
            };
            if wanted {
                let notification = publisher.result(&stored, ticket.adapter.as_str());
                stage.parcels.push((Lane::Notifications, to_body(&notification)));
            }
        }
        stage.results.push(stored);
        let cause = format!("check {} run {}", ticket.check, ticket.order);
        world.review(stage, &world.rules, &node, &cause, now);
    }
}

/// Tells Checks that nodes are to be checked at once.
pub(super) fn nodes_changed(nodes: &BTreeSet<NodeName>, cause: &str) -> (Lane, String) {
    (Lane::Events, to_body(&("nodes_changed", json!({ "nodes": nodes, "cause": cause }))))
}
