//! What became of a check's slots since the process started: for people who ask why something did not run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::due::Due;
use crate::checks::lateness::LATE;
use crate::clock::Timestamp;
use crate::names::CheckName;

/// Why a node was left out of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// Its last run of the check was not over.
    Overlap,
    /// A maintenance window holds it.
    Window,
    /// It has not passed what the check runs after.
    Prerequisite,
}

impl Skipped {
    /// The word in metrics and views.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Window => "window",
            Self::Prerequisite => "prerequisite",
        }
    }
}

/// By check.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<CheckName, Page>);

#[derive(Debug, Default)]
struct Page {
    slots: u64,
    late: u64,
    missed: u64,
    last_slot: Option<(Timestamp, Duration)>,
    skipped: BTreeMap<Skipped, (u64, Timestamp)>,
}

impl Ledger {
    /// Takes note of a slot that begins, if `due` begins one.
    pub fn began(&mut self, due: &Due) {
        let Some(slot) = due.begins else { return };
        let page = self.0.entry(due.check.clone()).or_default();
        page.slots += 1;
        page.late += u64::from(due.late > LATE);
        page.missed += u64::from(due.missed);
        page.last_slot = Some((slot, due.late));
        let check = || due.check.to_string();
        metrics::counter!("spice_checks_slots_total", "check" => check()).increment(1);
        if due.late > LATE {
            metrics::counter!("spice_checks_slots_late_total", "check" => check()).increment(1);
        }
        if due.missed > 0 {
            metrics::counter!("spice_checks_slots_missed_total", "check" => check()).increment(due.missed.into());
        }
    }

    /// Takes note of nodes that were left out.
    pub fn skipped(&mut self, check: &CheckName, why: Skipped, nodes: usize, now: Timestamp) {
        if nodes == 0 {
            return;
        }
        let (count, at) = self.0.entry(check.clone()).or_default().skipped.entry(why).or_default();
        *count += nodes as u64;
        *at = now;
        metrics::counter!("spice_checks_skipped_total", "check" => check.to_string(), "reason" => why.as_str())
            .increment(nodes as u64);
    }

    /// Forgets checks that are gone.
    pub fn keep(&mut self, is_known: impl Fn(&CheckName) -> bool) {
        self.0.retain(|check, _| is_known(check));
    }

    /// Slots that were late, and slots that were missed, over all checks.
    #[must_use]
    pub fn late_and_missed(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(late, missed), page| (late + page.late, missed + page.missed))
    }

    /// A check's page, as it is shown.
    #[must_use]
    pub fn show(&self, check: &CheckName) -> Value {
        let none = Page::default();
        let page = self.0.get(check).unwrap_or(&none);
        let skipped: BTreeMap<&str, Value> = page
            .skipped
            .iter()
            .map(|(why, (nodes, last))| (why.as_str(), json!({ "nodes": nodes, "last_at": last.to_string() })))
            .collect();
        json!({
            "slots": page.slots,
            "late": page.late,
            "missed": page.missed,
            "last_slot": page.last_slot.map(|(slot, _)| slot.to_string()),
            "last_late_ms": page.last_slot.map(|(_, late)| u64::try_from(late.as_millis()).unwrap_or(u64::MAX)),
            "skipped": skipped,
        })
    }
}
