//! Results as they arrive: whether they are believed. What is made of them is [`super::recorder`]'s.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::storage::Lane;
use crate::nodes::world::World;
use crate::protocol::{NodeResult, Status, Ticket};
use crate::rpc::{Caller, RpcError, typed};
use crate::security::{KeyId, Role, SignedDocument, Vouch};
use crate::store::to_body;
use crate::trust::Reporter;

/// Most results in one message: a batch.
const MAX_RESULTS: usize = 200;
/// How long after a ticket's deadline the ids of its messages are remembered. A replay after that is judged by the
/// ticket and the order of runs alone, which never let it raise anything.
pub(super) const REMEMBER: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordResults {
    ticket: SignedDocument,
    results: Vec<NodeResult>,
}

/// A batch whose signer and ticket hold, and only nodes of its ticket in it, with texts that are safe to show.
pub(super) struct Batch {
    /// The request it came in.
    pub request_id: String,
    /// Who reports.
    pub sender: String,
    /// With which key, and when at the latest.
    pub vouch: Option<Vouch>,
    /// What permits it.
    pub ticket: Ticket,
    /// The key that signed the ticket.
    pub ticket_key: KeyId,
    /// Whose word it is.
    pub reporter: Reporter,
    /// What is reported.
    pub results: Vec<NodeResult>,
    /// Whether the newest policy was asked for on its behalf.
    pub is_caught_up: bool,
}

impl Batch {
    /// Whether the policy in force may be older than its ticket.
    pub fn is_ahead_of(&self, world: &World) -> bool {
        let ticket = &self.ticket;
        let known = world.rules.check(&ticket.check).map(|rule| &rule.check);
        let newer_than_policy = world
            .policy
            .as_ref()
            .is_none_or(|(policy, _)| (policy.epoch, policy.issued_at) < (ticket.order.epoch, ticket.issued_at));
        let covered = known.is_some_and(|check| check.id == ticket.check_id && check.revision >= ticket.revision);
        !covered && newer_than_policy
    }
}

impl Nodes {
    /// Takes in the results of a batch. Done, here, means stored.
    pub(super) async fn record_results(&self, caller: Caller, args: Map<String, Value>) -> Result<Value, RpcError> {
        let RecordResults { ticket: document, mut results } = typed(args)?;
        let (ticket, ticket_key, reporter) = self.read_ticket(&caller, &document, &results)?;
        let in_ticket: HashSet<&NodeName> = ticket.nodes.iter().collect();
        let given = results.len();
        results.retain(|result| in_ticket.contains(&result.node));
        let foreign = given - results.len();
        if foreign > 0 {
            metrics::counter!("spice_nodes_results_refused_total", "reason" => "not_in_ticket")
                .increment(foreign as u64);
            if let Some(others) = self.not_in_ticket.log() {
                tracing::warn!(sender = caller.sender, run = %ticket.order, results = foreign, others, "results for nodes that are not in the ticket were dropped");
            }
        }
        for result in &mut results {
            result.reason = crate::text::display_safe(&result.reason);
        }
        let Caller { sender, vouch, request_id, .. } = caller;
        let mut batch = Batch { request_id, sender, vouch, ticket, ticket_key, reporter, results, is_caught_up: false };
        while let Some(behind) = self.record(batch).await? {
            self.catch_up().await?;
            batch = Batch { is_caught_up: true, ..behind };
        }
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
    async fn catch_up(&self) -> Result<(), RpcError> {
        match self.ask_for_policy().await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == crate::rpc::Kind::Conflict => Ok(()),
            Err(error) => Err(RpcError::unavailable(format!("the policy of a newer ticket could not be had: {error}"))),
        }
    }
}

/// Tells Checks that nodes are to be checked at once.
pub(super) fn nodes_changed(nodes: &BTreeSet<NodeName>, cause: &str) -> (Lane, String) {
    (Lane::Events, to_body(&("nodes_changed", json!({ "nodes": nodes, "cause": cause }))))
}
