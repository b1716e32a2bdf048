//! An administrator and an adapter whose verifier answers at once, for real roles *checks*, *nodes* and *pool*.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use spice::adapter::{CheckRequest, Provider, ProviderError, Results, service};
use spice::bus::{Bus, BusOptions};
use spice::clock::{Clock, SystemClock};
use spice::names::{AdapterName, DeploymentId};
use spice::protocol::{NodeResult, Status};
use spice::rpc::table::Topic;
use spice::rpc::{Identity, RpcClient};
use spice::security::{SharedTrustStore, SigningKey, bootstrap};
use spice::telemetry::health::Health;

use crate::Peer;

/// How long a role may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches under way at a time.
const BATCHES: u16 = 8;

/// A verifier that has known the answer all along.
#[derive(Default)]
struct Verifier {
    asked: AtomicU64,
}

#[async_trait]
impl Provider for Verifier {
    fn name(&self) -> AdapterName {
        #[allow(clippy::expect_used)] // a literal
        "bench".parse().expect("a name")
    }

    fn parameter_schema(&self) -> Value {
        json!({ "type": "object", "additionalProperties": false })
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        for node in &request.nodes {
            let now = request.now();
            let result = NodeResult {
                node: node.clone(),
                status: Status::Pass,
                reason: "kernel and modules are those of the reference".to_owned(),
                requested_at: now,
                finished_at: now,
                verified_at: None,
                boot: None,
                self_reported: false,
            };
            if results.send(result).await.is_err() {
                break;
            }
        }
        self.asked.fetch_add(request.nodes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// See the module.
pub struct Operator {
    admin: RpcClient,
    verifier: Arc<Verifier>,
    _adapter: service::Running,
}

impl Operator {
    /// Makes the keys in the state directory and offers the adapter; the roles can be started then.
    pub async fn start(url: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [state] = arguments else { bail!("engine takes a state directory") };
        let state = PathBuf::from(state);
        let deployment: DeploymentId = "bench".parse()?;
        let verifier = Arc::new(Verifier::default());
        bootstrap::create_keys(&state, &deployment, &[verifier.name()])?;
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let trust = SharedTrustStore::open(&state.join("trust"))?;
        let identity = |name: &str| -> anyhow::Result<Arc<Identity>> {
            let key = SigningKey::load(&state.join("keys").join(format!("{name}.pem")))?;
            Ok(Arc::new(Identity::new(deployment.clone(), name, key, Arc::clone(&trust), Arc::clone(&clock))))
        };
        let bus = Bus::start(BusOptions::new(url), "bench-operator")?;
        let runner = service::wrap(Arc::clone(&verifier) as Arc<dyn Provider>, BATCHES).map_err(anyhow::Error::msg)?;
        let adapter = service::start(service::Options {
            bus: bus.clone(),
            agents: bus.clone(),
            identity: identity("adapter-bench")?,
            clock: Arc::clone(&clock),
            runner,
            batches: BATCHES,
            instance: "bench".to_owned(),
            health: Health::default().role("adapter"),
        })
        .await?;
        Ok(Self { admin: RpcClient::new(bus, identity("admin")?), verifier, _adapter: adapter })
    }

    async fn register(&self, count: u64) -> anyhow::Result<Value> {
        let names: Vec<Value> =
            (0..count).map(|number| json!({ "name": format!("compute-{number:06}.region1.example.org") })).collect();
        for part in names.chunks(1000) {
            let args = Map::from_iter([("nodes".to_owned(), Value::Array(part.to_vec()))]);
            self.admin.call_within(Topic::Nodes, "node_import", args, PATIENCE).await?;
        }
        Ok(json!({ "nodes": count }))
    }

    /// Calls a method as an administrator; what went wrong is an answer, too.
    async fn call(&self, command: &Value) -> anyhow::Result<Value> {
        let topic = match command["topic"].as_str() {
            Some("checks") => Topic::Checks,
            Some("nodes") => Topic::Nodes,
            other => bail!("not a topic: {other:?}"),
        };
        let method = command["method"].as_str().context("no method")?;
        let args = command["args"].as_object().cloned().unwrap_or_default();
        let limit = Duration::from_millis(command["limit_ms"].as_u64().unwrap_or(60_000));
        Ok(match self.admin.call_within(topic, method, args, limit).await {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "error": error.to_string() }),
        })
    }
}

#[async_trait]
impl Peer for Operator {
    async fn obey(&mut self, command: Value) -> anyhow::Result<Value> {
        match command["do"].as_str() {
            Some("register") => self.register(command["nodes"].as_u64().unwrap_or(0)).await,
            Some("call") => self.call(&command).await,
            Some("asked") => Ok(json!({ "asked": self.verifier.asked.load(Ordering::Relaxed) })),
            _ => bail!("not a command: {command}"),
        }
    }
}
