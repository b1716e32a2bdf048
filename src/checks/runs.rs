//! Runs in progress: which nodes of which batch are still awaited, until when, and what became of the others.

use std::collections::BTreeMap;

use crate::checks::adapters::LostBatch;
use crate::checks::losses::Loss;
use crate::checks::run::{Batch, Run};
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::{RunOrder, Status};
use crate::security::document::SignedDocument;

/// All runs that are not finished, and the latest that are.
#[derive(Debug, Default)]
pub struct Runs {
    runs: BTreeMap<RunOrder, Run>,
    pub(super) batches: BTreeMap<(RunOrder, i64), Batch>,
    outstanding: BTreeMap<CheckName, BTreeMap<NodeName, u32>>,
}

/// Finished runs kept in memory and in the database.
pub const KEPT_RUNS: usize = 1000;

impl Runs {
    /// From stored rows.
    #[must_use]
    pub fn restore(runs: Vec<Run>, batches: Vec<Batch>) -> Self {
        let mut restored = Self::default();
        for mut run in runs {
            // What was not sent out before the restart is due again by its schedule, in a run of its own.
            run.sending = false;
            restored.runs.insert(run.order, run);
        }
        for batch in batches {
            restored.add_batch(batch);
        }
        restored
    }

    /// Adds a run or replaces what is known of it.
    pub fn put_run(&mut self, run: Run) {
        self.runs.insert(run.order, run);
    }

    /// The run `order`.
    #[must_use]
    pub fn run(&self, order: RunOrder) -> Option<&Run> {
        self.runs.get(&order)
    }

