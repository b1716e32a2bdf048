//! Nodes that fall into distrust again and again: their falls are counted, and too many within a while make the hold-down longer. Nothing else
//! follows from it, so it never raises anybody; only an administrator's release has them forgotten before their time.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{CheckPolicy, Flapping, PoolPolicy};

use super::standing::{Distrust, Standing};

/// Most falls remembered: as many as a pool can ask for.
pub const MAX_FALLS: usize = 20;

impl Standing {
    /// Takes note of a fall from anything else into distrust.
    pub(super) fn note_fall(&mut self, now: Timestamp) {
        self.inherit_falls(&[now]);
    }

    /// Takes over falls, and keeps the newest.
    pub(super) fn inherit_falls(&mut self, falls: &[Timestamp]) {
        self.falls.extend(falls);
        self.falls.sort_unstable();
        let surplus = self.falls.len().saturating_sub(MAX_FALLS);
        self.falls.drain(..surplus);
    }

    /// Falls of times to come, which a clock that was far ahead has dated, count as of now; true where there were any.
    pub(super) fn mend_falls(&mut self, limit: Timestamp, now: Timestamp) -> bool {
        let wrong = self.falls.partition_point(|at| *at <= limit);
        self.falls[wrong..].fill(now);
        wrong < self.falls.len() && {
            self.falls.sort_unstable();
            true
        }
    }

    /// How often the node fell within the window that ends with its last fall, where that is often enough to make it flap in `pool`.
    #[must_use]
    pub fn flaps(&self, pool: &PoolPolicy) -> Option<u32> {
        let Flapping { limit, window_ms, .. } = pool.flapping;
        let last = self.falls.last()?;
        let within = self.falls.iter().filter(|at| last.0.saturating_sub(at.0) <= window_ms).count();
        let falls = u32::try_from(within).unwrap_or(u32::MAX);
        (limit > 0 && falls >= limit).then_some(falls)
    }

    /// The end of the hold-down of `distrust` by `check`.
    #[must_use]
    pub fn hold_down_ends(&self, pool: &PoolPolicy, check: &CheckPolicy, distrust: &Distrust) -> Timestamp {
        let after = |at: Timestamp, ms: i64| at.plus(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let usual = after(distrust.failed_at, check.judgement.hold_down_ms);
        let last = self.falls.last().filter(|_| self.flaps(pool).is_some());
        // Word of the failure may have come late.
        last.map_or(usual, |fall| usual.max(after(distrust.failed_at.max(*fall), pool.flapping.hold_down_ms)))
    }
}
