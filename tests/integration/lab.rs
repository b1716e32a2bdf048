//! The laboratory: a real RabbitMQ, a virtual host per test, and a real oslo.messaging on the other side.
//!
//! One broker per test process, started through `tools/broker` on first use. It runs under a supervisor whose standard input this
//! process holds open: however this process ends, the broker ends with it. `SPICE_BROKER_AMQP` and `SPICE_BROKER_HTTP` name a broker that is
//! there already. Outage tests take a broker of their own, [`OwnBroker`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use spice::bus::{Bus, BusOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long anything in a test may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Ports of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    pub amqp: u16,
    pub http: u16,
    /// Port and certificate folder of the TLS listener, if it has one.
    pub tls: Option<(u16, PathBuf)>,
}

impl Ports {
    fn from_lines(text: &str) -> Self {
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let port = |name: &str| find(name).map(|port| port.parse().expect("a port"));
        Self {
            amqp: port("SPICE_BROKER_AMQP").expect("SPICE_BROKER_AMQP"),
            http: port("SPICE_BROKER_HTTP").expect("SPICE_BROKER_HTTP"),
            tls: port("SPICE_BROKER_AMQPS").zip(find("SPICE_BROKER_TLS").map(PathBuf::from)),
        }
    }
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The broker that tests share.
fn shared_broker() -> &'static Ports {
    // The supervisor is kept, never waited for: when this process ends, its end of the pipe closes, and the supervisor stops the broker.
    static SHARED: OnceLock<(Ports, Option<std::process::Child>)> = OnceLock::new();
    let (ports, _) = SHARED.get_or_init(|| {
        if let (Ok(amqp), Ok(http)) = (std::env::var("SPICE_BROKER_AMQP"), std::env::var("SPICE_BROKER_HTTP")) {
            let mut text = format!("SPICE_BROKER_AMQP={amqp}\nSPICE_BROKER_HTTP={http}\n");
            for name in ["SPICE_BROKER_AMQPS", "SPICE_BROKER_TLS"] {
                if let Ok(value) = std::env::var(name) {
                    text.push_str(&format!("{name}={value}\n"));
                }
            }
            return (Ports::from_lines(&text), None);
        }
        let folder = tempfile::Builder::new().prefix("spice-broker-").tempdir().expect("a folder").keep();
        let (ports, supervisor) = run_supervised(&folder, true);
        (ports, Some(supervisor))
    });
    ports
}

