//! What stands around every provider: parameters, deadline, retries, concurrency, panics, and exactly one result per node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout_at;

use crate::clock::Timestamp;
use crate::names::AdapterName;
use crate::protocol::{NodeResult, Status};

use super::tally::{Taken, Tally};
use super::{CheckRequest, Provider, ProviderError, schema};

/// Most nodes in one batch.
pub const MAX_BATCH: usize = 200;
/// Results a provider may be ahead of the runner.
const CHANNEL: usize = 64;

/// The pause before the first retry; doubled for each further one, up to the second value, each with jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How much one provider may do at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Batches run at once, 1 to 1,000; more wait for their turn within their deadline.
    pub batches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batches: 4 }
    }
}

/// How often a provider broke its contract, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misbehaviour {
    /// Answers for nodes nobody asked about.
    pub unasked: u64,
    /// Further answers for a node that had one.
    pub repeated: u64,
    /// Panics.
    pub panics: u64,
}

#[derive(Default)]
struct Counters {
    unasked: AtomicU64,
    repeated: AtomicU64,
    panics: AtomicU64,
}

/// A provider with everything around it.
pub struct Runner {
    provider: Arc<dyn Provider>,
    name: AdapterName,
    validator: Validator,
    turns: Arc<Semaphore>,
    counters: Counters,
}

/// How a provider ended.
enum End {
    /// Its turn never came.
    Busy,
    Finished(Result<(), ProviderError>),
    Panicked,
    DeadlinePassed,
}

impl Runner {
    /// Wraps `provider`.
    ///
    /// # Errors
    /// A sentence, when the provider's own schema is no valid JSON Schema.
    pub fn new(provider: Arc<dyn Provider>, limits: Limits) -> Result<Self, String> {
        let name = provider.name();
        let validator = schema::compile(&provider.parameter_schema())
            .map_err(|fault| format!("adapter {name}: its parameter schema is not valid: {fault}"))?;
        let turns = Arc::new(Semaphore::new(limits.batches.clamp(1, 1000)));
        Ok(Self { provider, name, validator, turns, counters: Counters::default() })
    }

    /// The adapter's name.
    #[must_use]
    pub fn name(&self) -> &AdapterName {
        &self.name
    }

    /// The provider inside.
    #[must_use]
    pub fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// Whether `parameters` fit the provider's schema and its own rules.
    ///
    /// # Errors
    /// One sentence that says what does not.
    pub fn validate(&self, parameters: &Value) -> Result<(), String> {
        schema::check(&self.validator, parameters)?;
        self.provider.validate(parameters)
    }

    /// How often the provider broke its contract.
    #[must_use]
    pub fn misbehaviour(&self) -> Misbehaviour {
        Misbehaviour {
            unasked: self.counters.unasked.load(Ordering::Relaxed),
            repeated: self.counters.repeated.load(Ordering::Relaxed),
            panics: self.counters.panics.load(Ordering::Relaxed),
        }
    }

    /// Runs the batch; returns at its deadline at the latest, with exactly one result per node, in the request's order.
    pub async fn run(&self, request: CheckRequest) -> Vec<NodeResult> {
        self.run_and_tell(request, &mpsc::unbounded_channel().0).await
    }

    /// [`Runner::run`], and tells `early` each result as soon as it is known (again, where a contradiction worsened it), so
    /// that one silent node does not hold up what is known of the others.
    pub async fn run_and_tell(
        &self,
        request: CheckRequest,
        early: &mpsc::UnboundedSender<NodeResult>,
    ) -> Vec<NodeResult> {
        let requested_at = request.now();
        let mut tally = Tally::new(&request.nodes);
        let clock = Arc::clone(&request.clock);
        let finish = move |tally: Tally, status, reason: &str| tally.finish(status, reason, requested_at, clock.now());

        if request.nodes.len() > MAX_BATCH {
            let reason = format!("the batch has {} nodes, at most {MAX_BATCH} are allowed", request.nodes.len());
            return finish(tally, Status::Error, &reason);
        }
        // The provider may look at files to validate; a slow disk must not hold the executor.
        if let Err(fault) = self.validate_off_thread(&request).await {
            return finish(tally, Status::Error, &format!("the check's parameters are refused: {fault}"));
        }
        match self.drive_with_retries(request, &mut tally, early).await {
            End::Busy => {
                let reason = format!(
                    "adapter {} was busy with other batches until the deadline; start more adapters",
                    self.name
                );
                finish(tally, Status::Error, &reason)
            }
            End::Finished(Ok(())) => finish(tally, Status::Timeout, "the adapter gave no answer for this node"),
            End::Finished(Err(error)) => finish(tally, Status::Error, &error.to_string()),
            End::Panicked => {
                self.counters.panics.fetch_add(1, Ordering::Relaxed);
                self.count("panic");
                tracing::error!(adapter = %self.name, "a provider panicked; the nodes it had not reported are errors");
                finish(tally, Status::Error, "the adapter failed inside (a panic, see its log); report this as a bug")
            }
            End::DeadlinePassed => finish(tally, Status::Timeout, "no answer before the deadline"),
        }
    }

