//! How a batch is asked about: in groups, halved when late or refused, culprits alone.
//!
//! OpenAttestation holds a whole reply for 50 to 60 s because of one silent host, and 1.x fails a whole batch because of one
//! name it does not like. So each request gets only a slice of the time left, small enough that the halves, their halves, and
//! so on down to a single host still have theirs before the deadline.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::adapter::{CheckRequest, Results};
use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::{NodeResult, Status};

use super::OpenAttestation;
use super::client::PollError;
use super::reply::{self, Level, Said};

/// OpenAttestation 1.x refuses a batch with a longer name in it.
const LONGEST_SHARED_NAME: usize = 50;
/// First pause before asking again after a transport error; doubles, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Said of hosts whose turn never came, because others held up the verifier.
const NO_TIME: &str = "the time was up before the verifier could be asked";

/// A group to ask about in one request.
struct Ask {
    nodes: Vec<NodeName>,
    /// Asked alone on purpose, in turns of its own.
    alone: bool,
}

/// One batch under way.
pub(super) struct Run<'a> {
    provider: &'a OpenAttestation,
    request: &'a CheckRequest,
    results: Results,
    max_age: Option<Duration>,
    /// Hosts asked alone that are waiting or under way: they share the time left.
    alone_pending: AtomicUsize,
    /// Whether any request was answered: only then is a silent host, not the verifier, the culprit.
    verifier_answers: AtomicBool,
    suspects: Mutex<HashSet<NodeName>>,
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
            suspects: Mutex::default(),
        }
    }

    /// Asks until every node has a result or the time is up.
    pub(super) async fn carry_out(&self) {
        let (alone, together): (Vec<&NodeName>, Vec<&NodeName>) = self
            .request
            .nodes
            .iter()
            .partition(|node| node.as_str().len() > LONGEST_SHARED_NAME || self.provider.culprits.contains(node));
        let mut asks: Vec<Ask> = together
            .chunks(self.provider.settings.batch)
            .map(|chunk| Ask { nodes: chunk.iter().map(|node| (*node).clone()).collect(), alone: false })
            .collect();
        asks.extend(self.alone(alone.into_iter().cloned()));
        let mut under_way: FuturesUnordered<_> = asks.into_iter().map(|ask| self.ask(ask)).collect();
        while let Some(more) = under_way.next().await {
            for ask in more {
                under_way.push(self.ask(ask));
            }
        }
    }

    fn alone(&self, nodes: impl Iterator<Item = NodeName>) -> Vec<Ask> {
        let asks: Vec<Ask> = nodes.map(|node| Ask { nodes: vec![node], alone: true }).collect();
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
                asks.push(Ask { nodes: half, alone: false });
            }
        }
        asks
    }

    /// Asks once about one group, reports what was learnt, and returns what to ask next.
    async fn ask(&self, ask: Ask) -> Vec<Ask> {
        let turns = if ask.alone { &self.provider.for_alone } else { &self.provider.for_batches };
        let more = match tokio::time::timeout(self.time_left(), turns.acquire()).await {
            Ok(Ok(_turn)) => self.ask_now(&ask).await,
            _ => {
                self.report_all(&ask.nodes, Status::Timeout, NO_TIME, self.request.now()).await;
                Vec::new()
            }
        };
        if ask.alone {
            self.alone_pending.fetch_sub(1, Ordering::Relaxed);
        }
        more
    }

    async fn ask_now(&self, ask: &Ask) -> Vec<Ask> {
        let requested_at = self.request.now();
        let limit = self.slice(ask);
        if limit.is_zero() {
            self.report_all(&ask.nodes, Status::Timeout, NO_TIME, requested_at).await;
            return Vec::new();
        }
        match self.poll_with_retries(&ask.nodes, limit).await {
            Ok(body) => self.digest(ask, &body, requested_at).await,
            Err(PollError::Late | PollError::Refused(_)) if ask.nodes.len() > 1 => self.halves(ask.nodes.clone()),
            Err(PollError::Late) => {
                self.suspect(&ask.nodes);
                let told = format!("the verifier gave no answer for this host within {:.1} s", limit.as_secs_f64());
                self.report_all(&ask.nodes, Status::Timeout, &told, requested_at).await;
                Vec::new()
            }
            Err(PollError::Refused(told)) => {
                self.suspect(&ask.nodes);
                self.report_all(&ask.nodes, Status::Error, &told, requested_at).await;
                Vec::new()
            }
            Err(PollError::Transport(told) | PollError::Fault(told)) => {
                tracing::warn!(check = %self.request.check, hosts = ask.nodes.len(), reason = told, "the verifier could not be asked");
                self.report_all(&ask.nodes, Status::Error, &told, requested_at).await;
                Vec::new()
            }
        }
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
        let turns = if ask.alone {
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

    async fn poll_with_retries(&self, nodes: &[NodeName], limit: Duration) -> Result<Vec<u8>, PollError> {
        let until = Instant::now() + limit;
        let mut pause = FIRST_PAUSE;
        let mut retries = self.provider.settings.retries;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let outcome = self.provider.poller.poll(nodes, left).await;
            let jittered = pause.mul_f64(rand::random_range(0.5..1.5));
            match outcome {
                Err(PollError::Transport(told)) => {
                    if retries == 0 || Instant::now() + jittered >= until {
                        return Err(PollError::Transport(told));
                    }
                    tracing::debug!(hosts = nodes.len(), reason = told, "asking the verifier again");
                }
                other => return other,
            }
            retries -= 1;
            tokio::time::sleep(jittered).await;
            pause *= 2;
        }
    }

    /// Reports the verdicts in a reply; hosts it leaves out are asked about once more.
    async fn digest(&self, ask: &Ask, body: &[u8], requested_at: Timestamp) -> Vec<Ask> {
        let mut verdicts = match reply::read(body, &ask.nodes) {
            Ok(verdicts) => verdicts,
            Err(told) => {
                self.report_all(&ask.nodes, Status::Error, &told, requested_at).await;
                return Vec::new();
            }
        };
        self.verifier_answers.store(true, Ordering::Relaxed);
        let mut missing = Vec::new();
        for node in &ask.nodes {
            match verdicts.remove(node) {
                None => missing.push(node.clone()),
                Some(verdict) => {
                    if matches!(&verdict, Ok(said) if said.level == Level::Timeout) {
                        // The verifier waited for it, and so did all that were asked about with it.
                        self.suspect(std::slice::from_ref(node));
                    } else {
                        self.provider.culprits.forget(node);
                    }
                    let (status, reason, at) = match verdict {
                        Ok(said) => self.judge(said),
                        Err(told) => (Status::Error, told, None),
                    };
                    self.report(node, status, &reason, requested_at, at).await;
                }
            }
        }
        if missing.is_empty() {
            Vec::new()
        } else if ask.nodes.len() == 1 {
            let told = "the verifier's answer leaves this host out, also when asked about it alone";
            self.report_all(&missing, Status::Error, told, requested_at).await;
            Vec::new()
        } else if missing.len() == ask.nodes.len() {
            // An answer about nobody: halves find out whether anybody gets one.
            self.halves(missing)
        } else {
            self.alone(missing.into_iter())
        }
    }

    fn judge(&self, said: Said) -> (Status, String, Option<Timestamp>) {
        let at = said.at;
        match said.level {
            Level::Trusted => {
                let age = at.map(|at| self.request.now().since(at)).unwrap_or_default();
                if self.max_age.is_some_and(|limit| age > limit) {
                    let told =
                        format!("the verifier says trusted, but its verdict is {} s old (max_age_s)", age.as_secs());
                    return (Status::Error, told, at);
                }
                (Status::Pass, "the verifier says trusted".to_owned(), at)
            }
            Level::Untrusted => (
                Status::Fail,
                "the verifier says untrusted: measurements differ from its known-good values".to_owned(),
                at,
            ),
            Level::Unknown => (
                Status::Error,
                "the verifier says unknown: the host is not enrolled there, or could not be judged".to_owned(),
                at,
            ),
            Level::Timeout => {
                (Status::Timeout, "the verifier says timeout: it had no report from the host".to_owned(), at)
            }
            Level::Pending => (Status::Error, "the verifier says pending: it has no verdict yet".to_owned(), at),
            Level::Other(level) => (Status::Error, format!("the verifier gives an unknown trust level {level:?}"), at),
        }
    }

    fn suspect(&self, nodes: &[NodeName]) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes.iter().cloned());
    }

    async fn report_all(&self, nodes: &[NodeName], status: Status, reason: &str, requested_at: Timestamp) {
        if status == Status::Timeout && nodes.len() <= 8 {
            // A small group that never got its answer is asked one by one next time.
            self.suspect(nodes);
        }
        for node in nodes {
            self.report(node, status, reason, requested_at, None).await;
        }
    }

    async fn report(
        &self,
        node: &NodeName,
        status: Status,
        reason: &str,
        requested_at: Timestamp,
        at: Option<Timestamp>,
    ) {
        let result = NodeResult {
            node: node.clone(),
            status,
            reason: reason.to_owned(),
            requested_at,
            finished_at: self.request.now(),
            verified_at: at,
            boot: None,
            self_reported: false,
        };
        // Nobody listens any more: the deadline passed.
        let _ = self.results.send(result).await;
    }
}

/// Also when the deadline cuts the run short.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.verifier_answers.load(Ordering::Relaxed) {
            return;
        }
        for node in self.suspects.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.provider.culprits.remember(node);
        }
    }
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
