//! What is known to be shown: the last look, and what earlier ones found.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::error::Exit;
use crate::cli::findings::{self, Answers, Finding};
use crate::clock::Timestamp;

/// Looks remembered: as many as the widest terminal has columns for.
const REMEMBERED: usize = 400;

/// What one look found.
pub struct Look {
    /// What both roles said.
    pub answers: Answers,
    /// The nodes that are worst off, the worst first.
    pub worst: Vec<Value>,
    /// The time of day.
    pub at: Timestamp,
    /// When, for reckoning.
    pub taken: Instant,
}

/// A series of one pool: the share of its nodes that are trusted, in parts of a thousand.
pub type Shares = VecDeque<u64>;

/// Everything shown.
pub struct View {
    /// The cloud.
    pub deployment: String,
    /// How often is looked.
    pub interval: Duration,
    /// Whether colours may be used.
    pub colours: bool,
    /// The last look.
    pub last: Option<Look>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Trust over time, by pool.
    pub trust: BTreeMap<String, Shares>,
    /// Results a second over time.
    pub rates: VecDeque<u64>,
    /// Results a second by status, between the last two looks.
    pub by_status: BTreeMap<String, f64>,
}

impl View {
    /// Nothing known yet.
    pub fn new(deployment: String, interval: Duration, colours: bool) -> Self {
        Self {
            deployment,
            interval,
            colours,
            last: None,
            findings: Vec::new(),
            trust: BTreeMap::new(),
            rates: VecDeque::new(),
            by_status: BTreeMap::new(),
        }
    }

    /// Takes in what a look found.
    pub fn take(&mut self, look: Look) {
        if let Ok(nodes) = &look.answers.nodes {
            let pools = nodes.get("pools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let names: Vec<String> = pools.iter().map(|pool| text(pool, "name")).collect();
            self.trust.retain(|pool, _| names.contains(pool));
            for (name, pool) in names.into_iter().zip(pools) {
                let all = count(pool, "nodes").max(1);
                push(self.trust.entry(name).or_default(), count(pool, "trusted") * 1000 / all);
            }
            self.count_results(&look, nodes);
        }
        self.findings = findings::of(&look.answers);
        self.last = Some(look);
    }

    fn count_results(&mut self, look: &Look, nodes: &Value) {
        let earlier = self.last.as_ref().and_then(|last| {
            let before = last.answers.nodes.as_ref().ok()?;
            let same_life = before.get("epoch") == nodes.get("epoch");
            let passed = look.taken.duration_since(last.taken).as_secs_f64();
            (same_life && passed > 0.0).then_some((before, passed))
        });
        self.by_status.clear();
        // After a restart of Nodes, or a silence, a rate would be invented.
        let Some((before, passed)) = earlier else { return };
        let results = |status: &Value| status.get("results").and_then(Value::as_object).cloned().unwrap_or_default();
        let before = results(before);
        for (status, now) in results(nodes) {
            let before = before.get(&status).and_then(Value::as_u64).unwrap_or(0);
            let more = now.as_u64().unwrap_or(0).saturating_sub(before);
            self.by_status.insert(status, more as f64 / passed);
        }
        push(&mut self.rates, self.by_status.values().sum::<f64>().round() as u64);
    }

    /// How the command ends where a role did not answer at last.
    pub fn silent(&self) -> Option<Exit> {
        let answers = &self.last.as_ref()?.answers;
        [&answers.checks, &answers.nodes].into_iter().find_map(|answer| Some(answer.as_ref().err()?.exit))
    }
}

fn push(series: &mut VecDeque<u64>, value: u64) {
    if series.len() >= REMEMBERED {
        series.pop_front();
    }
    series.push_back(value);
}

/// A number of an answer; 0 where there is none.
pub fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A text of an answer, safe to show.
pub fn text(value: &Value, name: &str) -> String {
    crate::cli::output::member(value, name)
}
