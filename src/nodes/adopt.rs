//! The policy of a Checks whose database was restored: its epoch is higher and its number lower than those of the policy in force. It may require less
//! than what was decided since, so it counts when an administrator has seen what it would change.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::nodes::Nodes;
use crate::nodes::policy::StoredPolicy;
use crate::nodes::world::World;
use crate::protocol::{Candidate, LevelChange, Policy, Preview};
use crate::rpc::{Caller, Kind, RpcError};
use crate::security::keys::sha256;
use crate::store::to_body;
use crate::trust::Rules;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adopt {
    /// The id of what was shown.
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    reason: String,
}

impl Nodes {
    /// The active Checks has a policy that cannot be the newest. Kept, so that an administrator can decide.
    pub(super) fn refuse(&self, world: &mut World, policy: Policy, stored: StoredPolicy) {
        metrics::counter!("spice_nodes_policies_refused_total", "reason" => "restored").increment(1);
        if let Some(others) = self.policies_refused.log() {
            tracing::error!(
                number = policy.number,
                epoch = policy.epoch,
                in_force = world.rules.number(),
                others,
                "the policy of Checks is older than the one in force, so it does not count; was its database restored? See `spicectl pool adopt-policy`"
            );
        }
        world.refused = Some((policy, stored));
    }

    /// Takes the refused policy, if that is confirmed; otherwise says what it would change.
    pub(super) async fn adopt_policy(&self, caller: &Caller, asked: Adopt) -> Result<Value, RpcError> {
        match self.ask_for_policy().await {
            Err(error) if error.kind == Kind::Unavailable || error.kind == Kind::Unauthorized => return Err(error),
            // That it is refused is why we are here.
            _ => {}
        }
        let (refused, follows) = {
            let world = self.world.lock().await;
            (world.refused.clone(), world.rules.number())
        };
        let (policy, stored) = refused.ok_or_else(|| {
            RpcError::conflict(format!("the policy of Checks is not refused: nodes are judged by policy {follows}"))
        })?;
        let candidate = Candidate { follows, checks: policy.checks.clone(), pools: policy.pools.clone() };
        let preview = self.preview(candidate).await?;
        let id = id_of(&policy, &preview);
        let shown = |done: bool| {
            json!({
                "number": policy.number, "in_force": follows, "nodes": preview.nodes, "done": done,
                "raised": preview.raised().collect::<Vec<_>>(),
                "lowered": preview.changes.iter().filter(|change| !change.raises()).collect::<Vec<_>>(),
                "confirm": (!done).then_some(&id),
            })
        };
        let Some(confirmed) = asked.confirm else { return Ok(shown(false)) };
        let reason = crate::text::display_safe(asked.reason.trim());
        if reason.is_empty() {
            return Err(RpcError::bad_request("say why (--reason): it is kept with every change that follows"));
        }
        if confirmed != id {
            return Err(RpcError::conflict(format!(
                "what was confirmed is not what it would do now; nothing was done. Look at it again, then confirm {id}"
            )));
        }
        let rules = Rules::new(&policy).map_err(|error| RpcError::bad_request(format!("the policy: {error}")))?;
        let mut world = self.world.lock().await;
        self.still_believed(&[caller.vouch, Some(stored.vouch(&policy))])?;
        if world.rules.number() != follows || world.refused.as_ref().is_none_or(|(refused, _)| *refused != policy) {
            return Err(RpcError::conflict("the policy was changed meanwhile; nothing was done, look at it again"));
        }
        tracing::warn!(
            sender = caller.sender,
            number = policy.number,
            reason,
            "an administrator adopts the policy of a restored Checks"
        );
        let cause = crate::text::display_safe_to(
            &format!("policy {} of a restored Checks, adopted by {}: {reason}", policy.number, caller.sender),
            1000,
        );
        // How far numbers had come counts no more.
        let floors = std::mem::take(&mut world.policy_floors);
        let adopted = self.put_in_force(&mut world, Some((policy.clone(), stored)), rules, &cause).await;
        if adopted.is_err() && world.refused.is_some() {
            world.policy_floors = floors;
        }
        adopted.map_err(RpcError::from)?;
        Ok(shown(true))
    }
}

/// Says which policy, and whom it raises: another answer has another id.
fn id_of(policy: &Policy, preview: &Preview) -> String {
    let raised: Vec<&LevelChange> = preview.raised().collect();
    let digest = sha256(to_body(&(policy.epoch, policy.number, &policy.checks, &policy.pools, raised)).as_bytes());
    hex::encode(digest).chars().take(12).collect()
}
