//! Judging every node: by another policy, and at a start, while they are read.
//!
//! A start is waited for by everybody, and of a large cloud most of it is reading: one thread has the database read, another makes values of the
//! rows, and whoever is active judges those that are there.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::nodes::Nodes;
use crate::nodes::entry::Entry;
use crate::nodes::kept::{Packed, Packer};
use crate::nodes::storage;
use crate::nodes::world::{Stage, World};
use crate::protocol::Level;
use crate::store::{Database, StoreError, is_simulated, read_body};

/// How many nodes are judged in one transaction where all are: where most of a large cloud changes at once, one for all would take longer than the
/// lease of the role lasts, which is renewed in the same database.
const AT_ONCE: usize = 500;

/// Pages that are there before anybody asked for them.
const AHEAD: usize = 2;

/// Nodes as they are stored, each with its row.
type Page = Vec<(Entry, Packed)>;

impl Nodes {
    /// Judges every node by the policy in force.
    pub(super) async fn judge_all(&self, world: &mut World, cause: &str) -> Result<(), StoreError> {
        world.is_judged = false;
        let names: Vec<_> = world.nodes.keys().cloned().collect();
        for names in names.chunks(AT_ONCE) {
            let entries = names.iter().filter_map(|name| world.open(name)).collect();
            let as_before = self.judge(world, entries, cause).await?;
            world.retarget(as_before);
            tokio::task::yield_now().await;
        }
        world.is_judged = true;
        Ok(())
    }

    /// Reads all nodes and judges them by the policy in force, for this `cause`; without one they stay as they are. Nothing is published: nobody was told
    /// anything in this epoch yet.
    pub(super) async fn load(&self, world: &mut World, cause: Option<&str>) -> Result<(), StoreError> {
        world.is_judged = false;
        let mut pages = pages(self.database.clone());
        while let Some(page) = pages.recv().await {
            let named = |(entry, row): (Entry, Packed)| {
                let name = entry.name.clone();
                (entry, (name, row))
            };
            let (entries, mut rows): (Vec<_>, BTreeMap<_, _>) = page?.into_iter().map(named).unzip();
            let as_before = match cause {
                Some(cause) => self.judge(world, entries, cause).await?,
                None => entries,
            };
            for entry in as_before {
                if let Some(row) = rows.remove(&entry.name) {
                    world.put(entry, row);
                }
            }
        }
        world.pack();
        world.is_judged = true;
        Ok(())
    }

    /// Judges nodes by the policy in force and stores those that are not as before; returns the others, each with the checks that target it now.
    async fn judge(&self, world: &mut World, entries: Vec<Entry>, cause: &str) -> Result<Vec<Entry>, StoreError> {
        let now = self.clock.now();
        let (mut stage, mut as_before) = (Stage::default(), Vec::new());
        for mut entry in entries {
            let name = entry.name.clone();
            entry.targeting = world.rules.targeting(&name, &entry.labels, &entry.placement);
            let verdicts = std::mem::take(&mut entry.verdicts).into_iter();
            let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                verdicts.partition(|(pool, _)| world.rules.pools().contains_key(pool));
            entry.verdicts = kept;
            stage.touched.insert(name.clone(), entry);
            let is_other = world.review(&mut stage, &world.rules, &name, cause, now);
            // Most nodes are judged as before; only the others are written.
            if !is_other && gone.is_empty() {
                as_before.extend(stage.touched.remove(&name));
                continue;
            }
            for (pool, verdict) in gone.into_iter().filter(|(_, verdict)| verdict.level != Level::Unknown) {
                stage.end_in_pool(&name, pool, verdict.level, cause, now);
            }
        }
        if !stage.touched.is_empty() {
            self.commit(world, stage).await?;
        }
        Ok(as_before)
    }
}

/// All nodes, some at a time: as text and as values they take many times the room in which they are kept.
fn pages(database: Database) -> mpsc::Receiver<Result<Page, StoreError>> {
    let (texts, mut read) = mpsc::channel::<Result<Vec<(String, String)>, StoreError>>(AHEAD);
    tokio::spawn(async move {
        let mut last = String::new();
        loop {
            let page = storage::node_rows(&database, &last).await;
            match page.as_ref().map(|rows| rows.last()) {
                Ok(None) => return,
                Ok(Some((name, _))) => last.clone_from(name),
                Err(_) => {}
            }
            let is_last = page.is_err();
            // Nobody waits for it any more where the role could not start.
            if texts.send(page).await.is_err() || is_last {
                return;
            }
        }
    });
    let (pages, made) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut packer = Packer::default();
        while let Some(rows) = read.recv().await {
            let work = move || {
                let page = rows.and_then(|rows| rows.into_iter().map(|row| value(&mut packer, row)).collect());
                (packer, page)
            };
            let page: Result<Page, StoreError>;
            (packer, page) = match is_simulated() {
                // Another thread would take its own time.
                true => work(),
                false => match tokio::task::spawn_blocking(work).await {
                    Ok(done) => done,
                    Err(_) => (Packer::default(), Err(StoreError::Database(sqlx::Error::WorkerCrashed))),
                },
            };
            if pages.send(page).await.is_err() {
                return;
            }
        }
    });
    made
}

