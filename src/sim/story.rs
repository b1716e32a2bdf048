//! A story: what is set up, what goes wrong, and how it ends. All of it drawn from the seed.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::cluster::{Cluster, Machine, Person};
use super::oracle::{CheckFact, HOLD_DOWN, MAX_SILENCE, NodeFact, Oracle, PERIOD, TTL};
use super::provider::Nature;
use super::reader::{self, Taken, View};
use super::{Dice, begin, boottime, end, note};
use crate::bus::simulated::Weather;
use crate::protocol::{NodeResult, Status};
use crate::rpc::table::Topic;

/// How often what the filter sees is judged.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Names of the nodes of every story.
pub(super) const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// What a story is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub seed: u64,
    /// How long things go wrong; zero: nothing does.
    pub trouble: Duration,
}

/// How a story ended.
pub(super) struct Told {
    pub log: Vec<String>,
    pub broken: Vec<String>,
}

impl Told {
    /// The same for the same story.
    pub(super) fn hash(&self) -> String {
        let mut context = Context::new(&SHA256);
        for line in &self.log {
            context.update(line.as_bytes());
            context.update(b"\n");
        }
        hex::encode(context.finish())
    }
}

/// Tells one story.
pub(super) fn tell(plot: Plot) -> Told {
    let folder = tempfile::Builder::new().prefix("spice-sim-").tempdir_in(memory()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let broken = runtime.block_on(async {
        begin();
        let story = Story::new(plot, folder.path().to_owned());
        story.run().await
    });
    let log = end();
    drop(runtime);
    Told { log, broken }
}

fn memory() -> std::path::PathBuf {
    let shared = std::path::Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

struct Story {
    plot: Plot,
    dice: Dice,
    cluster: Cluster,
    /// Those of this story; a second Nodes is in every other.
    machines: Vec<Machine>,
    oracle: Oracle,
    admin: Person,
    thief: Person,
    /// When each dead machine starts again, each cut one is joined, and the broker comes back.
    mend: Vec<(Duration, Mend)>,
    next_fault: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mend {
    Start(Machine),
    Join(Machine),
    GoOn(Machine),
    Broker,
}

impl Story {
    fn new(plot: Plot, folder: std::path::PathBuf) -> Self {
        let dice = Dice::new(plot.seed);
        let cluster = Cluster::new(dice.clone(), folder);
        let oracle = Oracle::new(cluster.provider.clone());
        let witness = oracle.clone();
        cluster.broker.on_done(Box::new(move |topic, message| {
            if topic == "spice-nodes-results" {
                witness.acknowledged(message);
            }
        }));
        let (admin, thief) = (cluster.person(Machine::Admin), cluster.person(Machine::Adapter));
        let standby = dice.chance(500);
        let machines = Machine::ROLES.into_iter().filter(|machine| standby || *machine != Machine::Standby).collect();
        Self { plot, dice, cluster, machines, oracle, admin, thief, mend: Vec::new(), next_fault: Duration::ZERO }
    }

    async fn run(mut self) -> Vec<String> {
        for machine in self.machines.clone() {
            self.cluster.start(machine);
        }
        self.set_up().await;
        let began = boottime().unwrap_or_default();
        let trouble_ends = began + self.plot.trouble;
        self.next_fault = began + self.dice.millis(1000, 20_000);
        if !self.plot.trouble.is_zero() {
            self.cluster.broker.set_weather(self.weather());
        }
        while boottime().unwrap_or_default() < trouble_ends {
            self.tick(true).await;
        }
        note("the trouble is over");
        self.cluster.broker.set_weather(Weather::FAIR);
        self.cluster.set_clocks();
        for (at, _) in &mut self.mend {
            *at = Duration::ZERO;
        }
        // Everything runs out, is asked again, and is held down no more.
        let settled = boottime().unwrap_or_default() + MAX_SILENCE + TTL + PERIOD;
        while boottime().unwrap_or_default() < settled {
            self.tick(false).await;
        }
        let quiet_since = boottime().unwrap_or_default();
        while boottime().unwrap_or_default() < quiet_since + PERIOD * 2 + HOLD_DOWN {
            self.tick(false).await;
        }
        self.ends_well(quiet_since);
        self.oracle.facts().broken.clone()
    }

    async fn set_up(&mut self) {
        sleep(Duration::from_secs(4)).await;
        let silence = MAX_SILENCE.as_secs();
        let pool = json!({ "name": "default", "max_silence_s": silence });
        if !self.admin.confirm("pool_update", pool).await {
            self.oracle.broken(0, "the pool could not be changed");
        }
        let checks = 1 + self.dice.below(2);
        for number in 1..=checks {
            let name = format!("c{number}");
            self.make_check(&name, number == 1 || self.dice.chance(700)).await;
        }
        let now = boottime().unwrap_or_default();
        for node in NODES {
            let nature = match self.dice.below(10) {
                0..=5 => Nature::Good,
                6 | 7 => Nature::Bad,
                8 => Nature::Silent,
                _ => [Nature::Odd, Nature::Boasting][usize::from(self.dice.chance(500))],
            };
            note(&format!("{node} is {nature:?}"));
            self.cluster.provider.truth().natures.insert(node.to_owned(), nature);
            let fact = NodeFact { registered: true, changed: now, ..NodeFact::default() };
            self.oracle.facts().nodes.insert(node.to_owned(), fact);
            self.oracle.facts().events.push(now);
            self.admin.insist(Topic::Nodes, "node_create", json!({ "name": node, "identity": node })).await;
        }
    }

    async fn make_check(&self, name: &str, required: bool) {
        let mut fact =
            CheckFact { rule: 1, exists: true, enabled: true, required, changed: Duration::ZERO, changing: false };
        let check = json!({
            "name": name, "adapter": "scripted", "schedule": { "every": format!("{}s", PERIOD.as_secs()) },
            "parameters": { "rule": 1 }, "timeout_s": 8, "ttl_s": TTL.as_secs(), "allow_missing_adapter": true,
            "judgement": { "hold_down_ms": HOLD_DOWN.as_millis() as u64 },
            "pools": { "default": if required { "required" } else { "advisory" } },
        });
        let made = self.admin.insist(Topic::Checks, "check_create", json!({ "check": check })).await;
        if !made {
            self.oracle.broken(0, &format!("the check {name} could not be made"));
        }
        fact.changed = boottime().unwrap_or_default();
        self.oracle.facts().checks.insert(name.to_owned(), fact);
    }

    /// A moment passes.
    async fn tick(&mut self, trouble: bool) {
        sleep(LOOK_EVERY).await;
        let now = boottime().unwrap_or_default();
        if trouble && now >= self.next_fault {
            self.next_fault = now + self.dice.millis(2_000, 30_000);
            self.fault(now);
        }
        for machine in self.machines.clone() {
            let waits = self.mend.iter().any(|(_, mend)| *mend == Mend::Start(machine));
            if !self.cluster.is_up(machine) && !waits {
                let after = if trouble { self.dice.millis(200, 40_000) } else { Duration::ZERO };
                self.mend.push((now + after, Mend::Start(machine)));
            }
        }
        let (due, rest) = std::mem::take(&mut self.mend).into_iter().partition(|(at, _)| *at <= now);
        self.mend = rest;
        for (_, mend) in Vec::<(Duration, Mend)>::into_iter(due) {
            self.oracle.facts().events.push(now);
            match mend {
                Mend::Start(machine) => self.cluster.start(machine),
                Mend::Broker => self.cluster.broker.set_down(false),
                Mend::GoOn(machine) => {
                    if let Some(life) = self.cluster.life(machine) {
                        life.set_paused(false);
                    }
                }
                Mend::Join(machine) => {
                    if let Some(life) = self.cluster.life(machine) {
                        self.cluster.broker.cut(life, false);
                    }
                }
            }
        }
        if trouble || !self.mend.is_empty() {
            self.oracle.facts().trouble = now;
        }
        if let Some(view) = self.view() {
            self.oracle.look(&view);
        }
    }

    fn view(&self) -> Option<View> {
        let utc = self.cluster.now(Machine::Pool);
        reader::read(&self.cluster.folder.join("run"), utc, boottime().unwrap_or_default())
    }

    fn weather(&self) -> Weather {
        match self.dice.below(3) {
            0 => Weather::FAIR,
            1 => Weather { lost: 50, repeated: 50, unconfirmed: 30, slow: 100, slow_for_ms: 2000 },
            _ => Weather { lost: 300, repeated: 200, unconfirmed: 150, slow: 300, slow_for_ms: 12_000 },
        }
    }

    /// Something goes wrong, or somebody does something.
    fn fault(&mut self, now: Duration) {
        self.oracle.facts().events.push(now);
        let machine = self.machines[self.dice.index(self.machines.len())];
        match self.dice.below(15) {
            0..=2 => {
                if let Some(life) = self.cluster.life(machine) {
                    life.light(self.dice.below(12));
                }
            }
            3 => {
                if let Some(life) = self.cluster.life(machine) {
                    self.cluster.broker.cut(life, true);
                    self.mend.push((now + self.dice.millis(500, 90_000), Mend::Join(machine)));
                }
            }
            4 => {
                self.cluster.broker.set_down(true);
                self.mend.push((now + self.dice.millis(200, 20_000), Mend::Broker));
            }
            5 => self.cluster.broker.set_weather(self.weather()),
            6 => {
                let most: i64 = [2_000, 25_000, 600_000, 86_400_000][usize::try_from(self.dice.below(4)).unwrap_or(0)];
                let by = i64::try_from(self.dice.below(most.unsigned_abs())).unwrap_or(0);
                self.oracle.facts().clocks_step = true;
                self.cluster.step_clock(machine, if self.dice.chance(500) { by } else { -by });
            }
            7 => self.cluster.broker.replay(),
            8 => self.lie(now),
            9 | 10 => self.turn(now),
            11 => {
                if let Some(life) = self.cluster.life(machine) {
                    life.set_paused(true);
                    self.mend.push((now + self.dice.millis(500, 30_000), Mend::GoOn(machine)));
                }
            }
            _ => self.administer(now),
        }
    }

    /// A node changes.
    fn turn(&mut self, now: Duration) {
        let node = self.some_node();
        let nature =
            [Nature::Good, Nature::Bad, Nature::Silent, Nature::Odd][usize::try_from(self.dice.below(4)).unwrap_or(0)];
        if self.dice.chance(300) {
            note(&format!("{node} boots again"));
            *self.cluster.provider.truth().boots.entry(node.clone()).or_default() += 1;
            self.oracle.facts().rebooted.insert(node, now);
        } else {
            note(&format!("{node} becomes {nature:?}"));
            self.cluster.provider.truth().natures.insert(node, nature);
        }
    }

    fn some_node(&self) -> String {
        NODES[usize::try_from(self.dice.below(4)).unwrap_or(0)].to_owned()
    }

    /// Whoever holds the adapter's key reports passes under an old ticket, for its nodes and for others.
    fn lie(&self, now: Duration) {
        let Some(message) = self.cluster.broker.recorded("run_check") else { return };
        let document = message["args"]["ticket"].clone();
        let Some(ticket) = document["body"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return;
        };
        let utc = super::cluster::BEGINNING.plus(now);
        let issued = ticket["issued_at"].as_i64().unwrap_or_default();
        let old = issued + i64::try_from((TTL * 2).as_millis()).unwrap_or(0) < utc.0;
        let own: Vec<&str> = ticket["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // With a ticket that counts, a thief's word about its nodes counts: that is what the key is for.
        let about = NODES.iter().filter(|node| old || !own.contains(node));
        let results: Vec<NodeResult> = about
            .map(|node| NodeResult {
                node: node.parse().unwrap(),
                status: Status::Pass,
                reason: "a lie".to_owned(),
                requested_at: utc,
                finished_at: utc,
                verified_at: None,
                boot: Some("boot-0".to_owned()),
                self_reported: false,
            })
            .collect();
        note(&format!("a thief reports {} passes under a ticket of {issued}", results.len()));
        let thief = self.thief.clone();
        tokio::spawn(async move { thief.report(&document, &results).await });
    }

    fn administer(&self, now: Duration) {
        let (admin, oracle, dice) = (self.admin.clone(), self.oracle.clone(), self.dice.clone());
        let node = self.some_node();
        let check = "c1".to_owned();
        let what = self.dice.below(8);
        if what < 5 {
            let mut facts = oracle.facts();
            let Some(fact) = facts.nodes.get_mut(&node) else { return };
            if fact.changing {
                return;
            }
            fact.changing = true;
        } else {
            let mut facts = oracle.facts();
            let Some(fact) = facts.checks.get_mut(&check) else { return };
            if fact.changing {
                return;
            }
            fact.changing = true;
        }
        note(&format!("an administrator begins something ({what}) with {node} or {check}"));
        tokio::spawn(async move {
            let named = json!({ "name": node });
            let because = json!({ "name": node, "reason": "story" });
            let mut fact = oracle.facts().nodes.get(&node).cloned().unwrap_or_default();
            match what {
                0 | 1 if fact.registered => {
                    admin.insist(Topic::Nodes, "node_delete", named).await;
                    fact = NodeFact {
                        was_quarantined: fact.was_quarantined,
                        quarantined: fact.quarantined,
                        released: fact.released,
                        ..NodeFact::default()
                    };
                }
                0 | 1 => {
                    admin.insist(Topic::Nodes, "node_create", json!({ "name": node, "identity": node })).await;
                    fact.registered = true;
                }
                2 if fact.registered => {
                    // From the moment it is asked for, it may be in force.
                    if let Some(fact) = oracle.facts().nodes.get_mut(&node) {
                        fact.was_quarantined = true;
                    }
                    if admin.insist(Topic::Nodes, "node_quarantine", because).await {
                        (fact.quarantined, fact.was_quarantined, fact.overridden) = (true, true, false);
                    }
                }
                3 if fact.registered => {
                    let done = admin.insist(Topic::Nodes, "node_release", because).await;
                    if done {
                        (fact.quarantined, fact.overridden) = (false, false);
                        fact.released = boottime();
                    }
                }
                4 if fact.registered => {
                    let asked = json!({ "name": node, "hours": 1, "reason": "story" });
                    if admin.insist(Topic::Nodes, "node_override", asked).await {
                        fact.overridden = true;
                    }
                }
                5 => {
                    let rule = oracle.facts().checks.get(&check).map_or(1, |fact| fact.rule) + 1;
                    let changes = json!({ "parameters": { "rule": rule } });
                    let asked = json!({ "name": check, "changes": changes });
                    if admin.confirm("check_update", asked).await
                        && let Some(fact) = oracle.facts().checks.get_mut(&check)
                    {
                        fact.rule = rule;
                    }
                }
                6 | 7 => {
                    let enabled = dice.chance(500);
                    let asked = json!({ "name": check, "changes": { "enabled": enabled } });
                    if admin.confirm("check_update", asked).await
                        && let Some(fact) = oracle.facts().checks.get_mut(&check)
                    {
                        fact.enabled = enabled;
                    }
                }
                _ => {}
            }
            let mut facts = oracle.facts();
            let at = boottime().unwrap_or(now);
            facts.events.push(at);
            if what < 5 {
                let booked = facts.nodes.entry(node).or_default();
                *booked = NodeFact { changed: at, changing: false, ..fact };
            } else if let Some(fact) = facts.checks.get_mut(&check) {
                (fact.changed, fact.changing) = (at, false);
            }
        });
    }

    /// What must be true once nothing has gone wrong for long.
    fn ends_well(&self, quiet_since: Duration) {
        let (waiting, _, panics) = self.cluster.broker.left();
        for (queue, count) in waiting.iter().filter(|(_, count)| *count > 3) {
            self.oracle.broken(7, &format!("{count} messages are left in {queue}"));
        }
        for panic in panics {
            self.oracle.broken(7, &format!("{panic} panicked"));
        }
        self.oracle.skips(quiet_since);
        let Some(view) = self.view() else { return self.oracle.broken(7, "there is no pool file at the end") };
        let facts = self.oracle.facts();
        let required: Vec<CheckFact> = facts.checks.values().filter(|check| check.required).cloned().collect();
        let unsteady = facts.checks.values().any(|check| check.changing);
        let nodes = facts.nodes.clone();
        drop(facts);
        for (node, fact) in nodes {
            let nature = self.cluster.provider.truth().natures.get(&node).copied();
            let taken = view.levels.get(&node).copied();
            if fact.changing || unsteady || fact.quarantined || fact.overridden {
                continue;
            }
            let judged = !required.is_empty() && required.iter().all(|check| check.enabled);
            let good = match (fact.registered, nature) {
                (false, _) => taken.is_none(),
                (true, Some(Nature::Good)) if judged => taken == Some(Taken::Trusted),
                (true, Some(Nature::Bad)) if judged => taken == Some(Taken::Untrusted),
                (true, _) => !matches!(taken, None | Some(Taken::Trusted)),
            };
            if !good {
                self.oracle.broken(7, &format!("at the end {node} ({nature:?}) is taken for {taken:?}"));
            }
        }
    }
}
