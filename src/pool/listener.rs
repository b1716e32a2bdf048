//! Publications as they come: verified, then queued for the keeper.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::pool::Publication;
use crate::pool::file::Moment;
use crate::pool::lateness::Received;
use crate::protocol::{Delta, Heartbeat};
use crate::rpc::table::Method;
use crate::rpc::{Caller, Identity, RpcError, Service, typed};
use crate::security::{Role, SignedDocument, TrustedKey, Vouch};

/// Verifies publications and queues them.
pub(super) struct Listener {
    pub(super) queue: mpsc::Sender<Publication>,
    pub(super) identity: Arc<Identity>,
    pub(super) clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Published {
    pub(super) document: SignedDocument,
}

pub(super) fn signed_by_nodes(key: &TrustedKey) -> bool {
    key.roles.contains(&Role::Nodes)
}

#[async_trait]
impl Service for Listener {
    async fn handle(
        &self,
        method: &'static Method,
        _caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        let Published { document } = typed(args)?;
        let (trust, now) = (self.identity.trust.current(), self.clock.now());
        let refused = |error: crate::security::AuthError| {
            metrics::counter!("spice_pool_publications_refused_total", "reason" => error.kind()).increment(1);
            RpcError::unauthorized(error.to_string())
        };
        let publication = match method.name {
            "pool_heartbeat" => {
                let (heartbeat, _): (Heartbeat, _) =
                    document.open_for(&self.identity.deployment, &trust, now, signed_by_nodes).map_err(refused)?;
                let heard = Moment::now(now).map_err(RpcError::internal)?;
                Publication::Heartbeat(heartbeat, heard)
            }
            _ => {
                let (delta, key): (Delta, _) =
                    document.open_for(&self.identity.deployment, &trust, now, signed_by_nodes).map_err(refused)?;
                let vouch = Vouch { key: key.key_id, at: delta.sent_at.max(now) };
                let received = Received { utc: now, steady: self.clock.boottime() };
                Publication::Delta(delta, vouch, received)
            }
        };
        if self.queue.try_send(publication).is_err() {
            metrics::counter!("spice_pool_publications_dropped_total", "reason" => "queue_full").increment(1);
        }
        Ok(Value::Null)
    }
}
