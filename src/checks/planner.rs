//! What is due when. Pure: both times are passed in, so a year can be tested in a moment.
//!
//! A *slot* is one moment of a schedule. When it comes, the check's targets are resolved and every node gets its own place
//! within the splay, which depends on nothing but the check and the node: adding a node moves nobody else. Cron slots are
//! found in time of day; intervals and splay run on monotonic time, so that a clock step neither storms nor freezes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::checks::definition::Check;
use crate::checks::due::{Due, MOST_MISSED};
use crate::checks::ledger::{Ledger, Skipped};
use crate::checks::prerequisites::Prerequisites;
use crate::checks::registry::Registry;
use crate::checks::schedule::{self, Schedule};
use crate::checks::silence::Silence;
use crate::checks::waiting::Waiting;
use crate::checks::window::holding::Holding;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::targets::{TargetMatcher, Traits};

/// The nodes a check can be aimed at, with what targets can ask for.
pub type Inventory = BTreeMap<NodeName, Arc<Traits>>;

/// The two times of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time of day.
    pub utc: Timestamp,
    /// Time that never steps.
    pub monotonic: Duration,
}

#[derive(Debug)]
struct Plan {
    /// The definition the plan was made for; a changed schedule makes a new plan.
    schedule: Schedule,
    check_id: String,
    last_slot: Timestamp,
    next_interval: Duration,
    /// Beats that passed while the process was stopped, less one; they run once, as the last of them.
    catch_up: Option<u32>,
    /// A slot that was being sent out when the process stopped: how far it had come.
    resume_after: Option<Duration>,
    /// Over how long a slot is spread.
    window: Duration,
    pending: VecDeque<(Duration, NodeName)>,
}

/// The plans of all enabled checks.
#[derive(Debug, Default)]
pub struct Planner {
    plans: BTreeMap<CheckName, Plan>,
    /// What was due and could not be stored: it is due again.
    again: Vec<Due>,
    /// Who is due and has to wait.
    pub waiting: Waiting,
    /// What became of the slots.
    pub ledger: Ledger,
    /// Which nodes did not answer.
    pub silence: Silence,
    /// Who is held by a maintenance window.
    pub holding: Holding,
    /// Who waits for another check to pass.
    pub prerequisites: Prerequisites,
}

impl Planner {
    /// Brings the plans in line with the registry. `last_slots` are the stored moments of the last slot of each check; a
    /// check without one counts from now. Plans whose schedule did not change keep their timers.
    pub fn follow(&mut self, registry: &Registry, last_slots: &BTreeMap<CheckName, Timestamp>, now: Now) {
        self.plans.retain(|name, plan| {
            registry.checks.get(name).is_some_and(|check| check.enabled && check.id == plan.check_id)
        });
        self.waiting.keep(|name| registry.checks.get(name).is_some_and(|check| check.enabled));
        self.ledger.keep(|name| registry.checks.contains_key(name));
        self.silence.keep(|name| registry.checks.contains_key(name), |_| true);
        self.prerequisites.follow(registry);
        for check in registry.checks.values().filter(|check| check.enabled) {
            let Ok(schedule) = registry.schedule_of(check) else { continue };
            match self.plans.get_mut(&check.name) {
                Some(plan) if plan.schedule == *schedule => {}
                Some(plan) => {
                    // A new schedule counts from its change; nodes already placed in the running slot keep their place.
                    plan.schedule = schedule.clone();
                    plan.last_slot = now.utc;
                    plan.next_interval = now.monotonic + interval(schedule).unwrap_or_default();
                    plan.catch_up = None;
                    plan.window = registry.splay_of(check);
                }
                None => {
                    let last_slot = last_slots.get(&check.name).copied();
                    self.plans.insert(check.name.clone(), Plan::new(registry, check, schedule, last_slot, now));
                }
            }
        }
    }

