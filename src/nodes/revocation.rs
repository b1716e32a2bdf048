//! What a revoked key takes along: passes it vouched for, policies, overrides and releases it signed. Every node that loses
//! something gets an entry in the record and is judged again; nobody is raised.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;
use crate::nodes::record::What;
use crate::nodes::storage;
use crate::nodes::world::{Stage, World, new_entry};
use crate::rpc::RpcError;
use crate::security::{AuthError, KeyId, Revocations, TrustStore, Vouch};
use crate::store::StoreError;

/// How often the trust store is looked at; it reads its directory at most every two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nodes that are stored in one transaction.
const AT_ONCE: usize = 500;

/// Judges again whenever the trust store changed, until `stop`.
pub async fn watch(nodes: Arc<Nodes>, stop: CancellationToken) {
    // What was found at the start has been honoured before anything was served.
    let mut honoured = 1;
    loop {
        crate::telemetry::health::turn();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // Looking makes the store read its directory when that is due.
        drop(nodes.identity.trust.current());
        let generation = nodes.identity.trust.generation();
        if generation == honoured {
            continue;
        }
        match nodes.honour_revocations().await {
            Ok(()) => honoured = generation,
            Err(error) => tracing::error!(%error, "a revocation could not be stored; it is tried again"),
        }
    }
}

impl Nodes {
    /// Whether those who vouched are still believed. To be asked with the world in hand, before what they say is taken in: a
    /// revocation that was honoured since their signatures were verified would otherwise miss it.
    pub(super) fn still_believed(&self, vouches: &[Option<Vouch>]) -> Result<(), RpcError> {
        let store = self.identity.trust.current();
        for Vouch { key, at } in vouches.iter().flatten() {
            let known = store.lookup(key).ok_or(AuthError::UnknownKey(*key));
            known.and_then(|known| known.check_valid(*at, *at)).map_err(|e| RpcError::unauthorized(e.to_string()))?;
        }
        Ok(())
    }

    /// Takes back what the keys that are revoked now have vouched for. Doing it again changes nothing.
    pub(super) async fn honour_revocations(&self) -> Result<(), StoreError> {
        let store = self.identity.trust.current();
        let revoked = Revocations::of(&store);
        if revoked.is_empty() {
            return Ok(());
        }
        let mut world = self.world.lock().await;
        let graves = storage::tombstones(&self.database).await?;
        self.void_policy(&mut world, &revoked, &store).await?;
        if !world.is_judged {
            // The policy went, and the database with it before everybody was judged without it: nobody stays trusted by its word.
            self.judge_all(&mut world, "a policy that counts no more").await?;
        }
        let now = self.clock.now();
        let mut stage = Stage::default();
        let mut nodes = 0;
        let names: Vec<_> = world.nodes.keys().cloned().collect();
        for name in names {
            if stage.touched.len() >= AT_ONCE {
                nodes += stage.touched.len();
                self.commit(&mut world, std::mem::take(&mut stage)).await?;
            }
            let trust =
                world.nodes.get(&name).and_then(|kept| kept.trust(&name)).filter(|trust| trust.leans_on(&revoked));
            let Some(mut trust) = trust else { continue };
            let voided = trust.void(&revoked);
            if voided.is_empty() {
                continue;
            }
            let Some(entry) = world.touch(&mut stage, &name) else { continue };
            entry.trust = trust;
            let cause = causes(&store, &voided.keys);
            let what = What::Action { action: "evidence voided".to_owned(), reason: voided.what.join("; ") };
            stage.record.push(new_entry(&name, what, &cause, now));
            if !world.rules.pools().is_empty() {
                world.review(&mut stage, &world.rules, &name, &cause, now);
            }
        }
        for mut grave in graves {
            if !grave.trust.void(&revoked).is_empty() {
                stage.graves.push(grave);
            }
        }
        nodes += stage.touched.len();
        if nodes == 0 && stage.graves.is_empty() {
            return Ok(());
        }
        self.commit(&mut world, stage).await?;
        metrics::counter!("spice_nodes_voided_total").increment(nodes as u64);
        tracing::warn!(nodes, "evidence was voided and the nodes judged again");
        Ok(())
    }

    async fn void_policy(
        &self,
        world: &mut World,
        revoked: &Revocations,
        store: &TrustStore,
    ) -> Result<(), StoreError> {
        world.policy_floors = world.policy_floors.without(revoked);
        let Some((policy, stored)) = &world.policy else { return Ok(()) };
        let vouch = stored.vouch(policy);
        if !revoked.voids(Some(&vouch)) {
            return Ok(());
        }
        let cause = format!("policy {} is void: {}", policy.number, causes(store, &BTreeSet::from([vouch.key])));
        tracing::error!(cause, "no node is trusted until Checks sends a policy signed with another key");
        self.drop_policy(world, &cause).await
    }
}

/// The revoked keys that count here, for the record.
fn causes(store: &TrustStore, keys: &BTreeSet<KeyId>) -> String {
    let told = keys
        .iter()
        .filter_map(|key| store.lookup(key))
        .filter_map(|key| Some(format!("key {} of {} revoked since {}", key.key_id, key.sender, key.revoked_since?)));
    let told: Vec<String> = told.collect();
    if told.is_empty() { "a key revoked; who had vouched was not noted".to_owned() } else { told.join(", ") }
}
