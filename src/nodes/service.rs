//! What people and other roles ask of Nodes.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::names::{NodeName, PoolName};
use crate::nodes::Nodes;
use crate::nodes::registry::{Action, NewNode, TimedAction};
use crate::nodes::views::no_such_pool;
use crate::protocol::Candidate;
use crate::rpc::table::Method;
use crate::rpc::{Caller, Named, NoArguments, RpcError, Service, typed};
use crate::security::SignedDocument;

#[async_trait]
impl Service for Arc<Nodes> {
    async fn handle(
        &self,
        method: &'static Method,
        caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError> {
        match method.name {
            "record_results" => self.record_results(caller, args).await,
            "policy_publish" => {
                let Document { document } = typed(args)?;
                self.apply_policy(document).await.map(|()| Value::Null)
            }
            "node_passed" => self.passed(typed(args)?).await,
            "node_inventory" => self.inventory(typed(args)?).await,
            "policy_preview" => {
                let Previewed { candidate } = typed(args)?;
                Ok(json!(self.preview(candidate).await?))
            }
            "record_list" => self.record_list(typed(args)?).await,
            "node_create" => {
                let node: NewNode = typed(args)?;
                let name = node.name.clone();
                if self.register(&caller, vec![node]).await?.is_empty() {
                    return Err(RpcError::conflict(format!("there is a node named {name} already")));
                }
                self.node_show(&name).await
            }
            "node_import" => {
                let Import { nodes } = typed(args)?;
                let given = nodes.len();
                let fresh = self.register(&caller, nodes).await?;
                Ok(json!({ "registered": fresh.len(), "known": given - fresh.len() }))
            }
            "node_reconcile" => self.reconcile(&caller, typed(args)?).await,
            "node_in_nova" => self.in_nova(typed(args)?).await,
            "node_update" => self.retrait(&caller, typed(args)?).await,
            "node_delete" => self.delete(&caller, &typed::<Named<NodeName>>(args)?.name).await,
            "node_quarantine" => self.quarantine(&caller, typed::<Action>(args)?).await,
            "node_release" => self.release(&caller, typed::<Action>(args)?).await,
            "node_override" => self.grant_override(&caller, typed::<TimedAction>(args)?).await,
            "node_override_end" => self.end_override(&caller, &typed::<Named<NodeName>>(args)?.name).await,
            "node_maintenance" => self.maintain(&caller, typed::<TimedAction>(args)?).await,
            "node_list" => self.node_list(typed(args)?).await,
            "node_show" => self.node_show(&typed::<Named<NodeName>>(args)?.name).await,
            "node_why" => self.node_why(typed(args)?).await,
            "result_list" => self.result_list(typed(args)?).await,
            "pool_list" => {
                let _: NoArguments = typed(args)?;
                let world = self.world.lock().await;
                Ok(world.pools.keys().map(|pool| self.pool(&world, pool, false)).collect())
            }
            "pool_show" => {
                let Named::<PoolName> { name } = typed(args)?;
                let world = self.world.lock().await;
                if !world.pools.contains_key(&name) {
                    return Err(no_such_pool(&world, &name));
                }
                Ok(self.pool(&world, &name, true))
            }
            "pool_snapshot" => {
                let Nonce { nonce, known_epoch } = typed(args)?;
                if !(16..=64).contains(&nonce.len()) {
                    return Err(RpcError::bad_request("a nonce has 16 to 64 characters"));
                }
                self.heard_of(known_epoch.unwrap_or_default());
                let world = self.world.lock().await;
                Ok(json!({ "document": self.snapshot(&world, nonce)? }))
            }
            "pool_reset_epoch" => self.reset_epoch(&caller, typed(args)?).await,
            "policy_adopt" => self.adopt_policy(&caller, typed(args)?).await,
            "status" => {
                let _: NoArguments = typed(args)?;
                Ok(self.status(&*self.world.lock().await))
            }
            other => Err(RpcError::internal(format!("method {other} is in the table but not served"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    document: SignedDocument,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Previewed {
    candidate: Candidate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nonce {
    nonce: String,
    #[serde(default)]
    known_epoch: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    nodes: Vec<NewNode>,
}
