//! The machines of a story: one process of each role on each, its clock, its disk; and starting processes again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::provider::{Scripted, Truth};
use super::{Dice, Life, boottime, note};
use crate::app::leader::{self, Led, Start};
use crate::app::needs::Vitals;
use crate::bus::Bus;
use crate::bus::simulated::Broker;
use crate::clock::{Timestamp, VirtualClock};
use crate::names::DeploymentId;
use crate::protocol::NodeResult;
use crate::rpc::table::Topic;
use crate::rpc::{Identity, Kind, RpcClient, RpcError};
use crate::security::{SharedTrustStore, SigningKey, TrustStore, TrustedKey};
use crate::store::Database;
use crate::store::lease::Candidate;
use crate::telemetry::health::Health;
use crate::{adapter, checks, nodes, pool};

/// When every story begins.
pub(super) const BEGINNING: Timestamp = Timestamp(1_795_320_000_000);
/// How often Nodes says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    Checks,
    Nodes,
    Adapter,
    SecondAdapter,
    Pool,
    /// A second Nodes on the same database.
    Standby,
    /// A second Checks.
    SecondChecks,
    Admin,
}

impl Machine {
    pub(super) const ROLES: [Self; 7] =
        [Self::Checks, Self::Nodes, Self::Standby, Self::SecondChecks, Self::Adapter, Self::SecondAdapter, Self::Pool];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Nodes => "nodes",
            Self::Adapter => "adapter",
            Self::SecondAdapter => "adapter-2",
            Self::Pool => "pool",
            Self::Standby => "nodes-2",
            Self::SecondChecks => "checks-2",
            Self::Admin => "admin",
        }
    }

    /// Whose key it signs with.
    fn sender(self) -> &'static str {
        match self {
            Self::SecondAdapter => "adapter",
            Self::Standby => "nodes",
            Self::SecondChecks => "checks",
            other => other.name(),
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Checks | Self::SecondChecks => "checks",
            Self::Nodes | Self::Standby => "nodes",
            Self::Adapter | Self::SecondAdapter => "adapter:scripted",
            Self::Pool => "reader",
            Self::Admin => "admin",
        }
    }
}

/// Keys that are the same in every story: what is sorted by key id stays as it is.
fn keys() -> &'static BTreeMap<&'static str, SigningKey> {
    static KEYS: OnceLock<BTreeMap<&'static str, SigningKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = |number: u8| {
            let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
            der.extend([number; 32]);
            SigningKey::from_pem(pem::encode(&pem::Pem::new("PRIVATE KEY", der)).as_bytes()).unwrap()
        };
        let senders = ["checks", "nodes", "adapter", "pool", "admin"];
        senders.into_iter().zip(1..).map(|(sender, number)| (sender, key(number))).collect()
    })
}

fn trust() -> Arc<SharedTrustStore> {
    let machines = [Machine::Checks, Machine::Nodes, Machine::Adapter, Machine::Pool, Machine::Admin];
    SharedTrustStore::fixed(TrustStore::of(machines.map(|machine| {
        let key = &keys()[machine.sender()];
        TrustedKey {
            key_id: key.key_id(),
            sender: machine.sender().to_owned(),
            roles: [machine.role().parse().unwrap()].into_iter().collect(),
            public_key: *key.public_key(),
            revoked_since: None,
            not_before: None,
            not_after: None,
            comment: None,
        }
    })))
}

