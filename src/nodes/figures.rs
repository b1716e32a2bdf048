//! What an operator wants to know of all nodes together: counted every few seconds, so that nobody who asks makes it be counted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::names::{NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::kept::InPool;
use crate::protocol::{Level, Status};
use crate::telemetry::health;
use crate::trust::{Reason, Rules};

/// How often nodes are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Nodes counted while the world is held: results must not wait long for it.
const AT_ONCE: usize = 5_000;

const STATUSES: [Status; 4] = [Status::Pass, Status::Fail, Status::Error, Status::Timeout];

/// What was counted last.
#[derive(Default)]
pub struct Figures {
    pools: Mutex<BTreeMap<PoolName, OfPool>>,
    results: [AtomicU64; STATUSES.len()],
}

/// One pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfPool {
    trusted: u64,
    untrusted: u64,
    unknown: u64,
    overridden: u64,
    /// Untrusted nodes that fell so often that they are held down for longer.
    flapping: u64,
    /// Trusted nodes whose trust ends in less than half the TTL of the check that ends it: they have missed a period or are about to.
    expiring: u64,
    /// The oldest evidence trust stands on: of the check that ends it first, at each trusted node.
    oldest: Option<Timestamp>,
}

impl OfPool {
    fn add(&mut self, rules: &Rules, verdict: Option<&InPool>, now: Timestamp) {
        let Some(verdict) = verdict else {
            self.unknown += 1;
            return;
        };
        match verdict.level {
            Level::Trusted => self.trusted += 1,
            Level::Untrusted => self.untrusted += 1,
            Level::Unknown => self.unknown += 1,
        }
        self.overridden += u64::from(verdict.overridden);
        self.flapping += u64::from(matches!(&*verdict.reason, Reason::Failed { falls: 1.., .. }));
        let Reason::AllPassed { first_to_expire, .. } = &*verdict.reason else { return };
        let Some(rule) = rules.check(first_to_expire) else { return };
        let ttl = Duration::from_millis(u64::try_from(rule.check.ttl_ms).unwrap_or(0));
        let evidence = verdict.expires_at.minus(ttl);
        self.oldest = Some(self.oldest.map_or(evidence, |oldest| oldest.min(evidence)));
        self.expiring += u64::from(verdict.expires_at.since(now) < ttl / 2);
    }

    fn tell(&self, pool: &PoolName, now: Timestamp) {
        for (level, count) in [("trusted", self.trusted), ("untrusted", self.untrusted), ("unknown", self.unknown)] {
            metrics::gauge!("spice_nodes_members", "pool" => pool.to_string(), "level" => level).set(count as f64);
        }
        metrics::gauge!("spice_nodes_overridden", "pool" => pool.to_string()).set(self.overridden as f64);
        metrics::gauge!("spice_nodes_flapping", "pool" => pool.to_string()).set(self.flapping as f64);
        metrics::gauge!("spice_nodes_expiring", "pool" => pool.to_string()).set(self.expiring as f64);
        metrics::gauge!("spice_nodes_oldest_evidence_seconds", "pool" => pool.to_string())
            .set(self.age(now).as_secs_f64());
    }

    fn age(&self, now: Timestamp) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}

