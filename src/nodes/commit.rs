//! From a stage to what is in force: one transaction, then memory, then the bus. In this order, always.

use std::collections::BTreeMap;

use crate::names::PoolName;
use crate::nodes::Nodes;
use crate::nodes::degraded::Losses;
use crate::nodes::policy::PolicyChange;
use crate::nodes::publisher::{Publication, VALID_FOR};
use crate::nodes::rows::Rows;
use crate::nodes::storage::{self, Lane, Parcel, RecordRow};
use crate::nodes::world::{Stage, World};
use crate::protocol::{Delta, Level, publication};
use crate::store::{StoreError, to_body};

/// Most changes of trust that are logged one by one where many come at once.
const MOST_TOLD: usize = 20;

/// A stage whose parts have their numbers.
pub(super) struct Sealed {
    record_head: (i64, String),
    last_outbox: i64,
    parcels: Vec<(Lane, Parcel)>,
    losses: Option<Losses>,
}

impl Nodes {
    /// Stores `stage`, installs it and publishes what it changes. On an error nothing has happened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn commit(&self, world: &mut World, mut stage: Stage) -> Result<(), StoreError> {
        let mut changes = self.database.begin().await?;
        storage::save_nodes(&mut changes, stage.rows(world.keeper.like())).await?;
        for tombstone in &stage.buried {
            storage::bury_node(&mut changes, tombstone).await?;
        }
        for tombstone in &stage.graves {
            storage::save_tombstone(&mut changes, tombstone).await?;
        }
        if let Some(PolicyChange { policy, floors }) = &stage.policy {
            storage::save_policy(&mut changes, policy.as_ref(), floors).await?;
        }
        let (sealed, last) = self.seal(world, &mut stage);
        last.save(&mut changes).await?;
        changes.commit().await?;
        self.take_effect(world, stage, sealed);
        Ok(())
    }

    /// Gives everything in `stage` its number, and makes the rows that are written last.
    pub(super) fn seal(&self, world: &World, stage: &mut Stage) -> (Sealed, Rows) {
        let (mut seq, mut head) = world.record_head.clone();
        let mut told = 0_usize;
        let mut record = Vec::with_capacity(stage.record.len());
        let losses = self.note_losses(world, stage);
        let mut trust = std::mem::take(&mut stage.trust).into_iter().peekable();
        for entry in &mut stage.record {
            seq += 1;
            entry.seq = seq;
            entry.policy = world.policy.as_ref().map(|(policy, _)| policy.number);
            entry.previous = std::mem::take(&mut head);
            let row = RecordRow::of(entry);
            head.clone_from(&row.hash);
            record.push(row);
            // Changes of trust were staged in the order of their entries.
            let is_of = |change: &crate::nodes::entry::TrustChange| {
                change.node == entry.node
                    && matches!(&entry.what, crate::nodes::record::What::Trust { pool, from, to, .. }
                        if *pool == change.pool && *from == change.from && *to == change.to)
            };
            if let Some(mut change) = trust.next_if(is_of) {
                change.seq = seq;
                if self.publisher.is_some() {
                    let notification = self.publisher.as_ref().map(|publisher| publisher.trust_change(&change));
                    stage.parcels.push((Lane::Notifications, to_body(&notification)));
                }
                metrics::counter!("spice_nodes_trust_changes_total", "pool" => change.pool.to_string(), "to" => change.to.as_str()).increment(1);
                told += 1;
                if told <= MOST_TOLD {
                    tracing::info!(node = %change.node, pool = %change.pool, from = %change.from, to = %change.to, reason = change.reason, "trust changed");
                }
            }
        }
        if let Some(others) = told.checked_sub(MOST_TOLD).filter(|others| *others > 0) {
            tracing::info!(others, "trust changed of more nodes at the same time; the record tells of each");
        }
        let mut last_outbox = world.last_outbox;
        let number = |(lane, body): (Lane, String)| {
            last_outbox += 1;
            (lane, Parcel { id: last_outbox, lane: lane.as_str().to_owned(), body })
        };
        let parcels: Vec<_> = std::mem::take(&mut stage.parcels).into_iter().map(number).collect();
        let rows = Rows { record, parcels: parcels.clone(), seen: std::mem::take(&mut stage.seen), ..Rows::default() };
        (Sealed { record_head: (seq, head), last_outbox, parcels, losses }, rows)
    }

    /// Where a pool loses many nodes, that is told at once, ahead of what waits to be told of single nodes.
    fn note_losses(&self, world: &World, stage: &mut Stage) -> Option<Losses> {
        let publisher = self.publisher.as_ref()?;
        let mut lost: BTreeMap<PoolName, usize> = BTreeMap::new();
        for change in stage.trust.iter().filter(|change| change.from == Level::Trusted) {
            *lost.entry(change.pool.clone()).or_default() += 1;
        }
        if lost.is_empty() {
            return None;
        }
        let mut losses = world.losses.clone();
        for (pool, lost) in lost {
            let trusted = || {
                let members = world.pools.get(&pool).into_iter().flat_map(|state| state.members.values());
                members.filter(|member| member.level == Level::Trusted).count().saturating_sub(lost)
            };
            let now = self.clock.now();
            if let Some(degraded) = losses.note(&pool, lost, trusted, now) {
                tracing::error!(%pool, lost = degraded.lost, trusted = degraded.trusted, "the pool loses many nodes at once");
                stage.parcels.push((Lane::Alarms, to_body(&publisher.degraded(&pool, degraded, now))));
            }
        }
        Some(losses)
    }

    /// Makes so in memory, and tells, what is stored by now.
    pub(super) fn take_effect(&self, world: &mut World, stage: Stage, sealed: Sealed) {
        let pool_changes = world.pool_changes(&stage);
        world.last_outbox = sealed.last_outbox;
        world.record_head = sealed.record_head;
        if let Some(losses) = sealed.losses {
            world.losses = losses;
        }
        world.install(stage);
        for (lane, parcel) in sealed.parcels {
            self.lanes.put(lane, parcel);
        }
        if !pool_changes.is_empty() {
            self.change_pools(world, pool_changes);
        }
        self.timers_changed.notify_one();
    }

    fn change_pools(
        &self,
        world: &mut World,
        changes: BTreeMap<
            crate::names::PoolName,
            BTreeMap<crate::names::NodeName, Option<crate::protocol::MemberState>>,
        >,
    ) {
        let now = self.clock.now();
        let delta = Delta {
            deployment: self.identity.deployment.clone(),
            epoch: self.epoch,
            version: world.version + 1,
            changes,
            sent_at: now,
            not_after: self.identity.not_after(now, VALID_FOR),
        };
        world.version += 1;
        match publication::apply_delta(&mut world.pools, &mut world.digest, &delta) {
            Ok(_) => self.say(Publication::Delta(delta)),
            Err(error) => {
                // A pool the policy does not have any more, or has only now: build them all again and let caches ask.
                tracing::debug!(%error, "the pools are built again");
                world.rebuild_pools();
                self.say_heartbeat(world);
            }
        }
    }
}