/// Starts `tools/broker run` and waits until it reports its ports.
fn run_supervised(folder: &Path, remove_afterwards: bool) -> (Ports, std::process::Child) {
    use std::io::{BufRead, BufReader};
    let remove = if remove_afterwards { "rm -rf \"$2\"" } else { ":" };
    let mut child = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("\"$1\" run \"$2\" --tls; code=$?; {remove}; exit $code"))
        .arg("sh")
        .arg(root().join("tools/broker"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tools/broker runs");
    let mut text = String::new();
    let mut lines = BufReader::new(child.stdout.as_mut().expect("stdout")).lines();
    while !text.contains("SPICE_BROKER_TLS") {
        let line = lines.next().expect("tools/broker could not start RabbitMQ; see above").expect("text");
        text.push_str(&line);
        text.push('\n');
    }
    (Ports::from_lines(&text), child)
}

/// A broker that one test may kill and restart.
pub struct OwnBroker {
    folder: tempfile::TempDir,
    supervisor: std::process::Child,
    ports: Ports,
}

impl OwnBroker {
    /// Starts one.
    pub async fn start() -> Self {
        tokio::task::spawn_blocking(|| {
            let folder = tempfile::Builder::new().prefix("spice-broker-").tempdir().expect("a folder");
            let (ports, supervisor) = run_supervised(folder.path(), false);
            Self { folder, supervisor, ports }
        })
        .await
        .expect("the broker starts")
    }

    /// Runs `rabbitmqctl` on it; says what that printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(root().join("tools/broker"));
        let done = command.arg("ctl").arg(self.folder.path()).args(arguments).output().await.expect("tools/broker");
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// A laboratory on this broker.
    pub async fn lab(&self) -> Lab {
        Lab::on(self.ports.clone()).await
    }

    /// SIGKILL, as a power cut.
    pub async fn kill(&self) {
        self.command("kill").await;
    }

    /// Starts it again on the same ports.
    pub async fn restart(&self) {
        self.command("restart").await;
    }

    async fn command(&self, what: &str) {
        let done = Command::new(root().join("tools/broker"))
            .arg(what)
            .arg(self.folder.path())
            .output()
            .await
            .expect("tools/broker");
        assert!(done.status.success(), "tools/broker {what}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // The supervisor stops the broker when its standard input ends; the folder goes after that.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// A virtual host of its own.
pub struct Lab {
    pub ports: Ports,
    pub vhost: String,
    http: reqwest::Client,
}

impl Lab {
    /// A fresh virtual host on the shared broker.
    pub async fn new() -> Self {
        let ports = tokio::task::spawn_blocking(shared_broker).await.expect("the shared broker");
        Self::on(ports.clone()).await
    }

    async fn on(ports: Ports) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("an HTTP client");
        let lab = Self { ports, vhost: format!("lab-{}", uuid::Uuid::new_v4().simple()), http };
        lab.manage("PUT", &format!("vhosts/{}", lab.vhost), None).await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        lab.manage("PUT", &format!("permissions/{}/guest", lab.vhost), Some(all)).await;
        lab
    }

    /// The transport URL of this virtual host.
    pub fn transport_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/{}", self.ports.amqp, self.vhost)
    }

    /// Options for tests: like the defaults, but quick to come back.
    pub fn options(&self) -> BusOptions {
        let mut options = BusOptions::new(self.transport_url());
        options.rabbit.kombu_reconnect_delay = 0.1;
        options.rabbit.rabbit_retry_interval = 0;
        options.rabbit.rabbit_retry_backoff = 0;
        options.rabbit.rabbit_interval_max = 1;
        options
    }

    /// A member of the bus.
    pub fn bus(&self, name: &str) -> Bus {
        Bus::start(self.options(), name).expect("the bus starts")
    }

    /// Asks the management API; the answer is null when it has none. Panics on refusals except 404, which is null too.
    pub async fn manage(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.ports.http);
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method.clone(), &url).basic_auth("guest", Some("guest"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("the management API answers");
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        assert!(status.is_success() || status.as_u16() == 404, "{method} {path}: {status} {text}");
        if status.is_success() { serde_json::from_str(&text).unwrap_or(Value::Null) } else { Value::Null }
    }

    /// Every queue of the virtual host, as the management API has it.
    pub async fn queues(&self) -> Vec<Value> {
        let queues = self.manage("GET", &format!("queues/{}", self.vhost), None).await;
        queues.as_array().cloned().unwrap_or_default()
    }

    /// One queue, null when it is not there.
    pub async fn queue(&self, name: &str) -> Value {
        self.manage("GET", &format!("queues/{}/{name}", self.vhost), None).await
    }

    /// How many messages are ready in a queue, asked of the queue itself.
    pub async fn depth(&self, name: &str) -> u32 {
        let channel = self.channel().await;
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare(name.into(), passive, Default::default()).await.expect("the queue exists");
        queue.message_count()
    }

    /// Waits until a queue has `expected` messages ready.
    pub async fn await_depth(&self, name: &str, expected: u32) {
        eventually(&format!("{expected} messages in {name}"), async || self.depth(name).await == expected).await;
    }

    /// Takes one message from a queue: its headers and body.
    pub async fn take(&self, queue: &str) -> Option<(Value, Vec<u8>)> {
        let channel = self.channel().await;
        let got = channel
            .basic_get(queue.into(), lapin::options::BasicGetOptions { no_ack: true })
            .await
            .expect("a queue")?;
        let headers = got.delivery.properties.headers().clone().unwrap_or_default();
        let headers = headers
            .inner()
            .iter()
            .filter_map(|(name, value)| match value {
                lapin::types::AMQPValue::LongString(text) => Some((name.to_string(), Value::String(text.to_string()))),
                _ => None,
            })
            .collect();
        Some((Value::Object(headers), got.delivery.data))
    }

    /// Deletes a queue under its consumers.
    pub async fn delete_queue(&self, name: &str) {
        self.manage("DELETE", &format!("queues/{}/{name}", self.vhost), None).await;
    }

    /// Cuts every connection of the virtual host; says how many there were.
    pub async fn close_connections(&self) -> usize {
        let connections = self.manage("GET", &format!("vhosts/{}/connections", self.vhost), None).await;
        let names: Vec<String> = connections
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|connection| Some(connection.get("name")?.as_str()?.to_owned()))
            .collect();
        for name in &names {
            let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            self.manage("DELETE", &format!("connections/{name}"), None).await;
        }
        names.len()
    }

    /// A plain AMQP channel, for what no well-behaved peer would do.
    pub async fn channel(&self) -> lapin::Channel {
        let uri = format!("amqp://guest:guest@127.0.0.1:{}/{}", self.ports.amqp, self.vhost);
        let connection = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.expect("AMQP");
        connection.create_channel().await.expect("a channel")
    }

    /// A real oslo.messaging on this virtual host, with options of `[oslo_messaging_rabbit]` as `NAME=VALUE`.
    pub async fn peer(&self, options: &[&str]) -> Peer {
        Peer::start(&self.transport_url(), options).await
    }

    /// Removes the virtual host and everything in it.
    pub async fn remove(self) {
        self.manage("DELETE", &format!("vhosts/{}", self.vhost), None).await;
    }
}

/// Waits until `holds` does; fails the test after [`PATIENCE`].
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waiting for what a test expects, but not for ever.
pub trait Soon<T> {
    /// The next item; fails the test when there is none within [`PATIENCE`].
    async fn soon(&mut self) -> T;
}

impl<T> Soon<T> for tokio::sync::mpsc::UnboundedReceiver<T> {
    async fn soon(&mut self) -> T {
        tokio::time::timeout(PATIENCE, self.recv()).await.expect("nothing arrived").expect("the sender lives")
    }
}

/// Which oslo.messaging a peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oslo {
    /// The newest.
    Newest,
    /// 14.0, as Debian 12 ships it.
    Debian12,
}

