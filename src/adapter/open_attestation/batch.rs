//! How a batch is asked about: in groups, halved when late or refused, culprits alone.
//!
//! OpenAttestation holds a whole reply for 50 to 60 s because of one silent host, and 1.x fails a whole batch because of one
//! name it does not like. So each request gets only a slice of the time left, small enough that the halves, their halves, and
//! so on down to a single host still have theirs before the deadline. The first request is not given up meanwhile: from a
//! verifier that is merely slow, its answer about all is the one that comes.
//! What becomes of transport errors is in `unreached.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::adapter::{CheckRequest, ProviderError, Results};
use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::Status;

use super::OpenAttestation;
use super::client::PollError;
use super::reply;

/// OpenAttestation 1.x refuses a batch with a longer name in it.
const LONGEST_SHARED_NAME: usize = 50;

/// Said of hosts whose turn never came, because others held up the verifier.
const NO_TIME: &str = "the time was up before the verifier could be asked";

/// A group to ask about in one request.
#[derive(Clone)]
pub(super) struct Ask {
    nodes: Vec<NodeName>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the batch came.
    First,
    /// A part of a group that was late, refused or unanswered.
    Part,
    /// One host, asked alone on purpose, in turns of its own.
    Alone,
}

/// A request whose slice is over but whose answer would still be welcome.
struct Patient<'a> {
    ask: Ask,
    reply: BoxFuture<'a, Result<Vec<u8>, PollError>>,
    requested_at: Timestamp,
}

/// What follows from a step.
#[derive(Default)]
struct Next<'a> {
    asks: Vec<Ask>,
    patient: Option<Patient<'a>>,
}

impl From<Vec<Ask>> for Next<'_> {
    fn from(asks: Vec<Ask>) -> Self {
        Self { asks, patient: None }
    }
}

/// What is reported unless something better comes: status, reason, when asked.
type Provisional = (Status, String, Timestamp);

