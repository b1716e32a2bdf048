//! A cloud's worth of results: plays Checks and an adapter to a real role *nodes*, which takes them for what they are.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use spice::bus::{Bus, BusOptions};
use spice::clock::{Clock, SystemClock, Timestamp};
use spice::names::{AdapterName, DeploymentId, NodeName};
use spice::protocol::policy::{CheckPolicy, Flapping, Judgement, Mode, Policy, PoolPolicy, Requirement, Targets};
use spice::protocol::{NodeResult, RunOrder, Status, Ticket};
use spice::rpc::server::Serving;
use spice::rpc::table::Topic;
use spice::rpc::{Caller, Identity, Method, RpcClient, RpcError, Secured, Service};
use spice::security::{SharedTrustStore, SignedDocument, SigningKey, bootstrap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Peer;

mod latency;

/// Nodes of one batch, the most there may be.
const BATCH: usize = 200;
/// How long a result counts.
const TTL_MS: i64 = 3_600_000;
/// How long the role may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays Checks: gives out the policy, and notes which batches are stored.
struct Checks {
    policy: Value,
    under_way: Mutex<HashMap<(String, i64), OwnedSemaphorePermit>>,
    stored: AtomicU64,
}

#[async_trait]
impl Service for Checks {
    async fn handle(&self, method: &'static Method, _: Caller, args: Map<String, Value>) -> Result<Value, RpcError> {
        match method.name {
            "policy_get" => return Ok(json!({ "document": self.policy })),
            "results_stored" => {
                let outcomes = args.get("outcomes").and_then(Value::as_object).map_or(0, Map::len);
                self.stored.fetch_add(outcomes as u64, Ordering::Relaxed);
                let batch = args.get("run").and_then(Value::as_str).zip(args.get("batch").and_then(Value::as_i64));
                if let Some((run, batch)) = batch {
                    self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&(run.to_owned(), batch));
                }
            }
            _ => {}
        }
        Ok(Value::Null)
    }
}

/// Makes batches of results and hands them over, as an adapter with tickets of Checks.
struct Maker {
    deployment: DeploymentId,
    clock: Arc<dyn Clock>,
    checks_key: SigningKey,
    adapter: RpcClient,
    nodes: Vec<NodeName>,
    epoch: i64,
    runs: AtomicI64,
}

/// See the module.
pub struct Cloud {
    maker: Arc<Maker>,
    checks: Arc<Checks>,
    admin: RpcClient,
    background: Option<latency::Background>,
    _serving: Vec<Serving>,
}

impl Maker {
    /// The place of a run that begins now.
    fn next_run(&self) -> RunOrder {
        RunOrder { epoch: self.epoch, run: self.runs.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Hands over a ticket and its results, all passes but that of the node number `failing`.
    async fn hand_over(&self, order: RunOrder, batch: i64, nodes: &[NodeName], failing: usize) -> anyhow::Result<()> {
        let args = self.batch(order, batch, nodes, failing)?;
        Ok(self.adapter.work(Topic::Results, None, "record_results", args, None).await?)
    }

    fn batch(
        &self,
        order: RunOrder,
        batch: i64,
        nodes: &[NodeName],
        failing: usize,
    ) -> anyhow::Result<Map<String, Value>> {
        let now = self.clock.now();
        let ticket = Ticket {
            deployment: self.deployment.clone(),
            order,
            batch,
            attempt: 1,
            check: "bench".parse()?,
            check_id: "1".to_owned(),
            revision: 1,
            adapter: "command".parse()?,
            nodes: nodes.to_vec(),
            issued_at: now,
            deadline: now.plus(PATIENCE),
        };
        let results: Vec<NodeResult> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| NodeResult {
                node: node.clone(),
                status: if index == failing { Status::Fail } else { Status::Pass },
                reason: "kernel and modules are those of the reference".to_owned(),
                requested_at: now,
                finished_at: now,
                verified_at: None,
                boot: None,
                self_reported: false,
            })
            .collect();
        let ticket = SignedDocument::seal(&ticket, &self.checks_key)?;
        Ok(Map::from_iter([("ticket".to_owned(), json!(ticket)), ("results".to_owned(), json!(results))]))
    }
}

impl Cloud {
    /// Makes the keys in the state directory and plays Checks; the role can be started then.
    pub async fn start(url: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let [state, count] = arguments else { bail!("results takes a state directory and a number of nodes") };
        let state = PathBuf::from(state);
        let deployment: DeploymentId = "bench".parse()?;
        let adapter: AdapterName = "command".parse()?;
        bootstrap::create_keys(&state, &deployment, std::slice::from_ref(&adapter))?;
        let clock = SystemClock::shared();
        let trust = SharedTrustStore::open(&state.join("trust"))?;
        let key = |name: &str| SigningKey::load(&key_path(&state, name));
        let identity = |name: &str| -> anyhow::Result<Arc<Identity>> {
            let identity = Identity::new(deployment.clone(), name, key(name)?, Arc::clone(&trust), Arc::clone(&clock));
            Ok(Arc::new(identity))
        };
        let epoch = clock.now().0;
        let policy = SignedDocument::seal(&policy(&deployment, &adapter, epoch)?, &key("checks")?)?;
        let checks = Arc::new(Checks { policy: json!(policy), under_way: Mutex::default(), stored: AtomicU64::new(0) });
        let bus = Bus::start(BusOptions::new(url), "bench-cloud")?;
        let serving = vec![
            Secured::serve_rpc(&bus, Topic::Checks, "bench", identity("checks")?, Arc::clone(&checks) as _).await?,
            Secured::serve_work(&bus, Topic::Events, None, 16, identity("checks")?, Arc::clone(&checks) as _).await?,
        ];
        let names =
            (0..count.parse::<usize>()?).map(|number| format!("compute-{number:06}.region1.example.org").parse());
        let maker = Maker {
            nodes: names.collect::<Result<_, _>>()?,
            checks_key: key("checks")?,
            adapter: RpcClient::new(bus.clone(), identity("adapter-command")?),
            deployment: deployment.clone(),
            clock: Arc::clone(&clock),
            epoch,
            runs: AtomicI64::new(0),
        };
        let admin = RpcClient::new(bus, identity("admin")?);
        Ok(Self { maker: Arc::new(maker), checks, admin, background: None, _serving: serving })
    }

