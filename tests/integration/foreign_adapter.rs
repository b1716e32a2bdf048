//! An adapter in Python, on an unmodified oslo.messaging: what it says counts, and what it takes with it when it dies is
//! asked again.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;
use spice::security::{Role, bootstrap};
use tokio::process::{Child, Command};

use crate::cloud::{Cloud, deployment};
use crate::lab::{PATIENCE, eventually, python, root};

/// A running `python -m spice_adapter`; killed when dropped.
struct Adapter {
    child: Child,
}

impl Adapter {
    /// Starts one in the cloud; `check` is `MODULE:CLASS`, whose option is a folder.
    async fn start(cloud: &Cloud, name: &str, check: &str, folder: &Path, instance: &str) -> Self {
        let modules = ["plugins/client", "plugins/adapter-python", "tests/python"].map(|path| root().join(path));
        let log = std::fs::File::options().create(true).append(true).open(cloud.dir.path().join("python.log")).unwrap();
        let child = Command::new(python().await)
            .env("PYTHONPATH", std::env::join_paths(modules).unwrap())
            .env("SPICE_TRANSPORT_URL", cloud.lab.transport_url())
            .args(["-W", "ignore", "-m", "spice_adapter", "--deployment", deployment().as_str()])
            .arg("--key")
            .arg(cloud.state().join(format!("keys/adapter-{name}.pem")))
            .arg("--trust")
            .arg(cloud.state().join("trust"))
            .args(["--check", check, "--option", &format!("folder={}", folder.display())])
            .args(["--instance", instance, "--batches", "2"])
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// SIGKILL.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and a clean end.
    async fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it stops").unwrap();
        assert!(status.success(), "{status}");
    }
}

/// A cloud that trusts a key for the adapter `name`, and a folder for it.
async fn cloud_for(name: &str) -> (Cloud, PathBuf) {
    let cloud = Cloud::in_one_process("").await;
    let folder = admit(&cloud, name);
    (cloud, folder)
}

/// A key for the adapter `name` that the cloud trusts, and a folder for it.
fn admit(cloud: &Cloud, name: &str) -> PathBuf {
    let role = Role::Adapter(name.parse().unwrap());
    bootstrap::create_key(&cloud.state(), &deployment(), &format!("adapter-{name}"), [role]).unwrap();
    let folder = cloud.dir.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}

