//! What of the boots of a node is known from what Nodes has stored.

use std::collections::BTreeMap;
use std::time::Duration;

use super::oracle::{Facts, Stored};

/// What a check showed of a node's boot last.
struct Shown {
    order: (i64, i64),
    boot: u64,
    asked: Duration,
    /// Up to which noticed boot its own changes were part of that.
    explained: u64,
}

impl Facts {
    /// The newest boot of a node that Nodes must have noticed by `at`: some check had shown another one before.
    pub(super) fn boot_noticed(&self, node: &str, at: Duration) -> u64 {
        let since = self.nodes.get(node).map_or(Duration::ZERO, |fact| fact.registered_at);
        let mut last: BTreeMap<&str, Shown> = BTreeMap::new();
        let (mut noticed, mut noticed_at) = (0, None);
        let plain = |stored: &&Stored| stored.is_plain && stored.node == node && stored.at < at && stored.asked > since;
        for stored in self.stored.iter().filter(plain) {
            let Some(boot) = stored.boot else { continue };
            let fresh = Shown { order: stored.order, boot, asked: stored.asked, explained: noticed };
            let Some(known) = last.get_mut(stored.check.as_str()) else {
                last.insert(&stored.check, Shown { explained: 0, ..fresh });
                continue;
            };
            // What an older run shows late is taken for an earlier boot.
            if stored.order <= known.order {
                continue;
            }
            // Of checks that show their boots in words of their own, one change that was noticed explains one of each other check.
            let is_explained = noticed_at.is_some_and(|at| known.asked < at) && known.explained < noticed;
            if known.boot < boot && !is_explained {
                (noticed, noticed_at) = (noticed.max(boot), Some(stored.at));
            }
            let explained = if known.boot < boot { noticed } else { known.explained };
            *known = Shown { explained, ..fresh };
        }
        noticed
    }

    /// Whether another check noticed a change of boot after `pass` was stored, and the pass cannot be told to be of the boot after it.
    ///
    /// All that is told of boots is that a source shows another text than before. What one check shows anew explains that of
    /// another only where it had missed no boot that the other knew; otherwise the newer one may be one more, and the node has to pass again.
    pub(super) fn is_overtaken_by_a_boot(&self, pass: &Stored) -> bool {
        let Some(boot) = pass.boot else { return false };
        let since = self.nodes.get(&pass.node).map_or(Duration::ZERO, |fact| fact.registered_at);
        let of_node = || self.stored.iter().filter(|it| it.node == pass.node && it.boot.is_some() && it.at > since);
        // What a check that was made anew showed under its old self is forgotten.
        let own = of_node().filter(|it| it.check == pass.check && it.made == pass.made && it.at <= pass.at);
        let own_before = own.filter_map(|it| it.boot).filter(|it| *it < boot).max();
        of_node().filter(|it| it.check != pass.check && it.at >= pass.at && it.at > pass.asked).any(|notices| {
            let others = of_node().filter(|it| it.check == notices.check && it.at <= notices.at);
            let known: Vec<u64> =
                others.take_while(|it| !std::ptr::eq(*it, notices)).filter_map(|it| it.boot).collect();
            let Some(known_before) = known.iter().copied().max() else { return false };
            let is_explained = notices.boot == Some(boot) && own_before.is_some_and(|own| own >= known_before);
            notices.boot.is_some_and(|shown| !known.contains(&shown)) && !is_explained
        })
    }

    /// The newest boot of a node that anything stored has shown.
    pub(super) fn boot_stored(&self, node: &str) -> u64 {
        self.stored.iter().filter(|stored| stored.node == node).filter_map(|stored| stored.boot).max().unwrap_or(0)
    }
}
