//! The policy in force: only ever a newer one, verified, stored, then applied to every node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::names::PoolName;
use crate::nodes::Nodes;
use crate::nodes::world::{Stage, World};
use crate::protocol::{Flapping, Mode, Policy, PoolPolicy};
use crate::rpc::RpcError;
use crate::rpc::table::Topic;
use crate::security::{KeyId, Revocations, Role, SignedDocument, Vouch};
use crate::store::StoreError;
use crate::trust::{Rules, loosens};

/// How often Checks is asked for the policy; at first until there is one, and every node was judged by it.
const ASK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After this long without a word readers take nobody as trusted, where no policy says otherwise.
const DEFAULT_SILENCE_MS: i64 = 600_000;

/// A policy as it was signed, and when it came: what a thief dated back came too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPolicy {
    /// As it was signed.
    pub document: SignedDocument,
    /// When it came.
    pub received_at: Timestamp,
}

impl StoredPolicy {
    /// Who signed it, and when at the latest.
    #[must_use]
    pub fn vouch(&self, policy: &Policy) -> Vouch {
        Vouch { key: self.document.key_id, at: policy.issued_at.max(self.received_at) }
    }
}

/// The highest number of a policy each key of Checks has signed, and when that came. The highest of those whose key is good
/// is what no policy may go back behind; a thief's numbers go with the thief's key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyFloors(BTreeMap<KeyId, (i64, Timestamp)>);

/// What is written about the policy.
#[derive(Debug, Clone)]
pub struct PolicyChange {
    /// The policy in force; `None`: it is void.
    pub policy: Option<StoredPolicy>,
    /// How far policies were numbered.
    pub floors: PolicyFloors,
}

impl PolicyFloors {
    /// No policy with a lower number is taken.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.0.values().map(|(number, _)| *number).max().unwrap_or(0)
    }

    fn learn(&mut self, number: i64, vouch: Vouch) {
        let known = self.0.entry(vouch.key).or_insert((number, vouch.at));
        if known.0 < number {
            *known = (number, vouch.at);
        }
    }

    /// Without what revoked keys have said.
    #[must_use]
    pub fn without(&self, revoked: &Revocations) -> Self {
        let good = self.0.iter().filter(|(key, (_, at))| !revoked.void(key, *at));
        Self(good.map(|(key, learnt)| (*key, *learnt)).collect())
    }
}

#[derive(Deserialize)]
struct Answer {
    document: SignedDocument,
}