/// A running role; dropped with its process.
enum Running {
    Led(Led),
    Adapter(#[allow(dead_code)] adapter::service::Running),
    Pool(#[allow(dead_code)] pool::Running),
}

pub(super) struct Cluster {
    pub(super) broker: Arc<Broker>,
    pub(super) provider: Scripted,
    pub(super) folder: PathBuf,
    clocks: BTreeMap<Machine, Arc<VirtualClock>>,
    lives: BTreeMap<Machine, Life>,
    running: Arc<Mutex<BTreeMap<u64, Running>>>,
    trust: Arc<SharedTrustStore>,
    started: u64,
}

impl Cluster {
    pub(super) fn new(dice: Dice, folder: PathBuf) -> Self {
        let all = Machine::ROLES.into_iter().chain([Machine::Admin]);
        Self {
            broker: Broker::new(dice.clone()),
            provider: Scripted { truth: Arc::new(Mutex::new(Truth::default())), dice },
            folder,
            clocks: all.map(|machine| (machine, VirtualClock::starting_at(BEGINNING))).collect(),
            lives: BTreeMap::new(),
            running: Arc::default(),
            trust: trust(),
            started: 0,
        }
    }

    fn identity(&self, machine: Machine) -> Arc<Identity> {
        let deployment: DeploymentId = "sim".parse().unwrap();
        let key = keys()[machine.sender()].clone();
        Arc::new(Identity::new(deployment, machine.sender(), key, self.trust.clone(), self.clocks[&machine].clone()))
    }

    pub(super) fn life(&self, machine: Machine) -> Option<&Life> {
        self.lives.get(&machine)
    }

    pub(super) fn is_up(&self, machine: Machine) -> bool {
        self.lives.get(&machine).is_some_and(|life| !life.is_dead())
    }

    /// Steps a machine's time of day.
    pub(super) fn step_clock(&self, machine: Machine, ms: i64) {
        note(&format!("the clock of {} steps by {ms} ms", machine.name()));
        self.clocks[&machine].step(ms);
    }

    /// By how many ms the clock of a machine is wrong.
    pub(super) fn offset(&self, machine: Machine) -> i64 {
        self.now(machine).0 - BEGINNING.plus(boottime().unwrap_or_default()).0
    }

    pub(super) fn now(&self, machine: Machine) -> Timestamp {
        use crate::clock::Clock;
        self.clocks[&machine].now()
    }

    /// Sets all clocks to the true time.
    pub(super) fn set_clocks(&self) {
        for (machine, clock) in &self.clocks {
            use crate::clock::Clock;
            let off = BEGINNING.plus(boottime().unwrap_or_default()).0 - clock.now().0;
            if off != 0 {
                note(&format!("the clock of {} is set right", machine.name()));
                clock.step(off);
            }
        }
    }

    /// Starts the process of a machine. It may die in doing so.
    pub(super) fn start(&mut self, machine: Machine) {
        self.started += 1;
        note(&format!("{} starts", machine.name()));
        let life = Life::new(machine.name(), self.started);
        let bus = self.broker.join(&life);
        if let Some(before) = self.lives.insert(machine, life.clone()) {
            let remains = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&before.number());
            if let Some(Running::Led(led)) = remains {
                tokio::spawn(led.stop());
            }
        }
        let (identity, clock) = (self.identity(machine), self.clocks[&machine].clone());
        let (folder, provider, running) = (self.folder.clone(), self.provider.clone(), self.running.clone());
        let number = self.started;
        let server = machine.name().to_owned();
        let (holder, health) = (format!("{server}:{number}"), Health::default().role(machine.name()));
        tokio::spawn(async move {
            let started = match machine {
                Machine::Nodes | Machine::Standby => {
                    let database = open(&life, &folder, "nodes");
                    let start = nodes_under_lease(&bus, &identity, &database, &server);
                    Running::Led(lead("nodes", (&bus, database, clock), &holder, start).await)
                }
                Machine::Checks | Machine::SecondChecks => {
                    let database = open(&life, &folder, "checks");
                    let start = checks_under_lease(&bus, &identity, &database, &server);
                    Running::Led(lead("checks", (&bus, database, clock), &holder, start).await)
                }
                Machine::Adapter | Machine::SecondAdapter => {
                    let runner = adapter::service::wrap(Arc::new(provider), 4).unwrap();
                    let options = adapter::service::Options {
                        agents: bus.clone(),
                        bus,
                        identity,
                        clock,
                        runner,
                        batches: 4,
                        instance: server,
                        health,
                    };
                    Running::Adapter(adapter::service::start(options).await.unwrap())
                }
                Machine::Pool => {
                    let options = pool::Options {
                        bus,
                        identity,
                        clock,
                        folder: folder.join("run"),
                        memory: folder.join("pool-cache.json"),
                        coalesce: Duration::from_millis(20),
                        health,
                    };
                    Running::Pool(pool::start(options).await.unwrap())
                }
                Machine::Admin => unreachable!("people do not run as a service"),
            };
            running.lock().unwrap_or_else(PoisonError::into_inner).insert(number, started);
        });
    }

    /// Somebody who signs as `machine` does.
    pub(super) fn person(&self, machine: Machine) -> Person {
        Person(RpcClient::new(self.broker.join(&Life::default()), self.identity(machine)))
    }
}

/// Leads a role or stands by for it, as the service does.
async fn lead(
    role: &'static str,
    (bus, database, clock): (&Bus, Database, Arc<VirtualClock>),
    holder: &str,
    start: Start,
) -> Led {
    let vitals = Vitals::new(&Health::default(), role, bus, &database, CancellationToken::new());
    let candidate = Candidate::new(role, holder.to_owned(), database.clone(), clock);
    Led::begin(vitals, candidate, database, start).await.unwrap()
}

fn nodes_under_lease(bus: &Bus, identity: &Arc<Identity>, database: &Database, server: &str) -> Start {
    let (bus, identity, database, server) = (bus.clone(), identity.clone(), database.clone(), server.to_owned());
    Box::new(move |tenure, health| {
        let options = nodes::Options {
            notification_bus: bus.clone(),
            bus: bus.clone(),
            clock: identity.clock.clone(),
            identity: identity.clone(),
            database: database.clone(),
            tenure,
            server: server.clone(),
            publisher: None,
            heartbeat: HEARTBEAT,
            history: Duration::from_secs(3600),
            health,
        };
        Box::pin(async move { Ok(leader::Running::Nodes(nodes::start(options).await?)) })
    })
}

fn checks_under_lease(bus: &Bus, identity: &Arc<Identity>, database: &Database, server: &str) -> Start {
    let (bus, identity, database, server) = (bus.clone(), identity.clone(), database.clone(), server.to_owned());
    Box::new(move |tenure, health| {
        let options = checks::Options {
            bus: bus.clone(),
            clock: identity.clock.clone(),
            identity: identity.clone(),
            database: database.clone(),
            tenure,
            server: server.clone(),
            health,
        };
        Box::pin(async move { Ok(leader::Running::Checks(checks::start(options).await?)) })
    })
}

/// Somebody with a key.
#[derive(Clone)]
pub(super) struct Person(RpcClient);

impl Person {
    /// Asks until there is an answer: done, or refused.
    pub(super) async fn insist(&self, topic: Topic, method: &str, args: Value) -> bool {
        self.ask(topic, method, args).await.is_ok()
    }

