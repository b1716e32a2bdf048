//! The truth about every node, and the provider that tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Dice, boottime, note};
use crate::adapter::{CheckRequest, Provider, ProviderError, Results};
use crate::names::AdapterName;
use crate::protocol::{NodeResult, Status};

/// What a node truly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Good,
    Bad,
    Silent,
    /// The verifier cannot judge it.
    Odd,
    /// It says itself that it is good.
    Boasting,
    /// One check finds something, the other does not.
    Half,
}

impl Nature {
    pub(super) fn any(dice: &Dice) -> Self {
        let natures = [
            Self::Good,
            Self::Good,
            Self::Good,
            Self::Bad,
            Self::Bad,
            Self::Half,
            Self::Silent,
            Self::Odd,
            Self::Boasting,
        ];
        natures[dice.index(natures.len())]
    }
}

/// One answer of the provider.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub node: String,
    pub check: String,
    /// Which parameters it was asked with: of which check of this name, and which revision.
    pub made: i64,
    pub rule: i64,
    pub boot: u64,
    /// By the adapter's clock.
    pub requested_at: i64,
    pub status: Status,
    pub self_reported: bool,
    /// When it was asked, in true time.
    pub asked: Duration,
}

#[derive(Default)]
pub(super) struct Truth {
    pub natures: BTreeMap<String, Nature>,
    pub boots: BTreeMap<String, u64>,
    pub verdicts: Vec<Verdict>,
    /// Every time a node was asked about: check, node, true time.
    pub asked: Vec<(String, String, Duration)>,
}

#[derive(Clone)]
pub(super) struct Scripted {
    pub truth: Arc<Mutex<Truth>>,
    pub dice: Dice,
}

impl Scripted {
    pub(super) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> AdapterName {
        "scripted".parse().unwrap()
    }

    fn parameter_schema(&self) -> Value {
        json!({ "type": "object" })
    }

    async fn run(&self, request: CheckRequest, results: Results) -> Result<(), ProviderError> {
        let parameter = |name: &str| request.parameters.get(name).and_then(Value::as_i64).unwrap_or(0);
        let (made, rule) = (parameter("made"), parameter("rule"));
        for node in request.nodes.clone() {
            let asked = boottime().unwrap_or_default();
            let (requested_at, name) = (request.now(), node.to_string());
            let (nature, boot) = {
                let mut truth = self.truth();
                truth.asked.push((request.check.to_string(), name.clone(), asked));
                let boot = truth.boots.get(&name).copied().unwrap_or(0);
                (truth.natures.get(&name).copied().unwrap_or(Nature::Silent), boot)
            };
            tokio::time::sleep(self.dice.millis(5, 800)).await;
            let (status, self_reported) = match nature {
                Nature::Good => (Status::Pass, false),
                Nature::Bad => (Status::Fail, false),
                Nature::Silent => continue,
                Nature::Half if request.check.as_str() == "c1" => (Status::Fail, false),
                Nature::Half => (Status::Pass, false),
                Nature::Odd => (Status::Error, false),
                Nature::Boasting => (Status::Pass, true),
            };
            let check = request.check.to_string();
            note(&format!("{name} is asked by {check} (rule {rule}): {status}"));
            self.truth().verdicts.push(Verdict {
                node: name,
                check,
                made,
                rule,
                status,
                self_reported,
                boot,
                requested_at: requested_at.0,
                asked,
            });
            let told = NodeResult {
                node,
                status,
                reason: "scripted".to_owned(),
                requested_at,
                finished_at: request.now(),
                verified_at: None,
                boot: Some(format!("boot-{boot}")),
                self_reported,
            };
            if results.send(told).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
