//! What chaos is played with: a cloud behind a proxy, a provider whose every result has a number, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use spice::adapter::{CheckRequest, Provider, ProviderError, Results, service};
use spice::bus::Bus;
use spice::clock::SystemClock;
use spice::names::AdapterName;
use spice::protocol::{NodeResult, Status};
use spice::rpc::table::Topic;
use spice::security::bootstrap;
use sqlx::Row;
use tokio::sync::Mutex;

use crate::cloud::{Cloud, deployment, pool_file};
use crate::lab::{Lab, OwnBroker};
use crate::lab_mariadb::Fresh;
use crate::proxy::Proxy;

const GOOD_NODES: usize = 40;
const BAD_NODES: usize = 5;
const TURNED: &str = "turned-1";

/// What happens to the broker, on the way to it, or to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Kill,
    Cut,
    Freeze,
    BlockUp,
    BlockDown,
    Mute,
    /// SIGKILL, and started again.
    Role(&'static str),
}

impl Trouble {
    /// For the table.
    pub fn what(self) -> &'static str {
        match self {
            Self::Kill => "broker killed",
            Self::Cut => "connections cut",
            Self::Freeze => "nothing passes",
            Self::BlockUp => "nothing passes to the broker",
            Self::BlockDown => "nothing comes from the broker",
            Self::Mute => "cut, then accepted and not answered",
            Self::Role("nodes") => "nodes killed",
            Self::Role("checks") => "checks killed",
            Self::Role(_) => "pool killed",
        }
    }
}

/// Judges nodes at once: `bad-*` fail, [`TURNED`] fails while it is told to, all others pass. Each result has a number of its own.
#[derive(Default)]
pub struct Producer {
    next: AtomicU64,
    turned: AtomicBool,
    pub sent: Mutex<BTreeSet<u64>>,
}

#[async_trait::async_trait]
impl Provider for Producer {
    fn name(&self) -> AdapterName {
        AdapterName::new("chaos").unwrap()
    }

    fn parameter_schema(&self) -> Value {
        json!({ "type": "object" })
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        for node in &request.nodes {
            let fails =
                node.as_str().starts_with("bad-") || (node.as_str() == TURNED && self.turned.load(Ordering::SeqCst));
            let serial = self.next.fetch_add(1, Ordering::SeqCst);
            let result = NodeResult {
                node: node.clone(),
                status: if fails { Status::Fail } else { Status::Pass },
                reason: format!("serial {serial}"),
                requested_at: request.now(),
                finished_at: request.now(),
                verified_at: None,
                boot: None,
                self_reported: false,
            };
            // Not before the deadline means: not handed over.
            if results.send(result).await.is_err() || request.time_left().is_zero() {
                break;
            }
            self.sent.lock().await.insert(serial);
        }
        Ok(())
    }
}

/// What Nodes has in its database.
#[derive(Default)]
pub struct Stored {
    last_id: i64,
    /// How often each number is stored.
    pub serials: BTreeMap<u64, u32>,
    /// How often an outcome of a node in a run counted.
    counted: BTreeMap<(String, String, String), u32>,
}

impl Stored {
    /// Reads what is new.
    pub async fn read(&mut self, nodes: &sqlx::AnyPool) {
        let rows = sqlx::query("SELECT id, body FROM nodes_result WHERE id > ? ORDER BY id").bind(self.last_id);
        for row in rows.fetch_all(nodes).await.unwrap() {
            self.last_id = row.get(0);
            let body: Value = serde_json::from_str(&row.get::<String, _>(1)).unwrap();
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            if let Some(serial) = text("reason").strip_prefix("serial ") {
                *self.serials.entry(serial.parse().unwrap()).or_default() += 1;
            }
            if body["counted"] == true {
                *self.counted.entry((text("check"), text("run"), text("node"))).or_default() += 1;
            }
        }
    }

    /// How many of those sent are not there.
    pub fn missing(&self, sent: &BTreeSet<u64>) -> usize {
        sent.iter().filter(|serial| !self.serials.contains_key(serial)).count()
    }

    /// How many outcomes counted more than once.
    pub fn doubled(&self) -> usize {
        self.counted.values().filter(|times| **times > 1).count()
    }
}

/// Beside the role: on its file, or on the server they share.
async fn database(cloud: &Cloud, role: &str, server: Option<&Fresh>) -> sqlx::AnyPool {
    sqlx::any::install_default_drivers();
    let connection = match server {
        Some(server) => server.connection.replacen("mysql+pymysql", "mysql", 1),
        None => format!("sqlite://{}?mode=ro", cloud.state().join(format!("spice-{role}.sqlite")).display()),
    };
    sqlx::AnyPool::connect(&connection).await.unwrap()
}

/// Runs as Checks has stored them: when each began, how many nodes it has, how many outcomes, and whether it is finished.
pub async fn runs(checks: &sqlx::AnyPool) -> Vec<(i64, i64, i64, bool)> {
    let rows = sqlx::query("SELECT body FROM checks_run").fetch_all(checks).await.unwrap();
    let read = |row: &sqlx::any::AnyRow| {
        let body: Value = serde_json::from_str(&row.get::<String, _>(0)).unwrap();
        let outcomes = body["outcomes"].as_object().map(|all| all.values().filter_map(Value::as_i64).sum());
        let number = |name: &str| body[name].as_i64().unwrap_or_default();
        (number("started_at"), number("total"), outcomes.unwrap_or_default(), !body["finished_at"].is_null())
    };
    rows.iter().map(read).collect()
}

