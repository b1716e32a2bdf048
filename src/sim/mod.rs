//! The engine under a scripted world: real roles, real signatures, real SQLite and pool files; but time, the bus and every fault come from a seed.
//!
//! One thread, tokio's paused clock: a story of half an hour takes a fraction of a second, and the same seed tells the same story.
//!
//! | file | owns |
//! |---|---|
//! | `life` | a process: where it can die, and that nothing of it happens after that |
//! | `../bus/simulated` | the broker, with the weather that loses, delays, repeats and cuts |
//! | `cluster` | machines with their clocks and processes, and starting them again |
//! | `provider` | the adapter's provider, and the truth about every node |
//! | `reader` | the pool file as the Nova filter understands it |
//! | `oracle` | what was seen from outside: results, acknowledgements, publications, policies, answers to administrators |
//! | `boots` | which boots Nodes can have noticed |
//! | `rules` | what must hold, given that |
//! | `story` | how it begins, what the time brings, how it ends; told when it fails |
//! | `fault` | what goes wrong, drawn from the seed |
//! | `fencing` | who acts on what is published, as a stub until that role exists |
//! | `people` | what administrators do |
//!
//! `SPICE_SIM_SEED=n` tells one seed again; `SPICE_SIM_SEEDS=a..b` tells those from a to before b. `SPICE_SIM_LOG=1` shows the log beside.
//! Many, and the rules broken on purpose: `tools/bench sim`.

mod boots;
mod cluster;
mod fault;
mod fencing;
mod flaps;
mod life;
mod oracle;
mod people;
mod provider;
mod reader;
mod rules;
mod story;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::store::Kind;

pub(crate) use life::Life;

/// What a simulating thread knows.
struct Simulation {
    origin: Instant,
    log: Log,
}

/// What has happened so far.
type Log = Arc<Mutex<Vec<String>>>;

thread_local! {
    static SIMULATION: RefCell<Option<Simulation>> = const { RefCell::new(None) };
}

/// From here on this thread simulates.
fn begin(log: Log) {
    SIMULATION.set(Some(Simulation { origin: Instant::now(), log }));
}

/// Ends the simulation.
fn end() {
    SIMULATION.set(None);
}

/// How long the simulation lasts; `None` where nothing is simulated.
pub(crate) fn boottime() -> Option<Duration> {
    SIMULATION.with_borrow(|simulation| simulation.as_ref().map(|simulation| simulation.origin.elapsed()))
}

/// Takes note of an event. Nothing random may be in its text but what came from the seed.
pub(crate) fn note(text: &str) {
    SIMULATION.with_borrow_mut(|simulation| {
        if let Some(simulation) = simulation {
            let at = simulation.origin.elapsed().as_millis();
            let line = format!("{:>4}.{:03} {text}", at / 1000, at % 1000);
            simulation.log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

/// The answer of a database, which works on threads of its own. In a simulation this thread waits for it, so that neither time nor other tasks
/// go on meanwhile, and what the library does afterwards happens elsewhere.
pub(crate) async fn settled<F: Future>(answer: F) -> F::Output {
    if boottime().is_none() {
        return answer.await;
    }
    let elsewhere = elsewhere();
    let _elsewhere = elsewhere.enter();
    block_on(tokio::task::unconstrained(answer))
}

/// Whether this thread simulates.
pub(crate) fn is_simulated() -> bool {
    boottime().is_some()
}

/// A statement whose time, the database's own, is the simulated one.
pub(crate) fn dated(statement: Cow<'static, str>) -> Cow<'static, str> {
    match boottime() {
        Some(time) if statement.contains(Kind::Sqlite.now_ms()) => {
            let now = cluster::BEGINNING.plus(time).0.to_string();
            statement.replace(Kind::Sqlite.now_ms(), &now).into()
        }
        _ => statement,
    }
}

/// Where the database library's own tasks run: for each thread that simulates, elsewhere on the same processor.
fn elsewhere() -> tokio::runtime::Handle {
    thread_local! {
        static RUNTIME: OnceLock<tokio::runtime::Handle> = const { OnceLock::new() };
    }
    let begin = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // It has to outlive what is given back to it when the thread ends.
        Box::leak(Box::new(runtime)).handle().clone()
    };
    RUNTIME.with(|runtime| runtime.get_or_init(begin).clone())
}

/// Something of the database library that is given back to it where its tasks run, so that a simulation can wait for that.
pub(crate) struct Elsewhere<T>(Option<T>);

impl<T> From<T> for Elsewhere<T> {
    fn from(held: T) -> Self {
        Self(Some(held))
    }
}

impl<T: Deref> Deref for Elsewhere<T> {
    type Target = T::Target;

    fn deref(&self) -> &T::Target {
        self.0.as_ref().unwrap()
    }
}

impl<T: DerefMut> DerefMut for Elsewhere<T> {
    fn deref_mut(&mut self) -> &mut T::Target {
        self.0.as_mut().unwrap()
    }
}

impl Elsewhere<sqlx::Transaction<'static, sqlx::Any>> {
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.0.take().unwrap().commit().await
    }

    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.0.take().unwrap().rollback().await
    }
}

impl<T> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        if boottime().is_some() {
            let elsewhere = elsewhere();
            let _elsewhere = elsewhere.enter();
            drop(self.0.take());
        }
    }
}

struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// All chance of a story.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number below `limit`.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..limit.max(1))
    }

    /// A place in something of this length.
    pub(crate) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(0))).unwrap_or(0)
    }

    /// Whether something happens that does so `of_thousand` times in a thousand.
    pub(crate) fn chance(&self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high.saturating_sub(low)))
    }
}
