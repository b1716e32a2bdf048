//! Epochs that readers refuse, and how an administrator has them taken again.
//!
//! Readers never go back to a lower epoch. Nodes' epochs follow the time of day and never fall either, unless its database was restored from before its clock
//! was, for a while, far ahead. Then nobody believes it until its epoch is above what readers have seen.

use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::nodes::Nodes;
use crate::rpc::{Caller, RpcError};

/// No honest clock gives a higher one; 2^53 bounds every number that is signed.
const MAX_EPOCH: i64 = 1 << 52;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetEpoch {
    #[serde(default)]
    at_least: Option<i64>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    confirm: bool,
}

impl Nodes {
    /// A reader asks, and tells the epoch it will not go back behind.
    pub(super) fn heard_of(&self, epoch: i64) {
        if epoch > self.epoch && self.readers_epoch.fetch_max(epoch, Ordering::SeqCst) < epoch {
            metrics::gauge!("spice_nodes_epoch_refused").set(1.0);
            tracing::error!(
                epoch = self.epoch,
                readers_epoch = epoch,
                "readers do not believe this Nodes, because they have seen a higher epoch: another Nodes is active on another database, or the \
                 database was restored; see `spicectl pool reset-epoch`"
            );
        }
    }

    /// The epoch above ours that a reader told of.
    pub(super) fn refused_by_readers(&self) -> Option<i64> {
        Some(self.readers_epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch > self.epoch)
    }

    /// Has the role begin anew with an epoch that readers take, if that is confirmed; otherwise says what it would do.
    pub(super) async fn reset_epoch(&self, caller: &Caller, asked: ResetEpoch) -> Result<Value, RpcError> {
        let ResetEpoch { at_least, reason, confirm } = asked;
        let known = self.refused_by_readers();
        let above = at_least.or(known).ok_or_else(|| {
            RpcError::conflict(
                "no reader has told of a higher epoch; if one should, give it with --at-least: its pool file says it",
            )
        })?;
        if above < self.epoch {
            let epoch = self.epoch;
            return Err(RpcError::conflict(format!("the epoch is {epoch} already, which is above {above}")));
        }
        if above > MAX_EPOCH {
            return Err(RpcError::bad_request(format!(
                "{above} is no epoch that a clock can have given; if readers hold it, a key of nodes was stolen: revoke it, and they forget it"
            )));
        }
        let shown = |done: bool| json!({ "epoch": self.epoch, "known_by_readers": known, "next_epoch_above": above, "done": done });
        if !confirm {
            return Ok(shown(false));
        }
        let reason = crate::text::display_safe(reason.trim());
        if reason.is_empty() {
            return Err(RpcError::bad_request("say why (--reason): it is kept"));
        }
        self.still_believed(&[caller.vouch])?;
        let led = self.leading.as_ref().ok_or_else(|| RpcError::conflict("this Nodes is not led by a lease"));
        let (tenure, database) = led?;
        // With the world in hand: what is under way is stored before, and nothing after.
        let world = self.world.lock().await;
        let cause = crate::text::display_safe_to(&format!("reset by {}: {reason}", caller.sender), 1000);
        tenure.resign(database, above, &cause).await.map_err(RpcError::internal)?;
        drop(world);
        tracing::warn!(
            sender = caller.sender,
            epoch = self.epoch,
            above,
            reason,
            "an administrator reset the epoch; the role begins anew"
        );
        Ok(shown(true))
    }
}
