//! Holds the cache and its files in step: publications in, `pool` and `pool.alive` out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::pool::Publication;
use crate::pool::cache::{Cache, Heard, MAX_SKEW, OLDER_EPOCH};
use crate::pool::file::{Moment, PoolFolder};
use crate::pool::lateness::Received;
use crate::pool::listener::{Published, signed_by_nodes};
use crate::pool::memory::Memory;
use crate::protocol::Snapshot;
use crate::rpc::table::Topic;
use crate::rpc::{Identity, RpcClient, RpcError};
use crate::security::{Revocations, Vouch};
use crate::telemetry::health;

/// Changes that only extend trust are written at the latest after this time.
const LAZY: Duration = Duration::from_secs(1);
/// How often the trust store is looked at; it reads its directory at most every two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A file that states a time later than it is by more than this is written again; less is the way of a message.
const CORRECT_FROM: Duration = Duration::from_secs(1);
/// How often Nodes is told that its epoch is refused.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How long after a failed snapshot the next one is asked for.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(1);

/// Holds the cache and the files in step.
pub(super) struct Keeper {
    pub(super) cache: Cache,
    pub(super) memory: Memory,
    /// When what is held was last added to.
    pub(super) last_word: Timestamp,
    /// The change of the trust store whose revocations have been honoured.
    pub(super) honoured: u64,
    pub(super) rpc: RpcClient,
    pub(super) identity: Arc<Identity>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) files: PoolFolder,
    pub(super) coalesce: Duration,
    /// The moment the pool file states.
    pub(super) written: Option<Moment>,
    /// Since when the file is behind the cache.
    pub(super) unwritten_since: Option<tokio::time::Instant>,
    /// Whether what is not yet written changes anybody's level.
    pub(super) hurry: bool,
    /// When the pool file was last written.
    pub(super) wrote_at: Option<tokio::time::Instant>,
    /// The last heartbeat that agreed and is not yet in `pool.alive`.
    pub(super) agreed: Option<Moment>,
    /// When a snapshot is to be asked for.
    pub(super) snapshot_due: Option<tokio::time::Instant>,
    /// When Nodes is next told that its epoch is refused, if it is.
    pub(super) tell_from: tokio::time::Instant,
    /// Whether the next question tells it.
    pub(super) tells: bool,
}

