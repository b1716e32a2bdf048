//! Ids that were used: each request counts once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::clock::Timestamp;

use super::error::AuthError;

/// How many ids are remembered unless said otherwise.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// Most stretches of time that are kept apart, see [`SeenIds::forgotten`].
const MOST_STRETCHES: usize = 16;

/// Said where nothing is remembered of a request's time.
pub(crate) const FORGOTTEN: &str = "whether its id was used before is no longer known here; sign it again to repeat it";

/// Remembers ids for as long as a request bearing them could still pass the time window. It never forgets one early: when
/// full it refuses new ones instead, so that flooding it (which takes a trusted key) cannot make a replay possible.
#[derive(Debug)]
pub struct SeenIds {
    window: Duration,
    capacity: usize,
    ids: HashSet<u128>,
    by_expiry: BTreeSet<(Timestamp, u128)>,
    /// From when to when requests expire whose ids are forgotten. More than one stretch where clocks were set: had a clock been far ahead, ours or
    /// a sender's, everything would otherwise be refused until that time has come.
    forgotten: BTreeMap<Timestamp, Timestamp>,
}

impl SeenIds {
    /// Remembers up to `capacity` ids of requests that are accepted up to `window` from their time.
    #[must_use]
    pub fn new(window: Duration, capacity: usize) -> Self {
        Self { window, capacity, ids: HashSet::new(), by_expiry: BTreeSet::new(), forgotten: BTreeMap::new() }
    }

    /// Records the id (32 hexadecimal digits) of a request signed at `time`, which [`super::check_window`] accepted at `now`.
    ///
    /// # Errors
    /// [`AuthError::Replayed`] when the id was used, or may have been, or cannot be remembered;
    /// [`AuthError::Malformed`] when it is no id. The request must then not be carried out.
    pub fn record(&mut self, id: &str, time: Timestamp, now: Timestamp) -> Result<(), AuthError> {
        let id = match u128::from_str_radix(id, 16) {
            Ok(number) if id.len() == 32 && !id.starts_with('+') => number,
            _ => return Err(AuthError::Malformed("the id must be 32 hexadecimal digits".into())),
        };
        self.forget(now);
        let expiry = time.plus(self.window);
        if self.ids.contains(&id) {
            return Err(AuthError::Replayed("its id was used before; sign it again to repeat it"));
        }
        // The clock went back: what was used then is not known any more.
        if self.forgotten.range(..=expiry).next_back().is_some_and(|(_, to)| expiry <= *to) {
            return Err(AuthError::Replayed(FORGOTTEN));
        }
        if self.ids.len() >= self.capacity {
            return Err(AuthError::Replayed("too many requests within the time window; send it again in a minute"));
        }
        self.ids.insert(id);
        self.by_expiry.insert((expiry, id));
        Ok(())
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((expiry, id)) = self.by_expiry.first().copied() {
            if expiry >= now {
                break;
            }
            self.by_expiry.pop_first();
            self.ids.remove(&id);
            self.note_forgotten(expiry);
        }
    }

    /// Takes `expiry` into the stretch that is near, or begins one.
    fn note_forgotten(&mut self, expiry: Timestamp) {
        let (mut from, mut to) = (expiry, expiry);
        let near =
            |(from, to): &(&Timestamp, &Timestamp)| from.minus(self.window) <= expiry && expiry <= to.plus(self.window);
        let touched: Vec<Timestamp> = self.forgotten.iter().filter(near).map(|(from, _)| *from).collect();
        for stretch in touched {
            from = from.min(stretch);
            to = to.max(self.forgotten.remove(&stretch).unwrap_or(to));
        }
        self.forgotten.insert(from, to);
        if self.forgotten.len() > MOST_STRETCHES {
            self.join_nearest();
        }
    }

    /// Makes one of the two stretches that are least apart: what lies between them is refused, too.
    fn join_nearest(&mut self) {
        let pairs = self.forgotten.iter().zip(self.forgotten.iter().skip(1));
        let nearest = pairs.min_by_key(|((_, to), (from, _))| from.since(**to)).map(|(one, two)| (*one.0, *two.0));
        if let Some((one, two)) = nearest
            && let Some(to) = self.forgotten.remove(&two)
        {
            self.forgotten.insert(one, to);
        }
    }

    /// How many ids are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    fn id(number: u128) -> String {
        format!("{number:032x}")
    }

    #[test]
    fn once_clocks_that_were_far_ahead_are_set_right_everybody_is_heard_at_once() {
        let mut seen = SeenIds::new(WINDOW, 100);
        let start = Timestamp(1_795_320_000_000);
        let mut number = 0;
        let mut hear = |seen: &mut SeenIds, at: Timestamp| {
            number += 1;
            seen.record(&id(number), at, at).map(|()| id(number))
        };
        for second in (0..300).step_by(2) {
            hear(&mut seen, start.plus(Duration::from_secs(second))).unwrap();
        }
        // Everybody takes the time from the same wrong source.
        let mut ahead = Vec::new();
        for second in (300..600).step_by(2) {
            let at = start.plus(DAY + Duration::from_secs(second));
            ahead.push((hear(&mut seen, at).unwrap(), at));
        }
        for second in (600..900).step_by(2) {
            hear(&mut seen, start.plus(Duration::from_secs(second))).unwrap();
        }
        let now = start.plus(Duration::from_secs(900));
        for (id, at) in ahead {
            seen.record(&id, at, now).expect_err("what was used while the clocks were ahead is used");
        }
    }

    proptest! {
        #[test]
        fn no_id_counts_twice_whatever_the_clocks_do(
            steps in proptest::collection::vec((0_u128..40, -2_000_i64..2_000, prop_oneof![0_i64..30, -100_000_i64..100_000]), 1..300)
        ) {
            let (mut seen, mut now, mut taken) = (SeenIds::new(WINDOW, 30), Timestamp(0), HashSet::new());
            let mut signed = std::collections::HashMap::new();
            for (number, late, step) in steps {
                now = Timestamp(now.0 + step * 1000);
                // A request is signed once, whenever it comes.
                let time = *signed.entry(number).or_insert(Timestamp(now.0 - late * 1000));
                if seen.record(&id(number), time, now).is_ok() {
                    prop_assert!(taken.insert(number), "{number} counted twice");
                }
                prop_assert!(seen.forgotten.len() <= MOST_STRETCHES);
            }
        }
    }
}
