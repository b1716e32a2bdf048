//! Beginning runs: stored, with the ticket of every batch signed, before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks::definition::Check;
use crate::checks::due::Due;
use crate::checks::ledger::Skipped;
use crate::checks::run::{Batch, Cause, Run};
use crate::checks::{Checks, State, storage};
use crate::names::{CheckName, NodeName};
use crate::protocol::targets::TargetMatcher;
use crate::protocol::{RunOrder, Ticket};
use crate::rpc::RpcError;
use crate::store::Changes;

/// A run that begins, or goes on, once it is stored.
pub(super) struct Begun {
    run: Run,
    batches: Vec<Batch>,
}

/// Which run nodes are added to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// One that was begun before; a new one where absent.
    pub of: Option<RunOrder>,
    /// Whether more nodes follow.
    pub more_follow: bool,
}

impl Part {
    /// All of a new run.
    pub const WHOLE: Self = Self { of: None, more_follow: false };
}

/// Begins what is due, and what has waited long enough.
pub(super) async fn begin_due(checks: &Checks) -> Result<(), RpcError> {
    let mut guard = checks.state.lock().await;
    let state = &mut *guard;
    if state.inventory_version.is_none() {
        // Without ever having heard of a node there is nothing to aim at; slots wait, and run once when Nodes is there.
        return Ok(());
    }
    let now = checks.now();
    let mut due = state.planner.tick(&state.registry, &state.inventory, now);
    for check in state.planner.waiting.checks() {
        if !due.iter().any(|due| due.check == *check) {
            due.push(Due::more(check.clone(), !state.planner.is_spreading(check)));
        }
    }
    let prepared = match checks.store_marks(state).await {
        Ok(()) => checks.end_orphans(state, &due).await,
        failed => failed,
    };
    if let Err(error) = prepared {
        state.planner.put_back(due);
        return Err(error);
    }
    let mut due = due.into_iter();
    while let Some(item) = due.next() {
        if let Err(error) = checks.begin_slot(state, &item).await {
            // Nothing of it was stored: it is due again at the next tick, as are those behind it.
            state.planner.put_back(std::iter::once(item).chain(due));
            return Err(error);
        }
    }
    Ok(())
}

impl Checks {
    /// Ends the runs no more nodes will be added to, because their check was disabled, deleted or scheduled anew meanwhile.
    async fn end_orphans(&self, state: &mut State, due: &[Due]) -> Result<(), RpcError> {
        let planner = &state.planner;
        let goes_on = |check: &CheckName| {
            planner.is_spreading(check)
                || planner.waiting.is_waited_for(check)
                || due.iter().any(|due| due.check == *check)
        };
        let orphans = state.runs.latest().filter(|run| run.sending && !goes_on(&run.check));
        let ended: Vec<Run> = orphans.filter_map(|run| state.runs.sent_out(run.order, self.clock.now())).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        for run in &ended {
            storage::save_run(&mut changes, run).await.map_err(RpcError::from)?;
        }
        changes.commit().await.map_err(RpcError::from)?;
        ended.into_iter().for_each(|run| state.runs.put_run(run));
        Ok(())
    }

    /// A slot, or more of one: its moment, its run and its batches in one transaction.
    async fn begin_slot(&self, state: &mut State, due: &Due) -> Result<(), RpcError> {
        let Some(check) = state.registry.checks.get(&due.check).cloned() else { return Ok(()) };
        let now = self.clock.now();
        let waited = state.planner.waiting.count(&check.name);
        let admitted = state.planner.waiting.admit(&check, &state.runs, due.nodes.clone());
        let sending: Vec<RunOrder> = state.runs.sending(&check.name).map(|run| run.order).collect();
        let more_follow = !due.last || state.planner.waiting.is_waited_for(&check.name);
        let idle = due.begins.is_none() && admitted.now.is_empty() && (more_follow || sending.is_empty());
        let stored = if idle {
            Ok(())
        } else {
            self.store_slot(state, &check, due, admitted.now.clone(), &sending, more_follow).await
        };
        if let Err(error) = stored {
            // Those who waited before wait on; the others come back with the slot.
            if waited > 0 {
                let fresh: BTreeSet<&NodeName> = due.nodes.iter().collect();
                let back = admitted.now.into_iter().filter(|node| !fresh.contains(node)).collect();
                state.planner.waiting.put_back(&check.name, back);
            }
            return Err(error);
        }
        state.planner.ledger.began(due);
        state.planner.ledger.skipped(&check.name, Skipped::Overlap, admitted.skipped.len(), now);
        Ok(())
    }

    async fn store_slot(
        &self,
        state: &mut State,
        check: &Check,
        due: &Due,
        nodes: Vec<NodeName>,
        sending: &[RunOrder],
        more_follow: bool,
    ) -> Result<(), RpcError> {
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        let current = sending.first().copied().filter(|_| due.begins.is_none());
        // A slot ends the one before it, should that not have been sent out altogether.
        let over = sending.iter().filter(|order| Some(**order) != current || (nodes.is_empty() && !more_follow));
        let over: Vec<Run> = over.filter_map(|order| state.runs.sent_out(*order, self.clock.now())).collect();
        for run in &over {
            storage::save_run(&mut changes, run).await.map_err(RpcError::from)?;
        }
        if let Some(slot) = due.begins {
            storage::save_slot(&mut changes, &check.name, slot).await.map_err(RpcError::from)?;
        }
        let part = Part { of: current, more_follow };
        let begun = self.stage(state, &mut changes, check, nodes, Cause::Schedule, part).await?;
        changes.commit().await.map_err(RpcError::from)?;
        over.into_iter().for_each(|run| state.runs.put_run(run));
        if let Some(slot) = due.begins {
            state.last_slots.insert(check.name.clone(), slot);
        }
        self.send(state, begun);
        Ok(())
    }

