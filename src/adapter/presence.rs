//! How an adapter shows Checks that it lives, and which batches it holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::names::AdapterName;
use crate::protocol::TicketRef;
use crate::protocol::ticket::MAX_HOLDING;
use crate::rpc::RpcClient;
use crate::rpc::table::Topic;

/// How often an adapter says that it lives.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// A batch that was taken is told of within this time, together with those taken in it.
const TELL_WITHIN: Duration = Duration::from_millis(250);

/// The batches in hand. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct InHand(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How often each is in hand: the broker may deliver one twice.
    tickets: Mutex<BTreeMap<TicketRef, usize>>,
    taken: Notify,
}

/// A batch in hand, until dropped.
pub(super) struct Holding {
    of: InHand,
    ticket: TicketRef,
}

impl InHand {
    /// Takes note of a batch.
    pub(super) fn take(&self, ticket: TicketRef) -> Holding {
        *self.tickets().entry(ticket).or_default() += 1;
        self.0.taken.notify_one();
        Holding { of: self.clone(), ticket }
    }

    fn now(&self) -> Vec<TicketRef> {
        self.tickets().keys().copied().take(MAX_HOLDING).collect()
    }

    fn tickets(&self) -> std::sync::MutexGuard<'_, BTreeMap<TicketRef, usize>> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut tickets = self.of.tickets();
        if let Some(count) = tickets.get_mut(&self.ticket) {
            *count -= 1;
            if *count == 0 {
                tickets.remove(&self.ticket);
            }
        }
    }
}

/// What is announced.
pub(super) struct Presence {
    pub(super) adapter: AdapterName,
    pub(super) instance: String,
    pub(super) schema: Value,
    pub(super) in_hand: InHand,
}

impl Presence {
    /// Announces the adapter until `stop`: regularly, and soon after a batch was taken.
    pub(super) async fn announce(self, rpc: RpcClient, stop: CancellationToken) {
        let incarnation = uuid::Uuid::new_v4().simple().to_string();
        loop {
            let args = Map::from_iter([
                ("adapter".to_owned(), json!(self.adapter)),
                ("instance".to_owned(), json!(self.instance)),
                ("schema".to_owned(), self.schema.clone()),
                ("incarnation".to_owned(), json!(incarnation)),
                ("holding".to_owned(), json!(self.in_hand.now())),
            ]);
            if let Err(error) = rpc.cast(Topic::Checks, "adapter_announce", args).await {
                tracing::debug!(%error, "this adapter could not announce itself");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ANNOUNCE_EVERY) => continue,
                () = self.in_hand.0.taken.notified() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TELL_WITHIN) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RunOrder;

    #[test]
    fn a_batch_delivered_twice_is_in_hand_until_both_are_done() {
        let in_hand = InHand::default();
        let ticket = TicketRef { order: RunOrder { epoch: 1, run: 1 }, batch: 1, attempt: 1 };
        let first = in_hand.take(ticket);
        let second = in_hand.take(ticket);
        drop(first);
        assert_eq!(in_hand.now(), [ticket]);
        drop(second);
        assert_eq!(in_hand.now(), []);
    }
}
