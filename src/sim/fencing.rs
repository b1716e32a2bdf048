//! Whoever fences, until that role exists: two processes that act on nodes the pool file shows as untrusted, under the real lease and on a
//! database of their own. Each has its own troubles; rule 6 is judged here: one acts at a time, each act happens once, and none by mistake.
//!
//! What is about to be done is stored before it is done, in a transaction that depends on the lease. Whoever dies or is paused in between has not
//! done it, and nobody does it in its stead: at most once, not at least once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::cluster::{BEGINNING, open};
use super::oracle::{Oracle, now};
use super::reader::{self, Taken, View};
use super::story::NODES;
use super::{Dice, Life, note};
use crate::clock::VirtualClock;
use crate::store::lease::{Candidate, Tenure};
use crate::store::{Database, StoreError};

/// How often a process looks at the pool file.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often one that waits asks for the lease.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Both processes, and what they have done.
pub(super) struct Fences {
    dice: Dice,
    folder: PathBuf,
    deeds: Deeds,
    lives: [Option<Life>; 2],
    /// When each starts again or goes on.
    mend: [Option<Duration>; 2],
    started: u64,
    /// Whether things go wrong now.
    trouble: Arc<AtomicBool>,
}

/// What was done to the world outside, which no database takes back.
#[derive(Clone)]
struct Deeds {
    oracle: Oracle,
    pool: PathBuf,
    done: Arc<Mutex<Done>>,
}

#[derive(Default)]
struct Done {
    fenced: BTreeSet<String>,
    /// The epoch of whoever began to lead last.
    led: i64,
}

impl Fences {
    /// Two processes with troubles of their own, so that the rest of the story stays what it is without them.
    pub(super) fn new(seed: u64, folder: &Path, oracle: Oracle) -> Self {
        let own = folder.join("fencing");
        std::fs::create_dir(&own).unwrap();
        let deeds = Deeds { oracle, pool: folder.join("run"), done: Arc::default() };
        let dice = Dice::new(seed ^ 0x00fe_9ce5);
        Self { dice, folder: own, deeds, lives: [None, None], mend: [None, None], started: 0, trouble: Arc::default() }
    }

    /// A moment passes.
    pub(super) fn tick(&mut self, trouble: bool) {
        self.trouble.store(trouble, Ordering::SeqCst);
        for index in 0..self.lives.len() {
            let is_due = self.mend[index].take_if(|at| *at <= now() || !trouble).is_some();
            if self.mend[index].is_some() {
                continue;
            }
            match &self.lives[index] {
                Some(life) if life.is_dead() => {
                    self.lives[index] = None;
                    self.mend[index] = Some(now() + self.dice.millis(200, 6_000));
                }
                Some(life) if life.is_paused() => match is_due || !trouble {
                    true => life.set_paused(false),
                    false => self.mend[index] = Some(now() + self.dice.millis(500, 12_000)),
                },
                Some(life) if trouble && self.dice.chance(30) => match self.dice.chance(500) {
                    true => life.light(self.dice.below(6)),
                    false => life.set_paused(true),
                },
                Some(_) => {}
                None => self.start(index),
            }
        }
    }

    fn start(&mut self, index: usize) {
        self.started += 1;
        let life = Life::new(["fencing", "fencing-2"][index], self.started);
        note(&format!("{} starts", life.name()));
        let database = open(&life, &self.folder, "nodes");
        let holder = format!("{}:{}", life.name(), self.started);
        let candidate = Candidate::new("nodes", holder, database.clone(), VirtualClock::starting_at(BEGINNING));
        let (dice, deeds, trouble) = (self.dice.clone(), self.deeds.clone(), self.trouble.clone());
        let fence = Fence { life: life.clone(), dice, database, deeds, trouble };
        tokio::spawn(fence.run(candidate));
        self.lives[index] = Some(life);
    }
}

/// One process.
struct Fence {
    life: Life,
    dice: Dice,
    database: Database,
    deeds: Deeds,
    trouble: Arc<AtomicBool>,
}

