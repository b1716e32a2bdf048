//! How an adapter shows Checks that it lives, which batches it holds, and what it lacks.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::adapter::batches::Batches;
use crate::bus::{Broker, Bus};
use crate::names::AdapterName;
use crate::rpc::RpcClient;
use crate::rpc::table::Topic;

/// How often an adapter says that it lives.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// A batch that was taken is told of within this time, together with those taken in it.
const TELL_WITHIN: Duration = Duration::from_millis(250);

/// What is announced.
pub(super) struct Presence {
    pub(super) adapter: AdapterName,
    pub(super) instance: String,
    pub(super) schema: Value,
    pub(super) batches: Batches,
    pub(super) agents: Bus,
}

impl Presence {
    /// Announces the adapter until `stop`: regularly, and soon after a batch was taken.
    pub(super) async fn announce(self, rpc: RpcClient, stop: CancellationToken) {
        let incarnation = uuid::Uuid::new_v4().simple().to_string();
        let mut agents = self.agents.broker();
        loop {
            crate::telemetry::health::turn();
            let fault = fault(&agents.borrow_and_update());
            let mut args = Map::from_iter([
                ("adapter".to_owned(), json!(self.adapter)),
                ("instance".to_owned(), json!(self.instance)),
                ("schema".to_owned(), self.schema.clone()),
                ("incarnation".to_owned(), json!(incarnation)),
                ("holding".to_owned(), json!(self.batches.in_hand())),
            ]);
            if let Some(fault) = fault {
                args.insert("fault".to_owned(), fault.into());
            }
            if let Err(error) = rpc.cast(Topic::Checks, "adapter_announce", args).await {
                tracing::debug!(%error, "this adapter could not announce itself");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ANNOUNCE_EVERY) => continue,
                () = self.batches.taken() => {}
                Ok(()) = agents.changed() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TELL_WITHIN) => {}
            }
        }
    }
}

/// Why an instance cannot do all of its work, if so: checks that ask agents need the way to them.
fn fault(agents: &Broker) -> Option<String> {
    match agents {
        Broker::Reached => None,
        Broker::Away(why) => Some(format!("the bus of the agents cannot be reached: {why}")),
        Broker::Blocked(why) => Some(format!("the bus of the agents takes no messages: {why}")),
    }
}