impl Oslo {
    /// Every one that the tests run against.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Debian12];

    /// The environment it is installed in, made on first use.
    fn venv(self) -> &'static Path {
        static NEWEST: OnceLock<PathBuf> = OnceLock::new();
        static DEBIAN12: OnceLock<PathBuf> = OnceLock::new();
        let (made, name): (_, &[&str]) = match self {
            Self::Newest => (&NEWEST, &[]),
            Self::Debian12 => (&DEBIAN12, &["oslo14"]),
        };
        made.get_or_init(|| {
            let made = std::process::Command::new(root().join("tools/venv"))
                .args(name)
                .stderr(Stdio::inherit())
                .output()
                .expect("tools/venv");
            assert!(made.status.success(), "tools/venv failed");
            PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim())
        })
    }

    /// Its interpreter.
    async fn python(self) -> PathBuf {
        tokio::task::spawn_blocking(move || self.venv()).await.expect("the Python environment").join("bin/python")
    }
}

/// The interpreter with everything the tests need.
pub async fn python() -> PathBuf {
    Oslo::Newest.python().await
}

/// A process with the real oslo.messaging; see `tests/python/oslo_peer.py`. Killed when dropped.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What its server or listener received and nobody has asked for yet.
    events: std::collections::VecDeque<Value>,
}

impl Peer {
    /// Starts the newest on any transport.
    pub async fn start(url: &str, options: &[&str]) -> Self {
        Self::start_as(Oslo::Newest, url, options).await
    }

    /// Starts a certain one on any transport.
    pub async fn start_as(oslo: Oslo, url: &str, options: &[&str]) -> Self {
        let python = oslo.python().await;
        let mut command = Command::new(python);
        command.arg(root().join("tests/python/oslo_peer.py")).args(["--url", url]).env("PYTHONWARNINGS", "ignore");
        for option in options {
            command.args(["--option", option]);
        }
        // A group of its own: use_queue_manager looks for the leader of its group, and ours may be gone.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer runs");
        let stdin = child.stdin.take().expect("stdin");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut peer = Self { child, stdin, lines, events: std::collections::VecDeque::new() };
        assert_eq!(peer.answer().await["answer"], "ready");
        peer
    }

    /// Obeys one command and returns the line with its outcome, `answer` or `error`.
    pub async fn command(&mut self, command: Value) -> Value {
        self.send(command).await;
        self.answer().await
    }

    /// Gives a command without waiting for its outcome; [`Peer::answer`] does.
    pub async fn send(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the peer listens");
        self.stdin.flush().await.expect("the peer listens");
    }

    /// The outcome of the oldest command still unanswered.
    pub async fn answer(&mut self) -> Value {
        loop {
            let line = self.line().await;
            if line.get("event").is_none() {
                return line;
            }
            self.events.push_back(line);
        }
    }

    /// The next thing its server or listener received.
    pub async fn event(&mut self) -> Value {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let line = self.line().await;
        assert!(line.get("event").is_some(), "an event was expected, not {line}");
        line
    }

    /// Drops what its server or listener received and nobody asked for.
    pub fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Like [`Peer::command`], for commands that must succeed.
    pub async fn succeed(&mut self, command: Value) -> Value {
        let mut line = self.command(command.clone()).await;
        assert!(line.get("error").is_none(), "{command}: {line}");
        line["answer"].take()
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(2 * PATIENCE, self.lines.next_line()).await.expect("the peer speaks in time");
        serde_json::from_str(&line.expect("text").expect("the peer lives")).expect("JSON")
    }
}
