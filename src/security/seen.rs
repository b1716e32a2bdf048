//! Ids that were used: each request counts once.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::clock::Timestamp;

use super::error::AuthError;

/// How many ids are remembered unless said otherwise.
pub const DEFAULT_CAPACITY: usize = 100_000;

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
    /// Ids of requests that expire at this time or before may have been forgotten.
    forgotten_to: Timestamp,
}

impl SeenIds {
    /// Remembers up to `capacity` ids of requests that are accepted up to `window` from their time.
    #[must_use]
    pub fn new(window: Duration, capacity: usize) -> Self {
        Self { window, capacity, ids: HashSet::new(), by_expiry: BTreeSet::new(), forgotten_to: Timestamp(i64::MIN) }
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
        if expiry <= self.forgotten_to {
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
            self.forgotten_to = self.forgotten_to.max(expiry);
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