async fn register(cloud: &Cloud, name: &str, parameters: Value, timeout_s: i64) {
    let check = json!({
        "name": name, "adapter": name, "parameters": parameters, "schedule": { "every": "1h" }, "timeout_s": timeout_s,
        "ttl_s": 7200,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
}

/// The newest run of a check.
async fn latest_run(cloud: &Cloud, check: &str) -> Value {
    cloud.admin(Topic::Checks, "run_list", json!({ "check": check, "limit": 1 })).await[0].clone()
}

async fn results_of(cloud: &Cloud, node: &str) -> Vec<Value> {
    cloud.admin(Topic::Nodes, "result_list", json!({ "node": node })).await.as_array().unwrap().clone()
}

/// Waits until Checks knows that `instance` holds as many batches.
async fn await_holding(cloud: &Cloud, name: &str, instance: &str, batches: i64) {
    eventually(&format!("{instance} holds {batches} batches"), async || {
        let adapters = cloud.admin(Topic::Checks, "adapter_list", json!({})).await;
        let mut adapters = adapters.as_array().unwrap().iter();
        adapters.any(|adapter| adapter["name"] == name && adapter["instances"][instance] == batches)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_python_makes_nodes_trusted_and_untrusted() {
    let (cloud, folder) = cloud_for("reported").await;
    for (node, says) in [("node-1", "6.12.0\n"), ("node-2", "6.1.0-rootkit\n")] {
        std::fs::write(folder.join(node), says).unwrap();
    }
    cloud.register_nodes(3).await;
    let adapter = Adapter::start(&cloud, "reported", "spice_adapter.reported:Reported", &folder, "controller-9").await;
    cloud.await_adapter("reported").await;
    let adapters = cloud.admin(Topic::Checks, "adapter_list", json!({})).await;
    let shown = adapters.as_array().unwrap().iter().find(|adapter| adapter["name"] == "reported").unwrap().clone();
    assert_eq!(shown["instances"], json!({ "controller-9": 0 }));
    assert_eq!(shown["schema"]["required"], json!(["expected"]));
    let check = json!({ "name": "reported", "adapter": "reported", "schedule": { "every": "1h" } });
    let refused = cloud.try_admin(Topic::Checks, "check_create", json!({ "check": check })).await.unwrap_err();
    assert_eq!(refused.kind, Kind::BadRequest);
    assert!(refused.message.contains("expected"), "its schema refuses what it cannot use: {refused}");

    register(&cloud, "reported", json!({ "expected": "6.12.0" }), 60).await;
    cloud.await_in_file("node-1", 't').await;
    cloud.await_in_file("node-2", 'u').await;
    eventually("the run is finished", async || latest_run(&cloud, "reported").await["finished"] == true).await;
    let run = latest_run(&cloud, "reported").await;
    assert_eq!(run["outcomes"], json!({ "pass": 1, "fail": 1, "error": 1 }));
    assert_eq!((&run["attempts"], &run["recasts"]), (&json!(1), &json!({})));
    let of_missing = results_of(&cloud, "node-3").await;
    assert!(of_missing[0]["reason"].as_str().unwrap().contains("no report"), "{of_missing:?}");
    assert_eq!(cloud.level("node-3").await, "unknown");

    // Every connection is cut; it goes on by itself.
    std::fs::write(folder.join("node-3"), "6.12.0").unwrap();
    eventually("connections are cut", async || cloud.lab.close_connections().await > 0).await;
    eventually("Checks takes calls again", async || {
        cloud.try_admin(Topic::Checks, "check_run", json!({ "name": "reported" })).await.is_ok()
    })
    .await;
    cloud.await_in_file("node-3", 't').await;
    adapter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_adapter_had_when_it_was_killed_is_asked_again_when_it_is_back() {
    let (cloud, folder) = cloud_for("gated").await;
    std::fs::write(folder.join("node-1"), "pass").unwrap();
    cloud.register_nodes(3).await;
    let adapter = Adapter::start(&cloud, "gated", "gated_check:Gated", &folder, "host-1").await;
    cloud.await_adapter("gated").await;
    register(&cloud, "gated", json!({}), 300).await;
    eventually("node-1 is answered", async || latest_run(&cloud, "gated").await["done"] == 1).await;
    await_holding(&cloud, "gated", "host-1", 1).await;
    adapter.kill().await;
    for (node, says) in [("node-2", "pass"), ("node-3", "fail")] {
        std::fs::write(folder.join(node), says).unwrap();
    }
    std::fs::remove_file(folder.join("asked-node-1")).unwrap();

    let _again = Adapter::start(&cloud, "gated", "gated_check:Gated", &folder, "host-1").await;
    cloud.await_in_file("node-2", 't').await;
    cloud.await_in_file("node-3", 'u').await;
    eventually("the run is finished", async || latest_run(&cloud, "gated").await["finished"] == true).await;
    let run = latest_run(&cloud, "gated").await;
    assert_eq!(run["outcomes"], json!({ "pass": 2, "fail": 1 }));
    assert_eq!((&run["attempts"], &run["recasts"]), (&json!(2), &json!({ "adapter_restarted": 1 })));
    assert!(!folder.join("asked-node-1").exists(), "only what is still awaited is asked again");
    for (node, attempt) in [("node-1", 1), ("node-2", 2), ("node-3", 2)] {
        let results = results_of(&cloud, node).await;
        assert_eq!(results.len(), 1, "{results:?}");
        assert_eq!(results[0]["attempt"], attempt, "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_adapter_had_when_it_was_killed_goes_to_another_one() {
    let (cloud, folder) = cloud_for("gated").await;
    cloud.register_nodes(2).await;
    let first = Adapter::start(&cloud, "gated", "gated_check:Gated", &folder, "host-1").await;
    cloud.await_adapter("gated").await;
    register(&cloud, "gated", json!({}), 300).await;
    await_holding(&cloud, "gated", "host-1", 1).await;
    let _second = Adapter::start(&cloud, "gated", "gated_check:Gated", &folder, "host-2").await;
    await_holding(&cloud, "gated", "host-2", 0).await;
    first.kill().await;
    // Its announcements stop; 20 s later it is taken as gone.
    await_holding(&cloud, "gated", "host-2", 1).await;
    for node in ["node-1", "node-2"] {
        std::fs::write(folder.join(node), "pass").unwrap();
        cloud.await_in_file(node, 't').await;
    }
    eventually("the run is finished", async || latest_run(&cloud, "gated").await["finished"] == true).await;
    let run = latest_run(&cloud, "gated").await;
    assert_eq!(run["outcomes"], json!({ "pass": 2 }));
    assert_eq!((&run["attempts"], &run["recasts"]), (&json!(2), &json!({ "adapter_gone": 1 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_results_queue_holds_an_adapter_in_python_back_and_nothing_is_lost() {
    let mut cloud = Cloud::one_process_each("").await;
    let folder = admit(&cloud, "gated");
    cloud.register_nodes(6).await;
    let adapter = Adapter::start(&cloud, "gated", "gated_check:Gated", &folder, "host-1").await;
    cloud.await_adapter("gated").await;
    let check = json!({
        "name": "gated", "adapter": "gated", "schedule": { "every": "1h" }, "timeout_s": 600, "ttl_s": 7200, "batch_size": 1,
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    // Two batches are in hand; of the others the library fetches one and acknowledges none.
    await_holding(&cloud, "gated", "host-1", 2).await;
    cloud.lab.await_depth("spice-adapter-gated", 3).await;

    cloud.kill("nodes").await;
    let policy = format!("policies/{}/tiny", cloud.lab.vhost);
    let tiny = json!({ "pattern": "^spice-nodes-results$", "definition": { "max-length": 1 }, "apply-to": "queues" });
    cloud.lab.manage("PUT", &policy, Some(tiny)).await;
    for node in 1..=6 {
        std::fs::write(folder.join(format!("node-{node}")), if node == 6 { "fail" } else { "pass" }).unwrap();
    }
    let kept = async || {
        let log = std::fs::read_to_string(cloud.dir.path().join("python.log")).unwrap();
        log.lines().filter(|line| line.contains("are kept and handed over later")).count()
    };
    eventually("results are kept again and again", async || kept().await >= 6).await;
    assert!(cloud.lab.depth("spice-adapter-gated").await >= 1, "what cannot be handed over keeps it from taking more");
    cloud.lab.manage("DELETE", &policy, None).await;
    cloud.start("nodes", &["--role", "nodes"]).await;
    eventually("the run is finished", async || latest_run(&cloud, "gated").await["finished"] == true).await;
    let run = latest_run(&cloud, "gated").await;
    assert_eq!(run["outcomes"], json!({ "pass": 5, "fail": 1 }));
    assert_eq!((&run["attempts"], &run["recasts"]), (&json!(1), &json!({})), "held is not lost");
    adapter.stop().await;
}