    /// Everything that is due now, each thing once.
    pub fn tick(&mut self, registry: &Registry, inventory: &Inventory, now: Now) -> Vec<Due> {
        let mut due: Vec<Due> = std::mem::take(&mut self.again);
        due.retain(|due| self.plans.contains_key(&due.check));
        for (name, plan) in &mut self.plans {
            if let (Some(elapsed), Some(check)) = (plan.resume_after.take(), registry.checks.get(name)) {
                plan.place(check, inventory, now.monotonic.saturating_sub(elapsed));
                plan.pending.retain(|(at, _)| *at >= now.monotonic);
            }
        }
        for (check, nodes) in self.holding.turn(registry, inventory, &mut self.waiting, now) {
            if let Some(plan) = self.plans.get_mut(&check) {
                plan.take_back(&check, nodes, now.monotonic);
            }
        }
        for (check, nodes) in self.prerequisites.freed(registry, now.utc) {
            if let Some(plan) = self.plans.get_mut(&check) {
                plan.next(nodes, now.monotonic);
            }
        }
        for (name, plan) in &mut self.plans {
            let Some(check) = registry.checks.get(name) else { continue };
            let begins = plan.slot(now);
            let (mut late, mut missed) = (Duration::ZERO, 0);
            if let Some(slot) = begins {
                (late, missed) = plan.lateness(slot, now);
                // Nor is what could not be stored of the previous slot asked for twice.
                due.retain(|due| due.check != *name);
                // Whoever is still waiting for a place in the previous slot goes out with this one.
                plan.pending.clear();
                plan.last_slot = slot;
                plan.catch_up = None;
                if let Some(interval) = interval(&plan.schedule) {
                    // Keep the beat; beats that were missed altogether run once.
                    while plan.next_interval <= now.monotonic {
                        let missed = (now.monotonic - plan.next_interval).as_nanos() / interval.as_nanos().max(1);
                        plan.next_interval += interval * u32::try_from(missed + 1).unwrap_or(u32::MAX);
                    }
                }
                plan.place(check, inventory, now.monotonic);
            }
            let mut nodes = Vec::new();
            while plan.pending.front().is_some_and(|(at, _)| *at <= now.monotonic) {
                nodes.extend(plan.pending.pop_front().map(|(_, node)| node));
            }
            if begins.is_some() || !nodes.is_empty() {
                due.push(Due { check: name.clone(), begins, nodes, last: plan.pending.is_empty(), late, missed });
            }
        }
        for due in &mut due {
            let free = self.hold(&due.check, std::mem::take(&mut due.nodes), inventory, now.utc);
            due.nodes = self.admit(registry, &due.check, free, now.utc);
        }
        due
    }

    /// Holds those of `nodes` that a maintenance window covers, though they are to be asked; returns the others.
    pub fn hold(
        &mut self,
        check: &CheckName,
        nodes: Vec<NodeName>,
        inventory: &Inventory,
        now: Timestamp,
    ) -> Vec<NodeName> {
        let all = nodes.len();
        let free = self.holding.admit(check, nodes, inventory);
        self.ledger.skipped(check, Skipped::Window, all - free.len(), now);
        free
    }

    /// Has those of `nodes` wait that have not passed what the check runs after; returns the others.
    pub fn admit(
        &mut self,
        registry: &Registry,
        check: &CheckName,
        nodes: Vec<NodeName>,
        now: Timestamp,
    ) -> Vec<NodeName> {
        let Some(definition) = registry.checks.get(check) else { return nodes };
        let all = nodes.len();
        let free = self.prerequisites.admit(definition, nodes, now);
        self.ledger.skipped(check, Skipped::Prerequisite, all - free.len(), now);
        free
    }

    /// Takes back what could not be stored: the next tick gives it out again, unless the next slot has come by then.
    pub fn put_back(&mut self, due: impl IntoIterator<Item = Due>) {
        self.again.extend(due);
    }

    /// Whether nodes of the running slot still wait for their place in the splay.
    #[must_use]
    pub fn is_spreading(&self, check: &CheckName) -> bool {
        self.plans.get(check).is_some_and(|plan| !plan.pending.is_empty())
    }

    /// The moment of the last slot of a check, to be stored.
    #[must_use]
    pub fn last_slot(&self, check: &CheckName) -> Option<Timestamp> {
        self.plans.get(check).map(|plan| plan.last_slot)
    }
}

/// A place in the splay, moved back to a whole second: nodes of one second make one batch instead of many small ones.
fn beat(place: Duration) -> Duration {
    Duration::from_secs(place.as_secs())
}

fn interval(schedule: &Schedule) -> Option<Duration> {
    match schedule {
        Schedule::Every(interval) => Some(interval.length()),
        Schedule::Cron { .. } => None,
    }
}

