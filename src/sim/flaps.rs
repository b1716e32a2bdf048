//! How often each node was seen to fall into distrust, and who must not be trusted again for that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::oracle::{FLAP_HOLD_DOWN, FLAP_WINDOW, NodeFact, Word};
use super::reader::Taken;

/// What the pool file has shown.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    /// So many falls are too many; zero: none are.
    pub limit: usize,
    nodes: BTreeMap<String, Fallen>,
}

#[derive(Debug, Default)]
struct Fallen {
    /// Between which two words each fall was.
    falls: Vec<(Duration, Duration)>,
    /// The last word, and whether it was that the node is untrusted.
    last: Option<(Duration, bool)>,
}

impl Flaps {
    /// Takes note of what the file says of `node`; true where that must not be.
    pub(super) fn look(&mut self, node: &str, taken: Taken, fact: &NodeFact, word: Word) -> bool {
        let fallen = self.nodes.entry(node.to_owned()).or_default();
        let released = fact.released.unwrap_or_default();
        if fact.was_quarantined || word.as_of < released.max(fact.changed) {
            // Whose distrust this is cannot be told.
            fallen.last = None;
            return false;
        }
        fallen.falls.retain(|(from, _)| *from >= released);
        let (is_down, before) =
            (taken == Taken::Untrusted, fallen.last.replace((word.as_of, taken == Taken::Untrusted)));
        if let (true, Some((from, false))) = (is_down, before)
            && from <= word.as_of
        {
            fallen.falls.push((from, word.as_of));
        }
        let (true, Some(first)) = (self.limit > 0, fallen.falls.len().checked_sub(self.limit)) else { return false };
        let (Some((from, _)), Some((last_from, last_to))) = (fallen.falls.get(first), fallen.falls.last()) else {
            return false;
        };
        let is_good = matches!(taken, Taken::Trusted | Taken::Override);
        is_good && last_to.saturating_sub(*from) < FLAP_WINDOW && word.as_of < *last_from + FLAP_HOLD_DOWN
    }
}