impl Keeper {
    /// Takes in publications until `stop`.
    pub(super) async fn run(mut self, mut publications: mpsc::Receiver<Publication>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            health::turn();
            let (soonest, latest) = write_between(self.unwritten_since, self.hurry, self.wrote_at, self.coalesce);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = at(self.snapshot_due) => self.take_snapshot().await,
                () = at(latest) => self.write().await,
                _ = looks.tick() => self.honour_revocations(),
                publication = publications.recv() => match publication {
                    Some(publication) => self.hear(publication).await,
                    None => break,
                },
                // Whatever has arrived already is taken in before: one file instead of many.
                () = at(soonest) => self.write().await,
            }
        }
        self.write().await;
    }

    async fn hear(&mut self, publication: Publication) {
        let heard = match publication {
            Publication::Heartbeat(heartbeat, moment) => {
                self.watch_skew(heartbeat.sent_at, moment.utc);
                let received = Received { utc: moment.utc, steady: moment.boottime };
                let heard = self.cache.heartbeat(&heartbeat, received);
                if heard == Heard::Agrees {
                    self.correct(&moment);
                    self.agreed = Some(moment);
                    // The file must hold what the heartbeat agrees with before `pool.alive` says so.
                    self.write().await;
                }
                heard
            }
            Publication::Delta(delta, vouch, received) => match self.believe_delta(vouch) {
                true => self.cache.delta(&delta, received),
                false => Heard::Differs,
            },
        };
        self.take_note(heard);
    }

    /// Has the file written again where a clock that has been set since made it state a later time than it is: readers would take nodes as
    /// expired for as long as nothing changes.
    fn correct(&mut self, now: &Moment) {
        let now = now.clone().not_behind(self.cache.nodes_time(now.boottime));
        if self.written.as_ref().is_some_and(|written| written.is_ahead_of(&now, CORRECT_FROM)) {
            self.unwritten_since.get_or_insert_with(tokio::time::Instant::now);
        }
    }

    /// Takes back what keys that are revoked now have said, if the trust store changed.
    pub(super) fn honour_revocations(&mut self) {
        let trust = self.identity.trust.current();
        let generation = self.identity.trust.generation();
        if generation == self.honoured {
            return;
        }
        let (forgotten, stored) = self.memory.forget(&Revocations::of(&trust), self.last_word);
        if let Err(error) = stored {
            metrics::counter!("spice_pool_write_failures_total").increment(1);
            tracing::error!(%error, "that a key is revoked cannot be stored; it is tried again");
        }
        if forgotten.epochs || forgotten.content {
            let floor = self.memory.floor();
            tracing::error!(
                floor,
                "a key of Nodes is revoked: no node is trusted until Nodes answers with another key"
            );
            let unknown = self.cache.doubt(floor);
            (self.unwritten_since, self.agreed, self.hurry) = (None, None, false);
            let replaced = match Moment::now(self.clock.now()) {
                Ok(moment) if !unknown.is_empty() => {
                    let moment = moment.clone().not_behind(self.cache.nodes_time(moment.boottime));
                    self.files.write_pool((floor, 0), &unknown, &moment)
                }
                _ => self.files.remove_pool(),
            };
            if let Err(error) = replaced {
                metrics::counter!("spice_pool_write_failures_total").increment(1);
                tracing::error!(%error, "the pool file cannot be replaced; take it away by hand");
                return;
            }
            self.snapshot_due = Some(tokio::time::Instant::now());
        }
        self.honoured = generation;
    }

    /// Whether the signer of a delta that was verified when it was queued is still believed; stored as one who vouches.
    fn believe_delta(&mut self, vouch: Vouch) -> bool {
        let believed = self.believes(&vouch);
        let stored = believed.then(|| self.memory.take_delta(vouch.key));
        if let Some(Err(error)) = &stored {
            metrics::counter!("spice_pool_write_failures_total").increment(1);
            tracing::error!(%error, "who vouches for a change cannot be stored; it is not taken in");
        }
        let taken = matches!(stored, Some(Ok(())));
        if taken {
            self.last_word = self.last_word.max(vouch.at);
        }
        taken
    }

    /// A revocation since `vouch` was verified must be honoured before what it vouches for is taken in.
    fn believes(&mut self, vouch: &Vouch) -> bool {
        self.honour_revocations();
        let trust = self.identity.trust.current();
        trust.lookup(&vouch.key).is_some_and(|key| key.check_valid(vouch.at, vouch.at).is_ok())
    }

    fn take_note(&mut self, heard: Heard) {
        match heard {
            Heard::Agrees => {}
            Heard::Extended | Heard::Changed => {
                self.hurry |= heard == Heard::Changed;
                self.unwritten_since.get_or_insert_with(tokio::time::Instant::now);
            }
            Heard::Differs => {
                self.snapshot_due.get_or_insert_with(tokio::time::Instant::now);
            }
            Heard::Dropped(reason) => {
                if reason == OLDER_EPOCH && self.tell_from <= tokio::time::Instant::now() {
                    // Somebody speaks whom we will not believe; he should know, and an administrator through him.
                    self.tells = true;
                    self.tell_from = tokio::time::Instant::now() + TELL_EVERY;
                    self.snapshot_due.get_or_insert_with(tokio::time::Instant::now);
                }
                metrics::counter!("spice_pool_publications_dropped_total", "reason" => reason).increment(1);
                tracing::debug!(reason, "a publication was dropped");
            }
        }
    }

    fn watch_skew(&self, sent_at: Timestamp, heard_at: Timestamp) {
        let skew = sent_at.0.abs_diff(heard_at.0);
        metrics::gauge!("spice_pool_clock_skew_seconds").set(skew as f64 / 1000.0);
        if u128::from(skew) > MAX_SKEW.as_millis() {
            tracing::error!(
                skew_ms = skew,
                "this machine's clock and Nodes' differ: set both (NTP); trust ends by the stricter reading"
            );
        }
    }

    async fn take_snapshot(&mut self) {
        // Whatever happens, not again before the pause; success clears it.
        self.snapshot_due = Some(tokio::time::Instant::now() + SNAPSHOT_RETRY);
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut args = Map::from_iter([("nonce".to_owned(), json!(nonce))]);
        let told = std::mem::take(&mut self.tells);
        if told {
            args.insert("known_epoch".to_owned(), json!(self.cache.version().0));
        }
        let asked = self.clock.boottime();
        let answer = self.rpc.call_within(Topic::Nodes, "pool_snapshot", args, Duration::from_secs(10)).await;
        let snapshot = answer.and_then(|answer| {
            let Published { document } = serde_json::from_value(answer).map_err(RpcError::internal)?;
            let opened = document.open_for::<Snapshot>(
                &self.identity.deployment,
                &self.identity.trust.current(),
                self.clock.now(),
                signed_by_nodes,
            );
            opened.map_err(|error| RpcError::unauthorized(error.to_string()))
        });
        match snapshot {
            Ok((snapshot, key)) => {
                let received = Received { utc: self.clock.now(), steady: self.clock.boottime() };
                let vouch = Vouch { key: key.key_id, at: snapshot.sent_at.max(received.utc) };
                let heard = self.believe_snapshot(snapshot, vouch, (&nonce, asked), received);
                if told && heard == Heard::Dropped(OLDER_EPOCH) {
                    // An answer that cannot be used was expected.
                    self.snapshot_due = None;
                }
                if heard == Heard::Changed {
                    self.snapshot_due = None;
                    metrics::counter!("spice_pool_snapshots_total").increment(1);
                }
                self.take_note(heard);
            }
            Err(error) => tracing::info!(%error, "no snapshot of the pools could be had; it is asked for again"),
        }
    }

    fn believe_snapshot(
        &mut self,
        snapshot: Snapshot,
        vouch: Vouch,
        (nonce, asked): (&str, Duration),
        received: Received,
    ) -> Heard {
        if !self.believes(&vouch) {
            return Heard::Dropped("revoked");
        }
        let epoch = snapshot.epoch;
        let heard = self.cache.snapshot(snapshot, nonce, asked, received);
        if heard == Heard::Changed {
            if let Err(error) = self.memory.take_snapshot(epoch, vouch) {
                metrics::counter!("spice_pool_write_failures_total").increment(1);
                tracing::error!(%error, "the epoch cannot be stored; the pools are not taken in");
                drop(self.cache.doubt(self.memory.floor()));
                return Heard::Dropped("not_stored");
            }
            self.last_word = vouch.at;
        }
        heard
    }

    /// Writes `pool` if it is behind, then `pool.alive` if a heartbeat agreed with it.
    async fn write(&mut self) {
        let version = self.cache.version();
        if self.unwritten_since.is_some()
            && let Some(pools) = self.cache.pools()
        {
            let Ok(moment) = Moment::now(self.clock.now()) else { return };
            let nodes_time = self.cache.nodes_time(moment.boottime);
            let moment = moment.not_behind(nodes_time);
            let written = in_place(|| self.files.write_pool(version, pools, &moment));
            if let Err(error) = written {
                metrics::counter!("spice_pool_write_failures_total").increment(1);
                tracing::error!(%error, "the pool file cannot be written; the old one stays until its limits end it");
                self.unwritten_since = Some(tokio::time::Instant::now());
                self.hurry = false;
                return;
            }
            self.written = Some(moment);
            self.wrote_at = Some(tokio::time::Instant::now());
            self.unwritten_since = None;
            self.hurry = false;
            metrics::counter!("spice_pool_writes_total").increment(1);
        }
        if let Some(heard) = self.agreed.take() {
            match in_place(|| self.files.write_alive(version, &heard)) {
                Ok(()) => {
                    metrics::gauge!("spice_pool_last_heartbeat_timestamp_seconds").set(heard.utc.0 as f64 / 1000.0);
                    health::heartbeat();
                }
                Err(error) => {
                    metrics::counter!("spice_pool_write_failures_total").increment(1);
                    tracing::error!(%error, "pool.alive cannot be written");
                }
            }
        }
    }
}

