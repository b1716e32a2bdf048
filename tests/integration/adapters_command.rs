//! The command provider with real programs: Debian's monitoring plugins and scripts.

use std::path::Path;

use serde_json::json;
use spice::protocol::Status;

use crate::oat::{assert_statuses, nodes, of, request};
use crate::plugins::{Plugins, chmod, sha256};

const NAGIOS: &str = "/usr/lib/nagios/plugins";

fn nagios(name: &str) -> std::path::PathBuf {
    let path = Path::new(NAGIOS).join(name);
    assert!(path.exists(), "install the package monitoring-plugins-basic");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_check_dummy_shows_what_every_exit_code_means() {
    let plugins = Plugins::new();
    plugins.manifest(
        "dummy",
        &nagios("check_dummy"),
        json!({"parameters": {"state": {"type": "integer", "min": 0, "max": 9, "required": true}},
               "argv": ["{state}", "said about {node} | x=1"], "exit_codes": {"1": "fail"}}),
    );
    for (state, status, reason) in [
        (0, Status::Pass, "OK: said about node-1"),
        (1, Status::Fail, "WARNING: said about node-1"),
        (2, Status::Fail, "CRITICAL: said about node-1"),
        (3, Status::Error, "exit code 3: UNKNOWN: said about node-1"),
        (7, Status::Error, "exit code 3: UNKNOWN: Status 7 is not a supported error state"),
    ] {
        let result = plugins.run("dummy", json!({"state": state})).await;
        assert_eq!((result.status, result.reason.as_str()), (status, reason));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_check_procs_and_the_perl_script_check_file_age_work() {
    let plugins = Plugins::new();
    plugins.manifest(
        "procs",
        &nagios("check_procs"),
        json!({"parameters": {"max": {"type": "integer", "min": 1, "max": 100_000, "required": true}}, "argv": ["--critical=1:{max}"]}),
    );
    let result = plugins.run("procs", json!({"max": 100_000})).await;
    assert_eq!(result.status, Status::Pass, "{}", result.reason);
    assert_eq!(plugins.run("procs", json!({"max": 1})).await.status, Status::Fail);

    plugins.manifest(
        "file_age",
        &nagios("check_file_age"),
        json!({"environment": {"PERL5LIB": NAGIOS}, "parameters": {"file": {"type": "string", "pattern": "/[a-z/]+", "required": true}},
               "argv": ["-w", "999999999", "-c", "999999999", "-f", "{file}"]}),
    );
    let result = plugins.run("file_age", json!({"file": "/etc/passwd"})).await;
    assert_eq!(result.status, Status::Pass, "{}", result.reason);
    assert_eq!(plugins.run("file_age", json!({"file": "/etc/nothing"})).await.status, Status::Fail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_called_by_a_link_sees_the_links_name() {
    let plugins = Plugins::new();
    plugins.manifest("ftp", &nagios("check_ftp"), json!({"argv": ["-H", "127.0.0.1", "-p", "1", "-t", "2"]}));
    let result = plugins.run("ftp", json!({})).await;
    assert_eq!(result.status, Status::Fail, "{}", result.reason);
    plugins.script("named", "#!/bin/sh\necho ok\n", json!({}));
    assert_eq!(plugins.run("named", json!({})).await.reason, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_many_nodes_runs_with_bounded_concurrency() {
    let mut plugins = Plugins::new();
    plugins.settings.concurrency = 3;
    plugins.script("each", "#!/bin/sh\necho \"$1\"\n[ \"$1\" != node-9 ] || exit 2\n", json!({"argv": ["{node}"]}));
    let results = plugins.runner().run(request(&nodes(20), json!({"plugin": "each"}), 60.0)).await;
    assert_statuses(&results, &[("node-9", Status::Fail)]);
    assert!(results.iter().all(|result| result.reason == result.node.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_carry_a_batch_and_bad_lines_harm_only_themselves() {
    let plugins = Plugins::new();
    let script = r#"#!/bin/sh
        sed -n 's/.*"node":"\([^"]*\)".*/\1/p' | while read -r node; do
            case $node in
                node-1) echo '{"node":"node-1","status":"fail","reason":"bad \u001b[31mfirmware","verified_at":1000,"boot":"b1"}' ;;
                node-2) echo 'this is no JSON' ;;
                node-3) echo '{"node":"node-3","status":"splendid"}' ;;
                node-4) ;;
                *) echo "{\"node\":\"$node\",\"status\":\"pass\"}" ;;
            esac
        done
        echo '{"node":"stranger","status":"pass"}'
        "#;
    plugins.script("lines", script, json!({"style": "jsonl", "exit_codes": {}, "self_reported": true}));
    let runner = plugins.runner();
    let results = runner.run(request(&nodes(6), json!({"plugin": "lines"}), 30.0)).await;
    let errors = ["node-2", "node-3", "node-4"].map(|name| (name, Status::Error));
    assert_statuses(&results, &[&errors[..], &[("node-1", Status::Fail)]].concat());
    let bad = of(&results, "node-1");
    assert_eq!(bad.reason, "bad \\u{1b}[31mfirmware");
    assert_eq!((bad.verified_at.unwrap().0, bad.boot.as_deref(), bad.self_reported), (1000, Some("b1"), true));
    assert!(of(&results, "node-4").reason.contains("2 of its lines"), "{}", of(&results, "node-4").reason);
    assert_eq!(runner.misbehaviour().unasked, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_said_before_a_crash_count() {
    let plugins = Plugins::new();
    let script = "#!/bin/sh\necho '{\"node\":\"node-1\",\"status\":\"pass\"}'\necho trouble >&2\nexit 1\n";
    plugins.script("half", script, json!({"style": "jsonl", "exit_codes": {}}));
    let results = plugins.runner().run(request(&nodes(2), json!({"plugin": "half"}), 30.0)).await;
    assert_statuses(&results, &[("node-2", Status::Error)]);
    assert_eq!(of(&results, "node-2").reason, "exit code 1: trouble");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_example_finds_open_ports_that_must_be_closed() {
    let plugins = Plugins::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/checks");
    for name in ["closed_ports", "closed_ports.json"] {
        std::fs::copy(shipped.join(name), plugins.path(name)).unwrap();
    }
    chmod(&plugins.path("closed_ports"), 0o755);
    chmod(&plugins.path("closed_ports.json"), 0o644);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port().to_string();
    let run = async |ports: String| {
        let parameters = json!({"plugin": "closed_ports", "arguments": {"ports": ports}});
        plugins
            .runner()
            .run(request(&["localhost".to_owned(), "no-such-host.invalid".to_owned()], parameters, 30.0))
            .await
    };
    let results = run(format!("1,{open}")).await;
    assert_eq!(of(&results, "localhost").status, Status::Fail, "{}", of(&results, "localhost").reason);
    assert!(of(&results, "localhost").reason.contains(&open));
    assert_eq!(of(&results, "no-such-host.invalid").status, Status::Error);
    drop(listener);
    assert_eq!(of(&run(open.clone()).await, "localhost").status, Status::Pass);
}

#[test]
fn every_shipped_manifest_pins_the_program_beside_it() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/checks");
    let mut seen = 0;
    for entry in
        std::fs::read_dir(&shipped).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|x| x == "json"))
    {
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        let program = manifest["program"].as_str().unwrap();
        if !program.starts_with('/') {
            assert_eq!(manifest["sha256"], sha256(&shipped.join(program)), "{program}: update its manifest");
            seen += 1;
        }
    }
    assert!(seen > 0);
}
