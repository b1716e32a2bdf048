//! Whose fault it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn healthy() -> Answers {
    let checks = json!({"policy_number": 3, "adapters": {"command": 1}, "overdue": 0, "unsigned_admin": false,
                        "behind": {}, "health": {"faults": []}});
    let pool = json!({"name": "default", "overridden": 0, "trusted": 10, "untrusted": 0, "unknown": 0,
                      "expiring": 0, "max_silence_s": 600});
    let nodes = json!({"policy_number": 3, "unsigned_admin": false, "pools": [pool]});
    Answers { checks: Ok(checks), nodes: Ok(nodes), runs: Vec::new(), pool_file: Some(PoolFile { age_s: 2 }) }
}

fn run(check: &str, outcomes: Value) -> Value {
    let done: i64 = outcomes.as_object().map(|o| o.values().filter_map(Value::as_i64).sum()).unwrap_or(0);
    json!({"run": "1-1", "check": check, "finished": true, "done": done, "outcomes": outcomes})
}

fn said(found: &[Finding], about: About) -> String {
    let of = found.iter().filter(|finding| finding.about == about);
    of.map(|finding| finding.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_healthy_service_gives_no_warning() {
    let found = of(&healthy());
    assert_eq!(found, []);
    assert_eq!((verdict(&found).as_str(), exit(&found)), ("All is well.", Exit::Done));
}

#[test]
fn unsigned_calls_silence_and_a_lagging_policy_are_told() {
    let mut answers = healthy();
    if let (Ok(checks), Ok(nodes)) = (&mut answers.checks, &mut answers.nodes) {
        checks["unsigned_admin"] = json!(true);
        checks["adapters"] = json!({"command": 0});
        checks["adapter_faults"] = json!(["adapter tpm2 (host-1): the bus of the agents cannot be reached: refused"]);
        checks["dead_letters"] = json!(7);
        checks["behind"] = json!({"boot": 90});
        checks["health"] = json!({"faults": ["loop recast is dead: it has ended"]});
        nodes["policy_number"] = json!(2);
        nodes["pools"][0]["overridden"] = json!(4);
    }
    let found = of(&answers);
    let service = said(&found, About::Service);
    for part in [
        "UNSIGNED",
        "no adapter command",
        "host-1",
        "7 messages",
        "should have run 90s ago",
        "recast is dead",
        "policy 3",
    ] {
        assert!(service.contains(part), "{part}: {service}");
    }
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(said(&found, About::Note).contains("override only"));
    assert_eq!(exit(&found), Exit::SERVICE_AT_FAULT);
    answers.nodes = Err(CliError::unavailable("x"));
    let service = said(&of(&answers), About::Service);
    assert!(service.contains("nodes does not answer") && !service.contains("policy"), "{service}");
}

#[test]
fn where_nobody_can_be_judged_it_is_not_the_hosts_and_where_a_few_cannot_it_is() {
    let mut answers = healthy();
    answers.runs = vec![
        run("boot", json!({"error": 10})),
        run("tls", json!({"pass": 8, "timeout": 1, "fail": 1})),
        run("tls", json!({"error": 10})),
    ];
    let found = of(&answers);
    assert!(said(&found, About::Service).contains("check boot: 10 of 10 nodes could not be judged"), "{found:?}");
    let hosts = said(&found, About::Hosts);
    assert!(hosts.contains("check tls: 1 of 10 nodes could not be judged"), "{hosts}");
    assert!(hosts.contains("check tls: 1 of 10 nodes failed"), "only the last run counts: {hosts}");
    answers.runs.remove(0);
    let found = of(&answers);
    assert_eq!(exit(&found), Exit::HOSTS_NEED_A_LOOK);
    assert!(verdict(&found).starts_with("SPICE works"));
}

#[test]
fn trust_that_runs_out_and_a_deaf_pool_cache_are_told_before_they_matter() {
    let mut answers = healthy();
    if let Ok(nodes) = &mut answers.nodes {
        nodes["pools"][0]["expiring"] = json!(1);
    }
    assert!(said(&of(&answers), About::Hosts).contains("1 of 10 trusted nodes missed a check"));
    if let Ok(nodes) = &mut answers.nodes {
        nodes["pools"][0]["expiring"] = json!(9);
    }
    assert!(said(&of(&answers), About::Service).contains("9 of 10 trusted nodes"));
    answers.pool_file = Some(PoolFile { age_s: 60 });
    assert!(said(&of(&answers), About::Service).contains("unknown to the scheduler here in 9m"));
    answers.pool_file = Some(PoolFile { age_s: 700 });
    assert!(said(&of(&answers), About::Service).contains("are unknown to the scheduler here;"));
}

#[test]
fn a_database_in_trouble_is_told_once_and_so_are_readers_that_know_a_higher_epoch() {
    let mut answers = healthy();
    if let Ok(nodes) = &mut answers.nodes {
        nodes["database"] = json!({"up": false, "reason": "full", "error": "disk is full", "for_s": 7});
        nodes["health"] = json!({"faults": ["database: it does not answer within 5 s", "broker: away: refused"]});
        nodes["epoch_known_by_readers"] = json!(8);
    }
    let found = of(&answers);
    let service = said(&found, About::Service);
    for part in ["nodes CANNOT USE ITS DATABASE (full, for 7 s): disk is full", "broker: away", "know epoch 8"] {
        assert!(service.contains(part), "{part}: {service}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
}
