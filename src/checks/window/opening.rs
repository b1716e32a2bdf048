//! Which windows are open now.
//!
//! A window opens and ends by the time of day. Beside it runs a timer in steady time, begun when it opens, so that a clock set
//! back does not keep it open for longer than it is long; what the timer ended does not open again for the same occurrence. A
//! window that a clock set forward ended, while its timer had more than a minute left, opens again when the clock is set right.
//!
//! What is open, and what ended within the splay of those it held, is stored as a [`Mark`]: whoever starts next cannot know who
//! was held, and takes it that everybody was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checks::planner::Now;
use crate::checks::schedule::MAX_SPLAY;
use crate::checks::window::Window;
use crate::checks::window::when::Occurrence;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, WindowName};
use crate::protocol::{TargetMatcher, Traits};

/// An end that comes by the time of day while no more than this is left by the timer is the true end.
const CORRECTION: Duration = Duration::from_secs(60);

/// What is stored of a window that is open or ended a moment ago; it says all that is needed should the window be deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The window as it was.
    pub window: Window,
    /// When its occurrence began.
    pub start: Timestamp,
    /// When it ended; absent while it is open.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Whether that occurrence is over for good.
    #[serde(default)]
    pub spent: bool,
}

/// What a window covers.
#[derive(Debug, Clone)]
pub struct Coverage {
    window: Window,
    matcher: TargetMatcher,
}

impl Coverage {
    fn of(window: &Window) -> Option<Self> {
        // Patterns were validated when the window was made; should one not compile, nobody is held.
        Some(Self { window: window.clone(), matcher: TargetMatcher::new(&window.targets).ok()? })
    }

    /// Whether it holds runs of `check` at all.
    #[must_use]
    pub fn is_about(&self, check: &CheckName) -> bool {
        self.window.is_about(check)
    }

    /// Whether runs of `check` on this node are held.
    #[must_use]
    pub fn has(&self, check: &CheckName, node: &NodeName, traits: &Traits) -> bool {
        self.window.is_about(check) && self.matcher.means(node, traits)
    }
}

#[derive(Debug)]
struct Open {
    start: Timestamp,
    /// When its time is over in steady time.
    ends_by: Duration,
}

#[derive(Debug)]
struct Tracked {
    coverage: Coverage,
    /// Within these times of day the answer is this one.
    answer: Option<(Timestamp, Timestamp, Option<Occurrence>)>,
    open: Option<Open>,
    /// The start of an occurrence that is over, whatever the clock says.
    spent: Option<Timestamp>,
}

/// All windows.
#[derive(Debug, Default)]
pub struct Openings {
    tracked: BTreeMap<WindowName, Tracked>,
    marks: BTreeMap<String, Mark>,
    unsaved: BTreeMap<String, Option<Mark>>,
}

impl Tracked {
    fn new(window: &Window) -> Option<Self> {
        Some(Self { coverage: Coverage::of(window)?, answer: None, open: None, spent: None })
    }

    /// What the time of day says. A schedule is asked only where the answer can be another one.
    fn occurrence(&mut self, at: Timestamp) -> Option<Occurrence> {
        if let Some((from, until, occurrence)) = self.answer
            && (from..until).contains(&at)
        {
            return occurrence;
        }
        let when = &self.coverage.window.when;
        let occurrence = when.at(at);
        let (from, until) = match occurrence {
            Some(Occurrence { start, end }) => (start, end),
            None => (at, when.next(at).map_or(Timestamp(i64::MAX), |next| next.start)),
        };
        self.answer = Some((from, until, occurrence));
        occurrence
    }

    /// Brings it in line with the time. The mark to be stored, where it opened or ended.
    fn follow(&mut self, now: Now) -> Option<Mark> {
        let spent = self.spent;
        let occurrence = self.occurrence(now.utc).filter(|occurrence| Some(occurrence.start) != spent);
        let window = &self.coverage.window;
        match (&self.open, occurrence) {
            (None, Some(Occurrence { start, end })) => {
                self.open = Some(Open { start, ends_by: now.monotonic + end.since(now.utc) });
                Some(Mark { window: window.clone(), start, ended_at: None, spent: false })
            }
            // A clock set forward into the next occurrence.
            (Some(open), Some(Occurrence { start, end })) if start > open.start => {
                self.open = Some(Open { start, ends_by: now.monotonic + end.since(now.utc) });
                Some(Mark { window: window.clone(), start, ended_at: None, spent: false })
            }
            (Some(open), Some(_)) if now.monotonic < open.ends_by => None,
            (Some(open), occurrence) => {
                let left = open.ends_by.saturating_sub(now.monotonic);
                // By the timer, the occurrence that the clock shows is over; by the clock, the one that began.
                let over = occurrence.map_or(open.start, |shown| shown.start);
                let spent = left <= CORRECTION;
                self.spent = spent.then_some(over);
                self.open = None;
                Some(Mark { window: window.clone(), start: over, ended_at: Some(now.utc), spent })
            }
            (None, None) => None,
        }
    }
}