/// Reads the pool file all the time, as the filter does, and counts what it should never say.
pub struct Guard {
    pub violations: Arc<AtomicU64>,
    distrusted: Arc<AtomicBool>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Guard {
    fn over(file: &Path) -> Self {
        let (violations, distrusted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, turned, file) = (Arc::clone(&violations), Arc::clone(&distrusted), file.to_owned());
        let task = tokio::spawn(async move {
            loop {
                for (node, (level, _)) in pool_file(&file) {
                    let never = node.starts_with("bad-") || (node == TURNED && turned.load(Ordering::SeqCst));
                    if never && matches!(level, 't' | 'o') {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { violations, distrusted, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }
}

/// See the module.
pub struct Chaos {
    broker: OwnBroker,
    proxy: Proxy,
    cloud: Cloud,
    pub producer: Arc<Producer>,
    pub guard: Guard,
    pub nodes: sqlx::AnyPool,
    pub checks: sqlx::AnyPool,
    pub stored: Stored,
    pub adapter: service::Running,
}

impl Chaos {
    /// Starts everything, and waits until results come and one node is distrusted. `server`: in place of a file for each role.
    pub async fn begin(server: Option<&Fresh>) -> Self {
        let broker = OwnBroker::start().await;
        let lab = broker.lab().await;
        let proxy = Proxy::before(lab.ports.amqp).await;
        let url = proxy.transport_url(&lab);
        let options = proxy.options(&lab, 2);
        let stored = server.map(Fresh::configuration).unwrap_or_default();
        let short = format!("[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2\n{stored}");
        let mut cloud = Cloud::prepare_on(lab, &url, &short);
        bootstrap::create_keys(&cloud.state(), &deployment(), &[AdapterName::new("chaos").unwrap()]).unwrap();
        for role in ["nodes", "checks", "pool"] {
            cloud.start(role, &["--role", role]).await;
        }
        let producer = Arc::new(Producer::default());
        let runner = service::wrap(Arc::clone(&producer) as Arc<dyn Provider>, 4).unwrap();
        let bus = Bus::start(options, "adapter").unwrap();
        let adapter = service::start(service::Options {
            health: spice::telemetry::health::Health::default().role("adapter"),
            agents: bus.clone(),
            bus,
            identity: cloud.identity("adapter-chaos"),
            clock: SystemClock::shared(),
            runner,
            batches: 4,
            instance: "chaos".to_owned(),
        })
        .await
        .unwrap();
        let names = (1..=GOOD_NODES).map(|n| format!("node-{n}")).chain((1..=BAD_NODES).map(|n| format!("bad-{n}")));
        let nodes: Vec<Value> = names.chain([TURNED.to_owned()]).map(|name| json!({ "name": name })).collect();
        cloud.admin(Topic::Nodes, "node_import", json!({ "nodes": nodes })).await;
        let guard = Guard::over(&cloud.dir.path().join("run/pool"));
        cloud.await_adapter("chaos").await;
        for name in ["one", "two"] {
            let check = json!({
                "name": name, "adapter": "chaos", "schedule": { "every": "1s" }, "timeout_s": 2, "ttl_s": 3600, "batch_size": 10,
            });
            cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
        }
        cloud.await_in_file("node-1", 't').await;
        cloud.await_in_file(TURNED, 't').await;
        cloud.await_in_file("bad-1", 'u').await;
        // From here on it is distrusted, although it passes again: its hold-down is longer than any test.
        producer.turned.store(true, Ordering::SeqCst);
        cloud.await_in_file(TURNED, 'u').await;
        producer.turned.store(false, Ordering::SeqCst);
        guard.distrusted.store(true, Ordering::SeqCst);
        let (nodes, checks) = (database(&cloud, "nodes", server).await, database(&cloud, "checks", server).await);
        Self { broker, proxy, cloud, producer, guard, nodes, checks, stored: Stored::default(), adapter }
    }

    /// Makes trouble for a while; returns when the broker can be used again, or the role serves again.
    pub async fn make(&mut self, trouble: Trouble, lasting: Duration) {
        match trouble {
            Trouble::Kill => {
                self.broker.kill().await;
                tokio::time::sleep(lasting).await;
                // Ready for the script is later than ready for us.
                let ready = until_accepting(&self.cloud.lab);
                tokio::pin!(ready);
                let restarting = self.broker.restart();
                tokio::pin!(restarting);
                tokio::select! {
                    () = &mut ready => {}
                    () = &mut restarting => ready.await,
                }
                return;
            }
            Trouble::Role(role) => {
                self.cloud.kill(role).await;
                tokio::time::sleep(lasting).await;
                self.cloud.start(role, &["--role", role]).await;
                return;
            }
            Trouble::Cut => self.proxy.cut(),
            Trouble::Freeze => self.proxy.freeze(),
            Trouble::BlockUp => self.proxy.block_up(),
            Trouble::BlockDown => self.proxy.block_down(),
            Trouble::Mute => {
                self.proxy.mute();
                self.proxy.cut();
            }
        }
        tokio::time::sleep(lasting).await;
        self.proxy.heal();
    }
}

/// Returns when the broker answers a handshake.
async fn until_accepting(lab: &Lab) {
    let uri = format!("amqp://guest:guest@127.0.0.1:{}/{}", lab.ports.amqp, lab.vhost);
    loop {
        let connecting = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default());
        if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(2), connecting).await {
            let _ = connection.close(200, "OK".into()).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
