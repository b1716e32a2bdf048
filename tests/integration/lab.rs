//! The laboratory: a real RabbitMQ, a virtual host per test, and a real oslo.messaging on the other side.
//!
//! The parts are in files of their own: `lab_broker`, `lab_oslo`, `lab_peer`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use spice::bus::{Bus, BusOptions};

use crate::lab_broker::shared_broker;
pub use crate::lab_broker::{OwnBroker, Ports};
pub use crate::lab_oslo::{Oslo, python};
pub use crate::lab_peer::Peer;

/// How long anything in a test may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
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

    pub(crate) async fn on(ports: Ports) -> Self {
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
