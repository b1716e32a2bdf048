//! What goes wrong in a story. Every story has its own mixture: some faults are frequent in it and others absent, so that rare things meet.

use std::time::Duration;

use serde_json::Value;

use super::cluster::{BEGINNING, Machine};
use super::oracle::TTL;
use super::provider::Nature;
use super::story::{Mend, NODES, Story};
use super::{Dice, note};
use crate::bus::simulated::Weather;
use crate::protocol::{NodeResult, Status};

/// What can go wrong or change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Crash,
    Cut,
    Broker,
    Weather,
    Clock,
    Replay,
    Lie,
    Pause,
    Disk,
    Turn,
    Boot,
    Administer,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Crash,
        Self::Cut,
        Self::Broker,
        Self::Weather,
        Self::Clock,
        Self::Replay,
        Self::Lie,
        Self::Pause,
        Self::Disk,
        Self::Turn,
        Self::Boot,
        Self::Administer,
    ];

    /// The faults of a story, each as often as it is likely.
    pub(super) fn mixture(dice: &Dice) -> Vec<Self> {
        let mut mixture = vec![Self::Turn, Self::Turn, Self::Administer];
        for fault in Self::ALL {
            let weight = [0, 1, 4][dice.index(3)];
            mixture.extend(std::iter::repeat_n(fault, weight));
        }
        mixture
    }
}

pub(super) fn weather(dice: &Dice) -> Weather {
    match dice.below(3) {
        0 => Weather::FAIR,
        1 => Weather { lost: 50, repeated: 50, unconfirmed: 30, slow: 100, slow_for_ms: 1500 },
        _ => Weather { lost: 300, repeated: 200, unconfirmed: 150, slow: 300, slow_for_ms: 8_000 },
    }
}

impl Story {
    /// Something goes wrong, or somebody does something.
    pub(super) fn fault(&mut self, now: Duration) {
        self.oracle.facts().events.push(now);
        let fault = self.mixture[self.dice.index(self.mixture.len())];
        let machine = match self.dice.chance(500) {
            true => self.favourite,
            false => self.machines[self.dice.index(self.machines.len())],
        };
        let life = self.cluster.life(machine).cloned();
        match (fault, life) {
            (Fault::Crash, Some(life)) => life.light(self.dice.below(12)),
            (Fault::Cut, Some(life)) => {
                self.cluster.broker.cut(&life, true);
                self.mend.push((now + self.dice.millis(500, 25_000), Mend::Join(machine)));
            }
            (Fault::Pause, Some(life)) => {
                life.set_paused(true);
                self.mend.push((now + self.dice.millis(500, 15_000), Mend::GoOn(machine)));
            }
            (Fault::Disk, Some(life)) => {
                life.set_full(true);
                self.mend.push((now + self.dice.millis(500, 6_000), Mend::Room(machine)));
            }
            (Fault::Broker, _) => {
                self.cluster.broker.set_down(true);
                self.mend.push((now + self.dice.millis(200, 8_000), Mend::Broker));
            }
            (Fault::Weather, _) => self.cluster.broker.set_weather(weather(&self.dice)),
            (Fault::Clock, _) => {
                let most: i64 = [2_000, 25_000, 600_000, 86_400_000][self.dice.index(4)];
                let by = i64::try_from(self.dice.below(most.unsigned_abs())).unwrap_or(0);
                let by = if self.dice.chance(500) { by } else { -by };
                // Now and then it is the time server that is wrong.
                let all = by % 4 == 0;
                for machine in self.machines.iter().copied().filter(|of| all || *of == machine) {
                    self.cluster.step_clock(machine, by);
                    self.oracle.clock(machine.name(), self.cluster.offset(machine));
                }
            }
            (Fault::Replay, _) => self.cluster.broker.replay(),
            (Fault::Lie, _) => self.lie(now),
            (Fault::Turn, _) => {
                let node = self.some_node();
                self.turn(node);
            }
            (Fault::Boot, _) => {
                let node = self.some_node();
                note(&format!("{node} boots again"));
                *self.cluster.provider.truth().boots.entry(node.clone()).or_default() += 1;
                self.oracle.facts().rebooted.insert(node.clone(), now);
                if self.dice.chance(500) {
                    self.turn(node);
                }
            }
            (Fault::Administer, _) => self.administer(now),
            (_, None) => {}
        }
    }

    /// A node becomes another one.
    fn turn(&self, node: String) {
        let nature = Nature::any(&self.dice);
        note(&format!("{node} becomes {nature:?}"));
        self.cluster.provider.truth().natures.insert(node, nature);
    }

    pub(super) fn some_node(&self) -> String {
        NODES[self.dice.index(NODES.len())].to_owned()
    }

    /// Whether Nodes may store something that it does not acknowledge.
    pub(super) fn is_unsteady(&self) -> bool {
        let steady = |machine: &Machine| {
            self.cluster.life(*machine).is_some_and(|life| !life.is_dead() && !life.is_cut() && !life.is_paused())
        };
        let leaders = self.machines.iter().filter(|machine| matches!(machine, Machine::Nodes | Machine::Standby));
        self.cluster.broker.is_down() || !leaders.into_iter().all(steady)
    }

    /// Whoever holds the adapter's key reports passes under an old ticket, for its nodes and for others.
    fn lie(&self, now: Duration) {
        let Some(message) = self.cluster.broker.recorded("run_check") else { return };
        let document = message["args"]["ticket"].clone();
        let Some(ticket) = document["body"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return;
        };
        let utc = BEGINNING.plus(now);
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
}
