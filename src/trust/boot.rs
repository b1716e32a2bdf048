//! Which boot of a node something belongs to.
//!
//! Several sources show a boot, each in its own words (an agent's boot id, a TPM's reset count), so texts are compared
//! with those of the same source only. When one source shows a change, the others will show the same one soon: a change is
//! taken as already known when that source had neither been heard since the last known change nor shown it already.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::protocol::RunOrder;

/// Most sources remembered per node.
pub const MAX_SOURCES: usize = 64;
/// A longer text is remembered by its digest.
const MAX_TEXT: usize = 64;

/// What a sighting of a boot meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootSeen {
    /// This source had not shown a boot before.
    First,
    /// The boot already known.
    Same,
    /// Another boot than before: what was known of the node belongs to an earlier boot.
    Changed,
    /// Another text than before, explained by a change another source had shown.
    Explained,
    /// A boot that is over: the sighting is older than what is known.
    Stale,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting {
    source: String,
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<RunOrder>,
    at: Timestamp,
    /// Since which boot of the node this source shows this text.
    since: u32,
    /// Whether another text came before this one.
    changed: bool,
}

/// The boots of one node, as far as anything shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Boots {
    #[serde(skip_serializing_if = "is_zero")]
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    seen: Vec<Sighting>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Boots {
    /// The source name of the node's agent; no check can have it.
    pub const AGENT: &'static str = "@agent";

    /// Whether nothing was ever noticed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How many changes of boot were noticed.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When the last change was noticed.
    #[must_use]
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.changed_at
    }

    /// Whether anything shows the boot; if not, `node show` says `boot: not observable`.
    #[must_use]
    pub fn observable(&self) -> bool {
        !self.seen.is_empty()
    }

    /// `source` (a check's name, or [`Boots::AGENT`]) showed `boot`. `order`: of the run, if it was one. `evidence_at`: the
    /// earliest the boot can have been looked at; `known_at`: the latest.
    pub fn observe(
        &mut self,
        source: &str,
        boot: &str,
        order: Option<RunOrder>,
        evidence_at: Timestamp,
        known_at: Timestamp,
    ) -> BootSeen {
        let boot = bounded(boot);
        let fresh =
            Sighting { source: source.to_owned(), boot, order, at: evidence_at, since: self.count, changed: false };
        let Some(known) = self.seen.iter_mut().find(|s| s.source == source) else {
            self.forget_oldest();
            self.seen.push(fresh);
            return BootSeen::First;
        };
        let older = match (order, known.order) {
            (Some(new), Some(old)) => new < old,
            _ => evidence_at < known.at,
        };
        if known.boot == fresh.boot {
            if !older {
                (known.order, known.at) = (order, known.at.max(evidence_at));
            }
            return BootSeen::Same;
        }
        if older {
            // The late word of an earlier boot. If nobody had noticed that change, it is noticed now.
            if known.changed || known.since != self.count {
                return BootSeen::Stale;
            }
            known.changed = true;
            let noticed = known.at.max(known_at);
            return self.change(source, noticed);
        }
        // One change explains one new text of each source; the next one is another reboot, however close.
        let explained = self.changed_at.is_some_and(|at| known.at < at) && !known.shows_present(self.count);
        *known = Sighting { changed: true, ..fresh };
        if explained {
            return BootSeen::Explained;
        }
        self.change(source, known_at)
    }

    /// To which boot evidence belongs that `source` made at `evidence_at`, showing `boot` if it can tell; `None` when it
    /// is not the present one. Ask after [`Boots::observe`].
    #[must_use]
    pub fn present(&self, source: &str, boot: Option<&str>, evidence_at: Timestamp) -> Option<u32> {
        let recent = self.changed_at.is_none_or(|at| evidence_at >= at);
        let known = self.seen.iter().find(|s| s.source == source);
        let belongs = match (boot, known) {
            (Some(boot), Some(known)) => known.boot == bounded(boot) && (recent || known.shows_present(self.count)),
            _ => recent,
        };
        belongs.then_some(self.count)
    }

    fn change(&mut self, source: &str, at: Timestamp) -> BootSeen {
        self.count = self.count.saturating_add(1);
        self.changed_at = Some(self.changed_at.map_or(at, |before| before.max(at)));
        let count = self.count;
        if let Some(known) = self.seen.iter_mut().find(|s| s.source == source) {
            known.since = count;
        }
        BootSeen::Changed
    }

    /// What a clock that was far ahead has dated after `limit` counts as of `now`, in the order in which it was. True where something changed.
    ///
    /// Otherwise evidence of the present boot would be taken for older than a change noticed before, and a text that the agent shows next for
    /// the late word of an earlier boot, until that time has come.
    pub(super) fn mend_clock(&mut self, limit: Timestamp, now: Timestamp) -> bool {
        let changed_at = self.changed_at;
        let mut mended = false;
        for sighting in self.seen.iter_mut().filter(|sighting| sighting.at > limit) {
            let before = changed_at.is_some_and(|change| sighting.at < change);
            sighting.at = if before { Timestamp(now.0.saturating_sub(1)) } else { now };
            mended = true;
        }
        if let Some(at) = self.changed_at.as_mut().filter(|at| **at > limit) {
            *at = now;
            mended = true;
        }
        mended
    }

    /// What `source` showed is not believed any more; its next sighting is a first one.
    pub(super) fn forget(&mut self, source: &str) {
        self.seen.retain(|sighting| sighting.source != source);
    }

    fn forget_oldest(&mut self) {
        if self.seen.len() >= MAX_SOURCES
            && let Some(oldest) = self.seen.iter().enumerate().min_by_key(|(_, s)| s.at).map(|(i, _)| i)
        {
            self.seen.swap_remove(oldest);
        }
    }
}

impl Sighting {
    fn shows_present(&self, count: u32) -> bool {
        self.changed && self.since == count
    }
}

fn bounded(boot: &str) -> String {
    if boot.len() <= MAX_TEXT {
        return boot.to_owned();
    }
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, boot.as_bytes()))
}
