//! What cannot be reached is asked again: as often as the check says, inside its deadline, and only about those not yet reported.

use std::sync::Mutex;

use super::*;

/// What one attempt reports, and how it ends.
type Attempt = (Vec<(&'static str, Status)>, Result<(), ProviderError>);

/// Goes through its attempts, and remembers who was asked about when.
#[derive(Default)]
struct Flaky {
    attempts: Mutex<Vec<Attempt>>,
    asked: Mutex<Vec<(Instant, Vec<String>)>>,
}

impl Flaky {
    fn going_through(mut attempts: Vec<Attempt>) -> (Runner, Arc<Self>) {
        attempts.reverse();
        let flaky = Arc::new(Self { attempts: Mutex::new(attempts), ..Self::default() });
        (Runner::new(flaky.clone(), Limits { batches: 1 }).unwrap(), flaky)
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().iter().map(|(_, nodes)| nodes.clone()).collect()
    }
}

#[async_trait]
impl Provider for Flaky {
    fn name(&self) -> AdapterName {
        AdapterName::new("flaky").unwrap()
    }

    fn parameter_schema(&self) -> Value {
        json!({"type": "object"})
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let nodes = request.nodes.iter().map(ToString::to_string).collect();
        self.asked.lock().unwrap().push((Instant::now(), nodes));
        let (reports, end) = self.attempts.lock().unwrap().pop().unwrap_or((Vec::new(), gone("for good")));
        for (node, status) in reports {
            let (node, now) = (NodeName::new(node).unwrap(), request.now());
            let result = NodeResult {
                node,
                status,
                reason: "said".into(),
                requested_at: now,
                finished_at: now,
                verified_at: None,
                boot: None,
                self_reported: false,
            };
            results.send(result).await.unwrap();
        }
        end
    }
}

fn gone(told: &str) -> Result<(), ProviderError> {
    Err(ProviderError::Transport(told.into()))
}

fn with_retries(nodes: &[&str], retries: u32) -> CheckRequest {
    CheckRequest { retries, ..request(nodes, json!({})) }
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_comes_back_is_asked_only_about_those_not_yet_reported() {
    let (runner, flaky) = Flaky::going_through(vec![
        (vec![("b", Status::Fail)], gone("reset")),
        (vec![("a", Status::Pass)], gone("reset again")),
        (vec![("c", Status::Pass)], Ok(())),
    ]);
    let results = runner.run(with_retries(&["a", "b", "c"], 2)).await;
    assert_eq!(statuses(&results), [("a", Status::Pass), ("b", Status::Fail), ("c", Status::Pass)]);
    assert_eq!(flaky.asked(), [vec!["a", "b", "c"], vec!["a", "c"], vec!["c"]]);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_what_the_rest_get_when_the_attempts_are_used_up() {
    for retries in [0, 1, 3] {
        let told = ["no route", "refused", "reset", "cut"];
        let (runner, flaky) = Flaky::going_through(told.iter().map(|told| (Vec::new(), gone(told))).collect());
        let results = runner.run(with_retries(&["a"], retries)).await;
        assert_eq!(flaky.asked().len(), retries as usize + 1);
        assert_eq!((results[0].status, results[0].reason.as_str()), (Status::Error, told[retries as usize]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_pauses_double_with_jitter_and_stay_inside_the_deadline() {
    let (runner, flaky) = Flaky::going_through(Vec::new());
    let began = Instant::now();
    let results = runner.run(with_retries(&["a"], 10)).await;
    // 0.2 s and its doubles, each by a half to three halves of it: ten of them need 100 s, and there are ten.
    assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((results[0].status, results[0].reason.as_str()), (Status::Error, "for good"));
    let asked = flaky.asked.lock().unwrap();
    assert!((5..=8).contains(&asked.len()), "{} attempts", asked.len());
    for (nth, pair) in asked.windows(2).enumerate() {
        let (pause, base) = (pair[1].0 - pair[0].0, PAUSE.0 * 2_u32.pow(nth.try_into().unwrap()));
        // Timers are kept to the millisecond.
        let slack = Duration::from_millis(2);
        assert!(pause + slack >= base / 2 && pause <= base * 3 / 2 + slack, "pause {nth}: {pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_not_asked_about_again() {
    let (runner, flaky) = Flaky::going_through(vec![(Vec::new(), Err(ProviderError::Fault("no such plugin".into())))]);
    let results = runner.run(with_retries(&["a"], 10)).await;
    assert_eq!((flaky.asked().len(), results[0].reason.as_str()), (1, "no such plugin"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_pause_of_another_batch() {
    let (runner, flaky) = Flaky::going_through(vec![(Vec::new(), gone("reset")), (vec![("b", Status::Pass)], Ok(()))]);
    let after_the_first = async {
        while flaky.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        runner.run(with_retries(&["b"], 0)).await
    };
    let (first, second) = tokio::join!(runner.run(with_retries(&["a"], 1)), after_the_first);
    assert_eq!(flaky.asked(), [["a"], ["b"], ["a"]], "one turn for all, and it is free while the first one waits");
    assert_eq!((first[0].status, second[0].status), (Status::Error, Status::Pass));
}
