//! News of changed nodes, each of which counts once: replayed, it would let whoever recorded it have checks run at will.
//!
//! Unlike results it has no ticket that bounds it, and it may wait in the broker for as long as Checks is away.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;

/// News older than this is of no use: schedules have come round since, and a start runs what was missed.
const COUNTS_FOR: Duration = Duration::from_secs(86_400);
/// How far the clock of Nodes may be ahead of ours.
const MAX_AHEAD: Duration = Duration::from_secs(300);
/// Most news remembered. Only the key of Nodes can fill it.
const MAX_REMEMBERED: usize = 100_000;

/// What is known of a piece of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// To be acted upon.
    Fresh,
    /// Acted upon before.
    Known,
    /// Signed too long ago, or in the future.
    Untimely,
}

/// The ids of news acted upon, for as long as it could count again.
#[derive(Debug, Default)]
pub struct News {
    signed_at: BTreeMap<String, Timestamp>,
}

impl News {
    /// What was stored before a restart.
    #[must_use]
    pub fn restore(signed_at: BTreeMap<String, Timestamp>) -> Self {
        Self { signed_at }
    }

    /// Whether news with this id, signed at this time, is to be acted upon.
    #[must_use]
    pub fn hear(&self, id: &str, signed_at: Timestamp, now: Timestamp) -> Heard {
        if self.signed_at.contains_key(id) {
            Heard::Known
        } else if now > signed_at.plus(COUNTS_FOR) || signed_at > now.plus(MAX_AHEAD) {
            Heard::Untimely
        } else {
            Heard::Fresh
        }
    }

    /// Takes back what [`News::done`] noted, where it could not be stored: its redelivery is acted upon then.
    pub fn undo(&mut self, id: &str) {
        self.signed_at.remove(id);
    }

    /// Takes note that it was acted upon; gives the ids that may be forgotten, because their news counts no more.
    pub fn done(&mut self, id: &str, signed_at: Timestamp, now: Timestamp) -> Vec<String> {
        self.signed_at.insert(id.to_owned(), signed_at);
        let mut over: Vec<String> = Vec::new();
        self.signed_at.retain(|id, signed_at| {
            let keep = now <= signed_at.plus(COUNTS_FOR);
            if !keep {
                over.push(id.clone());
            }
            keep
        });
        while self.signed_at.len() > MAX_REMEMBERED {
            over.extend(self.signed_at.pop_first().map(|(id, _)| id));
        }
        over
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn news_counts_once_for_a_day_and_is_then_forgotten_without_counting_again() {
        let began = Timestamp(1_795_320_000_000);
        let hours = |n: u64| began.plus(Duration::from_secs(n * 3600));
        let mut news = News::default();
        assert_eq!(news.hear("a", began, hours(23)), Heard::Fresh, "it may have waited while Checks was away");
        assert!(news.done("a", began, hours(23)).is_empty());
        assert_eq!(news.hear("a", began, hours(23)), Heard::Known);
        let mut news = News::restore([("a".to_owned(), began)].into());
        assert_eq!(news.hear("a", began, hours(24)), Heard::Known, "also after a restart");
        assert_eq!(news.hear("b", began, hours(25)), Heard::Untimely);
        assert_eq!(news.hear("b", hours(2), hours(1)), Heard::Untimely);
        assert_eq!(news.done("c", hours(25), hours(25)), ["a"]);
        news.undo("c");
        assert_eq!(news.hear("c", hours(25), hours(25)), Heard::Fresh, "what could not be stored was not acted upon");
        assert_eq!(news.hear("a", began, hours(25)), Heard::Untimely, "forgotten, and too old to count");
    }
}
