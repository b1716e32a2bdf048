//! A whole SPICE on real parts: `spiced` processes on a virtual host of their own, an OpenAttestation-compatible verifier,
//! an administrator with a key, and the pool file as the Nova filter would read it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use spice::bus::Bus;
use spice::clock::SystemClock;
use spice::names::DeploymentId;
use spice::rpc::table::Topic;
use spice::rpc::{Identity, RpcClient, RpcError};
use spice::security::{SharedTrustStore, SigningKey, bootstrap};
use tokio::process::{Child, Command};

use crate::lab::{Lab, eventually};
use crate::oat::Oat;

/// The deployment of the tests.
pub fn deployment() -> DeploymentId {
    DeploymentId::new("test-cloud").unwrap()
}

/// See the module.
pub struct Cloud {
    pub lab: Lab,
    pub oat: Oat,
    pub dir: tempfile::TempDir,
    processes: BTreeMap<String, Child>,
    bus: Bus,
}

impl Cloud {
    /// One process with every role, which makes its own keys.
    pub async fn in_one_process(more_configuration: &str) -> Self {
        let mut cloud = Self::prepare(more_configuration).await;
        cloud.start("all", &[]).await;
        cloud
    }

    /// One process per role, with keys an administrator placed.
    pub async fn one_process_each(more_configuration: &str) -> Self {
        let mut cloud = Self::before_any_start(more_configuration).await;
        for role in ["nodes", "checks", "adapter", "pool"] {
            cloud.start(role, &["--role", role]).await;
        }
        cloud
    }

    /// A cloud in which nothing runs yet, with keys an administrator placed.
    pub async fn before_any_start(more_configuration: &str) -> Self {
        let cloud = Self::prepare(more_configuration).await;
        let adapters = ["openattestation", "command"].map(|name| name.parse().unwrap());
        bootstrap::create_keys(&cloud.state(), &deployment(), &adapters).unwrap();
        cloud
    }

    async fn prepare(more_configuration: &str) -> Self {
        let lab = Lab::new().await;
        let url = lab.transport_url();
        Self::prepare_on(lab, &url, more_configuration)
    }