    /// Registers all nodes.
    async fn register(&self) -> anyhow::Result<Value> {
        for part in self.maker.nodes.chunks(1000) {
            let nodes: Vec<Value> = part.iter().map(|name| json!({ "name": name })).collect();
            let args = Map::from_iter([("nodes".to_owned(), Value::Array(nodes))]);
            self.admin.call_within(Topic::Nodes, "node_import", args, PATIENCE).await?;
        }
        Ok(json!({ "nodes": self.maker.nodes.len() }))
    }

    /// One run over all nodes; at most `window` batches are sent and not yet known to be stored. Ends early when told to.
    async fn run_once(&self, window: &Arc<Semaphore>, enough: &AtomicBool) -> anyhow::Result<()> {
        let order = self.maker.next_run();
        // One node in 200 fails, another one in every run, and the one of the last run recovers: 1 % of the results change
        // trust.
        let failing = usize::try_from(order.run)? % BATCH;
        for (index, nodes) in self.maker.nodes.chunks(BATCH).enumerate() {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            let permit = tokio::time::timeout(PATIENCE, Arc::clone(window).acquire_owned())
                .await
                .context("batches were sent, but nobody says that they are stored")??;
            let batch = index as i64 + 1;
            let under_way = (order.to_string(), batch);
            self.checks.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(under_way, permit);
            self.maker.hand_over(order, batch, nodes, failing).await?;
        }
        Ok(())
    }

    /// Runs for a time, then until everything sent is stored.
    async fn load(&self, limit: Duration, batches: u32) -> anyhow::Result<Value> {
        let window = Arc::new(Semaphore::new(batches as usize));
        let enough = Arc::new(AtomicBool::new(false));
        let before = self.checks.stored.load(Ordering::Relaxed);
        let begun = Instant::now();
        let seconds = {
            let (checks, enough) = (Arc::clone(&self.checks), Arc::clone(&enough));
            tokio::spawn(async move {
                let (mut seconds, mut last) = (Vec::new(), before);
                while begun.elapsed() < limit {
                    tokio::time::sleep(Duration::from_secs(1).min(limit.saturating_sub(begun.elapsed()))).await;
                    let now = checks.stored.load(Ordering::Relaxed);
                    seconds.push(now - last);
                    last = now;
                }
                enough.store(true, Ordering::Relaxed);
                (seconds, last - before, begun.elapsed().as_secs_f64())
            })
        };
        while !enough.load(Ordering::Relaxed) {
            self.run_once(&window, &enough).await?;
        }
        let (seconds, stored, took) = seconds.await?;
        tokio::time::timeout(PATIENCE, window.acquire_many(batches))
            .await
            .context("not all was stored in time")??
            .forget();
        let drained = begun.elapsed().as_secs_f64() - took;
        Ok(
            json!({ "stored": stored, "seconds": took, "each_second": seconds, "drain_seconds": drained, "runs": self.maker.runs.load(Ordering::Relaxed) }),
        )
    }
}

fn key_path(state: &Path, name: &str) -> PathBuf {
    state.join("keys").join(format!("{name}.pem"))
}

/// One check that the only pool requires of every node. Failures are forgiven by the next pass.
fn policy(deployment: &DeploymentId, adapter: &AdapterName, epoch: i64) -> anyhow::Result<Policy> {
    let check = CheckPolicy {
        name: "bench".parse()?,
        id: "1".to_owned(),
        revision: 1,
        adapter: adapter.clone(),
        enabled: true,
        targets: Targets { all: true, ..Targets::default() },
        ttl_ms: TTL_MS,
        judgement: Judgement { fail_after: 1, recover_after: 1, hold_down_ms: 0 },
        pools: BTreeMap::from([("default".parse()?, Requirement::Required)]),
    };
    let pool = PoolPolicy {
        name: "default".parse()?,
        mode: Mode::Enforce,
        max_silence_ms: 600_000,
        accept_self_report: false,
        flapping: Flapping::default(),
    };
    Ok(Policy {
        deployment: deployment.clone(),
        epoch,
        number: 1,
        issued_at: Timestamp(epoch),
        checks: vec![check],
        pools: vec![pool],
    })
}

#[async_trait]
impl Peer for Cloud {
    async fn obey(&mut self, command: Value) -> anyhow::Result<Value> {
        let number = |name: &str, usual: u64| command[name].as_u64().unwrap_or(usual);
        match command["do"].as_str() {
            Some("register") => self.register().await,
            Some("load") => {
                let batches = u32::try_from(number("batches", 32))?;
                self.load(Duration::from_secs(number("seconds", 60)), batches).await
            }
            Some("background") => Ok(self.begin_background(number("rate", 1000))),
            Some("rest") => self.end_background().await,
            Some("fail") => self.fail(number("node", 0)).await,
            _ => bail!("not a command: {command}"),
        }
    }
}
