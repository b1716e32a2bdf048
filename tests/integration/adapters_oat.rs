//! The openattestation provider against a real service over TLS with a private authority and client certificates.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spice::adapter::CheckRequest;
use spice::adapter::open_attestation::Settings;
use spice::protocol::Status;
use tokio::time::Instant;

use crate::oat::{Oat, ask, assert_statuses, nodes, of, request, runner};

#[tokio::test(flavor = "multi_thread")]
async fn both_dialects_give_each_node_its_level_and_the_age_of_the_verdict() {
    for dialect in ["1", "2"] {
        let oat = Oat::start(dialect, 5, &["--require-client-cert"]);
        oat.order(
            json!({"vtime_shift": -100, "level": {"node-2": "untrusted", "node-3": "unknown", "node-4": "timeout",
            "node-5": "\u{1b}[2Jodd"}}),
        )
        .await;
        let results = oat.runner().run(request(&nodes(5), json!({}), 20.0)).await;
        assert_statuses(
            &results,
            &[
                ("node-2", Status::Fail),
                ("node-3", Status::Error),
                ("node-4", Status::Timeout),
                ("node-5", Status::Error),
            ],
        );
        for name in ["node-1", "node-2"] {
            let result = of(&results, name);
            let age = result.requested_at.since(result.verified_at.unwrap());
            assert!((90..=110).contains(&age.as_secs()), "{dialect}: {age:?}");
        }
        assert!(!of(&results, "node-5").reason.contains('\u{1b}'));
        let state = oat.state().await;
        assert_eq!(state["last_headers"]["x-auth-blob"], "blob-4711");
        assert!(state["last_headers"]["client"].as_str().unwrap().contains("spice"), "{state}");
        assert_eq!(state["requests"].as_array().unwrap().len(), 1, "one batch, one request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_format_is_understood_and_an_unreadable_one_is_an_error() {
    let oat = Oat::start("2", 1, &[]);
    let runner = Arc::new(oat.runner());
    for format in ["default", "iso-z", "iso-naive", "ctime"] {
        oat.order(json!({"vtime_format": format})).await;
        let results = ask(&runner, &nodes(1), 10.0).await;
        assert_eq!(results[0].status, Status::Pass, "{format}: {}", results[0].reason);
        let off = (results[0].verified_at.unwrap().0 - results[0].requested_at.0).abs();
        assert!(off < 10_000, "{format}: {off} ms");
    }
    oat.order(json!({"vtime_format": "junk"})).await;
    assert_eq!(ask(&runner, &nodes(1), 10.0).await[0].status, Status::Error);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_and_future_verdicts_are_errors() {
    let oat = Oat::start("1", 2, &[]);
    let runner = oat.runner();
    oat.order(json!({"vtime_shift": -500})).await;
    let results = runner.run(request(&nodes(2), json!({"max_age_s": 300}), 10.0)).await;
    assert!(results.iter().all(|r| r.status == Status::Error && r.reason.contains("max_age_s")), "{results:?}");
    assert_statuses(&runner.run(request(&nodes(2), json!({"max_age_s": 600}), 10.0)).await, &[]);
    oat.order(json!({"vtime_shift": 120, "level": {"node-2": "untrusted"}})).await;
    let results = runner.run(request(&nodes(2), json!({}), 10.0)).await;
    assert!(results.iter().all(|r| r.status == Status::Error && r.reason.contains("future")), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_holds_up_nobody_else_and_is_asked_alone_next_time() {
    let oat = Oat::start("1", 32, &["--hold", "50"]);
    let runner = Arc::new(oat.runner());
    let silent = || oat.order(json!({"silent": ["node-7", "node-20"]}));
    silent().await;
    let began = Instant::now();
    let results = ask(&runner, &nodes(32), 14.0).await;
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    assert_statuses(&results, &[("node-7", Status::Timeout), ("node-20", Status::Timeout)]);

    // Next time the others need one request, and the culprits one each.
    oat.take_requests().await;
    silent().await;
    let results = ask(&runner, &nodes(32), 4.0).await;
    assert_statuses(&results, &[("node-7", Status::Timeout), ("node-20", Status::Timeout)]);
    let mut sizes: Vec<usize> = oat.take_requests().await.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 30]);

    // They answered alone: from then on they are asked with the others.
    assert_statuses(&ask(&runner, &nodes(32), 10.0).await, &[]);
    oat.take_requests().await;
    assert_statuses(&ask(&runner, &nodes(32), 10.0).await, &[]);
    assert_eq!(oat.take_requests().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_slow_for_all_is_waited_for() {
    let oat = Oat::start("2", 16, &[]);
    // Every slice is over before any answer comes.
    oat.order(json!({"delay": 4.0, "level": {"node-3": "untrusted"}})).await;
    let results = oat.runner().run(request(&nodes(16), json!({}), 6.0)).await;
    assert_statuses(&results, &[("node-3", Status::Fail)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_spoils_the_whole_batch_is_found_by_halving() {
    for (dialect, shown) in
        [("1", "HTTP 500, 500: host name node-5"), ("2", "HTTP 400, AS_HOST_COMMUNICATION_ERROR: Host")]
    {
        let oat = Oat::start(dialect, 20, &[]);
        let runner = Arc::new(oat.runner());
        oat.order(json!({"poison": ["node-5"]})).await;
        let results = ask(&runner, &nodes(20), 20.0).await;
        assert_statuses(&results, &[("node-5", Status::Error)]);
        assert!(of(&results, "node-5").reason.contains(shown), "{}", of(&results, "node-5").reason);
        let requests = oat.take_requests().await.len();
        assert!(requests <= 11, "{requests} requests for one culprit among 20");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_1x_refuses_in_a_batch_are_asked_alone_from_the_start() {
    let oat = Oat::start("1", 3, &[]);
    let mut names = nodes(3);
    names.push(format!("{}.example.org", "x".repeat(50)));
    let results = oat.runner().run(request(&names, json!({}), 10.0)).await;
    assert_statuses(&results, &[(&names[3], Status::Error)]);
    let mut sizes: Vec<usize> = oat.take_requests().await.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_contradictions_and_bad_entries_spoil_one_host_each() {
    let oat = Oat::start("2", 6, &[]);
    let runner = oat.runner();
    oat.order(json!({"missing": ["node-1"], "contradict": ["node-2"], "malformed": ["node-3"], "extra": ["node-99"]}))
        .await;
    let results = runner.run(request(&nodes(6), json!({}), 10.0)).await;
    assert_statuses(&results, &[("node-1", Status::Error), ("node-2", Status::Error), ("node-3", Status::Error)]);
    assert!(of(&results, "node-1").reason.contains("leaves this host out"));
    assert!(of(&results, "node-2").reason.contains("contradicts"));
    assert_eq!(results.len(), 6, "nobody asked about node-99");
    let requests = oat.take_requests().await;
    assert_eq!(requests.len(), 2, "all together, then the missing one alone: {requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_server_faults_are_errors_never_failures() {
    let oat = Oat::start("1", 4, &[]);
    oat.order(json!({"level": {"node-1": "untrusted"}})).await;
    let runner = Arc::new(oat.runner());
    let cases = [
        ("garbage", "not JSON"),
        ("html", "not JSON"),
        ("huge", "max_reply_bytes"),
        ("error", "AttestationServersFault"),
        ("unavailable", "HTTP 503"),
        ("empty", "leaves this host out"),
        ("cut", "reached"),
    ];
    for (mode, told) in cases {
        oat.order(json!({"mode": mode})).await;
        let results = ask(&runner, &nodes(4), 10.0).await;
        for result in &results {
            assert_eq!(result.status, Status::Error, "{mode}: {}", result.reason);
            assert!(result.reason.contains(told) && !result.reason.contains('\u{1b}'), "{mode}: {}", result.reason);
        }
    }
    oat.order(json!({"mode": "normal"})).await;
    assert_statuses(&ask(&runner, &nodes(4), 10.0).await, &[("node-1", Status::Fail)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_or_a_missing_client_certificate_is_an_error_that_names_the_options() {
    let oat = Oat::start("2", 1, &["--require-client-cert"]);
    let wrong = Settings { ca_file: Some(oat.file("other-ca.pem")), ..oat.settings() };
    let results = runner(wrong).run(request(&nodes(1), json!({}), 10.0)).await;
    assert_eq!(results[0].status, Status::Error);
    assert!(results[0].reason.contains("ca_file"), "{}", results[0].reason);

    let nameless = Settings { client_cert: None, client_key: None, ..oat.settings() };
    let results = runner(nameless).run(request(&nodes(1), json!({}), 10.0)).await;
    assert_eq!(results[0].status, Status::Error, "{}", results[0].reason);
    assert!(results[0].reason.to_lowercase().contains("certificate"), "{}", results[0].reason);

    let system = Settings { ca_file: None, ..oat.settings() };
    let results = runner(system).run(request(&nodes(1), json!({}), 10.0)).await;
    assert_eq!(results[0].status, Status::Error, "a private authority is not among the system's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_down_is_asked_again_and_believed_when_it_is_back() {
    let oat = Oat::start("2", 3, &[]);
    let runner = Arc::new(oat.runner());
    assert_statuses(&ask(&runner, &nodes(3), 10.0).await, &[]);
    oat.order(json!({"up": false})).await;
    let results = ask(&runner, &nodes(3), 10.0).await;
    assert!(results.iter().all(|r| r.status == Status::Error && r.reason.contains("cannot be reached")), "{results:?}");

    let patient = CheckRequest { retries: 10, ..request(&nodes(3), json!({}), 20.0) };
    let (results, ()) = tokio::join!(runner.run(patient), oat.order(json!({"up": true})));
    assert_statuses(&results, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_cannot_name_another_server() {
    let oat = Oat::start("2", 1, &[]);
    let results = oat.runner().run(request(&nodes(1), json!({"url": "https://127.0.0.1:1/"}), 5.0)).await;
    assert_eq!(results[0].status, Status::Error);
    assert!(results[0].reason.contains("url"), "{}", results[0].reason);
    assert!(oat.take_requests().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_answers_nothing_is_asked_as_often_as_the_check_says_whatever_the_number_of_groups() {
    let oat = Oat::start("2", 6, &[]);
    let runner = runner(Settings { batch: 2, ..oat.settings() });
    for (retries, requests) in [(0, 3), (2, 9)] {
        oat.order(json!({"mode": "unavailable"})).await;
        let results = runner.run(CheckRequest { retries, ..request(&nodes(6), json!({}), 20.0) }).await;
        assert!(results.iter().all(|r| r.status == Status::Error && r.reason.contains("HTTP 503")), "{results:?}");
        assert_eq!(oat.take_requests().await.len(), requests, "three groups, each asked {} times", retries + 1);
    }
}
