//! Hosts that held up or spoiled a batch: asked alone for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::NodeName;

/// Most hosts remembered; beyond it, the one that would be forgotten first makes room.
const MAX_REMEMBERED: usize = 10_000;

/// A bounded memory with expiry.
pub(super) struct Culprits {
    memory: Duration,
    // A std mutex: held for a few lookups, never across an await.
    until: Mutex<HashMap<NodeName, Instant>>,
}

impl Culprits {
    pub(super) fn new(memory: Duration) -> Self {
        Self { memory, until: Mutex::default() }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<NodeName, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `node` is to be asked alone.
    pub(super) fn contains(&self, node: &NodeName) -> bool {
        self.map().get(node).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers `node` from now on.
    pub(super) fn remember(&self, node: &NodeName) {
        let now = Instant::now();
        let mut map = self.map();
        if map.len() >= MAX_REMEMBERED && !map.contains_key(node) {
            map.retain(|_, until| *until > now);
            if map.len() >= MAX_REMEMBERED
                && let Some(first) = map.iter().min_by_key(|(_, until)| **until).map(|(node, _)| node.clone())
            {
                map.remove(&first);
            }
        }
        map.insert(node.clone(), now + self.memory);
    }

    /// `node` answered: it is asked with the others again.
    pub(super) fn forget(&self, node: &NodeName) {
        self.map().remove(node);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn culprits_are_forgotten_when_they_answer_or_after_a_while_and_are_bounded() {
        let culprits = Culprits::new(Duration::from_secs(60));
        let name = |n: usize| NodeName::new(&format!("n{n}")).unwrap();
        culprits.remember(&name(1));
        culprits.remember(&name(2));
        assert!(culprits.contains(&name(1)) && !culprits.contains(&name(3)));
        culprits.forget(&name(1));
        assert!(!culprits.contains(&name(1)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!culprits.contains(&name(2)));
        for n in 0..MAX_REMEMBERED + 5 {
            culprits.remember(&name(n));
        }
        assert_eq!(culprits.map().len(), MAX_REMEMBERED);
    }
}