    async fn validate_off_thread(&self, request: &CheckRequest) -> Result<(), String> {
        schema::check(&self.validator, &request.parameters)?;
        // Another thread would take its own time.
        #[cfg(test)]
        if crate::sim::boottime().is_some() {
            return self.provider.validate(&request.parameters);
        }
        let provider = Arc::clone(&self.provider);
        let parameters = request.parameters.clone();
        let validating = tokio::task::spawn_blocking(move || provider.validate(&parameters));
        match timeout_at(request.deadline, validating).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Err("the adapter failed while it looked at them (a panic, see its log)".to_owned()),
            Err(_) => Err("they could not be looked at before the deadline".to_owned()),
        }
    }

    /// Runs the provider, again for the nodes not yet reported while it ends with a transport error, as often as the check allows and as
    /// its deadline lets a pause and an attempt fit.
    async fn drive_with_retries(
        &self,
        mut request: CheckRequest,
        tally: &mut Tally,
        early: &mpsc::UnboundedSender<NodeResult>,
    ) -> End {
        let (mut retries, mut pause) = (request.retries, PAUSE.0);
        let mut last = None;
        loop {
            // Taken anew for each attempt: nobody waits for another batch's pause.
            let Ok(Ok(turn)) = timeout_at(request.deadline, Arc::clone(&self.turns).acquire_owned()).await else {
                return last.map_or(End::Busy, |error| End::Finished(Err(error)));
            };
            let (told, nodes) = match self.drive(request.clone(), turn, tally, early).await {
                End::Finished(Err(ProviderError::Transport(told))) => (told, tally.missing()),
                end => return end,
            };
            let jittered = pause.mul_f64(rand::random_range(0.5..1.5));
            if retries == 0 || nodes.is_empty() || request.time_left() <= jittered {
                tracing::warn!(adapter = %self.name, check = %request.check, nodes = nodes.len(), reason = told, "nodes could not be asked about");
                return End::Finished(Err(ProviderError::Transport(told)));
            }
            tracing::debug!(adapter = %self.name, check = %request.check, nodes = nodes.len(), reason = told, "asking again");
            metrics::counter!("spice_adapter_retries_total", "adapter" => self.name.to_string()).increment(1);
            tokio::time::sleep(jittered).await;
            request.nodes = nodes;
            last = Some(ProviderError::Transport(told));
            retries -= 1;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Runs the provider in a task of its own, so that a panic is contained and the deadline ends it.
    async fn drive(
        &self,
        request: CheckRequest,
        turn: tokio::sync::OwnedSemaphorePermit,
        tally: &mut Tally,
        early: &mpsc::UnboundedSender<NodeResult>,
    ) -> End {
        let deadline = request.deadline;
        let clock = Arc::clone(&request.clock);
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let provider = Arc::clone(&self.provider);
        let mut task = AbortOnDrop(tokio::spawn(async move {
            // The turn ends with the provider, not with our patience.
            let _turn = turn;
            provider.run(request, sender).await
        }));
        loop {
            match timeout_at(deadline, receiver.recv()).await {
                Ok(Some(result)) => self.take(tally, result, clock.now(), early),
                Ok(None) => break,
                Err(_) => {
                    task.0.abort();
                    // What it had handed over in time still counts.
                    while let Ok(result) = receiver.try_recv() {
                        self.take(tally, result, clock.now(), early);
                    }
                    return End::DeadlinePassed;
                }
            }
        }
        match timeout_at(deadline, &mut task.0).await {
            Ok(Ok(outcome)) => End::Finished(outcome),
            Ok(Err(_)) => End::Panicked,
            Err(_) => End::DeadlinePassed,
        }
    }

    fn take(&self, tally: &mut Tally, result: NodeResult, now: Timestamp, early: &mpsc::UnboundedSender<NodeResult>) {
        let node = result.node.clone();
        let taken = tally.take(result, now);
        if let (Taken::First | Taken::Again, Some(known)) = (taken, tally.known(&node)) {
            // Bounded by the batch and the provider's own channel; nobody may be listening.
            let _ = early.send(known.clone());
        }
        match taken {
            Taken::First => {}
            Taken::Again => {
                self.counters.repeated.fetch_add(1, Ordering::Relaxed);
                self.count("repeated");
            }
            Taken::Unasked => {
                self.counters.unasked.fetch_add(1, Ordering::Relaxed);
                self.count("unasked");
            }
        }
    }

    fn count(&self, what: &'static str) {
        metrics::counter!("spice_adapter_misbehaviour_total", "adapter" => self.name.to_string(), "what" => what)
            .increment(1);
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