impl Fence {
    async fn run(self, mut candidate: Candidate) {
        while !self.life.is_dead() {
            self.life.running().await;
            let tenure = candidate.attempt().await;
            if let Ok(Some(tenure)) = tenure {
                self.deeds.leads(self.life.name(), tenure.epoch());
                let (kept, database) = (tenure.clone(), self.database.clone());
                let keeping = AbortOnDropHandle::new(tokio::spawn(async move { kept.keep(&database).await }));
                let mut known = self.decided().await.ok();
                while let Some(known) = &mut known
                    && !tenure.over().is_cancelled()
                    && !self.life.is_dead()
                {
                    self.look(&tenure, known).await;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                drop(keeping);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Looks at the pool file and does at most one thing about it; `known`: the nodes it is done with.
    async fn look(&self, tenure: &Tenure, known: &mut BTreeSet<String>) {
        self.life.running().await;
        let Some(view) = self.deeds.view() else { return };
        let is_due = |(node, taken): &(&String, &Taken)| match is_to_be_fenced(&view, **taken) {
            true => !known.contains(*node),
            false => known.contains(*node) && !view.silent,
        };
        let Some((node, taken)) = view.levels.iter().find(is_due) else { return };
        let done = match is_to_be_fenced(&view, *taken) {
            true => {
                // Whatever becomes of it, it is not tried again.
                known.insert(node.clone());
                self.fence(tenure, node).await
            }
            false => self.forget(tenure, node).await.map(|gone| {
                if gone {
                    known.remove(node);
                }
            }),
        };
        if let Err(error) = done {
            note(&format!("{} does nothing about {node}: {error}", self.life.name()));
        }
    }

    /// The nodes something was decided about.
    async fn decided(&self) -> Result<BTreeSet<String>, StoreError> {
        let known = self.database.find("SELECT id FROM nodes_seen WHERE id IN", &NODES).await?;
        Ok(known.into_iter().collect())
    }

    async fn fence(&self, tenure: &Tenure, node: &str) -> Result<(), StoreError> {
        self.life.step("before it decides").await;
        let mut changes = tenure.over_database(&self.database).begin().await?;
        changes.execute("INSERT INTO nodes_seen (id, forget_at) VALUES (?, 0)", &[node.into()]).await?;
        changes.commit().await?;
        note(&format!("{} decides to fence {node}", self.life.name()));
        // It asks others first, which takes its time; and what can be late is late just then.
        tokio::time::sleep(self.dice.millis(10, 3_000)).await;
        if self.trouble.load(Ordering::SeqCst) && self.dice.chance(500) {
            self.life.set_paused(true);
        }
        self.life.step("before it acts").await;
        let still = self
            .deeds
            .view()
            .is_some_and(|view| view.levels.get(node).is_some_and(|taken| is_to_be_fenced(&view, *taken)));
        if still && !tenure.left().is_zero() {
            self.deeds.act(self.life.name(), node, tenure.epoch());
        }
        Ok(())
    }

    /// Whether the node may be fenced again one day.
    async fn forget(&self, tenure: &Tenure, node: &str) -> Result<bool, StoreError> {
        let mut changes = tenure.over_database(&self.database).begin().await?;
        changes.execute("DELETE FROM nodes_seen WHERE id = ?", &[node.into()]).await?;
        let Some(view) = self.deeds.view() else { return Ok(false) };
        if view.silent || view.levels.get(node) == Some(&Taken::Untrusted) {
            return Ok(false);
        }
        self.deeds.is_over(node);
        changes.commit().await.map(|()| true)
    }
}

fn is_to_be_fenced(view: &View, taken: Taken) -> bool {
    // After a long silence what is untrusted may have been released.
    taken == Taken::Untrusted && !view.silent
}

impl Deeds {
    fn view(&self) -> Option<View> {
        reader::read(&self.pool, BEGINNING.plus(now()), now())
    }

    /// Somebody leads from now on.
    fn leads(&self, who: &str, epoch: i64) {
        note(&format!("{who} leads in epoch {epoch}"));
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.led = done.led.max(epoch);
    }

    /// A node is fenced, for good.
    fn act(&self, who: &str, node: &str, epoch: i64) {
        note(&format!("{who} fences {node} in epoch {epoch}"));
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch < done.led {
            self.oracle.broken(6, &format!("{who} fences {node}, and another leads"));
        }
        if !done.fenced.insert(node.to_owned()) {
            self.oracle.broken(6, &format!("{node} is fenced twice"));
        }
        if !self.view().is_some_and(|view| view.levels.get(node) == Some(&Taken::Untrusted)) {
            self.oracle.broken(6, &format!("{node} is fenced and is not untrusted"));
        }
    }

    /// A node is not untrusted any more, as the file says: should it be so again, that is another reason.
    fn is_over(&self, node: &str) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).fenced.remove(node);
    }
}
