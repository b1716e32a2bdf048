//! The command provider against programs that hang, flood, multiply and pry, and against whoever wants to slip one in.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::json;
use spice::protocol::Status;
use tokio::time::Instant;

use crate::oat::{nodes, request};
use crate::plugins::{Plugins, chmod, eventually, living, marker, processes_of, sha256, spawn};

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_plugin_is_killed_at_the_deadline_with_all_it_started() {
    let plugins = Plugins::new();
    let mark = marker();
    let script = format!(
        "#!/bin/sh\nsleep {mark} &\nsetsid sleep {mark} &\n(setsid sh -c 'sleep {mark} & sleep {mark}' &)\nsleep {mark}\n"
    );
    plugins.script("hang", &script, json!({"timeout_s": 600}));
    let began = Instant::now();
    let running = tokio::spawn({
        let runner = plugins.runner();
        let request = request(&nodes(1), json!({"plugin": "hang"}), 3.0);
        async move { runner.run(request).await.remove(0) }
    });
    eventually("the sleepers start", || living(&mark) >= 5).await;
    let result = running.await.unwrap();
    assert_eq!(result.status, Status::Timeout, "{}", result.reason);
    assert!(result.reason.contains("stopped"), "the plugin's own end, not the runner's patience: {}", result.reason);
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(living(&mark), 0, "all killed before the result was given");

    plugins.script("hang", &script, json!({"timeout_s": 1}));
    let began = Instant::now();
    assert_eq!(plugins.run("hang", json!({})).await.status, Status::Timeout);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(living(&mark), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_left_behind_is_killed_when_the_plugin_ends() {
    let plugins = Plugins::new();
    let mark = marker();
    let script =
        format!("#!/bin/sh\n(setsid sleep {mark} >/dev/null 2>&1 </dev/null &)\nsetsid sleep {mark} &\necho fine\n");
    plugins.script("daemon", &script, json!({}));
    let result = plugins.run("daemon", json!({})).await;
    assert_eq!((result.status, result.reason.as_str()), (Status::Pass, "fine"));
    assert_eq!(living(&mark), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_nobody_waits_for_any_more_is_killed() {
    let plugins = Plugins::new();
    let mark = marker();
    plugins.script("hang", &format!("#!/bin/sh\nsleep {mark} & sleep {mark}\n"), json!({}));
    let task = spawn(&plugins, "hang");
    eventually("the plugin starts", || living(&mark) >= 2).await;
    task.abort();
    eventually("the plugin ends", || living(&mark) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_turn_never_comes_are_errors_not_timeouts_of_their_own() {
    let mut plugins = Plugins::new();
    plugins.settings.concurrency = 1;
    plugins.script("slow", "#!/bin/sh\nsleep 30\n", json!({}));
    let mut results = plugins.runner().run(request(&nodes(3), json!({"plugin": "slow"}), 3.0)).await;
    results.sort_by_key(|result| result.status.as_str());
    assert_eq!(results.iter().map(|r| r.status).collect::<Vec<_>>(), [Status::Error, Status::Error, Status::Timeout]);
    assert!(results[0].reason.contains("busy"), "{}", results[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_stopped_and_is_an_error() {
    let plugins = Plugins::new();
    let limits = json!({"limits": {"output_bytes": 4096}});
    plugins.script("flood", "#!/bin/sh\nexec yes OK\n", limits.clone());
    plugins.script("shout", "#!/bin/sh\nyes OK >&2\n", limits);
    for name in ["flood", "shout"] {
        let began = Instant::now();
        let result = plugins.run(name, json!({})).await;
        assert_eq!(result.status, Status::Error, "{}", result.reason);
        assert!(result.reason.contains("4096"), "{}", result.reason);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stays_within_its_limit_and_leaves_nothing() {
    let mut plugins = Plugins::new();
    plugins.settings.user = "games".to_owned();
    let uid = nix::unistd::User::from_name("games").unwrap().unwrap().uid.as_raw();
    plugins.script(
        "bomb",
        "#!/bin/sh\nbomb() { bomb | bomb & }\nbomb\nsleep 30\n",
        json!({"timeout_s": 2, "limits": {"processes": 40}}),
    );
    let task = spawn(&plugins, "bomb");
    let mut most = 0;
    while !task.is_finished() {
        most = most.max(processes_of(uid));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let result = task.await.unwrap().remove(0);
    assert!(matches!(result.status, Status::Timeout | Status::Error), "{}", result.reason);
    assert!((2..=40).contains(&most), "{most} processes at once");
    assert_eq!(processes_of(uid), 0, "all of it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_processor_time_and_file_size_are_limited() {
    let plugins = Plugins::new();
    plugins.script(
        "fat",
        "#!/usr/bin/perl\nmy $x = 'a' x 300_000_000; print \"OK\\n\";\n",
        json!({"limits": {"memory_mb": 64}}),
    );
    assert_eq!(plugins.run("fat", json!({})).await.status, Status::Error);
    plugins.script("busy", "#!/bin/sh\nwhile :; do :; done\n", json!({"limits": {"cpu_s": 1}}));
    let result = plugins.run("busy", json!({})).await;
    assert_eq!(result.status, Status::Error);
    assert!(result.reason.contains("signal"), "{}", result.reason);
    let big = "#!/bin/sh\nfile=$(mktemp) || exit 3\ntrap 'rm -f \"$file\"' EXIT\nhead -c 3000000 /dev/zero > \"$file\" 2>/dev/null\nwc -c < \"$file\"\n";
    plugins.script("big", big, json!({"limits": {"file_mb": 1}}));
    assert_eq!(plugins.run("big", json!({})).await.reason, "1048576");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_is_another_user_without_groups_rights_variables_and_files() {
    use std::os::fd::AsFd;
    let plugins = Plugins::new();
    // A descriptor that a careless library left inheritable.
    let leak = std::fs::File::open("/etc/shadow").unwrap();
    rustix::io::fcntl_setfd(leak.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();

    plugins.script("ids", "#!/bin/sh\necho $(id -u) $(id -ru) $(id -G) $(pwd) $(umask)\n", json!({}));
    let (uid, gid) = (nobody.uid, nobody.gid);
    assert_eq!(plugins.run("ids", json!({})).await.reason, format!("{uid} {uid} {gid} / 0077"));

    plugins.script(
        "status",
        "#!/bin/sh\necho $(grep -E '^(Uid|Groups|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/$$/status)\n",
        json!({}),
    );
    let none = "0000000000000000";
    let status = format!(
        "Uid: {uid} {uid} {uid} {uid} Groups: CapInh: {none} CapPrm: {none} CapEff: {none} CapAmb: {none} NoNewPrivs: 1"
    );
    assert_eq!(plugins.run("status", json!({})).await.reason, status);

    plugins.script(
        "environment",
        "#!/bin/sh\ntr '\\0' ' ' < /proc/$$/environ\n",
        json!({"environment": {"FIXED": "x"}}),
    );
    assert_eq!(plugins.run("environment", json!({})).await.reason, "PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C FIXED=x");

    // A script has, besides the three, its own text open; a compiled program has nothing (ls opens the directory it lists).
    plugins.script(
        "descriptors",
        "#!/bin/sh\nfor fd in /proc/$$/fd/*; do readlink $fd; done | sort | tr '\\n' ' '\n",
        json!({}),
    );
    let reason = plugins.run("descriptors", json!({})).await.reason;
    assert!(!reason.contains("shadow") && !reason.contains("socket"), "{reason}");
    let others: Vec<&str> = reason.split_whitespace().filter(|word| word.starts_with('/')).collect();
    assert!(others.iter().all(|path| *path == "/dev/null" || path.starts_with("/memfd:spice-plugin")), "{reason}");
    plugins.manifest("ls", "/usr/bin/ls".as_ref(), json!({"argv": ["-m", "/proc/self/fd"]}));
    assert_eq!(plugins.run("ls", json!({})).await.reason, "0, 1, 2, 3");

    plugins.script(
        "session",
        "#!/bin/sh\nread -r _ _ _ _ group session _ < /proc/$$/stat\necho $(($$ == group)) $(($$ == session))\n",
        json!({}),
    );
    assert_eq!(plugins.run("session", json!({})).await.reason, "1 1");
    drop(leak);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_cannot_be_read_and_a_readable_one_stops_all_plugins() {
    let mut plugins = Plugins::new();
    let key = plugins.path("service.key");
    std::fs::write(&key, "secret").unwrap();
    chmod(&key, 0o600);
    plugins.settings.secret_files = vec![key.clone()];
    plugins.script("thief", &format!("#!/bin/sh\ncat {} && exit 0\necho denied; exit 2\n", key.display()), json!({}));
    let result = plugins.run("thief", json!({})).await;
    assert_eq!((result.status, result.reason.as_str()), (Status::Fail, "denied"));
    chmod(&key, 0o644);
    let result = plugins.run("thief", json!({})).await;
    assert_eq!(result.status, Status::Error);
    assert!(result.reason.contains("service.key") && result.reason.contains("chmod"), "{}", result.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_root_or_does_not_exist_is_refused() {
    let mut plugins = Plugins::new();
    plugins.script("ok", "#!/bin/sh\necho ok\n", json!({}));
    for (user, told) in [("root", "root or the service's own"), ("no_such_user", "does not exist")] {
        plugins.settings.user = user.to_owned();
        let result = plugins.run("ok", json!({})).await;
        assert_eq!(result.status, Status::Error);
        assert!(result.reason.contains(told), "{}", result.reason);
    }
}

/// What the launcher reports when a service that is not root starts it, with these capabilities kept.
fn launched_by_games(capabilities: &str) -> String {
    use std::io::{Read, Write};
    let plugins = Plugins::new();
    plugins.script(
        "ok",
        "#!/bin/sh\ngrep -q '^CapEff:.0*$' /proc/$$/status && [ \"$(id -u)\" = 65534 ] && exit 7\n",
        json!({}),
    );
    let program = plugins.path("ok.sh");
    // A copy that `games` can reach.
    let launcher = plugins.path("spiced");
    std::fs::copy(env!("CARGO_BIN_EXE_spiced"), &launcher).unwrap();
    chmod(&launcher, 0o755);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let kept = [format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")];
    let mut child = std::process::Command::new("setpriv")
        .args(["--reuid=games", "--regid=games", "--clear-groups"])
        .args(kept)
        .args([launcher.as_os_str(), "exec-plugin".as_ref()])
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    let job = json!({"program": program, "sha256": sha256(&program), "argv": ["ok"], "environment": {}, "stdin": null, "timeout_ms": 5000,
        "confinement": {"uid": 65534, "gid": 65534, "memory_bytes": 1 << 28, "cpu_s": 5, "processes": 1000, "files": 32, "file_bytes": 0,
        "secret_files": []}});
    writeln!(ours, "{job}").unwrap();
    let mut report = String::new();
    ours.read_to_string(&mut report).unwrap();
    child.wait().unwrap();
    report
}

#[test]
fn a_service_that_is_not_root_needs_three_capabilities_and_says_so() {
    let report = launched_by_games("-all");
    assert!(report.contains("cannot change to the plugins' user") && report.contains("CAP_SETUID"), "{report}");
    let report = launched_by_games("+setuid,+setgid,+kill");
    assert!(report.contains("\"exited\":7"), "another user, without the service's capabilities: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_forks_and_dies_all_the_time_is_caught() {
    let mut plugins = Plugins::new();
    plugins.settings.user = "daemon".to_owned();
    let uid = nix::unistd::User::from_name("daemon").unwrap().unwrap().uid.as_raw();
    let comet = "#!/usr/bin/perl\nuse POSIX; $| = 1; print \"gone\\n\"; close STDOUT; close STDERR;\nif (fork == 0) { while (1) { fork and exit; POSIX::setsid(); } }\nselect undef, undef, undef, 0.3;\n";
    plugins.script("comet", comet, json!({"limits": {"processes": 20}}));
    let result = plugins.run("comet", json!({})).await;
    assert_eq!((result.status, result.reason.as_str()), (Status::Pass, "gone"));
    assert_eq!(processes_of(uid), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_program_is_refused_until_it_is_admitted_again() {
    let plugins = Plugins::new();
    plugins.script("ok", "#!/bin/sh\necho ok\n", json!({}));
    assert_eq!(plugins.run("ok", json!({})).await.status, Status::Pass);
    std::fs::write(plugins.path("ok.sh"), "#!/bin/sh\necho changed\n").unwrap();
    let result = plugins.run("ok", json!({})).await;
    assert_eq!(result.status, Status::Error);
    assert!(result.reason.contains("has changed since it was admitted"), "{}", result.reason);
    plugins.manifest("ok", &plugins.path("ok.sh"), json!({}));
    assert_eq!(plugins.run("ok", json!({})).await.reason, "changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_could_have_put_there_is_refused() {
    let plugins = Plugins::new();
    let script = || plugins.script("ok", "#!/bin/sh\necho ok\n", json!({}));
    let refused = async |what: &str| {
        let result = plugins.run("ok", json!({})).await;
        assert_eq!(result.status, Status::Error, "{what}");
        assert!(result.reason.contains(what), "{what}: {}", result.reason);
    };
    let program = plugins.path("ok.sh");
    script();
    chmod(&program, 0o644);
    refused("not executable").await;
    chmod(&program, 0o775);
    refused("chmod go-w").await;
    script();
    chmod(&plugins.path("ok.json"), 0o666);
    refused("chmod go-w").await;
    script();
    chmod(&plugins.settings.plugin_dir, 0o777);
    refused("chmod go-w").await;
    chmod(&plugins.settings.plugin_dir, 0o755);
    script();
    nix::unistd::chown(&program, Some(65534.into()), None).unwrap();
    refused("owned by uid 65534").await;

    // The same bytes behind a link are refused too: the link could be turned.
    std::fs::rename(&program, plugins.path("real.sh")).unwrap();
    symlink(plugins.path("real.sh"), &program).unwrap();
    refused("symbolic link").await;
    std::fs::remove_file(&program).unwrap();
    script();
    std::fs::rename(plugins.path("ok.json"), plugins.path("real.json")).unwrap();
    symlink(plugins.path("real.json"), plugins.path("ok.json")).unwrap();
    refused("symbolic link").await;
    std::fs::remove_file(plugins.path("ok.json")).unwrap();
    script();
    std::fs::write(&program, "echo no interpreter line\n").unwrap();
    plugins.manifest("ok", &program, json!({}));
    refused("neither an ELF program").await;
    assert!(plugins.run("absent", json!({})).await.reason.contains("no usable manifest"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_and_names_cannot_become_commands_or_options() {
    let plugins = Plugins::new();
    let trace = plugins.path("trace");
    plugins.script(
        "echo",
        "#!/bin/sh\nprintf '%s' \"$#\"\nprintf ' <%s>' \"$@\"\n",
        json!({"parameters": {"text": {"type": "string", "required": true}}, "argv": ["--text={text}", "{text}", "{node}"]}),
    );
    let nasty = format!("$(touch {0}) `touch {0}`; touch {0} && x | y > z * 'q\" {{node}}", trace.display());
    let result = plugins.run("echo", json!({"text": nasty})).await;
    let expected = format!("3 <--text={nasty}> <{nasty}> <node-1>");
    assert_eq!(result.reason, expected.split('|').next().unwrap().trim_end());
    assert!(!trace.exists());
    for (text, told) in [("-rf", "must not begin"), ("a\nb", "control"), ("\u{0}", "control")] {
        let result = plugins.run("echo", json!({"text": text})).await;
        assert_eq!(result.status, Status::Error);
        assert!(result.reason.contains(told), "{}", result.reason);
    }
    for parameters in [
        json!({"plugin": "../../bin/sh"}),
        json!({"plugin": "/bin/sh"}),
        json!({"plugin": "echo", "program": "/bin/sh"}),
        json!({}),
    ] {
        let result = plugins.runner().run(request(&nodes(1), parameters, 10.0)).await.remove(0);
        assert_eq!(result.status, Status::Error);
        assert!(result.reason.contains("parameters are refused"), "{}", result.reason);
    }
}