/// Asks for the policy every minute, so that a lost publication is repaired.
pub async fn keep_asking(nodes: Arc<Nodes>, stop: CancellationToken) {
    loop {
        crate::telemetry::health::turn();
        // Checks publishes when it starts; asking is for when that was lost.
        let is_settled = {
            let world = nodes.world.lock().await;
            world.policy.is_some() && world.is_judged
        };
        let pause = if is_settled { ASK_EVERY.1 } else { ASK_EVERY.0 };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = nodes.policy_wanted.notified() => {}
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
        let stored = StoredPolicy { document, received_at: self.clock.now() };
        let (policy, rules) = self.read_policy(&stored)?;
        let mut world = self.world.lock().await;
        self.still_believed(&[Some(stored.vouch(&policy))])?;
        let older = |than: &str| {
            metrics::counter!("spice_nodes_policies_refused_total", "reason" => "older").increment(1);
            RpcError::conflict(format!("policy {} of epoch {} is older than {than}", policy.number, policy.epoch))
        };
        let floor = world.policy_floors.floor();
        let known_epoch = world.policy.as_ref().map(|(current, _)| current.epoch);
        if let Some(epoch) = known_epoch.filter(|epoch| policy.epoch < *epoch) {
            // Of two that are active on two databases, the later one is believed, and nobody goes back.
            return Err(older(&format!("what Checks says in epoch {epoch}")));
        }
        let follows = match &world.policy {
            // By the same number something else: two databases have gone different ways, unless a newer version reads the same more strictly.
            Some((current, _)) if policy.number == current.number => loosens(current, &policy).is_empty(),
            _ => policy.number >= floor,
        };
        if !follows {
            let refused = Err(older(&format!("policy {floor}")));
            if known_epoch.is_none_or(|epoch| policy.epoch > epoch) {
                self.refuse(&mut world, policy, stored);
            }
            return refused;
        }
        if let Some((current, known)) = &world.policy {
            let same = (&policy.checks, &policy.pools) == (&current.checks, &current.pools);
            if policy.number == current.number && same {
                if known.document.key_id != stored.document.key_id || policy.epoch > current.epoch {
                    // Checks has another key: the old one may go, and this policy stays believed. Or it has a later epoch, behind which nobody goes.
                    self.keep_signed(&mut world, policy, stored).await.map_err(RpcError::from)?;
                }
                if !world.is_judged {
                    // The database was lost on the way.
                    let cause = format!("policy {}", world.rules.number());
                    self.judge_all(&mut world, &cause).await.map_err(RpcError::from)?;
                }
                return Ok(());
            }
        }
        let number = policy.number;
        self.put_in_force(&mut world, Some((policy, stored)), rules, &format!("policy {number}"))
            .await
            .map_err(RpcError::from)?;
        tracing::info!(number, "a new policy is in force");
        Ok(())
    }

    /// Goes on after a restart: the stored policy, if it still verifies, and every node judged at this time.
    pub(super) async fn resume(&self, stored: Option<StoredPolicy>) -> Result<(), StoreError> {
        let mut world = self.world.lock().await;
        world.policy_floors = world.policy_floors.without(&Revocations::of(&self.identity.trust.current()));
        let Some(stored) = stored else { return self.load(&mut world, None).await };
        match self.read_policy(&stored) {
            Ok((policy, rules)) => {
                world.policy_floors = learnt(&world.policy_floors, &policy, &stored);
                (world.policy, world.rules) = (Some((policy, stored)), rules);
                self.load(&mut world, Some("restart")).await?;
                world.rebuild_pools();
                self.say_heartbeat(&world);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the stored policy is not believed; no node is trusted until Checks sends one");
                self.load(&mut world, None).await?;
                self.drop_policy(&mut world, &format!("restart: {}", error.message)).await
            }
        }
    }

    fn read_policy(&self, stored: &StoredPolicy) -> Result<(Policy, Rules), RpcError> {
        let by_checks = |key: &crate::security::TrustedKey| key.roles.contains(&Role::Checks);
        let trust = self.identity.trust.current();
        let (policy, _): (Policy, _) = stored
            .document
            .open_for(&self.identity.deployment, &trust, stored.received_at, by_checks)
            .map_err(|error| RpcError::unauthorized(format!("the policy is not believed: {error}")))?;
        let rules = Rules::new(&policy).map_err(|error| RpcError::bad_request(format!("the policy: {error}")))?;
        Ok((policy, rules))
    }

    /// The policy in force counts no more: pools stay, at their strictest, and require what nobody can pass until Checks
    /// sends a policy that is believed.
    pub(super) async fn drop_policy(&self, world: &mut World, cause: &str) -> Result<(), StoreError> {
        // Neither modes nor limits are taken from a policy that is not believed.
        let strictest = |name: PoolName| PoolPolicy {
            name,
            mode: Mode::Enforce,
            max_silence_ms: DEFAULT_SILENCE_MS,
            accept_self_report: false,
            flapping: Flapping::default(),
        };
        let judged = world.nodes.values().flat_map(|entry| entry.pools().map(|(pool, _)| pool));
        let names: std::collections::BTreeSet<PoolName> = judged.chain(world.rules.pools().keys()).cloned().collect();
        let nothing = Policy {
            deployment: self.identity.deployment.clone(),
            epoch: 0,
            number: world.policy_floors.floor(),
            issued_at: self.clock.now(),
            checks: Vec::new(),
            pools: names.into_iter().map(strictest).collect(),
        };
        // Without a check there is no target that could be wrong.
        let rules = Rules::new(&nothing).unwrap_or_default();
        self.put_in_force(world, None, rules, cause).await?;
        self.policy_wanted.notify_one();
        Ok(())
    }

    async fn keep_signed(&self, world: &mut World, policy: Policy, stored: StoredPolicy) -> Result<(), StoreError> {
        let floors = learnt(&world.policy_floors, &policy, &stored);
        let change = PolicyChange { policy: Some(stored.clone()), floors: floors.clone() };
        self.commit(world, Stage { policy: Some(change), ..Stage::default() }).await?;
        (world.policy, world.policy_floors) = (Some((policy, stored)), floors);
        Ok(())
    }

    /// Judges every node by `rules`.
    pub(super) async fn put_in_force(
        &self,
        world: &mut World,
        policy: Option<(Policy, StoredPolicy)>,
        rules: Rules,
        cause: &str,
    ) -> Result<(), StoreError> {
        let floors = match &policy {
            Some((policy, stored)) => learnt(&world.policy_floors, policy, stored),
            None => world.policy_floors.clone(),
        };
        let same_pools = world.rules.pools() == rules.pools();
        let stored = policy.as_ref().map(|(_, stored)| stored.clone());
        let before = (std::mem::replace(&mut world.policy, policy), std::mem::replace(&mut world.rules, rules));
        let change = PolicyChange { policy: stored, floors: floors.clone() };
        let stage = Stage { policy: Some(change), ..Stage::default() };
        if let Err(error) = self.commit(world, stage).await {
            (world.policy, world.rules) = before;
            return Err(error);
        }
        world.policy_floors = floors;
        world.refused = None;
        if !same_pools {
            world.rebuild_pools();
        }
        self.judge_all(world, cause).await?;
        if !same_pools {
            // Other pools or modes: no delta can say that. Caches see another digest and take a snapshot.
            world.version += 1;
            self.say_heartbeat(world);
        }
        Ok(())
    }
}

fn learnt(floors: &PolicyFloors, policy: &Policy, stored: &StoredPolicy) -> PolicyFloors {
    let mut floors = floors.clone();
    floors.learn(policy.number, stored.vouch(policy));
    floors
}