fn value(packer: &mut Packer, (name, text): (String, String)) -> Result<(Entry, Packed), StoreError> {
    Ok((read_body("nodes_node", &name, &text)?, packer.pack(&text)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use crate::clock::Clock;
    use crate::nodes::recorder::tests::{Lab, lab, node};
    use crate::nodes::storage;
    use crate::nodes::world::Stage;
    use crate::protocol::{Level, Status};

    /// More than a page.
    const MANY: usize = 1234;

    /// Nodes that are stored, every other of them trusted.
    async fn stored() -> Lab {
        let lab = lab().await;
        {
            let mut world = lab.nodes.world.lock().await;
            let like = world.open(&node(0)).unwrap();
            let mut stage = Stage::default();
            for index in 0..MANY {
                stage.touched.insert(node(index), crate::nodes::entry::Entry { name: node(index), ..like.clone() });
                world.review(&mut stage, &world.rules, &node(index), "test", lab.clock.now());
            }
            lab.nodes.commit(&mut world, stage).await.unwrap();
        }
        let passed = (0..MANY).step_by(2).map(|index| lab.batch(&format!("r{index}"), 1, node(index), Status::Pass));
        for batch in passed.collect::<Vec<_>>() {
            lab.nodes.record(batch).await.unwrap();
        }
        lab
    }

    /// As after a restart.
    async fn forget(lab: &Lab) {
        let mut world = lab.nodes.world.lock().await;
        world.nodes.clear();
        world.timers.clear();
        world.pools.clear();
        world.keeper = crate::nodes::kept::Keeper::default();
    }

    fn levels(world: &crate::nodes::world::World) -> Vec<Level> {
        let pool = "default".parse().unwrap();
        (0..MANY).map(|index| world.nodes[&node(index)].in_pool(&pool).unwrap().level).collect()
    }

    #[tokio::test]
    async fn a_start_finds_all_nodes_as_they_were() {
        let lab = stored().await;
        let (before, timers, head) = {
            let world = lab.nodes.world.lock().await;
            let entries: Vec<_> = world.nodes.keys().map(|name| world.open(name).unwrap()).collect();
            (entries, world.timers.clone(), world.record_head.clone())
        };
        forget(&lab).await;
        let mut world = lab.nodes.world.lock().await;
        lab.nodes.load(&mut world, Some("restart")).await.unwrap();
        let entries: Vec<_> = world.nodes.keys().map(|name| world.open(name).unwrap()).collect();
        assert_eq!(entries.len(), MANY);
        assert_eq!((entries, &world.timers, &world.record_head), (before, &timers, &head));
    }

    #[tokio::test]
    async fn what_expired_meanwhile_is_recorded_while_it_is_read() {
        let lab = stored().await;
        forget(&lab).await;
        lab.clock.step(86_400_000);
        let mut world = lab.nodes.world.lock().await;
        let (head, version) = (world.record_head.0, world.version);
        lab.nodes.load(&mut world, Some("restart")).await.unwrap();
        assert_eq!(levels(&world), [Level::Unknown; MANY]);
        assert_eq!(world.record_head.0 - head, i64::try_from(MANY / 2).unwrap(), "one entry for each that was trusted");
        assert_eq!(world.version, version, "nobody has been told anything yet");
        let told = storage::record_of(&lab.nodes.database, &node(2), lab.clock.now(), 1).await.unwrap();
        assert_eq!(told[0].cause, "restart");
        let kept: Vec<_> = world.nodes.keys().map(|name| world.open(name).unwrap()).collect();
        let rows = storage::node_rows(&lab.nodes.database, "").await.unwrap();
        for (entry, (_, row)) in kept.iter().zip(&rows) {
            assert_eq!(&storage::node_row(entry).1, row);
        }
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_is_named() {
        let lab = stored().await;
        forget(&lab).await;
        lab.change("UPDATE nodes_node SET body = 'nonsense' WHERE name = 'n77'").await;
        let error = lab.nodes.load(&mut *lab.nodes.world.lock().await, None).await.unwrap_err();
        assert!(error.to_string().contains("n77"), "{error}");
    }
}
