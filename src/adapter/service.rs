//! The role on the bus: takes batches, runs them, hands results over with their ticket, and only then lets a batch go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapter::batches::{Batches, Begun};
use crate::adapter::presence::Presence;
use crate::adapter::runner::Runner;
use crate::adapter::{CheckRequest, Provider};
use crate::bus::{Bus, BusError};
use crate::clock::Clock;
use crate::names::NodeName;
use crate::protocol::ticket::{DEFAULT_RETRIES, MAX_RETRIES};
use crate::protocol::{NodeResult, Ticket};
use crate::rpc::server::Serving;
use crate::rpc::table::{Method, Topic};
use crate::rpc::{Caller, Identity, Kind, RpcClient, RpcError, Secured, Service, typed};
use crate::security::{Role, SignedDocument};
use crate::telemetry::health::{RoleHealth, TURN_LIMIT};

/// Results known early are handed over together within this time.
const EARLY: Duration = Duration::from_millis(300);
/// What is left of a ticket's time for handing over: a tenth, within these bounds.
const HAND_OVER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// How long a failed hand-over waits before it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the role needs from outside, for one adapter.
pub struct Options {
    /// The bus.
    pub bus: Bus,
    /// The bus of the node agents; the same where they have none of their own.
    pub agents: Bus,
    /// The key that holds this adapter's role, and whom we trust.
    pub identity: Arc<Identity>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The provider with everything around it.
    pub runner: Runner,
    /// Batches held at a time. An adapter that cannot hand its results over takes no more.
    pub batches: u16,
    /// How this instance is called.
    pub instance: String,
    /// Where it shows that it lives.
    pub health: RoleHealth,
}

/// The running role.
pub struct Running {
    serving: Serving,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Adapter {
    rpc: RpcClient,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    runner: Runner,
    batches: Batches,
    stop: CancellationToken,
}

/// Starts one adapter; it takes batches when this returns.
///
/// # Errors
/// When the broker refuses its queue.
pub async fn start(options: Options) -> Result<Running, BusError> {
    let Options { bus, agents, identity, clock, runner, batches, instance, health } = options;
    let name = runner.name().clone();
    let schema = runner.provider().parameter_schema();
    let stop = CancellationToken::new();
    let rpc = RpcClient::new(bus.clone(), identity.clone());
    let known = Batches::default();
    let presence = Presence { adapter: name.clone(), instance, schema, batches: known.clone(), agents };
    let adapter =
        Adapter { rpc: rpc.clone(), identity: identity.clone(), clock, runner, batches: known, stop: stop.clone() };
    let serving = Secured::serve_work(&bus, Topic::Adapter, Some(&name), batches, identity, Arc::new(adapter)).await?;
    let tasks = TaskTracker::new();
    let work = presence.announce(rpc, stop.clone());
    tasks.spawn(health.watched("presence", Some(TURN_LIMIT), stop.clone(), work));
    tasks.close();
    tracing::info!(role = "adapter", adapter = %name, "role started");
    Ok(Running { serving, stop, tasks })
}

impl Running {
    /// Takes no more batches and returns; a batch that was not handed over is given back to the broker.
    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.stop().await;
        self.tasks.wait().await;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunCheck {
    ticket: SignedDocument,
    parameters: Map<String, Value>,
    #[serde(default)]
    retries: Option<i64>,
}

#[async_trait]
impl Service for Adapter {
    async fn handle(
        &self,
        _method: &'static Method,
        _caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        let RunCheck { ticket: document, parameters, retries } = typed(args)?;
        let retries = retries.unwrap_or(DEFAULT_RETRIES);
        if !(0..=MAX_RETRIES).contains(&retries) {
            return Err(RpcError::bad_request(format!("retries is {retries}; use 0 to {MAX_RETRIES}")));
        }
        let by_checks = |key: &crate::security::TrustedKey| key.roles.contains(&Role::Checks);
        let (ticket, _): (Ticket, _) = document
            .open_for(&self.identity.deployment, &self.identity.trust.current(), self.clock.now(), by_checks)
            .map_err(|error| RpcError::unauthorized(format!("the ticket is not believed: {error}")))?;
        if ticket.adapter != *self.runner.name() {
            return Err(RpcError::forbidden(format!("the ticket is for adapter {}", ticket.adapter)));
        }
        let now = self.clock.now();
        let left = ticket.deadline.since(now);
        if left.is_zero() {
            // Its time is over; Checks reports that itself.
            metrics::counter!("spice_adapter_late_batches_total", "adapter" => ticket.adapter.to_string()).increment(1);
            return Ok(Value::Null);
        }
        let in_hand = match self.batches.begin(&ticket, now) {
            Begun::Fresh(in_hand) => in_hand,
            // Should it be cut off there, it is carried out here after all.
            Begun::InHand => return Err(RpcError::unavailable("this batch is being carried out already")),
            Begun::Done => {
                metrics::counter!("spice_adapter_repeated_batches_total", "adapter" => ticket.adapter.to_string())
                    .increment(1);
                return Ok(Value::Null);
            }
        };
        let hand_over = (left / 10).clamp(HAND_OVER.0, HAND_OVER.1).min(left / 2);
        let request = CheckRequest {
            check: ticket.check.clone(),
            parameters: Value::Object(parameters),
            nodes: ticket.nodes.clone(),
            deadline: Instant::now() + (left - hand_over),
            retries: u32::try_from(retries).unwrap_or(0),
            clock: self.clock.clone(),
        };
        tracing::debug!(check.name = %ticket.check, run = %ticket.order, nodes = ticket.nodes.len(), "a batch begins");
        self.carry_out(request, &document).await?;
        in_hand.done();
        Ok(Value::Null)
    }
}

impl Adapter {
    async fn carry_out(&self, request: CheckRequest, document: &SignedDocument) -> Result<(), RpcError> {
        // Results are handed over while the others are still being found out: a broker that takes none must not keep the
        // provider from being heard before its deadline. Bounded by the batch.
        let (found, handing_over) = mpsc::unbounded_channel();
        tokio::try_join!(self.find_out(request, found), self.hand_over(document, handing_over))?;
        Ok(())
    }