impl Plan {
    fn new(registry: &Registry, check: &Check, schedule: &Schedule, last_slot: Option<Timestamp>, now: Now) -> Self {
        // A stored slot in the future comes from a clock that was wrong; it must not freeze the schedule.
        let last_slot = last_slot.map_or(now.utc, |slot| slot.min(now.utc));
        let elapsed = now.utc.since(last_slot);
        let window = registry.splay_of(check);
        let resume_after = (elapsed > Duration::ZERO && elapsed < window).then_some(elapsed);
        let (mut next_interval, mut catch_up) = (now.monotonic, None);
        if let Some(interval) = interval(schedule) {
            // The beat goes on as if the process had never stopped.
            let passed = elapsed.as_nanos() / interval.as_nanos().max(1);
            catch_up =
                passed.checked_sub(1).map(|missed| u32::try_from(missed).unwrap_or(MOST_MISSED).min(MOST_MISSED));
            let into = elapsed.as_nanos() % interval.as_nanos().max(1);
            next_interval += interval.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)));
        }
        Self {
            schedule: schedule.clone(),
            check_id: check.id.clone(),
            last_slot,
            next_interval,
            catch_up,
            resume_after,
            window,
            pending: VecDeque::new(),
        }
    }

    fn slot(&self, now: Now) -> Option<Timestamp> {
        match interval(&self.schedule) {
            Some(interval) => (self.catch_up.is_some() || now.monotonic >= self.next_interval)
                .then(|| now.utc.minus(self.since_beat(interval, now))),
            // The anchor counts for intervals only.
            None => schedule::due(&self.schedule, self.last_slot, self.last_slot, now.utc),
        }
    }

    /// How long ago the last beat of an interval was.
    fn since_beat(&self, interval: Duration, now: Now) -> Duration {
        let step = interval.as_nanos().max(1);
        let past = match now.monotonic.checked_sub(self.next_interval) {
            Some(past) => past.as_nanos() % step,
            None => step.saturating_sub(self.next_interval.saturating_sub(now.monotonic).as_nanos()),
        };
        Duration::from_nanos(u64::try_from(past).unwrap_or(0))
    }

    /// How late `slot` begins, and how many slots before it were missed.
    fn lateness(&self, slot: Timestamp, now: Now) -> (Duration, u32) {
        match interval(&self.schedule) {
            Some(interval) => {
                let passed = now.monotonic.saturating_sub(self.next_interval).as_nanos() / interval.as_nanos().max(1);
                let missed =
                    self.catch_up.unwrap_or_else(|| u32::try_from(passed).unwrap_or(MOST_MISSED).min(MOST_MISSED));
                (self.since_beat(interval, now), missed)
            }
            None => {
                let earlier = |last: &Timestamp| self.schedule.next_after(*last, *last).filter(|next| *next < slot);
                let missed = std::iter::successors(earlier(&self.last_slot), earlier).take(MOST_MISSED as usize);
                (now.utc.since(slot), u32::try_from(missed.count()).unwrap_or(MOST_MISSED))
            }
        }
    }

    fn place(&mut self, check: &Check, inventory: &Inventory, slot_at: Duration) {
        // Patterns were validated when the check was registered; should one not compile, nothing is aimed at.
        let Ok(matcher) = TargetMatcher::new(&check.targets) else { return };
        let window = self.window;
        let mut placed: Vec<(Duration, NodeName)> = inventory
            .iter()
            .filter(|(node, traits)| matcher.means(node, traits))
            .map(|(node, _)| (slot_at + beat(schedule::splay(&check.name, node, window)), node.clone()))
            .collect();
        placed.sort();
        // Of a large cloud it is megabytes for each check, for as long as the slot is spread.
        placed.shrink_to_fit();
        self.pending = placed.into();
    }

    /// Lets nodes go first, whatever place they have.
    fn next(&mut self, nodes: Vec<NodeName>, now: Duration) {
        let first: BTreeSet<&NodeName> = nodes.iter().collect();
        self.pending.retain(|(_, node)| !first.contains(node));
        nodes.into_iter().for_each(|node| self.pending.push_front((now, node)));
    }

    /// Gives nodes that were held their places, counted from now, unless they have one.
    fn take_back(&mut self, check: &CheckName, mut nodes: Vec<NodeName>, now: Duration) {
        let placed: BTreeSet<&NodeName> = self.pending.iter().map(|(_, node)| node).collect();
        nodes.retain(|node| !placed.contains(node));
        let window = self.window;
        self.pending.extend(nodes.into_iter().map(|node| (now + beat(schedule::splay(check, &node, window)), node)));
        self.pending.make_contiguous().sort();
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
