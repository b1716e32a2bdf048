//! The policy in force: only ever a newer one, verified, stored, then applied to every node.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::world::{Stage, World};
use crate::protocol::Policy;
use crate::rpc::RpcError;
use crate::rpc::table::Topic;
use crate::security::{Role, SignedDocument};
use crate::store::StoreError;
use crate::trust::Rules;

/// How often Checks is asked for the policy; at first until there is one.
const ASK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Deserialize)]
struct Answer {
    document: SignedDocument,
}

/// Asks for the policy every minute, so that a lost publication is repaired.
pub async fn keep_asking(nodes: Arc<Nodes>, stop: CancellationToken) {
    loop {
        // Checks publishes when it starts; asking is for when that was lost.
        let has_policy = nodes.world.lock().await.policy.is_some();
        let pause = if has_policy { ASK_EVERY.1 } else { ASK_EVERY.0 };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(error) = nodes.ask_for_policy().await {
            tracing::debug!(%error, "the policy could not be asked for");
        }
    }
}

impl Nodes {
    /// Asks Checks for the policy and applies it if it is newer.
    pub(super) async fn ask_for_policy(&self) -> Result<(), RpcError> {
        let args = serde_json::Map::new();
        let answer = self.rpc.call_within(Topic::Checks, "policy_get", args, Duration::from_secs(5)).await?;
        let Answer { document } = serde_json::from_value(answer).map_err(RpcError::internal)?;
        self.apply_policy(document).await
    }

    /// Applies a policy if it verifies and is newer than the one in force.
    pub(super) async fn apply_policy(&self, document: SignedDocument) -> Result<(), RpcError> {
        let (policy, rules) = self.read_policy(&document)?;
        let mut world = self.world.lock().await;
        if let Some((current, _)) = &world.policy {
            if policy.number < current.number || (policy.number, policy.epoch) < (current.number, current.epoch) {
                metrics::counter!("spice_nodes_policies_refused_total", "reason" => "older").increment(1);
                return Err(RpcError::conflict(format!(
                    "policy {} of epoch {} is older than policy {} of epoch {}",
                    policy.number, policy.epoch, current.number, current.epoch
                )));
            }
            if policy.number == current.number {
                return Ok(());
            }
        }
        let number = policy.number;
        self.put_in_force(&mut world, policy, rules, document, true).await.map_err(RpcError::internal)?;
        tracing::info!(number, "a new policy is in force");
        Ok(())
    }

    /// Goes on after a restart: the stored policy, if it still verifies, and every node judged at this time.
    pub(super) async fn resume(&self, stored: Option<SignedDocument>) -> Result<(), StoreError> {
        let mut world = self.world.lock().await;
        let Some(document) = stored else { return Ok(()) };
        match self.read_policy(&document) {
            Ok((policy, rules)) => self.put_in_force(&mut world, policy, rules, document, false).await,
            Err(error) => {
                tracing::error!(%error, "the stored policy is not believed; every node is unknown until Checks sends one");
                Ok(())
            }
        }
    }

    fn read_policy(&self, document: &SignedDocument) -> Result<(Policy, Rules), RpcError> {
        let by_checks = |key: &crate::security::TrustedKey| key.roles.contains(&Role::Checks);
        let (policy, _): (Policy, _) = document
            .open_for(&self.identity.deployment, &self.identity.trust.current(), by_checks)
            .map_err(|error| RpcError::unauthorized(format!("the policy is not believed: {error}")))?;
        let rules = Rules::new(&policy).map_err(|error| RpcError::bad_request(format!("the policy: {error}")))?;
        Ok((policy, rules))
    }

    async fn put_in_force(
        &self,
        world: &mut World,
        policy: Policy,
        rules: Rules,
        document: SignedDocument,
        is_new: bool,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let cause = if is_new { format!("policy {}", policy.number) } else { "restart".to_owned() };
        let mut stage = Stage { policy: is_new.then(|| document.clone()), ..Stage::default() };
        let names: Vec<_> = world.nodes.keys().cloned().collect();
        let mut retargeted = Vec::new();
        for name in &names {
            let Some(entry) = world.touch(&mut stage, name) else { continue };
            entry.targeting = rules.targeting(&entry.name, &entry.labels);
            entry.verdicts.retain(|pool, _| rules.pools().contains_key(pool));
            let as_it_was =
                Entry { targeting: entry.targeting.clone(), ..world.nodes.get(name).unwrap_or(entry).clone() };
            world.review(&mut stage, &rules, name, &cause, now);
            // Most nodes are judged as before; only the others are written.
            if stage.touched.get(name) == Some(&as_it_was) {
                stage.touched.remove(name);
                retargeted.push(as_it_was);
            }
        }
        let same_pools = world.rules.pools() == rules.pools() && is_new;
        let committed = self.commit_under(world, stage, policy, rules, document).await;
        if committed.is_ok() {
            world.retarget(retargeted);
        }
        if committed.is_ok() && !same_pools {
            // Other pools or modes: no delta can say that. Caches see another digest and take a snapshot.
            world.rebuild_pools();
            world.version += 1;
            self.say_heartbeat(world);
        }
        committed
    }

    async fn commit_under(
        &self,
        world: &mut World,
        stage: Stage,
        policy: Policy,
        rules: Rules,
        document: SignedDocument,
    ) -> Result<(), StoreError> {
        let before = (world.policy.replace((policy, document)), std::mem::replace(&mut world.rules, rules));
        let committed = self.commit(world, stage).await;
        if committed.is_err() {
            (world.policy, world.rules) = before;
        }
        committed
    }
}