    /// Runs the provider, and gives results on: those known early together, the rest at the end.
    async fn find_out(
        &self,
        request: CheckRequest,
        found: mpsc::UnboundedSender<Vec<NodeResult>>,
    ) -> Result<(), RpcError> {
        let (early, mut known) = mpsc::unbounded_channel();
        let mut told: BTreeMap<NodeName, NodeResult> = BTreeMap::new();
        let mut fresh: BTreeSet<NodeName> = BTreeSet::new();
        let mut flush_at: Option<Instant> = None;
        let running = self.runner.run_and_tell(request, &early);
        tokio::pin!(running);
        let all = loop {
            tokio::select! {
                biased;
                all = &mut running => break all,
                () = self.stop.cancelled() => return Err(stopping()),
                Some(result) = known.recv() => {
                    fresh.insert(result.node.clone());
                    told.insert(result.node.clone(), result);
                    flush_at.get_or_insert(Instant::now() + EARLY);
                }
                () = sleep_until(flush_at) => {
                    let results = std::mem::take(&mut fresh).iter().filter_map(|node| told.get(node).cloned()).collect();
                    let _ = found.send(results);
                    flush_at = None;
                }
            }
        };
        let already = |result: &NodeResult| !fresh.contains(&result.node) && told.get(&result.node) == Some(result);
        let _ = found.send(all.into_iter().filter(|result| !already(result)).collect());
        Ok(())
    }

    /// Hands over what is found, whatever has come together in one message.
    async fn hand_over(
        &self,
        ticket: &SignedDocument,
        mut found: mpsc::UnboundedReceiver<Vec<NodeResult>>,
    ) -> Result<(), RpcError> {
        while let Some(results) = found.recv().await {
            let by_node = |results: Vec<NodeResult>| results.into_iter().map(|result| (result.node.clone(), result));
            let mut together: BTreeMap<NodeName, NodeResult> = by_node(results).collect();
            while let Ok(more) = found.try_recv() {
                // What comes later of a node is what stands.
                together.extend(by_node(more));
            }
            self.report(ticket, together.into_values().collect()).await?;
        }
        Ok(())
    }

    /// Hands results over, trying until the broker has stored them; while it cannot, this batch is held and no more are
    /// taken.
    async fn report(&self, ticket: &SignedDocument, mut results: Vec<NodeResult>) -> Result<(), RpcError> {
        if results.is_empty() {
            return Ok(());
        }
        let adapter = self.runner.name();
        for result in &results {
            metrics::counter!("spice_adapter_results_total", "adapter" => adapter.to_string(), "status" => result.status.as_str())
                .increment(1);
        }
        // Failures first: should anything be cut short, it is not they.
        results.sort_by_key(|result| result.status != crate::protocol::Status::Fail);
        let args = Map::from_iter([("ticket".to_owned(), json!(ticket)), ("results".to_owned(), json!(results))]);
        let mut pause = RETRY.0;
        loop {
            match self.rpc.work(Topic::Results, None, "record_results", args.clone(), None).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == Kind::BadRequest => return Err(error),
                Err(error) => {
                    metrics::counter!("spice_adapter_hand_over_retries_total", "adapter" => adapter.to_string())
                        .increment(1);
                    tracing::info!(%error, "results could not be handed over; they are kept and tried again");
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(stopping()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

fn stopping() -> RpcError {
    RpcError::unavailable("this adapter is stopping")
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// A provider made ready to serve.
///
/// # Errors
/// A sentence, when its own schema is no valid JSON Schema.
pub fn wrap(provider: Arc<dyn Provider>, batches: u16) -> Result<Runner, String> {
    Runner::new(provider, crate::adapter::runner::Limits { batches: usize::from(batches) })
}
