//! The real tools/oat-service as a child process, and a runner that asks it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spice::adapter::open_attestation::{self, Settings};
use spice::adapter::runner::{Limits, Runner};
use spice::adapter::{CheckRequest, secret::Secret};
use spice::clock::SystemClock;
use spice::names::{CheckName, NodeName};
use spice::protocol::{NodeResult, Status};
use tokio::time::Instant;

/// A running service; ends with this value.
pub struct Oat {
    child: Child,
    pub url: String,
    control: String,
    dir: tempfile::TempDir,
}

impl Oat {
    /// Starts it with `nodes` trusted nodes (node-1, ...) and further options.
    pub fn start(dialect: &str, nodes: usize, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/oat-service");
        let mut child = Command::new("python3")
            .arg(tool)
            .args(["--dir".as_ref(), dir.path().as_os_str()])
            .args(["--dialect", dialect, "--nodes", &nodes.to_string(), "--stop-with-stdin"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).expect("the service says where it serves");
        Self {
            child,
            url: told["url"].as_str().unwrap().into(),
            control: told["control"].as_str().unwrap().into(),
            dir,
        }
    }

    /// A file the service made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tells it how to behave.
    pub async fn order(&self, order: Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let reply = client.post(&self.control).body(order.to_string()).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 200, "{}", reply.text().await.unwrap());
    }

    /// Its state and counters.
    pub async fn state(&self) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let body = client.get(&self.control).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&body).unwrap()
    }

    /// The hosts of each request so far, and the counter back to zero.
    pub async fn take_requests(&self) -> Vec<Vec<String>> {
        let requests = serde_json::from_value(self.state().await["requests"].clone()).unwrap();
        self.order(json!({"reset": true})).await;
        requests
    }

    /// Settings that reach it.
    pub fn settings(&self) -> Settings {
        Settings {
            url: self.url.clone(),
            ca_file: Some(self.file("ca.pem")),
            client_cert: Some(self.file("client.pem")),
            client_key: Some(self.file("client.key")),
            auth_blob: Some(Secret::new("blob-4711")),
            connect_timeout: Duration::from_secs(3),
            min_request_time: Duration::from_secs(1),
            ..Settings::default()
        }
    }

    pub fn runner(&self) -> Runner {
        runner(self.settings())
    }
}

impl Drop for Oat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn runner(settings: Settings) -> Runner {
    Runner::new(open_attestation::build(settings).unwrap(), Limits::default()).unwrap()
}

/// A request about `nodes` with `seconds` left.
pub fn request(nodes: &[String], parameters: Value, seconds: f64) -> CheckRequest {
    CheckRequest {
        check: CheckName::new("a-check").unwrap(),
        parameters,
        nodes: nodes.iter().map(|name| NodeName::new(name).unwrap()).collect(),
        deadline: Instant::now() + Duration::from_secs_f64(seconds),
        retries: 2,
        clock: SystemClock::shared(),
    }
}

/// node-1 to node-`count`.
pub fn nodes(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("node-{n}")).collect()
}

pub fn of<'a>(results: &'a [NodeResult], node: &str) -> &'a NodeResult {
    results.iter().find(|result| result.node.as_str() == node).unwrap()
}

/// Asserts that `special` have their status and all others passed.
pub fn assert_statuses(results: &[NodeResult], special: &[(&str, Status)]) {
    for result in results {
        let expected = special.iter().find(|(name, _)| *name == result.node.as_str()).map_or(Status::Pass, |(_, s)| *s);
        assert_eq!(result.status, expected, "{}: {}", result.node, result.reason);
    }
}

/// Shared by tests that ask more than once.
pub async fn ask(runner: &Arc<Runner>, nodes: &[String], seconds: f64) -> Vec<NodeResult> {
    runner.run(request(nodes, json!({}), seconds)).await
}
