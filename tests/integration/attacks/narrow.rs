//! Accounts with the rights that tools/rabbitmq-permissions gives: enough for the work of their role, and for no other's.

use std::collections::BTreeMap;
use std::sync::Arc;

use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use spice::bus::{
    Bus, BusOptions, Delivery, Dispatcher, Disposition, Incoming, Listen, Reply, Request, Service, Target,
};
use spice::rpc::RpcClient;
use spice::rpc::table::Topic;
use tokio::process::Command;

use super::*;
use crate::cloud::object;
use crate::lab::root;

/// The accounts of a deployment, made by the tool.
struct Accounts {
    id: String,
    amqp: u16,
    vhost: String,
    passwords: BTreeMap<String, String>,
}

impl Accounts {
    async fn make(cloud: &Cloud) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let passwords = cloud.dir.path().join("passwords");
        let mut accounts =
            Self { id, amqp: cloud.lab.ports.amqp, vhost: cloud.lab.vhost.clone(), passwords: BTreeMap::new() };
        let done = accounts.tool(cloud, "--apply").await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for line in std::fs::read_to_string(passwords).unwrap().lines() {
            let (account, password) = line.split_once(' ').unwrap();
            accounts.passwords.insert(account.to_owned(), password.to_owned());
        }
        accounts
    }

    async fn tool(&self, cloud: &Cloud, what: &str) -> std::process::Output {
        let mut command = Command::new(crate::lab::python().await);
        command.arg(root().join("tools/rabbitmq-permissions")).arg(what);
        command.args(["--api", &format!("http://127.0.0.1:{}", cloud.lab.ports.http), "--vhost", &self.vhost]);
        command.args(["--agents-vhost", &self.agents_vhost(), "--known", "guest"]);
        command.arg("--passwords").arg(cloud.dir.path().join("passwords"));
        command.env("SPICE_RABBITMQ_USER", "guest").env("SPICE_RABBITMQ_PASSWORD", "guest");
        for (name, roles) in [
            ("nodes", "nodes"),
            ("checks", "checks"),
            ("adapter", "adapter:openattestation,adapter:command"),
            ("pool", "pool"),
            ("admin", "admin"),
            ("node-1", "agent:node-1"),
            ("node-2", "agent:node-2"),
        ] {
            command.arg(format!("--user={}={roles}", self.account(name)));
        }
        command.output().await.unwrap()
    }

    fn account(&self, name: &str) -> String {
        format!("{name}-{}", self.id)
    }

    fn agents_vhost(&self) -> String {
        format!("{}-agents", self.vhost)
    }

    /// A transport URL.
    fn url(&self, name: &str, vhost: &str) -> String {
        let account = self.account(name);
        format!("rabbit://{account}:{}@127.0.0.1:{}/{vhost}", self.passwords[&account], self.amqp)
    }

    async fn channel(&self, name: &str) -> Channel {
        let url = self.url(name, &self.vhost).replace("rabbit://", "amqp://");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(Default::default()).await.unwrap();
        channel
    }

    /// Removes the accounts, which are the whole broker's.
    async fn remove(self, cloud: &Cloud) {
        for account in self.passwords.keys() {
            cloud.lab.manage("DELETE", &format!("users/{account}"), None).await;
        }
        cloud.lab.manage("DELETE", &format!("vhosts/{}", self.agents_vhost()), None).await;
    }
}

