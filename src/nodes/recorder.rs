//! Batches of results, taken in together: while one transaction is written, others arrive, and the next one takes them all.
//!
//! What can be done without the world (signatures, ticket, names, texts) has been done by then. There is no task of its own: whoever waits
//! and gets the world first records for all that wait, and each is answered once what it asked for is stored.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::nodes::Nodes;
use crate::nodes::entry::StoredResult;
use crate::nodes::history::HistoryRow;
use crate::nodes::notify::ResultVolume;
use crate::nodes::record::ResultRef;
use crate::nodes::results::{Batch, REMEMBER, nodes_changed};
use crate::nodes::rows::{Rows, Writing};
use crate::nodes::storage::{self, Lane};
use crate::nodes::world::{Stage, World};
use crate::protocol::Status;
use crate::rpc::RpcError;
use crate::security::Vouch;
use crate::store::to_body;
use crate::trust::{BootSeen, Note, Observation};

/// Most batches in one transaction: more would make everybody else wait for the world longer than a heartbeat should.
pub(super) const MAX_GROUP: usize = 16;

/// The batches that wait to be recorded.
#[derive(Default)]
pub struct Recorder(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    last_number: u64,
    /// So many batches are recorded one by one, because a group with as many failed: should one of them be the cause, it
    /// must not take the others along for ever.
    alone: usize,
}

/// A batch, and who waits for it.
struct Waiting {
    number: u64,
    batch: Batch,
    answer: oneshot::Sender<Answer>,
}

/// Stored; or not, and given back because its ticket is newer than the policy in force; or why not.
type Answer = Result<Option<Batch>, RpcError>;

impl Recorder {
    fn push(&self, batch: Batch, answer: oneshot::Sender<Answer>) -> u64 {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.last_number += 1;
        let number = queue.last_number;
        queue.waiting.push_back(Waiting { number, batch, answer });
        number
    }

    /// What is recorded next by whoever waits for `mine`; nothing where others have recorded it. Until [`Recorder::succeeded`] a group counts
    /// as failed, so that one which ends in a panic does, too.
    fn take(&self, mine: u64) -> Vec<Waiting> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = queue.waiting.iter().position(|waiting| waiting.number == mine) else { return Vec::new() };
        if queue.alone > 0 {
            queue.alone -= 1;
            return queue.waiting.remove(at).into_iter().collect();
        }
        // Those before mine go first, whoever waits for them.
        let count = queue.waiting.len().min(MAX_GROUP);
        queue.alone = if count > 1 { count } else { 0 };
        queue.waiting.drain(..count).collect()
    }

    fn succeeded(&self, size: usize) {
        if size > 1 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).alone = 0;
        }
    }
}

/// What is told to Checks.
#[derive(Serialize)]
struct ResultsStored<'a> {
    run: &'a str,
    batch: i64,
    outcomes: &'a BTreeMap<NodeName, Status>,
}

/// What all rows of a batch have in common.
struct Common {
    run: String,
    key_id: String,
    ticket_key_id: String,
    cause: String,
    ticket_by: Option<Vouch>,
}