    /// Runs, the latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().rev()
    }

    /// Begins to await a batch.
    pub fn add_batch(&mut self, batch: Batch) {
        let of_check = self.outstanding.entry(batch.check.clone()).or_default();
        for node in &batch.awaited {
            *of_check.entry(node.clone()).or_default() += 1;
        }
        self.batches.insert((batch.order, batch.batch), batch);
    }

    /// Whether an outcome of `check` for `node` is awaited.
    #[must_use]
    pub fn is_outstanding(&self, check: &CheckName, node: &NodeName) -> bool {
        self.outstanding.get(check).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// How many outcomes are awaited, over all checks.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.batches.values().map(|batch| batch.awaited.len()).sum()
    }

    /// Batches that were stored but not yet handed to the bus.
    pub fn unsent(&self) -> impl Iterator<Item = &Batch> {
        self.batches.values().filter(|batch| !batch.sent)
    }

    /// How many batches of `check` are with its adapter, or on their way.
    #[must_use]
    pub fn batches_of(&self, check: &CheckName) -> usize {
        self.batches.values().filter(|batch| batch.check == *check && !batch.timed_out).count()
    }

    /// Every batch that is awaited.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.values()
    }

    /// Marks a batch as handed to the bus.
    pub fn mark_sent(&mut self, order: RunOrder, batch: i64, now: Timestamp) {
        if let Some(batch) = self.batches.get_mut(&(order, batch)) {
            batch.sent = true;
            batch.sent_at = Some(now);
        }
    }

    /// Marks what an instance held as lost, if it is that attempt which is awaited.
    pub fn mark_lost(&mut self, lost: &LostBatch) {
        let LostBatch { adapter, ticket, loss } = lost;
        if let Some(batch) = self.batches.get_mut(&(ticket.order, ticket.batch))
            && batch.adapter == *adapter
            && batch.attempt == ticket.attempt
        {
            batch.lost = Some(*loss);
        }
    }

    /// Something waits in the queue of `adapter`: it may be any of the batches sent there.
    pub fn mark_waiting(&mut self, adapter: &str, now: Timestamp) {
        for batch in self.batches.values_mut().filter(|batch| batch.sent && batch.adapter == adapter) {
            batch.safe_at = Some(now);
        }
    }

    /// What a living instance says it holds is not lost, whatever became of who held it before.
    pub fn mark_held(&mut self, now: Timestamp, is_held: impl Fn(&Batch) -> bool) {
        for batch in self.batches.values_mut().filter(|batch| batch.sent && is_held(batch)) {
            (batch.lost, batch.safe_at) = (None, Some(now));
        }
    }

    /// The run and the batch as they are once the batch is to be cast again under `ticket`; [`Runs::put_run`] and
    /// [`Runs::put_attempt`] make it so.
    #[must_use]
    pub fn next_attempt(
        &self,
        order: RunOrder,
        batch: i64,
        ticket: SignedDocument,
        loss: Loss,
    ) -> Option<(Run, Batch)> {
        let mut run = self.runs.get(&order)?.clone();
        let mut next = self.batches.get(&(order, batch))?.clone();
        next.attempt += 1;
        next.ticket = ticket;
        (next.sent, next.sent_at, next.lost, next.safe_at) = (false, None, None, None);
        run.attempts = run.attempts.max(next.attempt);
        *run.recasts.entry(loss).or_default() += 1;
        Some((run, next))
    }

    /// Replaces a batch by its next attempt.
    pub fn put_attempt(&mut self, batch: Batch) {
        if let Some(known) = self.batches.get_mut(&(batch.order, batch.batch)) {
            *known = batch;
        }
    }

    /// The batch, if it is awaited.
    #[must_use]
    pub fn batch(&self, order: RunOrder, batch: i64) -> Option<&Batch> {
        self.batches.get(&(order, batch))
    }

    /// Takes note of stored outcomes; a second report of the same node changes nothing. Returns the run and whether the
    /// batch is complete.
    pub fn stored(
        &mut self,
        order: RunOrder,
        batch_number: i64,
        outcomes: &BTreeMap<NodeName, Status>,
        now: Timestamp,
    ) -> Option<(Run, bool)> {
        let batch = self.batches.get_mut(&(order, batch_number))?;
        batch.heard_at = Some(now);
        let mut fresh: BTreeMap<&'static str, i64> = BTreeMap::new();
        for (node, status) in outcomes {
            if batch.awaited.remove(node) {
                *fresh.entry(status.as_str()).or_default() += 1;
                Self::forget_outstanding(&mut self.outstanding, &batch.check, node);
            }
        }
        let complete = batch.awaited.is_empty();
        if complete {
            self.batches.remove(&(order, batch_number));
        }
        let run_complete = complete && !self.is_pending(order);
        let run = self.runs.get_mut(&order)?;
        for (status, count) in fresh {
            *run.outcomes.entry(status.to_owned()).or_default() += count;
        }
        if run_complete && !run.sending {
            run.finished_at.get_or_insert(now);
        }
        Some((run.clone(), complete))
    }

    /// The run as it is once no more nodes are added to it; `None` where that was so before. [`Runs::put_run`] makes it so.
    #[must_use]
    pub fn sent_out(&self, order: RunOrder, now: Timestamp) -> Option<Run> {
        let mut run = self.runs.get(&order).filter(|run| run.sending)?.clone();
        run.sending = false;
        if !self.is_pending(order) {
            run.finished_at.get_or_insert(now);
        }
        Some(run)
    }

    /// The runs of `check` to which nodes may still be added, the latest first.
    pub fn sending<'a>(&'a self, check: &'a CheckName) -> impl Iterator<Item = &'a Run> {
        self.latest().filter(move |run| run.sending && run.check == *check)
    }

    pub(super) fn run_mut(&mut self, order: RunOrder) -> Option<&mut Run> {
        self.runs.get_mut(&order)
    }

    /// Awaits a batch no more.
    pub(super) fn remove_batch(&mut self, key: (RunOrder, i64)) -> Option<Batch> {
        let batch = self.batches.remove(&key)?;
        for node in &batch.awaited {
            Self::forget_outstanding(&mut self.outstanding, &batch.check, node);
        }
        Some(batch)
    }

    /// Whether a batch of the run is awaited.
    pub(super) fn is_pending(&self, order: RunOrder) -> bool {
        self.batches.range((order, i64::MIN)..=(order, i64::MAX)).next().is_some()
    }

    /// Finished runs beyond [`KEPT_RUNS`], removed here and to be removed from the database.
    pub fn trim(&mut self) -> Vec<RunOrder> {
        let excess = self.runs.len().saturating_sub(KEPT_RUNS);
        let old: Vec<RunOrder> =
            self.runs.values().filter(|run| run.finished_at.is_some()).take(excess).map(|run| run.order).collect();
        for order in &old {
            self.runs.remove(order);
        }
        old
    }

    fn forget_outstanding(
        outstanding: &mut BTreeMap<CheckName, BTreeMap<NodeName, u32>>,
        check: &CheckName,
        node: &NodeName,
    ) {
        if let Some(nodes) = outstanding.get_mut(check)
            && let Some(count) = nodes.get_mut(node)
        {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
