//! Which slot is due, whatever the clock did since the last one.

use std::time::Duration;

use super::Schedule;
use crate::clock::Timestamp;

/// A clock set back by no more than this, over one slot only, is a correction: the slot just had is not had again.
const CORRECTION: Duration = Duration::from_secs(60);

/// The slot to run now, if one is due.
///
/// `last` is the slot run last; for a schedule that has never run, the moment it came into force. Slots missed meanwhile run
/// once, as the latest of them. The caller keeps the returned slot as the new `last`.
///
/// A clock set back makes `last` lie ahead. A small correction over one slot waits for the slot after it; any greater
/// step runs once and goes on from there. So a step costs at most one run and never a silence of more than two periods.
#[must_use]
pub fn due(schedule: &Schedule, anchor: Timestamp, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    if last <= now {
        // The usual answer, a fiftieth of the work of the other.
        if schedule.next_after(anchor, last).is_none_or(|next| next > now) {
            return None;
        }
        return latest_at_or_before(schedule, anchor, now).filter(|slot| *slot > last);
    }
    let over_one_slot = schedule.next_after(anchor, now).is_none_or(|next| next >= last);
    if over_one_slot && last.since(now) <= CORRECTION {
        return None;
    }
    latest_at_or_before(schedule, anchor, now)
}

/// The latest slot that is not after `at`; `None` when there is none in the ten years before.
#[must_use]
pub fn latest_at_or_before(schedule: &Schedule, anchor: Timestamp, at: Timestamp) -> Option<Timestamp> {
    let slot_after = |from: i64| schedule.next_after(anchor, Timestamp(from)).filter(|slot| *slot <= at);
    // "A slot lies in (from, at]" holds up to the latest slot and not from there on: widen until it holds, then halve.
    let mut back: i64 = 1_000;
    while slot_after(at.0.saturating_sub(back)).is_none() {
        back = back.saturating_mul(4);
        if back > 10 * 366 * 86_400_000 * 4 {
            return None;
        }
    }
    let (mut holds, mut fails) = (at.0.saturating_sub(back), at.0);
    while fails - holds > 1 {
        let middle = holds + (fails - holds) / 2;
        if slot_after(middle).is_some() { holds = middle } else { fails = middle }
    }
    slot_after(holds)
}