/// One batch under way.
pub(super) struct Run<'a> {
    pub(super) provider: &'a OpenAttestation,
    pub(super) request: &'a CheckRequest,
    pub(super) results: Results,
    pub(super) max_age: Option<Duration>,
    /// Hosts asked alone that are waiting or under way: they share the time left.
    pub(super) alone_pending: AtomicUsize,
    /// Whether any request was answered: only then is a silent host, not the verifier, the culprit.
    pub(super) verifier_answers: AtomicBool,
    /// Groups put off until the verifier is known to answer, each with what it met.
    pub(super) unreached: Mutex<Vec<(Ask, String)>>,
    pub(super) suspects: Mutex<HashSet<NodeName>>,
    /// Nodes with a result.
    pub(super) done: Mutex<HashSet<NodeName>>,
    /// Timeouts, held back while an earlier request may still be answered.
    pub(super) provisional: Mutex<HashMap<NodeName, Provisional>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        provider: &'a OpenAttestation,
        request: &'a CheckRequest,
        results: Results,
        max_age: Option<Duration>,
    ) -> Self {
        Self {
            provider,
            request,
            results,
            max_age,
            alone_pending: AtomicUsize::new(0),
            verifier_answers: AtomicBool::new(false),
            unreached: Mutex::default(),
            suspects: Mutex::default(),
            done: Mutex::default(),
            provisional: Mutex::default(),
        }
    }

    /// Asks until every node has a result or the time is up.
    ///
    /// # Errors
    /// [`ProviderError::Transport`] where the verifier was not reached about some nodes, and answered nothing.
    pub(super) async fn carry_out(&self) -> Result<(), ProviderError> {
        let (alone, together): (Vec<&NodeName>, Vec<&NodeName>) = self
            .request
            .nodes
            .iter()
            .partition(|node| node.as_str().len() > LONGEST_SHARED_NAME || self.provider.culprits.contains(node));
        let mut asks: Vec<Ask> = together
            .chunks(self.provider.settings.batch)
            .map(|chunk| Ask { nodes: chunk.iter().map(|node| (*node).clone()).collect(), kind: Kind::First })
            .collect();
        asks.extend(self.alone(alone.into_iter().cloned()));
        let mut under_way: FuturesUnordered<BoxFuture<'_, Next<'_>>> =
            asks.into_iter().map(|ask| self.ask(ask).boxed()).collect();
        while let Some(next) = under_way.next().await {
            if locked(&self.done).len() == self.request.nodes.len() {
                break;
            }
            for ask in next.asks {
                under_way.push(self.ask(ask).boxed());
            }
            if let Some(patient) = next.patient {
                under_way.push(self.wait_for(patient).boxed());
            }
            for ask in self.reached() {
                under_way.push(self.ask(ask).boxed());
            }
        }
        let late = std::mem::take(&mut *locked(&self.provisional));
        for (node, (status, reason, requested_at)) in late {
            self.report(&node, status, &reason, requested_at, None).await;
        }
        locked(&self.unreached).pop().map_or(Ok(()), |(_, told)| Err(ProviderError::Transport(told)))
    }

    fn alone(&self, nodes: impl Iterator<Item = NodeName>) -> Vec<Ask> {
        let asks: Vec<Ask> = nodes.map(|node| Ask { nodes: vec![node], kind: Kind::Alone }).collect();
        self.alone_pending.fetch_add(asks.len(), Ordering::Relaxed);
        asks
    }

    fn halves(&self, mut nodes: Vec<NodeName>) -> Vec<Ask> {
        let second = nodes.split_off(nodes.len() / 2);
        let mut asks = Vec::with_capacity(2);
        for half in [nodes, second] {
            if half.len() == 1 {
                asks.extend(self.alone(half.into_iter()));
            } else if !half.is_empty() {
                asks.push(Ask { nodes: half, kind: Kind::Part });
            }
        }
        asks
    }

    /// Asks once about one group, reports what was learnt, and returns what to do next.
    async fn ask(&self, mut ask: Ask) -> Next<'_> {
        let turns = if ask.kind == Kind::Alone { &self.provider.for_alone } else { &self.provider.for_batches };
        let next = match tokio::time::timeout(self.time_left(), turns.acquire()).await {
            Ok(Ok(_turn)) => {
                // Meanwhile an earlier request may have been answered.
                ask.nodes.retain(|node| !locked(&self.done).contains(node));
                if ask.nodes.is_empty() { Next::default() } else { self.ask_now(&ask).await }
            }
            _ => {
                self.report_late(&ask.nodes, NO_TIME, self.request.now());
                Next::default()
            }
        };
        if ask.kind == Kind::Alone {
            self.alone_pending.fetch_sub(1, Ordering::Relaxed);
        }
        next
    }

    async fn ask_now(&self, ask: &Ask) -> Next<'_> {
        let requested_at = self.request.now();
        let slice = self.slice(ask);
        if slice.is_zero() {
            self.report_late(&ask.nodes, NO_TIME, requested_at);
            return Next::default();
        }
        let limit = if ask.kind == Kind::First { self.time_left() } else { slice };
        let nodes = ask.nodes.clone();
        let mut reply = async move { self.poll_with_retries(&nodes, limit).await }.boxed();
        let Ok(outcome) = tokio::time::timeout(slice, &mut reply).await else {
            if ask.kind == Kind::First && ask.nodes.len() > 1 {
                let patient = Patient { ask: ask.clone(), reply, requested_at };
                return Next { asks: self.halves(ask.nodes.clone()), patient: Some(patient) };
            }
            return self.settle(ask, Err(PollError::Late), requested_at, slice).await.into();
        };
        self.settle(ask, outcome, requested_at, slice).await.into()
    }

    /// Waits on for a request whose parts are already asked about; only an answer counts.
    async fn wait_for(&self, patient: Patient<'_>) -> Next<'_> {
        if let Ok(body) = patient.reply.await
            && let Ok(verdicts) = reply::read(&body, &patient.ask.nodes)
        {
            self.report_verdicts(&patient.ask.nodes, verdicts, patient.requested_at).await;
        }
        Next::default()
    }

    /// Reports what an outcome means, and returns what to ask next.
    async fn settle(
        &self,
        ask: &Ask,
        outcome: Result<Vec<u8>, PollError>,
        requested_at: Timestamp,
        slice: Duration,
    ) -> Vec<Ask> {
        match outcome {
            Ok(body) => return self.digest(ask, &body, requested_at).await,
            Err(PollError::Late | PollError::Refused(_)) if ask.nodes.len() > 1 => {
                return self.halves(ask.nodes.clone());
            }
            Err(PollError::Late) => {
                self.suspect(&ask.nodes);
                let told = format!("the verifier gave no answer for this host within {:.1} s", slice.as_secs_f64());
                self.report_late(&ask.nodes, &told, requested_at);
            }
            Err(PollError::Refused(told)) => {
                self.suspect(&ask.nodes);
                self.report_all(&ask.nodes, &told, requested_at).await;
            }
            Err(PollError::Unreached(told)) => locked(&self.unreached).push((ask.clone(), told)),
            Err(PollError::Transport(told) | PollError::Fault(told)) => {
                tracing::warn!(check = %self.request.check, hosts = ask.nodes.len(), reason = told, "the verifier could not be asked");
                self.report_all(&ask.nodes, &told, requested_at).await;
            }
        }
        Vec::new()
    }

    /// Until the deadline, less a tenth for the way back through the adapter.
    fn time_left(&self) -> Duration {
        self.request.time_left().mul_f64(0.9)
    }

    /// How long one request about `ask` may take.
    fn slice(&self, ask: &Ask) -> Duration {
        let left = self.time_left();
        if left < Duration::from_millis(20) {
            return Duration::ZERO;
        }
        let turns = if ask.kind == Kind::Alone {
            let pending = self.alone_pending.load(Ordering::Relaxed).max(1);
            pending.div_ceil(self.provider.settings.concurrency)
        } else {
            levels(ask.nodes.len())
        };
        let turns = u32::try_from(turns).unwrap_or(u32::MAX).max(1);
        (left / turns)
            .max(self.provider.settings.min_request_time)
            .min(self.provider.settings.request_timeout)
            .min(left)
    }

    /// Reports the verdicts in a reply; hosts it leaves out are asked about once more.
    async fn digest(&self, ask: &Ask, body: &[u8], requested_at: Timestamp) -> Vec<Ask> {
        let verdicts = match reply::read(body, &ask.nodes) {
            Ok(verdicts) => verdicts,
            Err(told) => {
                tracing::warn!(check = %self.request.check, hosts = ask.nodes.len(), reason = told, "the verifier was not understood");
                self.report_all(&ask.nodes, &told, requested_at).await;
                return Vec::new();
            }
        };
        let missing = self.report_verdicts(&ask.nodes, verdicts, requested_at).await;
        if missing.is_empty() {
            Vec::new()
        } else if ask.nodes.len() == 1 {
            let told = "the verifier's answer leaves this host out, also when asked about it alone";
            self.report_all(&missing, told, requested_at).await;
            Vec::new()
        } else if missing.len() == ask.nodes.len() {
            // An answer about nobody: halves find out whether anybody gets one.
            self.halves(missing)
        } else {
            self.alone(missing.into_iter())
        }
    }
}

/// Also when the deadline cuts the run short.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.verifier_answers.load(Ordering::Relaxed) {
            return;
        }
        for node in locked(&self.suspects).iter() {
            self.provider.culprits.remember(node);
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many requests, one after the other, lead from a group of `size` down to a single host by halving.
fn levels(size: usize) -> usize {
    let halvings = usize::BITS - size.saturating_sub(1).leading_zeros();
    1 + halvings as usize
}

#[cfg(test)]
mod tests {
    use super::levels;

    #[test]
    fn levels_count_the_halvings() {
        for (size, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 4), (100, 8), (200, 9)] {
            assert_eq!(levels(size), expected, "{size}");
        }
    }
}