impl Openings {
    /// Takes up what was stored. Returns what was open, or ended so lately that not everybody may have been sent out: whoever is covered
    /// is to be held, and let go should no window be open.
    pub fn restore(&mut self, marks: Vec<Mark>, windows: &BTreeMap<WindowName, Window>, now: Now) -> Vec<Coverage> {
        let mut covered = Vec::new();
        self.adopt(windows);
        for mark in marks {
            let id = mark.window.id.clone();
            let Some(coverage) = Coverage::of(&mark.window) else { continue };
            if mark.spent
                && let Some(tracked) = self.tracked.get_mut(&mark.window.name).filter(|of| of.coverage.window.id == id)
            {
                tracked.spent = Some(mark.start);
            }
            if mark.ended_at.is_none_or(|at| now.utc.since(at) < MAX_SPLAY) {
                covered.push(coverage);
            }
            self.marks.insert(id, mark);
        }
        covered
    }

    /// Follows the definitions and the time. Whether any window opened, ended or changed, so that it is to be looked who is held.
    pub fn follow(&mut self, windows: &BTreeMap<WindowName, Window>, now: Now) -> bool {
        let mut changed = self.adopt(windows);
        for tracked in self.tracked.values_mut() {
            if let Some(mark) = tracked.follow(now) {
                tracing::info!(window = %mark.window.name, open = mark.ended_at.is_none(), "a maintenance window");
                self.unsaved.insert(mark.window.id.clone(), Some(mark.clone()));
                self.marks.insert(mark.window.id.clone(), mark);
                changed = true;
            }
        }
        self.forget(windows, now);
        changed
    }

    /// Whether a window that was open is another one now, or gone.
    fn adopt(&mut self, windows: &BTreeMap<WindowName, Window>) -> bool {
        let before = self.open().count();
        self.tracked.retain(|name, tracked| windows.get(name).is_some_and(|now| now.id == tracked.coverage.window.id));
        let changed = before != self.open().count();
        for (name, window) in windows {
            if !self.tracked.contains_key(name)
                && let Some(tracked) = Tracked::new(window)
            {
                self.tracked.insert(name.clone(), tracked);
            }
        }
        changed
    }

    /// Ends the marks of windows that are gone, and forgets those that say nothing any more.
    fn forget(&mut self, windows: &BTreeMap<WindowName, Window>, now: Now) {
        let is_there = |mark: &Mark| windows.get(&mark.window.name).is_some_and(|there| there.id == mark.window.id);
        for (id, mark) in &mut self.marks {
            let open = self.tracked.get(&mark.window.name).is_some_and(|of| of.open.is_some());
            if mark.ended_at.is_none() && !(open && is_there(mark)) {
                mark.ended_at = Some(now.utc);
                self.unsaved.insert(id.clone(), Some(mark.clone()));
            }
        }
        let says = |mark: &Mark| is_there(mark) || mark.ended_at.is_none_or(|at| now.utc.since(at) < MAX_SPLAY);
        for id in self.marks.iter().filter(|(_, mark)| !says(mark)).map(|(id, _)| id) {
            self.unsaved.insert(id.clone(), None);
        }
        self.marks.retain(|_, mark| says(mark));
    }

    /// What of the marks is not stored, by the window's id; absent: to be removed.
    #[must_use]
    pub fn unsaved(&self) -> &BTreeMap<String, Option<Mark>> {
        &self.unsaved
    }

    /// All of them are stored.
    pub fn saved(&mut self) {
        self.unsaved.clear();
    }

    /// The windows that are open, with the time of day at which each ends at the latest.
    pub fn open_until(&self, now: Now) -> impl Iterator<Item = (&Window, Timestamp)> {
        self.tracked.values().filter_map(move |tracked| {
            let open = tracked.open.as_ref()?;
            let by_timer = now.utc.plus(open.ends_by.saturating_sub(now.monotonic));
            let by_clock = tracked.answer.and_then(|(_, _, occurrence)| occurrence).map(|occurrence| occurrence.end);
            Some((&tracked.coverage.window, by_clock.map_or(by_timer, |end| end.min(by_timer))))
        })
    }

    /// What the open windows cover.
    pub fn open(&self) -> impl Iterator<Item = &Coverage> {
        self.tracked.values().filter(|tracked| tracked.open.is_some()).map(|tracked| &tracked.coverage)
    }

    /// Whether the window's occurrence that the clock shows is over for good.
    #[must_use]
    pub fn is_spent(&self, window: &Window) -> bool {
        self.tracked.get(&window.name).is_some_and(|tracked| tracked.spent.is_some())
    }
}