    /// Nothing started yet, on a virtual host that the services reach by `url`; the administrator reaches it directly.
    pub fn prepare_on(lab: Lab, url: &str, more_configuration: &str) -> Self {
        let oat = Oat::start("2", 20, &["--hold", "3"]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        let path = dir.path().display();
        let configuration = format!(
            "[DEFAULT]\ntransport_url = {url}\n\
             [oslo_messaging_rabbit]\nkombu_reconnect_delay = 0.1\n\
             [spice]\ndeployment = {deployment}\nstate_dir = {path}/state\n\
             [pool]\nrun_dir = {path}/run\n\
             [command]\nplugin_dir = {path}/plugins\nuser = nobody\n\
             [openattestation]\nurl = {oat_url}\nca_file = {ca}\n{more_configuration}",
            deployment = deployment(),
            oat_url = oat.url,
            ca = oat.file("ca.pem").display(),
        );
        let file = dir.path().join("spice.conf");
        std::fs::write(&file, configuration).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let bus = lab.bus("administrator");
        Self { lab, oat, dir, processes: BTreeMap::new(), bus }
    }

    /// Starts a process and waits until it serves.
    pub async fn start(&mut self, name: &str, arguments: &[&str]) {
        let url = self.lab.transport_url();
        self.start_as(name, arguments, &url).await;
    }

    /// Starts a process that reaches the bus in its own way, and waits until it serves: where the one before was killed, once its lease has run out.
    pub async fn start_as(&mut self, name: &str, arguments: &[&str], transport_url: &str) {
        let roles: Vec<&str> = match arguments.iter().position(|argument| *argument == "--role") {
            Some(at) => arguments[at + 1].split(',').collect(),
            None => vec!["nodes", "checks"],
        };
        let led: Vec<&str> = roles.into_iter().filter(|role| matches!(*role, "nodes" | "checks")).collect();
        let active = |cloud: &Self| led.iter().map(|role| cloud.times_active(name, role)).collect::<Vec<_>>();
        let before = active(self);
        self.start_beside(name, arguments, transport_url).await;
        let all = async || active(self).iter().zip(&before).all(|(now, before)| now > before);
        eventually(&format!("{name} is active"), all).await;
    }

    /// Starts a process and waits until it has started, be it as a standby.
    pub async fn start_beside(&mut self, name: &str, arguments: &[&str], transport_url: &str) {
        let started_before = self.started(name);
        let child = self.spawn(name, arguments, transport_url);
        self.processes.insert(name.to_owned(), child);
        eventually(&format!("{name} has started"), async || self.started(name) > started_before).await;
    }

    /// Starts a process that stands by for others.
    pub async fn start_standby(&mut self, name: &str, arguments: &[&str]) {
        let url = self.lab.transport_url();
        self.start_beside(name, arguments, &url).await;
    }

    /// How often a process has become active in a role.
    pub fn times_active(&self, name: &str, role: &str) -> usize {
        let role = format!("role=\"{role}\"");
        self.logged(name).lines().filter(|line| line.contains("role is active") && line.contains(&role)).count()
    }

    /// SIGSTOP, SIGCONT and such.
    pub fn signal(&self, name: &str, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.processes[name].id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Starts a process that cannot start, and says what it wrote.
    pub async fn fail_to_start(&self, name: &str, arguments: &[&str]) -> String {
        let mut child = self.spawn(name, arguments, &self.lab.transport_url());
        let status = tokio::time::timeout(crate::lab::PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert!(!status.success());
        self.logged(name)
    }

    fn spawn(&self, name: &str, arguments: &[&str], transport_url: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log(name)).unwrap();
        Command::new(env!("CARGO_BIN_EXE_spiced"))
            .args(arguments)
            .arg("--config-file")
            .arg(self.dir.path().join("spice.conf"))
            .env("OS_DEFAULT__TRANSPORT_URL", transport_url)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// What a process has logged.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn started(&self, name: &str) -> usize {
        let log = self.logged(name);
        log.lines().filter(|line| line.contains(" spiced: started ")).count()
    }

    /// SIGKILL.
    pub async fn kill(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap();
        child.kill().await.unwrap();
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it stops").unwrap();
        assert!(status.success(), "{status}");
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A member of the bus that signs with the key `name`.
    pub fn as_holder_of(&self, name: &str) -> RpcClient {
        RpcClient::new(self.bus.clone(), self.identity(name))
    }

    /// The identity of the key `name`.
    pub fn identity(&self, name: &str) -> Arc<Identity> {
        let key = SigningKey::load(&self.state().join(format!("keys/{name}.pem"))).unwrap();
        let trust = SharedTrustStore::open(&self.state().join("trust")).unwrap();
        Arc::new(Identity::new(deployment(), name, key, trust, SystemClock::shared()))
    }

    /// The bus, for what needs no key.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Calls as the administrator; must succeed.
    pub async fn admin(&self, topic: Topic, method: &str, args: Value) -> Value {
        self.try_admin(topic, method, args).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls as the administrator.
    pub async fn try_admin(&self, topic: Topic, method: &str, args: Value) -> Result<Value, RpcError> {
        self.as_holder_of("admin").call(topic, method, object(args)).await
    }

    /// Changes what pools require, confirming what Checks says it would do.
    pub async fn confirmed(&self, method: &str, args: Value) -> Value {
        let mut asked = args.clone();
        asked["dry_run"] = json!(true);
        let preview = self.admin(Topic::Checks, method, asked).await;
        let mut confirmed = args;
        confirmed["confirm"] = preview["confirm"].clone();
        self.admin(Topic::Checks, method, confirmed).await
    }

    /// Registers `node-1` to `node-COUNT`.
    pub async fn register_nodes(&self, count: usize) {
        let nodes: Vec<Value> = (1..=count).map(|n| json!({ "name": format!("node-{n}") })).collect();
        self.admin(Topic::Nodes, "node_import", json!({ "nodes": nodes })).await;
    }

    /// Waits until an adapter has announced itself.
    pub async fn await_adapter(&self, name: &str) {
        eventually(&format!("adapter {name} lives"), async || {
            let status = self.try_admin(Topic::Checks, "status", json!({})).await;
            status.is_ok_and(|status| status["adapters"][name].as_i64() > Some(0))
        })
        .await;
    }

    /// Registers a check of the verifier for all nodes.
    pub async fn register_attestation(&self, every: &str, ttl_s: i64) {
        self.await_adapter("openattestation").await;
        let check = json!({
            "name": "attestation", "adapter": "openattestation", "schedule": { "every": every },
            "timeout_s": 10, "ttl_s": ttl_s, "judgement": { "fail_after": 1, "recover_after": 1, "hold_down_ms": 0 },
        });
        self.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    }

    /// Runs the attestation now and waits until every outcome is stored.
    pub async fn attest(&self) -> Value {
        let run = self.admin(Topic::Checks, "check_run", json!({ "name": "attestation" })).await;
        eventually("the run is finished", async || self.run(&run["run"]).await["finished"] == true).await;
        self.run(&run["run"]).await
    }

    /// A run, as it is now.
    pub async fn run(&self, id: &Value) -> Value {
        self.admin(Topic::Checks, "run_show", json!({ "run": id })).await
    }

    /// What Nodes says of a node in pool `default`.
    pub async fn level(&self, node: &str) -> String {
        let shown = self.admin(Topic::Nodes, "node_show", json!({ "name": node })).await;
        shown["pools"]["default"]["trust"].as_str().unwrap_or("none").to_owned()
    }

    /// What the pool file says of every node: `t`, `o`, `u` or `-`, and its expiry in ms.
    pub fn pool_file(&self) -> BTreeMap<String, (char, u64)> {
        pool_file(&self.dir.path().join("run/pool"))
    }

    /// Waits until the pool file says `level` of `node`.
    pub async fn await_in_file(&self, node: &str, level: char) {
        eventually(&format!("the pool file says {level} of {node}"), async || {
            self.pool_file().get(node).is_some_and(|(found, _)| *found == level)
        })
        .await;
    }

    /// When the pool cache last heard Nodes and agreed.
    pub fn sign_of_life(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.dir.path().join("run/pool.alive")).and_then(|file| file.modified()).ok()
    }

    /// The header of the pool file.
    pub fn pool_header(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.path().join("run/pool")).unwrap_or_default();
        text.lines().nth(1).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }
}

/// Arguments.
pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// What a pool file says of every node: `t`, `o`, `u` or `-`, and its expiry in ms.
pub fn pool_file(path: &std::path::Path) -> BTreeMap<String, (char, u64)> {
    let Ok(text) = std::fs::read_to_string(path) else { return BTreeMap::new() };
    let lines: Vec<&str> = text.lines().collect();
    let [_, _, names, levels, expiries, ..] = lines[..] else { return BTreeMap::new() };
    let expiry = |index: usize| u64::from_str_radix(&expiries[index * 16..][..16], 16).unwrap();
    let names = names.split(' ').filter(|name| !name.is_empty());
    names.zip(levels.chars()).enumerate().map(|(i, (name, level))| (name.to_owned(), (level, expiry(i)))).collect()
}
