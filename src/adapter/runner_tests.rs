#![allow(clippy::unwrap_used, clippy::panic)]
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::adapter::Results;
use crate::clock::VirtualClock;
use crate::names::{CheckName, NodeName};

/// What a test provider does.
enum Act {
    Report(Vec<(&'static str, Status)>),
    ReportThenHang(Vec<(&'static str, Status)>),
    ReportThenPanic(Vec<(&'static str, Status)>),
    ReportThenError(Vec<(&'static str, Status)>),
}

struct Actor(Act);

#[async_trait]
impl Provider for Actor {
    fn name(&self) -> AdapterName {
        AdapterName::new("actor").unwrap()
    }

    fn parameter_schema(&self) -> Value {
        json!({"type": "object", "additionalProperties": false, "properties": {"level": {"type": "integer"}}})
    }

    fn validate(&self, parameters: &Value) -> Result<(), String> {
        if parameters["level"] == 13 { Err("13 is not a level".into()) } else { Ok(()) }
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let (Act::Report(list) | Act::ReportThenHang(list) | Act::ReportThenPanic(list) | Act::ReportThenError(list)) =
            &self.0;
        for (name, status) in list {
            let result = NodeResult {
                node: NodeName::new(name).unwrap(),
                status: *status,
                reason: "said".into(),
                requested_at: request.now(),
                finished_at: request.now(),
                verified_at: None,
                boot: None,
                self_reported: false,
            };
            results.send(result).await.unwrap();
        }
        match self.0 {
            Act::Report(_) => Ok(()),
            Act::ReportThenHang(_) => std::future::pending().await,
            Act::ReportThenPanic(_) => panic!("inside"),
            Act::ReportThenError(_) => Err(ProviderError::Fault("broken".into())),
        }
    }
}

fn request(nodes: &[&str], parameters: Value) -> CheckRequest {
    CheckRequest {
        check: CheckName::new("c").unwrap(),
        parameters,
        nodes: nodes.iter().map(|n| NodeName::new(n).unwrap()).collect(),
        deadline: Instant::now() + Duration::from_secs(10),
        retries: 2,
        clock: VirtualClock::starting_at(Timestamp(1_795_320_000_000)),
    }
}

fn runner(act: Act) -> Runner {
    Runner::new(Arc::new(Actor(act)), Limits { batches: 1 }).unwrap()
}

fn statuses(results: &[NodeResult]) -> Vec<(&str, Status)> {
    results.iter().map(|r| (r.node.as_str(), r.status)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hanging_provider_is_ended_at_the_deadline_and_what_it_said_counts() {
    let runner = runner(Act::ReportThenHang(vec![("a", Status::Fail)]));
    let began = Instant::now();
    let results = runner.run(request(&["a", "b"], json!({}))).await;
    assert_eq!(statuses(&results), [("a", Status::Fail), ("b", Status::Timeout)]);
    assert_eq!(began.elapsed().as_secs(), 10);
    // Its turn is free again.
    let again = runner.run(request(&["a"], json!({}))).await;
    assert_eq!(statuses(&again), [("a", Status::Fail)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_error_make_errors_of_the_unreported_only() {
    let panicking = runner(Act::ReportThenPanic(vec![("a", Status::Pass)]));
    let results = panicking.run(request(&["a", "b"], json!({}))).await;
    assert_eq!(statuses(&results), [("a", Status::Pass), ("b", Status::Error)]);
    assert_eq!(panicking.misbehaviour().panics, 1);

    let results = runner(Act::ReportThenError(vec![("b", Status::Pass)])).run(request(&["a", "b"], json!({}))).await;
    assert_eq!(statuses(&results), [("a", Status::Error), ("b", Status::Pass)]);
    assert_eq!(results[0].reason, "broken");
}

#[tokio::test(start_paused = true)]
async fn answers_nobody_asked_for_are_dropped_and_contradictions_worsen() {
    let said = vec![("x", Status::Pass), ("a", Status::Pass), ("a", Status::Fail), ("a", Status::Pass)];
    let runner = runner(Act::Report(said));
    let results = runner.run(request(&["a"], json!({}))).await;
    assert_eq!(statuses(&results), [("a", Status::Fail)]);
    assert_eq!(runner.misbehaviour(), Misbehaviour { unasked: 1, repeated: 2, panics: 0 });
}

#[tokio::test(start_paused = true)]
async fn bad_parameters_never_reach_the_provider() {
    let runner = runner(Act::Report(vec![("a", Status::Pass)]));
    for (bad, told) in
        [(json!({"level": "x"}), "/level"), (json!({"other": 1}), "other"), (json!({"level": 13}), "13 is not")]
    {
        let results = runner.run(request(&["a"], bad)).await;
        assert_eq!(results[0].status, Status::Error);
        assert!(results[0].reason.contains(told), "{}", results[0].reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_never_gets_its_turn_is_an_error_not_the_nodes_timeout() {
    let runner = Arc::new(runner(Act::ReportThenHang(vec![])));
    let first = tokio::spawn({
        let runner = Arc::clone(&runner);
        let mut long = request(&["a"], json!({}));
        long.deadline += Duration::from_secs(100);
        async move { runner.run(long).await }
    });
    while runner.turns.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let results = runner.run(request(&["b"], json!({}))).await;
    assert_eq!(results[0].status, Status::Error);
    assert!(results[0].reason.contains("busy"), "{}", results[0].reason);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_batch_over_the_limit_is_refused() {
    let names: Vec<String> = (0..201).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let results = runner(Act::Report(vec![])).run(request(&names, json!({}))).await;
    assert_eq!(results.len(), 201);
    assert!(results.iter().all(|r| r.status == Status::Error));
}

#[path = "runner_retries_tests.rs"]
mod retries;
