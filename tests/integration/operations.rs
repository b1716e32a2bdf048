//! What an operator on call has: health and figures over HTTP, systemd, `spicectl status` and `spicectl top`.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use spice::rpc::table::Topic;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::cloud::Cloud;
use crate::lab::{PATIENCE, eventually, python, root};
use crate::plugins::{chmod, sha256};
use crate::proxy::Proxy;

async fn spicectl(cloud: &Cloud, arguments: &[&str]) -> Output {
    let config = cloud.dir.path().join("spice.conf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spicectl"));
    command.arg("--config-file").arg(config).args(arguments).stdin(Stdio::null());
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let answer = client.get(format!("http://127.0.0.1:{port}/{path}")).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

async fn await_status(port: u16, path: &str, wanted: u16) -> Value {
    eventually(&format!("{path} says {wanted}"), async || {
        get(port, path).await.is_some_and(|(code, _)| code == wanted)
    })
    .await;
    let (_, body) = get(port, path).await.unwrap();
    serde_json::from_str(&body).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_what_is_missing_and_a_lost_broker_is_no_reason_for_a_restart() {
    let port = free_port();
    let lab = crate::lab::Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    let url = proxy.transport_url(&lab);
    let mut cloud = Cloud::prepare_on(lab, &url, &format!("[metrics]\nlisten = 127.0.0.1:{port}\n"));
    cloud.start_as("all", &[], &url).await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-3", 't').await;

    eventually("the pool cache has heard Nodes", async || {
        let well = await_status(port, "healthz", 200).await;
        well["roles"]["pool"]["heartbeat_age_s"].as_u64().is_some_and(|age| age < 30)
    })
    .await;
    let well = await_status(port, "healthz", 200).await;
    for role in ["nodes", "checks", "pool", "adapter:openattestation"] {
        assert_eq!(well["roles"][role]["standing"], "active", "{role}: {well}");
    }
    assert_eq!(well["roles"]["nodes"]["needs"], json!({ "broker": "ok", "database": "ok" }));
    for (role, name) in [("nodes", "timers"), ("checks", "dispatch"), ("pool", "keeper")] {
        assert_eq!(well["roles"][role]["loops"][name]["alive"], true, "{well}");
    }
    eventually("the pool is counted", async || {
        let figures = get(port, "metrics").await.unwrap().1;
        figures.contains("spice_nodes_members{pool=\"default\",level=\"trusted\"} 3")
            && figures.contains("spice_nodes_results_total{status=\"pass\"} 3")
            && figures.contains("# HELP spice_nodes_oldest_evidence_seconds Age of the oldest evidence")
            && figures.contains("spice_checks_behind_seconds{check=\"attestation\"} 0")
            && figures.contains("spice_checks_adapters_alive{adapter=\"openattestation\"} 1")
            && figures.contains("spice_bus_queue_messages{queue=\"spice-nodes-results\"}")
            && figures.contains("spice_database_up{role=\"nodes\"} 1")
    })
    .await;

    proxy.mute();
    proxy.cut();
    let ill = await_status(port, "healthz", 503).await;
    assert_eq!((&ill["live"], &ill["ready"]), (&json!(true), &json!(false)), "{ill}");
    let fault = ill["roles"]["nodes"]["needs"]["broker"].as_str().unwrap();
    assert!(fault.starts_with("away"), "{ill}");
    assert_eq!(get(port, "livez").await.unwrap().0, 200);
    proxy.heal();
    proxy.cut();
    await_status(port, "healthz", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_that_the_service_is_ready_lives_and_stops() {
    let cloud = Cloud::before_any_start("").await;
    let socket = cloud.dir.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let log = std::fs::File::create(cloud.dir.path().join("watched.log")).unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_spiced"))
        .arg("--config-file")
        .arg(cloud.dir.path().join("spice.conf"))
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "600000")
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let heard = async |wanted: &str| {
        let mut told = Vec::new();
        let listening = async {
            loop {
                let mut buffer = [0; 4096];
                let length = systemd.recv(&mut buffer).await.unwrap();
                told.push(text(&buffer[..length]));
                if told.last().is_some_and(|last| last.lines().any(|line| line == wanted)) {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, listening).await;
        assert!(in_time.is_ok(), "no {wanted}: {told:?}");
        told
    };
    let before = heard("READY=1").await;
    assert!(before.iter().all(|told| !told.contains("WATCHDOG")), "nobody lives before it is ready: {before:?}");
    for _ in 0..3 {
        heard("WATCHDOG=1").await;
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(service.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    heard("STOPPING=1").await;
    assert!(tokio::time::timeout(PATIENCE, service.wait()).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_a_bad_host_from_a_dead_verifier() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(4).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-4", 't').await;
    let status = async || {
        let output = spicectl(&cloud, &["status", "--exit-code", "-f", "json"]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer)
    };
    eventually("all is well, and counted", async || {
        let (code, well) = status().await;
        code == Some(0) && well["nodes"]["pools"][0]["oldest_evidence_s"].is_u64()
    })
    .await;
    let (_, well) = status().await;
    assert_eq!((&well["verdict"], &well["findings"]), (&json!("All is well."), &json!([])));

    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    cloud.attest().await;
    eventually("a host needs a look", async || status().await.0 == Some(3)).await;
    let (_, told) = status().await;
    assert!(told["verdict"].as_str().unwrap().starts_with("SPICE works"), "{told}");
    assert!(told["findings"].to_string().contains("1 of 4 nodes failed"), "{told}");

    cloud.oat.order(json!({ "up": false })).await;
    cloud.attest().await;
    let (code, told) = status().await;
    assert_eq!(code, Some(2), "{told}");
    assert_eq!(told["findings"][0]["about"], "service");
    assert!(told["findings"][0]["text"].as_str().unwrap().contains("4 of 4 nodes could not be judged"), "{told}");
    let shown = text(&spicectl(&cloud, &["status"]).await.stdout);
    assert!(shown.starts_with("SPICE needs a look") && shown.contains("HOSTS: pool default: 1 nodes"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_fills_a_terminal_follows_its_size_and_gives_it_back() {
    let cloud = Cloud::in_one_process("").await;
    cloud.register_nodes(3).await;
    cloud.oat.order(json!({ "level": { "node-2": "untrusted" } })).await;
    cloud.register_attestation("1h", 7200).await;
    cloud.await_in_file("node-2", 'u').await;
    let once = spicectl(&cloud, &["top", "--once", "--width", "80"]).await;
    let picture = text(&once.stdout);
    assert!(once.status.success(), "{picture} {}", text(&once.stderr));
    assert!(picture.contains("SPICE test-cloud") && picture.contains("node-2                 untrusted"), "{picture}");
    assert!(picture.contains("RESULTS/S      0") && picture.contains("attestation"), "{picture}");
    assert!(picture.lines().count() <= 24 && picture.lines().all(|line| line.chars().count() <= 80), "{picture}");
    let without = spicectl(&cloud, &["top"]).await;
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).contains("--once"));

    for colours in [true, false] {
        let mut command = Command::new(python().await);
        command.arg(root().join("tests/python/terminal.py")).args(["node-2", env!("CARGO_BIN_EXE_spicectl")]);
        command.arg("--config-file").arg(cloud.dir.path().join("spice.conf")).args(["top", "--interval", "1"]);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        if !colours {
            command.env("NO_COLOR", "1");
        }
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let expected = json!({ "shown": true, "drawn_again": true, "given_back": true, "colours": colours, "code": 0 });
        assert_eq!(seen, expected, "{}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_unit_gives_are_enough_for_check_programs_and_leave_them_none() {
    const CAPABILITIES: &str = "-all,+setuid,+setgid,+kill";
    let unit = std::fs::read_to_string(root().join("etc/systemd/spiced.service")).unwrap();
    for line in ["AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL", "NoNewPrivileges=yes", "User=spice"] {
        assert!(unit.lines().any(|found| found == line), "this test does as the unit says: {line}");
    }
    let cloud = Cloud::before_any_start("").await;
    let folder = cloud.dir.path();
    let program = folder.join("plugins/rights.sh");
    std::fs::write(&program, "#!/bin/sh\necho uid $(id -u) $(grep CapEff /proc/self/status)\n").unwrap();
    chmod(&program, 0o755);
    let manifest = json!({
        "name": "rights", "program": "rights.sh", "sha256": sha256(&program), "style": "nagios", "timeout_s": 20,
        "exit_codes": {"1": "error"}, "argv": []
    });
    std::fs::write(folder.join("plugins/rights.json"), manifest.to_string()).unwrap();
    // The service's account, which owns what the unit gives it and nothing else.
    std::fs::create_dir(folder.join("run")).unwrap();
    let service = folder.join("spiced");
    std::fs::copy(env!("CARGO_BIN_EXE_spiced"), &service).unwrap();
    chmod(folder, 0o755);
    let owned = ["state", "run", "spice.conf"].map(|name| folder.join(name));
    assert!(Command::new("chown").args(["-R", "daemon:daemon"]).args(owned).status().await.unwrap().success());
    // The administrator's key and the trust files belong to root.
    let roots = ["state/keys/admin.pem", "state/trust"].map(|name| folder.join(name));
    assert!(Command::new("chown").args(["-R", "root:root"]).args(roots).status().await.unwrap().success());
    let log = std::fs::File::create(folder.join("confined.log")).unwrap();
    let _service = Command::new("setpriv")
        .args(["--reuid=daemon", "--regid=daemon", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps", "--ambient-caps", "--bounding-set"].map(|set| format!("{set}={CAPABILITIES}")))
        .arg(&service)
        .arg("--config-file")
        .arg(folder.join("spice.conf"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    cloud.await_adapter("command").await;
    cloud.register_nodes(1).await;
    let check = json!({
        "name": "rights", "adapter": "command", "schedule": { "every": "1h" }, "timeout_s": 30, "ttl_s": 7200,
        "parameters": { "plugin": "rights" },
    });
    cloud.admin(Topic::Checks, "check_create", json!({ "check": check })).await;
    cloud.await_in_file("node-1", 't').await;
    let results = cloud.admin(Topic::Nodes, "result_list", json!({ "node": "node-1" })).await;
    let said = results[0]["reason"].as_str().unwrap();
    assert!(said.contains("uid 65534") && said.contains("CapEff: 0000000000000000"), "{results}");
}
