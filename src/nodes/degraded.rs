//! Whether so many nodes of a pool lose trust at once that people should hear of the pool before they hear of each node.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::names::PoolName;

/// What is "at once".
pub const WINDOW: Duration = Duration::from_secs(60);
/// Fewer than so many are never a pool's matter.
pub const FEWEST: usize = 10;
/// One in so many of those that were trusted is.
pub const ONE_IN: usize = 10;

/// The losses of a while, by pool.
#[derive(Debug, Clone, Default)]
pub struct Losses {
    pools: BTreeMap<PoolName, Recent>,
}

#[derive(Debug, Clone, Default)]
struct Recent {
    lost: VecDeque<(Timestamp, usize)>,
    is_told: bool,
}

/// A pool that has lost many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Degraded {
    /// How many nodes, within [`WINDOW`].
    pub lost: usize,
    /// How many are still trusted.
    pub trusted: usize,
}

impl Losses {
    /// `lost` nodes of `pool` are no longer trusted, which leaves it `trusted` ones. Says so when it begins to be much, and not again before it has ended.
    pub fn note(
        &mut self,
        pool: &PoolName,
        lost: usize,
        trusted: impl FnOnce() -> usize,
        now: Timestamp,
    ) -> Option<Degraded> {
        let recent = self.pools.entry(pool.clone()).or_default();
        // A clock that was set back leaves losses of times to come.
        recent.lost.retain(|(at, _)| *at <= now && now.since(*at) < WINDOW);
        if recent.lost.is_empty() {
            recent.is_told = false;
        }
        match recent.lost.back_mut().filter(|(at, _)| now.since(*at) < Duration::from_secs(1)) {
            Some((_, number)) => *number += lost,
            None => recent.lost.push_back((now, lost)),
        }
        let lost: usize = recent.lost.iter().map(|(_, number)| number).sum();
        if recent.is_told || lost < FEWEST {
            return None;
        }
        let trusted = trusted();
        recent.is_told = lost * ONE_IN >= lost + trusted;
        recent.is_told.then_some(Degraded { lost, trusted })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000_000;

    fn told(losses: &mut Losses, second: i64, lost: usize, trusted: usize) -> Option<Degraded> {
        losses.note(&PoolName::new("default").unwrap(), lost, || trusted, Timestamp(START + second * 1000))
    }

    #[test]
    fn a_tenth_of_a_pool_lost_within_a_minute_is_told_once_until_it_has_ended() {
        let mut losses = Losses::default();
        for second in 0..9 {
            assert_eq!(told(&mut losses, second, 1, 100 - 1), None);
        }
        assert_eq!(told(&mut losses, 10, 1, 90), Some(Degraded { lost: 10, trusted: 90 }));
        for second in 11..200 {
            assert_eq!(told(&mut losses, second, 1, 50), None);
        }
        assert_eq!(told(&mut losses, 260, 30, 10), Some(Degraded { lost: 30, trusted: 10 }));
    }

    #[test]
    fn a_few_nodes_or_a_small_part_of_many_or_many_in_a_day_are_not() {
        let mut losses = Losses::default();
        assert_eq!(told(&mut losses, 0, 9, 0), None);
        let mut losses = Losses::default();
        assert_eq!(told(&mut losses, 0, 99, 10_000), None);
        let mut losses = Losses::default();
        for hour in 0..1000 {
            assert_eq!(told(&mut losses, hour * 70, 9, 20), None);
        }
    }

    #[test]
    fn what_a_clock_far_ahead_has_dated_is_forgotten() {
        let mut losses = Losses::default();
        assert!(told(&mut losses, 100_000, 20, 20).is_some());
        assert!(told(&mut losses, 0, 20, 20).is_some());
    }
}