/// Writes while other tasks go on elsewhere, where there is an elsewhere.
fn in_place<T>(write: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => write(),
        _ => tokio::task::block_in_place(write),
    }
}

/// Between which moments a file that is behind since `unwritten_since` is to be written: the soonest once everything that has
/// arrived is taken in, the latest in any case. A change of somebody's level (`hurry`) goes out at once, unless the file was
/// written less than `coalesce` ago; then what comes meanwhile goes with it.
fn write_between(
    unwritten_since: Option<tokio::time::Instant>,
    hurry: bool,
    wrote_at: Option<tokio::time::Instant>,
    coalesce: Duration,
) -> (Option<tokio::time::Instant>, Option<tokio::time::Instant>) {
    let Some(since) = unwritten_since else { return (None, None) };
    if !hurry {
        return (None, Some(since + LAZY));
    }
    let soonest = wrote_at.map_or(since, |wrote_at| since.max(wrote_at + coalesce));
    (Some(soonest), Some(soonest.max(since + coalesce)))
}

/// Waits until `moment`; for ever if there is none.
async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_a_quiet_time_is_written_at_once_and_a_burst_together() {
        let coalesce = Duration::from_millis(20);
        let start = tokio::time::Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        assert_eq!(write_between(None, true, Some(start), coalesce), (None, None), "nothing to write");
        assert_eq!(write_between(Some(ms(500)), true, Some(start), coalesce), (Some(ms(500)), Some(ms(520))));
        assert_eq!(write_between(Some(ms(5)), true, Some(start), coalesce), (Some(ms(20)), Some(ms(25))));
        assert_eq!(write_between(Some(ms(5)), true, None, coalesce), (Some(ms(5)), Some(ms(25))));
        assert_eq!(
            write_between(Some(ms(5)), false, Some(start), coalesce),
            (None, Some(ms(1005))),
            "nobody lost trust"
        );
    }
}
