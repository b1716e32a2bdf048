//! One process, from its start to its death. A dead one can do nothing that anybody notices: what it is about to do never happens.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a paused process looks whether it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(100);

thread_local! {
    static CURRENT: RefCell<Life> = const { RefCell::new(Life(None)) };
}

/// A simulated process; the default is none, which never dies.
#[derive(Clone, Default)]
pub(crate) struct Life(Option<Arc<Inner>>);

struct Inner {
    name: String,
    number: u64,
    dead: AtomicBool,
    cut: AtomicBool,
    paused: AtomicBool,
    /// Its database stores nothing.
    full: AtomicBool,
    /// After so many further steps it dies; negative: not.
    fuse: AtomicI64,
    on_death: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life({})", self.name())
    }
}

impl Life {
    pub(crate) fn new(name: &str, number: u64) -> Self {
        Self(Some(Arc::new(Inner {
            name: name.to_owned(),
            number,
            dead: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            full: AtomicBool::new(false),
            fuse: AtomicI64::new(-1),
            on_death: Mutex::default(),
        })))
    }

    /// The process that is being started on this thread.
    pub(crate) fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `start` as the beginning of this process.
    pub(crate) fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        CURRENT.set(self.clone());
        let started = start();
        CURRENT.set(Self(None));
        started
    }

    pub(crate) fn name(&self) -> &str {
        self.0.as_ref().map_or("nobody", |inner| &inner.name)
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.number)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.dead.load(Ordering::SeqCst))
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.cut.load(Ordering::SeqCst))
    }

    pub(crate) fn set_cut(&self, cut: bool) {
        if let Some(inner) = &self.0 {
            inner.cut.store(cut, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.paused.load(Ordering::SeqCst))
    }

    /// Whether there is no room for what it wants to store.
    pub(crate) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.full.load(Ordering::SeqCst))
    }

    pub(crate) fn set_full(&self, full: bool) {
        super::note(&format!("the disk of {} {}", self.name(), if full { "is full" } else { "has room again" }));
        if let Some(inner) = &self.0 {
            inner.full.store(full, Ordering::SeqCst);
        }
    }

    /// Stops it as SIGSTOP does, or lets it go on: what it was about to do then happens late.
    pub(crate) fn set_paused(&self, paused: bool) {
        super::note(&format!("{} {}", self.name(), if paused { "is paused" } else { "goes on" }));
        if let Some(inner) = &self.0 {
            inner.paused.store(paused, Ordering::SeqCst);
        }
    }

    /// Waits until it is not paused.
    pub(crate) async fn running(&self) {
        while self.0.as_ref().is_some_and(|inner| inner.paused.load(Ordering::SeqCst)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// It dies after `steps` further steps.
    pub(crate) fn light(&self, steps: u64) {
        if let Some(inner) = &self.0 {
            inner.fuse.store(i64::try_from(steps).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// What others do when it dies.
    pub(crate) fn on_death(&self, act: impl FnOnce() + Send + 'static) {
        if let Some(inner) = &self.0 {
            inner.on_death.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(act));
        }
    }

    pub(crate) fn die(&self, at: &str) {
        let Some(inner) = &self.0 else { return };
        if !inner.dead.swap(true, Ordering::SeqCst) {
            super::note(&format!("{} dies {at}", inner.name));
            let acts = std::mem::take(&mut *inner.on_death.lock().unwrap_or_else(PoisonError::into_inner));
            for act in acts {
                act();
            }
        }
    }

    /// A step at which a process can die. True: it is dead, and must do nothing more.
    pub(crate) fn burns(&self, point: &'static str) -> bool {
        let Some(inner) = &self.0 else { return false };
        let left = inner.fuse.load(Ordering::SeqCst);
        if left > 0 {
            inner.fuse.store(left - 1, Ordering::SeqCst);
        } else if left == 0 {
            inner.fuse.store(-1, Ordering::SeqCst);
            self.die(point);
        }
        self.is_dead()
    }

    /// [`Life::burns`], and then it never goes on; or it does so late.
    pub(crate) async fn step(&self, point: &'static str) {
        self.running().await;
        if self.burns(point) {
            std::future::pending::<()>().await;
        }
    }
}
