//! Whether a publication comes too late to be believed, without trusting anybody's clock.
//!
//! What Nodes says holds until its lease ends (`not_after`), by its own clock. Somebody who was paused, or a network that held something back, must not be believed
//! after that by a reader that has heard of nobody else yet. The reader asks with a nonce, so it knows that the answer was signed between its question
//! and the receipt: by how much Nodes' clock and its own steady one are apart is at most receipt minus `sent_at`. The smallest such difference
//! of an epoch is kept; by it everything of that epoch is reckoned. It errs by the way of the fastest message at most, never against
//! a message that is in time. A clock that is set, on either side, is found out by the next answer.

use std::time::Duration;

use crate::clock::Timestamp;

/// What clocks that run at slightly different speeds are allowed between two answers.
pub const MARGIN: Duration = Duration::from_millis(250);

/// When something came, by the reader's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The time of day.
    pub utc: Timestamp,
    /// A time that never steps, and counts on in suspension.
    pub steady: Duration,
}

/// How a publication states when it was said and until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// When it was said.
    pub sent_at: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

impl Stated {
    /// Whether it was never to be believed.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.not_after <= self.sent_at
    }

    /// For how long it holds.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.not_after.since(self.sent_at)
    }
}

/// What is known of how far Nodes' clock and ours are apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reckoning {
    /// Our steady time minus Nodes' time of day, in ms: no more than this.
    most_apart: Option<i64>,
}

fn apart(ours: Duration, theirs: Timestamp) -> i64 {
    i64::try_from(ours.as_millis()).unwrap_or(i64::MAX).saturating_sub(theirs.0)
}

impl Reckoning {
    /// An answer to what was asked at `asked` came at `received`, both in steady time. Says whether it is in time; only then is something learnt from it.
    pub fn answer(&mut self, stated: Stated, asked: Duration, received: Duration) -> bool {
        if stated.is_void() || received.saturating_sub(asked) > stated.lasts() {
            return false;
        }
        let (least, most) = (apart(asked, stated.sent_at), apart(received, stated.sent_at));
        // What was learnt before cannot be so any more where it is less than the least: a clock was set.
        self.most_apart = Some(self.most_apart.filter(|known| *known >= least).map_or(most, |known| known.min(most)));
        true
    }

    /// Nodes' time of day when it is `now` in steady time: this or later. `None` before there was an answer.
    #[must_use]
    pub fn theirs(&self, now: Duration) -> Option<Timestamp> {
        self.most_apart.map(|most| Timestamp(apart(now, Timestamp(0)).saturating_sub(most)))
    }

    /// Whether something that nobody asked for is in time; `None` before there was an answer.
    pub fn hear(&mut self, stated: Stated, received: Duration) -> Option<bool> {
        let known = self.most_apart?;
        let in_time = !stated.is_void() && self.theirs(received)? <= stated.not_after.plus(MARGIN);
        if in_time {
            self.most_apart = Some(known.min(apart(received, stated.sent_at)));
        }
        Some(in_time)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    /// Nodes' clock is this far from true time, ours began at this one.
    #[derive(Debug, Clone, Copy)]
    struct Clocks {
        theirs: i64,
        ours: i64,
    }

    impl Clocks {
        fn stated(&self, at: i64, lasts: i64) -> Stated {
            Stated { sent_at: Timestamp(at + self.theirs), not_after: Timestamp(at + self.theirs + lasts) }
        }

        fn steady(&self, at: i64) -> Duration {
            Duration::from_millis(u64::try_from(at + self.ours).unwrap())
        }
    }

    fn clocks() -> impl Strategy<Value = Clocks> {
        (-100_000_000_i64..100_000_000_000, 0_i64..100_000_000).prop_map(|(theirs, ours)| Clocks { theirs, ours })
    }

    proptest! {
        /// However wrong the clocks are: what is in time is heard, what is late by more than the fastest answer took is not.
        #[test]
        fn what_is_in_time_is_heard_and_what_is_late_is_not(
            clocks in clocks(),
            answers in prop::collection::vec((0_i64..2_000, 0_i64..2_000), 1..5),
            publications in prop::collection::vec((1_i64..10_000, 0_i64..30_000), 1..30),
        ) {
            let mut reckoning = Reckoning::default();
            let mut at = 1_000;
            let mut fastest = i64::MAX;
            for (there, back) in answers {
                let (asked, said, received) = (at, at + there, at + there + back);
                if reckoning.answer(clocks.stated(said, 4_000), clocks.steady(asked), clocks.steady(received)) {
                    fastest = fastest.min(back);
                    let theirs = reckoning.theirs(clocks.steady(received)).unwrap();
                    prop_assert!(theirs <= Timestamp(received + clocks.theirs), "later than it is");
                    prop_assert!(theirs >= Timestamp(said + clocks.theirs), "earlier than they said themselves");
                }
                at = received + 1;
            }
            let margin = i64::try_from(MARGIN.as_millis()).unwrap();
            for (lasts, way) in publications {
                at += 500;
                let heard = reckoning.hear(clocks.stated(at, lasts), clocks.steady(at + way)).unwrap();
                if way <= lasts {
                    prop_assert!(heard, "in time, and not heard");
                    fastest = fastest.min(way);
                }
                if way > lasts + fastest + margin {
                    prop_assert!(!heard, "late by {}, and heard", way - lasts);
                }
            }
        }

        /// An answer counts only as long after the question as it holds.
        #[test]
        fn a_late_answer_is_none(clocks in clocks(), there in 0_i64..10_000, back in 0_i64..10_000, lasts in -10_i64..10_000) {
            let mut reckoning = Reckoning::default();
            let stated = clocks.stated(1_000 + there, lasts);
            let counted = reckoning.answer(stated, clocks.steady(1_000), clocks.steady(1_000 + there + back));
            prop_assert_eq!(counted, lasts > 0 && there + back <= lasts);
            prop_assert_eq!(reckoning.most_apart.is_some(), counted);
        }

        /// A clock that is set in the middle is found out by the next answer, in either direction.
        #[test]
        fn a_clock_that_is_set_is_found_out(clocks in clocks(), step in -100_000_000_i64..100_000_000) {
            let mut reckoning = Reckoning::default();
            prop_assert!(reckoning.answer(clocks.stated(1_010, 4_000), clocks.steady(1_000), clocks.steady(1_020)));
            let after = Clocks { theirs: clocks.theirs + step, ..clocks };
            prop_assert!(reckoning.answer(after.stated(2_010, 4_000), after.steady(2_000), after.steady(2_020)));
            prop_assert_eq!(reckoning.hear(after.stated(3_000, 4_000), after.steady(7_000)), Some(true));
            prop_assert_eq!(reckoning.hear(after.stated(3_000, 4_000), after.steady(7_300)), Some(false));
        }
    }

    #[test]
    fn before_any_answer_nothing_is_reckoned() {
        let stated = Stated { sent_at: Timestamp(5), not_after: Timestamp(10) };
        assert_eq!(Reckoning::default().hear(stated, Duration::from_millis(7)), None);
        assert_eq!(Reckoning::default().theirs(Duration::from_millis(7)), None);
    }
}
