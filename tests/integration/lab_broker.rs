//! A real RabbitMQ for the laboratory.
//!
//! One broker per test process, started through `tools/broker` on first use. It runs under a supervisor whose standard input this
//! process holds open: however this process ends, the broker ends with it. `SPICE_BROKER_AMQP` and `SPICE_BROKER_HTTP` name a broker that is
//! there already. Outage tests take a broker of their own, [`OwnBroker`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::process::Command;

use crate::lab::{Lab, root};

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

/// The broker that tests share.
pub(crate) fn shared_broker() -> &'static Ports {
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