impl Figures {
    /// Takes note of a stored outcome.
    pub(super) fn stored(&self, status: Status) {
        metrics::counter!("spice_nodes_results_total", "status" => status.as_str()).increment(1);
        if let Some(at) = STATUSES.iter().position(|known| *known == status) {
            self.results[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Outcomes stored since the start, by status.
    pub(super) fn results(&self) -> Value {
        let counted = STATUSES.iter().zip(&self.results);
        counted.map(|(status, count)| (status.as_str().to_owned(), json!(count.load(Ordering::Relaxed)))).collect()
    }

    /// What was last found of a pool: the age of its oldest evidence in seconds, how many nodes are about to expire, and how many flap.
    pub(super) fn of_pool(&self, pool: &PoolName, now: Timestamp) -> (Option<u64>, u64, u64) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.get(pool).map_or((None, 0, 0), |found| {
            (found.oldest.map(|_| found.age(now).as_secs()), found.expiring, found.flapping)
        })
    }

    fn replace(&self, found: BTreeMap<PoolName, OfPool>, now: Timestamp) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in pools.keys().filter(|pool| !found.contains_key(*pool)) {
            OfPool::default().tell(gone, now);
        }
        for (pool, figures) in &found {
            figures.tell(pool, now);
        }
        *pools = found;
    }
}

/// Counts every few seconds, until `stop`.
pub async fn keep(nodes: Arc<Nodes>, stop: CancellationToken) {
    loop {
        health::turn();
        nodes.count().await;
        nodes.world.lock().await.pack();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

impl Nodes {
    async fn count(&self) {
        let now = self.clock.now();
        let mut found: BTreeMap<PoolName, OfPool> = BTreeMap::new();
        let mut after: Option<NodeName> = None;
        loop {
            let world = self.world.lock().await;
            for pool in world.rules.pools().keys() {
                found.entry(pool.clone()).or_default();
            }
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let part = world.nodes.range::<NodeName, _>((from, Bound::Unbounded)).take(AT_ONCE);
            let mut last = None;
            for (node, entry) in part {
                for (pool, figures) in &mut found {
                    figures.add(&world.rules, entry.in_pool(pool), now);
                }
                last = Some(node);
            }
            let Some(last) = last else { break };
            after = Some(last.clone());
        }
        self.figures.replace(found, now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::protocol::{CheckPolicy, Flapping, Judgement, Policy, PoolPolicy, Targets};
    use crate::trust::Verdict;

    const MINUTE: i64 = 60_000;

    fn rules() -> Rules {
        let pool: PoolName = "default".parse().unwrap();
        let check = CheckPolicy {
            name: "boot".parse().unwrap(),
            id: "id".to_owned(),
            revision: 1,
            adapter: "command".parse().unwrap(),
            enabled: true,
            targets: Targets { all: true, ..Targets::default() },
            ttl_ms: 10 * MINUTE,
            judgement: Judgement::default(),
            pools: BTreeMap::from([(pool.clone(), crate::protocol::Requirement::Required)]),
        };
        let pool = PoolPolicy {
            name: pool,
            mode: crate::protocol::Mode::Enforce,
            max_silence_ms: 10 * MINUTE,
            accept_self_report: false,
            flapping: Flapping::default(),
        };
        Rules::new(&Policy {
            deployment: "cloud".parse().unwrap(),
            epoch: 1,
            number: 1,
            issued_at: Timestamp(0),
            checks: vec![check],
            pools: vec![pool],
        })
        .unwrap()
    }

    fn trusted(expires_at: i64) -> InPool {
        InPool::of(Verdict {
            level: Level::Trusted,
            expires_at: Timestamp(expires_at),
            reason: Reason::AllPassed { checks: 1, first_to_expire: "boot".parse().unwrap() },
            overridden: false,
            self_reported: false,
            next_change: None,
        })
    }

    #[test]
    fn a_verifier_that_died_shows_before_anybody_loses_trust() {
        let (rules, now) = (rules(), Timestamp(100 * MINUTE));
        let mut pool = OfPool::default();
        // Its pass is a minute old; its neighbour's eight, so that it missed a period.
        pool.add(&rules, Some(&trusted(109 * MINUTE)), now);
        assert_eq!((pool.trusted, pool.expiring, pool.age(now)), (1, 0, Duration::from_secs(60)));
        pool.add(&rules, Some(&trusted(102 * MINUTE)), now);
        assert_eq!((pool.trusted, pool.expiring, pool.age(now)), (2, 1, Duration::from_secs(480)));
    }

    #[test]
    fn an_override_is_counted_and_has_no_evidence_and_a_node_without_a_verdict_is_unknown() {
        let (rules, now) = (rules(), Timestamp(100 * MINUTE));
        let mut pool = OfPool::default();
        pool.add(&rules, None, now);
        let reason = Reason::Overridden {
            owner: "alice".to_owned(),
            why: "x".to_owned(),
            until: Timestamp(101 * MINUTE),
            covers: Box::new(Reason::NothingRequired),
        };
        pool.add(&rules, Some(&InPool { reason: Arc::new(reason), overridden: true, ..trusted(101 * MINUTE) }), now);
        let expected = OfPool { trusted: 1, unknown: 1, overridden: 1, ..OfPool::default() };
        assert_eq!(pool, expected);
    }
}