impl Nodes {
    /// Takes in a batch; it is stored when this returns nothing. It returns the batch where the policy should be asked for first.
    ///
    /// # Errors
    /// When it was not stored: nothing has happened.
    pub(super) async fn record(&self, batch: Batch) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let mine = self.recorder.push(batch, answer);
        loop {
            let mut world = tokio::select! {
                biased;
                // Without an answer whoever recorded it was cut off.
                outcome = &mut answered => {
                    return outcome.unwrap_or_else(|_| Err(RpcError::unavailable("recording was cut off")));
                }
                world = self.world.lock() => world,
            };
            let group = self.recorder.take(mine);
            if !group.is_empty() {
                self.record_group(&mut world, group).await;
            }
        }
    }

    async fn record_group(&self, world: &mut World, group: Vec<Waiting>) {
        let size = group.len();
        let ids: Vec<&str> = group.iter().map(|waiting| waiting.batch.request_id.as_str()).collect();
        let seen: HashSet<String> = match storage::seen(&self.database, &ids).await {
            Ok(seen) => seen.into_iter().collect(),
            Err(error) => {
                return answer(group.into_iter().map(|waiting| waiting.answer), &Err(RpcError::from(error)));
            }
        };
        let now = self.clock.now();
        let mut stage = Stage::default();
        let mut staged: HashSet<String> = HashSet::new();
        let mut answers = Vec::with_capacity(size);
        let mut writing: Option<Writing> = None;
        let mut last_result = world.last_result;
        let mut group = group.into_iter();
        while let Some(Waiting { batch, answer, .. }) = group.next() {
            if seen.contains(&batch.request_id) {
                // Delivered again after its effect was stored: done.
                metrics::counter!("spice_nodes_redelivered_total").increment(1);
                let _ = answer.send(Ok(None));
                continue;
            }
            if staged.contains(&batch.request_id) {
                metrics::counter!("spice_nodes_redelivered_total").increment(1);
                answers.push(answer);
                continue;
            }
            let ticket_by = Some(Vouch { key: batch.ticket_key, at: batch.ticket.issued_at.max(now) });
            if let Err(error) = self.still_believed(&[batch.vouch, ticket_by]) {
                let _ = answer.send(Err(error));
                continue;
            }
            if !batch.is_caught_up && batch.is_ahead_of(world) {
                let _ = answer.send(Ok(Some(batch)));
                continue;
            }
            if writing.is_none() {
                match Writing::begin(&self.database).await {
                    Ok(begun) => writing = Some(begun),
                    Err(error) => {
                        let others = group.map(|waiting| waiting.answer);
                        return self::answer(std::iter::once(answer).chain(others), &Err(RpcError::from(error)));
                    }
                }
            }
            staged.insert(batch.request_id.clone());
            let rows = self.stage_batch(world, &mut stage, batch, ticket_by, now, &mut last_result);
            if let Some(writing) = &writing {
                writing.write(rows);
            }
            answers.push(answer);
        }
        let Some(writing) = writing else {
            self.recorder.succeeded(size);
            return;
        };
        let (sealed, last) = self.seal(world, &mut stage);
        writing.write(last);
        let outcome = writing.commit().await.map_err(RpcError::from);
        if outcome.is_ok() {
            world.last_result = last_result;
            self.take_effect(world, stage, sealed);
            self.recorder.succeeded(size);
        }
        answer(answers.into_iter(), &outcome);
    }

    fn stage_batch(
        &self,
        world: &World,
        stage: &mut Stage,
        mut batch: Batch,
        ticket_by: Option<Vouch>,
        now: Timestamp,
        last_result: &mut i64,
    ) -> Rows {
        let results = std::mem::take(&mut batch.results);
        let Batch { request_id, ticket, .. } = &batch;
        let run = ticket.order.to_string();
        let key_id = |vouch: Option<Vouch>| vouch.map(|vouch| vouch.key.to_string()).unwrap_or_default();
        let common = Common {
            cause: format!("check {} run {run}", ticket.check),
            run,
            key_id: key_id(batch.vouch),
            ticket_key_id: key_id(ticket_by),
            ticket_by,
        };
        let outcomes: BTreeMap<NodeName, Status> =
            results.iter().map(|result| (result.node.clone(), result.status)).collect();
        let stored = ResultsStored { run: &common.run, batch: ticket.batch, outcomes: &outcomes };
        let told = to_body(&("results_stored", stored));
        for status in outcomes.values() {
            self.figures.stored(*status);
        }
        stage.seen.push((request_id.clone(), ticket.deadline.plus(REMEMBER)));
        let mut rebooted: BTreeSet<NodeName> = BTreeSet::new();
        let mut rows = Rows::default();
        rows.results.reserve(results.len());
        for result in results {
            let observation = Observation::under(ticket, batch.reporter, result).vouched(batch.vouch, common.ticket_by);
            if let Some(stored) = self.stage_result(world, stage, &mut rebooted, &batch, &common, observation, now) {
                *last_result += 1;
                rows.results.push(HistoryRow::of(*last_result, &stored));
            }
        }
        rows.nodes = stage.rows_of(outcomes.keys(), world.keeper.like());
        stage.parcels.push((Lane::Events, told));
        if !rebooted.is_empty() {
            stage.parcels.push(nodes_changed(&rebooted, "boot"));
        }
        rows
    }

    #[allow(clippy::too_many_arguments)] // one result, who says it, and where it goes
    fn stage_result(
        &self,
        world: &World,
        stage: &mut Stage,
        rebooted: &mut BTreeSet<NodeName>,
        batch: &Batch,
        common: &Common,
        observation: Observation,
        now: Timestamp,
    ) -> Option<StoredResult> {
        let ticket = &batch.ticket;
        let node = observation.result.node.clone();
        let Some(entry) = world.touch(stage, &node) else {
            // Deleted meanwhile: a late message never brings a node back.
            metrics::counter!("spice_nodes_results_refused_total", "reason" => "no_such_node").increment(1);
            return None;
        };
        let before = entry.trust.checks.get(&ticket.check).and_then(|state| state.shown()).map(|shown| shown.status);
        let recorded = entry.trust.record(&world.rules, &ticket.check, &observation, now);
        if matches!(recorded.folded.note, Note::Conflict { .. }) {
            metrics::counter!("spice_nodes_results_contradicted_total", "check" => ticket.check.to_string())
                .increment(1);
            if let Some(others) = self.contradictions.log() {
                tracing::warn!(sender = batch.sender, node = %node, check.name = %ticket.check, run = common.run, others, "results of one run contradict each other; the worse one stands");
            }
        }
        if recorded.boot == Some(BootSeen::Changed) {
            rebooted.insert(node.clone());
        }
        let evidence_at = observation.evidence_at();
        let result = observation.result;
        let stored = StoredResult {
            node: node.clone(),
            check: ticket.check.clone(),
            run: common.run.clone(),
            attempt: ticket.attempt,
            revision: ticket.revision,
            status: result.status,
            reason: result.reason,
            evidence_at,
            stored_at: now,
            sender: batch.sender.clone(),
            key_id: common.key_id.clone(),
            ticket_key_id: common.ticket_key_id.clone(),
            counted: recorded.folded.counted,
            latency_ms: result.finished_at.0.saturating_sub(result.requested_at.0).clamp(0, 86_400_000),
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
        let recorded = stage.record.len();
        world.review(stage, &world.rules, &node, &common.cause, now);
        for entry in stage.record.iter_mut().skip(recorded) {
            entry.result = Some(ResultRef {
                check: ticket.check.clone(),
                run: common.run.clone(),
                attempt: ticket.attempt,
                sender: batch.sender.clone(),
                key_id: common.key_id.clone(),
                ticket_key_id: common.ticket_key_id.clone(),
            });
        }
        Some(stored)
    }
}

/// Answers all that wait alike. Whoever does not wait any more was cut off, and will be told when its batch comes again.
fn answer(waiting: impl Iterator<Item = oneshot::Sender<Answer>>, outcome: &Result<(), RpcError>) {
    for waiting in waiting {
        let _ = waiting.send(outcome.clone().map(|()| None));
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
pub(super) mod tests;
