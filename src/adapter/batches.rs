//! Which batches were carried out: a recorded `run_check`, played again before its deadline, must not make the adapter ask
//! the verifier, or run programs on nodes, as often as somebody likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::protocol::{RunOrder, Ticket};

/// One attempt at one batch of one run.
type Key = (RunOrder, i64, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    InHand,
    Done,
}

/// The batches of tickets whose deadline is not over. Only Checks, who signs tickets, can make it grow.
#[derive(Debug, Default)]
pub struct Batches(Mutex<BTreeMap<Key, (Stage, Timestamp)>>);

/// What to do with a batch.
#[derive(Debug)]
pub enum Begun {
    /// Carry it out, and say when it is done.
    Fresh(InHand),
    /// It is being carried out; how that ends is not known yet.
    InHand,
    /// It was carried out and handed over.
    Done,
}

/// A batch that is being carried out. Dropped without [`InHand::done`], it may be carried out again.
#[derive(Debug)]
pub struct InHand {
    batches: Arc<Batches>,
    key: Key,
}

impl Batches {
    /// A batch came in.
    pub fn begin(self: &Arc<Self>, ticket: &Ticket, now: Timestamp) -> Begun {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batches.retain(|_, (stage, deadline)| *stage == Stage::InHand || *deadline > now);
        let key = (ticket.order, ticket.batch, ticket.attempt);
        match batches.get(&key) {
            Some((Stage::InHand, _)) => Begun::InHand,
            Some((Stage::Done, _)) => Begun::Done,
            None => {
                batches.insert(key, (Stage::InHand, ticket.deadline));
                Begun::Fresh(InHand { batches: Arc::clone(self), key })
            }
        }
    }
}

impl InHand {
    /// It was carried out and its results are with the broker.
    pub fn done(self) {
        let mut batches = self.batches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stage, _)) = batches.get_mut(&self.key) {
            *stage = Stage::Done;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut batches = self.batches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.get(&self.key).is_some_and(|(stage, _)| *stage == Stage::InHand) {
            batches.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;

    fn ticket(attempt: i64) -> Ticket {
        Ticket {
            deployment: "test".parse().unwrap(),
            order: RunOrder { epoch: 1, run: 1 },
            batch: 1,
            attempt,
            check: "boot".parse().unwrap(),
            check_id: "id".to_owned(),
            revision: 1,
            adapter: "command".parse().unwrap(),
            nodes: vec!["n1".parse().unwrap()],
            issued_at: Timestamp(0),
            deadline: Timestamp(60_000),
        }
    }

    #[test]
    fn a_batch_is_carried_out_once_unless_it_was_not_finished() {
        let batches = Arc::new(Batches::default());
        let Begun::Fresh(first) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("fresh") };
        assert!(matches!(batches.begin(&ticket(1), Timestamp(0)), Begun::InHand));
        drop(first);
        let Begun::Fresh(second) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("it was cut off") };
        second.done();
        assert!(matches!(batches.begin(&ticket(1), Timestamp(1)), Begun::Done));
        assert!(
            matches!(batches.begin(&ticket(2), Timestamp(1)), Begun::Fresh(_)),
            "another attempt is another matter"
        );
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let batches = Arc::new(Batches::default());
        let Begun::Fresh(first) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("fresh") };
        first.done();
        let later = Timestamp(0).plus(Duration::from_secs(61));
        drop(batches.begin(&ticket(2), later));
        assert!(batches.0.lock().unwrap().is_empty());
    }
}
