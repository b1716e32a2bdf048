//! What is due when. Pure: both times are passed in, so a year can be tested in a moment.
//!
//! A *slot* is one moment of a schedule. When it comes, the check's targets are resolved and every node gets its own place
//! within the splay, which depends on nothing but the check and the node: adding a node moves nobody else. Cron slots are
//! found in time of day; intervals and splay run on monotonic time, so that a clock step neither storms nor freezes them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::checks::definition::Check;
use crate::checks::registry::Registry;
use crate::checks::schedule::{self, Schedule};
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName};
use crate::protocol::targets::TargetMatcher;

/// The nodes a check can be aimed at, with their labels.
pub type Inventory = BTreeMap<NodeName, BTreeMap<String, String>>;

/// The two times of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time of day.
    pub utc: Timestamp,
    /// Time that never steps.
    pub monotonic: Duration,
}

/// Something to be sent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of which check.
    pub check: CheckName,
    /// The slot that begins with this; `None`: more nodes of the slot that began before.
    pub begins: Option<Timestamp>,
    /// The nodes whose place in the splay has come.
    pub nodes: Vec<NodeName>,
    /// Whether these are the last nodes of the slot.
    pub last: bool,
}

#[derive(Debug)]
struct Plan {
    /// The definition the plan was made for; a changed schedule makes a new plan.
    schedule: Schedule,
    check_id: String,
    last_slot: Timestamp,
    next_interval: Duration,
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
}

impl Planner {
    /// Brings the plans in line with the registry. `last_slots` are the stored moments of the last slot of each check; a
    /// check without one counts from now. Plans whose schedule did not change keep their timers.
    pub fn follow(&mut self, registry: &Registry, last_slots: &BTreeMap<CheckName, Timestamp>, now: Now) {
        self.plans.retain(|name, plan| {
            registry.checks.get(name).is_some_and(|check| check.enabled && check.id == plan.check_id)
        });
        for check in registry.checks.values().filter(|check| check.enabled) {
            let Ok(schedule) = registry.schedule_of(check) else { continue };
            match self.plans.get_mut(&check.name) {
                Some(plan) if plan.schedule == *schedule => {}
                Some(plan) => {
                    // A new schedule counts from its change; nodes already placed in the running slot keep their place.
                    plan.schedule = schedule.clone();
                    plan.last_slot = now.utc;
                    plan.next_interval = now.monotonic + interval(schedule).unwrap_or_default();
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
        let mut due = Vec::new();
        for (name, plan) in &mut self.plans {
            let Some(check) = registry.checks.get(name) else { continue };
            if let Some(elapsed) = plan.resume_after.take() {
                plan.place(check, inventory, now.monotonic.saturating_sub(elapsed));
                plan.pending.retain(|(at, _)| *at >= now.monotonic);
            }
            let begins = plan.slot(now);
            if let Some(slot) = begins {
                // Whoever is still waiting for a place in the previous slot goes out with this one.
                plan.pending.clear();
                plan.last_slot = slot;
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
                due.push(Due { check: name.clone(), begins, nodes, last: plan.pending.is_empty() });
            }
        }
        due
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
        let next_interval = now.monotonic + interval(schedule).unwrap_or_default().saturating_sub(elapsed);
        Self {
            schedule: schedule.clone(),
            check_id: check.id.clone(),
            last_slot,
            next_interval,
            resume_after,
            window,
            pending: VecDeque::new(),
        }
    }

    fn slot(&self, now: Now) -> Option<Timestamp> {
        match interval(&self.schedule) {
            Some(_) => (now.monotonic >= self.next_interval).then_some(now.utc),
            // The anchor counts for intervals only.
            None => schedule::due(&self.schedule, self.last_slot, self.last_slot, now.utc),
        }
    }

    fn place(&mut self, check: &Check, inventory: &Inventory, slot_at: Duration) {
        // Patterns were validated when the check was registered; should one not compile, nothing is aimed at.
        let Ok(matcher) = TargetMatcher::new(&check.targets) else { return };
        let window = self.window;
        let mut placed: Vec<(Duration, NodeName)> = inventory
            .iter()
            .filter(|(node, labels)| matcher.matches(node, labels))
            .map(|(node, _)| (slot_at + beat(schedule::splay(&check.name, node, window)), node.clone()))
            .collect();
        placed.sort();
        self.pending = placed.into();
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