/// What somebody tries with a channel.
enum Try {
    Consume(&'static str),
    Publish(&'static str, &'static str),
    Declare(&'static str),
    Delete(&'static str),
    Bind(&'static str, &'static str, &'static str),
}
use Try::{Bind, Consume, Declare, Delete, Publish};

impl Try {
    async fn with(&self, channel: &Channel) -> Result<(), lapin::Error> {
        let none = FieldTable::default;
        match *self {
            Consume(queue) => {
                let options = BasicConsumeOptions::default();
                channel.basic_consume(queue.into(), "x".into(), options, none()).await.map(drop)
            }
            Publish(exchange, key) => {
                let sent =
                    channel.basic_publish(exchange.into(), key.into(), Default::default(), b"x", Default::default());
                sent.await?.await.map(drop)
            }
            Declare(queue) => {
                channel.queue_declare(queue.into(), QueueDeclareOptions::default(), none()).await.map(drop)
            }
            Delete(queue) => channel.queue_delete(queue.into(), Default::default()).await.map(drop),
            Bind(queue, exchange, key) => {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none()).await
            }
        }
    }
}

const RESULTS: &str = "spice-nodes-results";
const WORK: &str = "spice-adapter-openattestation";

/// What an account may not do: what other roles own.
fn forbidden() -> Vec<(&'static str, Vec<Try>)> {
    let everybody_but_servers = || {
        vec![
            Publish("", RESULTS),
            Publish("spice-pool_fanout", ""),
            Publish("amq.topic", "x"),
            Declare("mine"),
            Declare("spice-adapter-mine"),
            Delete("spice-nodes"),
            Consume(RESULTS),
            Consume("spice-nodes"),
            Consume("spice-checks"),
            Consume("spice-checks-events"),
            Bind(WORK, "spice", "#"),
        ]
    };
    let mut table = vec![
        ("pool", everybody_but_servers()),
        ("admin", everybody_but_servers()),
        ("adapter", everybody_but_servers()),
        (
            "checks",
            vec![
                Consume(RESULTS),
                Consume("spice-nodes"),
                Consume(WORK),
                Publish("spice-pool_fanout", ""),
                Publish("spice", "spice-checks"),
                Publish("spice_work", "spice-checks-events"),
                Bind("spice-checks", "spice", "spice-nodes"),
                Bind("spice-checks", "spice", "#"),
                Delete("spice-nodes"),
                Delete(WORK),
            ],
        ),
        (
            "nodes",
            vec![
                Consume("spice-checks"),
                Consume("spice-checks-events"),
                Consume(WORK),
                Publish("spice_work", WORK),
                Publish("spice", "spice-nodes"),
                Bind("spice-nodes", "spice", "spice-checks"),
                Bind(RESULTS, "spice_work", "#"),
                Delete(WORK),
            ],
        ),
    ];
    table[0].1.extend([
        Publish("spice", "spice-checks"),
        Publish("spice_work", RESULTS),
        Consume(WORK),
        Delete(RESULTS),
        Consume("spice_work.dead"),
    ]);
    table[1].1.extend([Publish("spice", "notifications.info"), Publish("spice_work", WORK), Consume(WORK)]);
    table[2].1.extend([Publish("spice", "spice-nodes"), Publish("spice_work", WORK), Bind(WORK, "spice_work", "#")]);
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_works_with_its_own_account_and_none_with_anothers() {
    let mut cloud = Cloud::before_any_start("[notifications]\nresults = all\n").await;
    let accounts = Accounts::make(&cloud).await;
    let mut ceilometer = cloud.lab.peer(&[]).await;
    ceilometer.succeed(json!({ "do": "listen", "exchange": "spice", "topics": ["notifications"] })).await;
    for role in ["nodes", "checks", "adapter", "pool"] {
        cloud.start_as(role, &["--role", role], &accounts.url(role, &accounts.vhost)).await;
    }
    let bus = Bus::start(BusOptions::new(accounts.url("admin", &accounts.vhost)), "administrator").unwrap();
    let admin = RpcClient::new(bus.clone(), cloud.identity("admin"));
    let nodes = json!({ "nodes": [{ "name": "node-1" }, { "name": "node-2" }] });
    admin.call(Topic::Nodes, "node_import", object(nodes)).await.unwrap();
    cloud.oat.order(json!({ "level": { "node-1": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-1", 'u').await;
    cloud.await_in_file("node-2", 't').await;
    let begun = admin.call(Topic::Checks, "check_run", object(json!({ "name": "attestation" }))).await.unwrap();
    eventually("the run is finished", async || cloud.run(&begun["run"]).await["finished"] == true).await;
    let listed = Command::new(env!("CARGO_BIN_EXE_spicectl"))
        .arg("--config-file")
        .arg(cloud.dir.path().join("spice.conf"))
        .args(["node", "why", "node-1"])
        .env("OS_DEFAULT__TRANSPORT_URL", accounts.url("admin", &accounts.vhost))
        .output()
        .await
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let told = ceilometer.event().await;
    assert!(told["event_type"].as_str().unwrap().starts_with("spice."), "{told}");
    let before = cloud.sign_of_life();
    eventually("heartbeats arrive", async || cloud.sign_of_life() > before).await;
    // What cannot be carried out is put aside, which takes rights of its own.
    super::attacker::send_unsigned(&cloud, Topic::Results, "record_results", json!({})).await;
    super::attacker::send_unsigned(&cloud, Topic::Adapter, "run_check", json!({})).await;
    super::attacker::send_unsigned(&cloud, Topic::Events, "results_stored", json!({})).await;
    await_dead_letters(&cloud, 3).await;
    for role in ["nodes", "checks", "adapter", "pool"] {
        let log = cloud.logged(role);
        assert!(!log.contains("ACCESS_REFUSED") && !log.contains("access to"), "{role}: {log}");
    }

    for (name, tries) in forbidden() {
        for (number, each) in tries.iter().enumerate() {
            let refused = each.with(&accounts.channel(name).await).await;
            let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(words.contains("ACCESS_REFUSED"), "{name} may do number {number} of its list: {words:?}");
        }
    }
    agents_reach_nothing_but_their_own_queue(&accounts).await;

    // A compute node's account of Nova's, with Nova's usual rights there, does not come in at all.
    let compute = accounts.account("compute");
    let nova = format!("{}-nova", accounts.vhost);
    cloud.lab.manage("PUT", &format!("vhosts/{nova}"), Some(json!({}))).await;
    cloud.lab.manage("PUT", &format!("users/{compute}"), Some(json!({ "password": "x", "tags": "" }))).await;
    let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    cloud.lab.manage("PUT", &format!("permissions/{nova}/{compute}"), Some(everything.clone())).await;
    let connect = async |vhost: &str| {
        let url = format!("amqp://{compute}:x@127.0.0.1:{}/{vhost}", accounts.amqp);
        Connection::connect(&url, ConnectionProperties::default()).await.map(drop)
    };
    assert!(connect(&nova).await.is_ok());
    assert!(connect(&accounts.vhost).await.is_err() && connect(&accounts.agents_vhost()).await.is_err());
    let right = accounts.tool(&cloud, "--check").await;
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    // Until somebody lets it in: that is found.
    cloud.lab.manage("PUT", &format!("permissions/{}/{compute}", accounts.vhost), Some(everything)).await;
    let found = accounts.tool(&cloud, "--check").await;
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(!found.status.success() && said.contains(&format!("account {compute} has rights")), "{said}");
    cloud.lab.manage("DELETE", &format!("users/{compute}"), None).await;
    cloud.lab.manage("DELETE", &format!("vhosts/{nova}"), None).await;
    bus.close().await;
    goes_on_unimpressed(&cloud).await;
    accounts.remove(&cloud).await;
}

struct Answers;

#[async_trait::async_trait]
impl Dispatcher for Answers {
    async fn dispatch(&self, _: Incoming) -> Disposition {
        Disposition::Reply(Reply::ok(json!("evidence")))
    }
}

/// An agent answers an adapter, and neither listens to another agent nor asks one.
async fn agents_reach_nothing_but_their_own_queue(accounts: &Accounts) {
    let vhost = accounts.agents_vhost();
    let on = |name: &str| Bus::start(BusOptions::new(accounts.url(name, &vhost)), name).unwrap();
    let serves = |node: &str| Service {
        server: Some(node.to_owned()),
        listen: Listen { topic: false, server: true, fanout: false },
        delivery: Delivery::Rpc,
        ..Service::rpc("spice", "spice-agent", node)
    };
    let (agent, other, adapter) = (on("node-1"), on("node-2"), on("adapter"));
    let _serving = agent.serve(serves("node-1"), Arc::new(Answers)).await.unwrap();
    let target = Target::topic("spice", "spice-agent").server("node-1");
    let ask = async |bus: &Bus| {
        bus.call(&target, Request::new("quote", serde_json::Map::new()), Duration::from_secs(10)).await
    };
    assert_eq!(ask(&adapter).await.unwrap().result.unwrap(), Value::from("evidence"));
    assert!(other.serve(serves("node-1"), Arc::new(Answers)).await.is_err(), "in another node's place");
    assert!(ask(&other).await.is_err());
    for bus in [agent, other, adapter] {
        bus.close().await;
    }
}
