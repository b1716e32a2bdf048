//! A story: what is set up, what the time brings, and how it ends. All of it drawn from the seed.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, Machine, Person, open};
use super::fault::{Fault, weather};
use super::fencing::Fences;
use super::oracle::{CheckFact, FLAP_HOLD_DOWN, FLAP_WINDOW, MAX_SILENCE, NodeFact, Oracle, PERIOD};
use super::people::definition;
use super::provider::Nature;
use super::reader::{self, Taken, View};
use super::{Dice, Life, Log, begin, boottime, end, note};
use crate::bus::simulated::{Weather, Witness};
use crate::chain::BEGINNING;
use crate::rpc::table::Topic;

/// How often what the filter sees is judged.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Names of the nodes of every story.
pub(super) const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
/// After the trouble all is well again within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
/// A story that lasts longer hangs.
const LONGEST: Duration = Duration::from_secs(900);

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

/// Tells one story; what happens goes into `log` at once.
pub(super) fn tell(plot: Plot, log: &Log) -> Told {
    let folder = tempfile::Builder::new().prefix("spice-sim-").tempdir_in(memory()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let broken = runtime.block_on(async {
        begin(log.clone());
        let story = Story::new(plot, folder.path().to_owned());
        let (oracle, broker) = (story.oracle.clone(), story.cluster.broker.clone());
        if timeout(LONGEST, story.run()).await.is_err() {
            oracle.broken(7, "the story does not end");
        }
        broker.close();
        oracle.facts().broken.clone()
    });
    end();
    drop(runtime);
    Told { log: std::mem::take(&mut *log.lock().unwrap()), broken }
}

fn memory() -> std::path::PathBuf {
    let shared = std::path::Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

pub(super) struct Story {
    plot: Plot,
    pub(super) dice: Dice,
    pub(super) cluster: Cluster,
    /// Those of this story; a second Nodes is in every other, a second Checks in some.
    pub(super) machines: Vec<Machine>,
    /// The one to which most happens.
    pub(super) favourite: Machine,
    pub(super) mixture: Vec<Fault>,
    pub(super) oracle: Oracle,
    pub(super) admin: Person,
    pub(super) thief: Person,
    /// When each dead machine starts again, each cut one is joined, and the broker comes back.
    pub(super) mend: Vec<(Duration, Mend)>,
    next_fault: Duration,
    fences: Fences,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    Start(Machine),
    Join(Machine),
    GoOn(Machine),
    Room(Machine),
    Broker,
}

impl Witness for Oracle {
    fn done(&self, topic: &str, message: &Map<String, Value>) {
        if topic == "spice-nodes-results" {
            self.acknowledged(message);
        }
        if topic == "spice-checks-events" && message.get("method").is_some_and(|method| method == "nodes_changed") {
            // A reason to check nodes at once, which may have waited for long until it could be told.
            self.facts().events.push(boottime().unwrap_or_default());
        }
    }

    fn says(&self, who: &str, method: &str, args: &Map<String, Value>) {
        self.said(who, method, args);
    }

    fn hears(&self, who: &str) {
        if who == Machine::Pool.name() {
            self.heard();
        }
    }
}

impl Story {
    fn new(plot: Plot, folder: std::path::PathBuf) -> Self {
        let dice = Dice::new(plot.seed);
        let cluster = Cluster::new(dice.clone(), folder);
        let oracle = Oracle::new(cluster.provider.clone());
        let fences = Fences::new(plot.seed, &cluster.folder, oracle.clone());
        cluster.broker.set_witness(Box::new(oracle.clone()));
        let (admin, thief) = (cluster.person(Machine::Admin), cluster.person(Machine::Adapter));
        let (second_nodes, second_checks) = (dice.chance(500), dice.chance(300));
        let takes_part = |machine: &Machine| match machine {
            Machine::Standby => second_nodes,
            Machine::SecondChecks => second_checks,
            _ => true,
        };
        let machines: Vec<Machine> = Machine::ROLES.into_iter().filter(takes_part).collect();
        let favourite = machines[dice.index(machines.len())];
        let (mixture, mend) = (Fault::mixture(&dice), Vec::new());
        let next_fault = Duration::ZERO;
        Self { plot, dice, cluster, machines, favourite, mixture, oracle, admin, thief, mend, next_fault, fences }
    }

    async fn run(mut self) {
        for machine in self.machines.clone() {
            self.cluster.start(machine);
        }
        self.set_up().await;
        let began = boottime().unwrap_or_default();
        let trouble_ends = began + self.plot.trouble;
        self.next_fault = began + self.dice.millis(500, 12_000);
        if !self.plot.trouble.is_zero() {
            self.cluster.broker.set_weather(weather(&self.dice));
        }
        while boottime().unwrap_or_default() < trouble_ends {
            self.tick(true).await;
        }
        note("the trouble is over");
        self.cluster.broker.set_weather(Weather::FAIR);
        self.cluster.set_clocks();
        for machine in self.machines.clone() {
            if self.oracle.facts().offsets.get(machine.name()).is_some_and(|(offset, _)| *offset != 0) {
                self.oracle.clock(machine.name(), 0);
            }
        }
        for (at, _) in &mut self.mend {
            *at = Duration::ZERO;
        }
        self.clean_up();
        // Everything runs out, is asked again, and is held down no more.
        let over = boottime().unwrap_or_default();
        while boottime().unwrap_or_default() < over + PERIOD * 3
            || (boottime().unwrap_or_default() < over + SETTLES_WITHIN && !self.unsettled().is_empty())
        {
            self.tick(false).await;
        }
        for text in self.unsettled() {
            self.oracle.broken(7, &format!("at the end {text}"));
        }
        let quiet_since = boottime().unwrap_or_default();
        while boottime().unwrap_or_default() < quiet_since + PERIOD * 5 / 2 + LOOK_EVERY {
            self.tick(false).await;
        }
        for panic in self.cluster.broker.left().2 {
            self.oracle.broken(7, &format!("{panic} panicked"));
        }
        self.oracle.skips(quiet_since);
        self.compare_record().await;
    }

    /// What was told of the record is in it: nothing was published that was not stored.
    async fn compare_record(&self) {
        let told: Vec<String> = self.oracle.facts().heads.iter().filter(|head| **head != BEGINNING).cloned().collect();
        let names: Vec<&str> = told.iter().map(String::as_str).collect();
        let database = open(&Life::default(), &self.cluster.folder, "nodes");
        match database.find("SELECT hash FROM nodes_record WHERE hash IN", &names).await {
            Ok(stored) => {
                for head in told.iter().filter(|head| !stored.contains(head)) {
                    self.oracle.broken(1, &format!("a change was published that is not in the record ({head:.8})"));
                }
            }
            Err(error) => self.oracle.broken(7, &format!("the record cannot be read: {error}")),
        }
    }

    /// What people do afterwards in some stories: they mend the bad nodes, and start everything again.
    fn clean_up(&self) {
        // By dice of its own, so that the story until then is what it is without it.
        let dice = Dice::new(self.plot.seed ^ 0x00e4_d0ff);
        let (mends, restarts) = (dice.chance(500), dice.chance(400));
        for (node, nature) in &mut self.cluster.provider.truth().natures {
            if mends && *nature == Nature::Bad && !self.plot.trouble.is_zero() {
                note(&format!("{node} is mended"));
                *nature = Nature::Good;
            }
        }
        for machine in self.machines.iter().filter(|_| restarts) {
            if let Some(life) = self.cluster.life(*machine) {
                life.die("as everything is started again");
            }
        }
    }

    async fn set_up(&mut self) {
        sleep(Duration::from_secs(4)).await;
        let silence = MAX_SILENCE.as_secs();
        // By dice of its own, so that the rest of the story stays what it is without it.
        let flap_limit = Dice::new(self.plot.seed ^ 0x00f1_a999).below(4);
        let (window, hold_down) = (FLAP_WINDOW.as_secs(), FLAP_HOLD_DOWN.as_secs());
        let pool = json!({
            "name": "default", "max_silence_s": silence,
            "flap_limit": flap_limit, "flap_window_s": window, "flap_hold_down_s": hold_down,
        });
        self.oracle.facts().flaps.limit = usize::try_from(flap_limit).unwrap_or(0);
        if !self.admin.confirm("pool_update", pool).await {
            self.oracle.broken(0, "the pool could not be changed");
        }
        let checks = 1 + self.dice.below(2);
        for number in 1..=checks {
            let required = number == 1 || self.dice.chance(700);
            self.make_check(&format!("c{number}"), required).await;
        }
        for node in NODES {
            let now = boottime().unwrap_or_default();
            let nature = Nature::any(&self.dice);
            note(&format!("{node} is {nature:?}"));
            self.cluster.provider.truth().natures.insert(node.to_owned(), nature);
            let fact =
                NodeFact { registered: true, changed: now, forgets: now, registered_at: now, ..NodeFact::default() };
            self.oracle.facts().nodes.insert(node.to_owned(), fact);
            self.oracle.facts().events.push(now);
            self.admin.insist(Topic::Nodes, "node_create", json!({ "name": node, "identity": node })).await;
        }
    }

    async fn make_check(&self, name: &str, required: bool) {
        let fact = CheckFact {
            made: 0,
            rule: 1,
            exists: true,
            enabled: true,
            required,
            fail_after: 1 + self.dice.index(2),
            recover_after: 1 + self.dice.index(3),
            changing: false,
        };
        let check = definition(name, &fact, &self.dice);
        self.oracle.facts().checks.insert(name.to_owned(), fact);
        if !self.admin.insist(Topic::Checks, "check_create", json!({ "check": check })).await {
            self.oracle.broken(0, &format!("the check {name} could not be made"));
        }
    }

    /// A moment passes.
    async fn tick(&mut self, trouble: bool) {
        sleep(LOOK_EVERY).await;
        let now = boottime().unwrap_or_default();
        if trouble && now >= self.next_fault {
            self.next_fault = now + self.dice.millis(500, 8_000);
            self.fault(now);
        }
        for machine in self.machines.clone() {
            let waits = self.mend.iter().any(|(_, mend)| *mend == Mend::Start(machine));
            if !self.cluster.is_up(machine) && !waits {
                let after = if trouble { self.dice.millis(200, 12_000) } else { Duration::ZERO };
                self.mend.push((now + after, Mend::Start(machine)));
            }
        }
        if self.is_unsteady() {
            self.oracle.facts().unsteady = now;
        }
        let (due, rest) = std::mem::take(&mut self.mend).into_iter().partition(|(at, _)| *at <= now);
        self.mend = rest;
        for (_, mend) in Vec::<(Duration, Mend)>::into_iter(due) {
            self.oracle.facts().events.push(now);
            match mend {
                Mend::Start(machine) => self.cluster.start(machine),
                Mend::Broker => self.cluster.broker.set_down(false),
                Mend::GoOn(machine) | Mend::Join(machine) | Mend::Room(machine) => {
                    let Some(life) = self.cluster.life(machine) else { continue };
                    match mend {
                        Mend::GoOn(_) => life.set_paused(false),
                        Mend::Room(_) => life.set_full(false),
                        _ => self.cluster.broker.cut(life, false),
                    }
                }
            }
        }
        if let Some(view) = self.view() {
            self.oracle.look(&view);
        }
        self.fences.tick(trouble);
    }

    fn view(&self) -> Option<View> {
        let utc = self.cluster.now(Machine::Pool);
        reader::read(&self.cluster.folder.join("run"), utc, boottime().unwrap_or_default())
    }

    /// What is not yet as it must be once nothing has gone wrong for long.
    fn unsettled(&self) -> Vec<String> {
        let mut left = Vec::new();
        let (waiting, _, _) = self.cluster.broker.left();
        for (queue, count) in waiting.iter().filter(|(_, count)| *count > 3) {
            left.push(format!("{count} messages are left in {queue}"));
        }
        let Some(view) = self.view() else { return vec!["there is no pool file".to_owned()] };
        let facts = self.oracle.facts();
        let required: Vec<&CheckFact> = facts.checks.values().filter(|check| check.exists && check.required).collect();
        let judged = !required.is_empty() && required.iter().all(|check| check.enabled);
        if facts.checks.values().any(|check| check.changing) {
            left.push("a change of a check is not answered".to_owned());
            return left;
        }
        let truth = self.cluster.provider.truth();
        for (node, fact) in &facts.nodes {
            let nature = truth.natures.get(node).copied();
            let taken = view.levels.get(node).copied();
            let good = match (fact.registered, nature) {
                _ if fact.changing => false,
                (false, _) => taken.is_none(),
                (true, _) if fact.quarantined => taken == Some(Taken::Untrusted),
                (true, _) if fact.overridden.is_some() => taken.is_some(),
                // What a check that is gone has found stays until an administrator releases the node.
                (true, Some(Nature::Good))
                    if judged && facts.checks.values().all(|check| check.exists && check.enabled) =>
                {
                    taken == Some(Taken::Trusted)
                }
                (true, Some(Nature::Bad)) if judged => taken == Some(Taken::Untrusted),
                (true, Some(Nature::Good | Nature::Half)) => taken.is_some(),
                (true, _) => !matches!(taken, None | Some(Taken::Trusted)),
            };
            if !good {
                left.push(format!("{node} ({nature:?}) is taken for {taken:?}"));
            }
        }
        left
    }
}