    /// Has a change of definitions shown, and confirms what was shown.
    pub(super) async fn confirm(&self, method: &str, args: Value) -> bool {
        loop {
            let mut shown = args.clone();
            shown["dry_run"] = json!(true);
            let Ok(shown) = self.ask(Topic::Checks, method, shown).await else { return false };
            let mut confirmed = args.clone();
            if shown["confirm"].is_string() {
                confirmed["confirm"] = shown["confirm"].clone();
            }
            match self.ask(Topic::Checks, method, confirmed).await {
                Ok(_) => return true,
                // Others were quicker, or more would be raised by now.
                Err(RpcError { kind: Kind::Conflict, .. }) => {}
                Err(_) => return false,
            }
        }
    }

    async fn ask(&self, topic: Topic, method: &str, args: Value) -> Result<Value, RpcError> {
        loop {
            let args: Map<String, Value> = args.as_object().cloned().unwrap_or_default();
            let answer = self.0.call_within(topic, method, args, Duration::from_secs(5)).await;
            let said = answer.as_ref().err().map_or("done".to_owned(), |error| format!("{:?}", error.kind));
            note(&format!("admin: {method}: {said}"));
            match answer {
                Err(RpcError { kind: Kind::Unavailable | Kind::Unauthorized | Kind::Internal, .. }) => {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Reports results under a ticket.
    pub(super) async fn report(&self, ticket: &Value, results: &[NodeResult]) {
        let args = Map::from_iter([("ticket".to_owned(), ticket.clone()), ("results".to_owned(), json!(results))]);
        let _ = self.0.work(Topic::Results, None, "record_results", args, None).await;
    }
}

pub(super) fn open(life: &Life, folder: &std::path::Path, role: &'static str) -> Database {
    let connection = format!("sqlite://{}/{role}.sqlite", folder.display());
    // It waits for nothing but the database, so it is over when it has been polled once.
    let opened = life.enter(|| super::block_on(Database::open(&connection, role)));
    opened.unwrap()
}
