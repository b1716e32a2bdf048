//! The batches of this adapter: which are in hand, and which were carried out.
//!
//! Checks is told of those in hand, so that it notices when they are lost. Those carried out are remembered until their deadline: a recorded
//! `run_check`, played again, must not make the adapter ask the verifier, or run programs on nodes, as often as somebody likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::protocol::ticket::MAX_HOLDING;
use crate::protocol::{Ticket, TicketRef};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    InHand,
    Done,
}

/// The batches of tickets whose deadline is not over. Cheap to clone. Only Checks, who signs tickets, can make it grow.
#[derive(Debug, Clone, Default)]
pub struct Batches(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<BTreeMap<TicketRef, (Stage, Timestamp)>>,
    taken: Notify,
}

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
    batches: Batches,
    ticket: TicketRef,
}

impl Batches {
    /// A batch came in.
    pub fn begin(&self, ticket: &Ticket, now: Timestamp) -> Begun {
        let mut known = self.known();
        known.retain(|_, (stage, deadline)| *stage == Stage::InHand || *deadline > now);
        match known.get(&ticket.name()) {
            Some((Stage::InHand, _)) => Begun::InHand,
            Some((Stage::Done, _)) => Begun::Done,
            None => {
                known.insert(ticket.name(), (Stage::InHand, ticket.deadline));
                self.0.taken.notify_one();
                Begun::Fresh(InHand { batches: self.clone(), ticket: ticket.name() })
            }
        }
    }

    /// Those in hand, at most as many as are told of at once.
    #[must_use]
    pub fn in_hand(&self) -> Vec<TicketRef> {
        let known = self.known();
        let in_hand = known.iter().filter(|(_, (stage, _))| *stage == Stage::InHand);
        in_hand.map(|(ticket, _)| *ticket).take(MAX_HOLDING).collect()
    }

    /// Waits until a batch was taken.
    pub async fn taken(&self) {
        self.0.taken.notified().await;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TicketRef, (Stage, Timestamp)>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InHand {
    /// It was carried out and its results are with the broker.
    pub fn done(self) {
        if let Some((stage, _)) = self.batches.known().get_mut(&self.ticket) {
            *stage = Stage::Done;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut known = self.batches.known();
        if known.get(&self.ticket).is_some_and(|(stage, _)| *stage == Stage::InHand) {
            known.remove(&self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;
    use crate::protocol::RunOrder;

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
        let batches = Batches::default();
        let Begun::Fresh(first) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("fresh") };
        assert!(matches!(batches.begin(&ticket(1), Timestamp(0)), Begun::InHand));
        assert_eq!(batches.in_hand(), [ticket(1).name()]);
        drop(first);
        assert_eq!(batches.in_hand(), []);
        let Begun::Fresh(second) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("it was cut off") };
        second.done();
        assert_eq!(batches.in_hand(), [], "what is handed over is not lost with this adapter");
        assert!(matches!(batches.begin(&ticket(1), Timestamp(1)), Begun::Done));
        assert!(
            matches!(batches.begin(&ticket(2), Timestamp(1)), Begun::Fresh(_)),
            "another attempt is another matter"
        );
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let batches = Batches::default();
        let Begun::Fresh(first) = batches.begin(&ticket(1), Timestamp(0)) else { panic!("fresh") };
        first.done();
        let later = Timestamp(0).plus(Duration::from_secs(61));
        drop(batches.begin(&ticket(2), later));
        assert!(batches.known().is_empty());
    }
}