    /// Stores a run of `check` over `nodes`, to be sent by the loop. Returns its id, unless there is nobody to ask.
    pub(super) async fn begin(
        &self,
        state: &mut State,
        check: &CheckName,
        nodes: Vec<NodeName>,
        cause: Cause,
    ) -> Result<Option<RunOrder>, RpcError> {
        if nodes.is_empty() {
            return Ok(None);
        }
        let check = state.registry.check(check)?.clone();
        let nodes = state.held_back(&check.name, nodes, cause, self.clock.now());
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        let begun = self.stage(state, &mut changes, &check, nodes, cause, Part::WHOLE).await?;
        changes.commit().await.map_err(RpcError::from)?;
        Ok(self.send(state, begun))
    }

    /// Writes a run, or more of one, into `changes`; [`Checks::send`] lets it go once they are committed.
    pub(super) async fn stage(
        &self,
        state: &mut State,
        changes: &mut Changes,
        check: &Check,
        nodes: Vec<NodeName>,
        cause: Cause,
        part: Part,
    ) -> Result<Option<Begun>, RpcError> {
        if nodes.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let order = part.of.unwrap_or_else(|| state.next_order(self.epoch));
        let mut run = state.runs.run(order).cloned().unwrap_or(Run {
            order,
            check: check.name.clone(),
            cause,
            started_at: now,
            total: 0,
            outcomes: BTreeMap::new(),
            finished_at: None,
            sending: true,
            attempts: 1,
            recasts: BTreeMap::new(),
            unheard: 0,
        });
        // Numbers that never repeat within the run, though batches of it may be complete and gone.
        let first_batch = run.total + 1;
        let size = usize::try_from(check.batch_size).unwrap_or(100).clamp(1, 200);
        let mut batches = Vec::new();
        for (number, chunk) in (first_batch..).zip(nodes.chunks(size)) {
            let ticket = Ticket {
                deployment: self.identity.deployment.clone(),
                order,
                batch: number,
                attempt: 1,
                check: check.name.clone(),
                check_id: check.id.clone(),
                revision: check.revision,
                adapter: check.adapter.clone(),
                nodes: chunk.to_vec(),
                issued_at: now,
                deadline: now.plus(check.timeout()),
            };
            let batch = Batch {
                order,
                batch: number,
                check: check.name.clone(),
                adapter: check.adapter.to_string(),
                attempt: 1,
                ticket: self.sign_ticket(&ticket)?,
                parameters: check.parameters.clone(),
                retries: check.retries,
                deadline: ticket.deadline,
                awaited: chunk.iter().cloned().collect(),
                sent: false,
                sent_at: None,
                heard_at: None,
                lost: None,
                safe_at: None,
                timed_out: false,
                ending: crate::checks::endings::Ending::default(),
            };
            storage::save_batch(changes, &batch).await.map_err(RpcError::from)?;
            batches.push(batch);
        }
        run.total += i64::try_from(nodes.len()).unwrap_or(i64::MAX);
        run.sending = part.more_follow;
        storage::save_run(changes, &run).await.map_err(RpcError::from)?;
        Ok(Some(Begun { run, batches }))
    }

    /// Lets the loop send what was committed.
    pub(super) fn send(&self, state: &mut State, begun: Option<Begun>) -> Option<RunOrder> {
        let Begun { run, batches } = begun?;
        let order = run.order;
        let nodes: usize = batches.iter().map(|batch| batch.awaited.len()).sum();
        metrics::counter!("spice_checks_dispatched_total", "check" => run.check.to_string()).increment(nodes as u64);
        state.runs.put_run(run);
        batches.into_iter().for_each(|batch| state.runs.add_batch(batch));
        self.wake.notify_one();
        Some(order)
    }

    /// Runs every enabled check for those of its `wanted` nodes it is aimed at: all of it once `changes` are committed, or
    /// nothing.
    pub(super) async fn stage_at_once(
        &self,
        state: &mut State,
        changes: &mut Changes,
        wanted: impl Fn(&State, &CheckName) -> Vec<NodeName>,
        cause: Cause,
    ) -> Result<Vec<Begun>, RpcError> {
        let enabled: Vec<Check> = state.registry.checks.values().filter(|check| check.enabled).cloned().collect();
        let mut begun = Vec::new();
        for check in enabled {
            let Ok(matcher) = TargetMatcher::new(&check.targets) else { continue };
            let mut aimed = wanted(state, &check.name);
            aimed.retain(|node| state.inventory.get(node).is_some_and(|traits| matcher.means(node, traits)));
            let aimed = state.held_back(&check.name, aimed, cause, self.clock.now());
            begun.extend(self.stage(state, changes, &check, aimed, cause, Part::WHOLE).await?);
        }
        Ok(begun)
    }
}
