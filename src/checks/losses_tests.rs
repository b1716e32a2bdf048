#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::checks::adapters::{LostBatch, Sign};
use crate::checks::run::{Cause, Run};
use crate::names::{AdapterName, NodeName};
use crate::protocol::{RunOrder, Status, TicketRef};
use crate::security::{DocumentKind, SignedDocument, SigningKey};

const START: Timestamp = Timestamp(1_795_320_000_000);
const ORDER: RunOrder = RunOrder { epoch: 1, run: 1 };
const TIMEOUT: Duration = Duration::from_secs(60);

fn node(index: usize) -> NodeName {
    NodeName::new(&format!("n{index}")).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn after(time: Duration) -> Now {
    Now { utc: START.plus(time), monotonic: time }
}

fn document() -> SignedDocument {
    SignedDocument::sign(DocumentKind::Ticket, &1, &SigningKey::generate().unwrap()).unwrap()
}

fn batch(number: i64, nodes: std::ops::Range<usize>, ticket: &SignedDocument) -> Batch {
    Batch {
        order: ORDER,
        batch: number,
        check: "c".parse().unwrap(),
        adapter: "foreign".to_owned(),
        attempt: 1,
        ticket: ticket.clone(),
        parameters: serde_json::Map::new(),
        retries: 2,
        deadline: START.plus(TIMEOUT),
        awaited: nodes.map(node).collect(),
        sent: false,
        sent_at: None,
        heard_at: None,
        lost: None,
        safe_at: None,
        timed_out: false,
        ending: crate::checks::endings::Ending::default(),
    }
}

fn run(total: i64) -> Run {
    Run {
        order: ORDER,
        check: "c".parse().unwrap(),
        cause: Cause::Schedule,
        started_at: START,
        total,
        outcomes: BTreeMap::new(),
        finished_at: None,
        sending: false,
        attempts: 1,
        recasts: BTreeMap::new(),
        unheard: 0,
    }
}

/// One batch of three nodes, sent at the start.
fn sent() -> Runs {
    let mut runs = Runs::restore(vec![run(3)], vec![batch(1, 0..3, &document())]);
    runs.mark_sent(ORDER, 1, START);
    runs
}

fn name(attempt: i64) -> TicketRef {
    TicketRef { order: ORDER, batch: 1, attempt }
}

fn sign(instance: &str, holding: &[TicketRef]) -> Sign {
    let holding = holding.iter().copied().collect();
    Sign { instance: instance.to_owned(), incarnation: None, holding, fault: None, schema: serde_json::Value::Null }
}

fn foreign() -> AdapterName {
    AdapterName::new("foreign").unwrap()
}

fn found(runs: &Runs, adapters: &Adapters, now: Now) -> Vec<(i64, Loss)> {
    lost(runs, adapters, START, now).map(|(batch, loss)| (batch.batch, loss)).collect()
}

#[test]
fn a_batch_nobody_speaks_of_is_lost_after_half_of_its_time() {
    let (runs, adapters) = (sent(), Adapters::default());
    assert_eq!(found(&runs, &adapters, after(seconds(29))), []);
    assert_eq!(found(&runs, &adapters, after(seconds(30))), [(1, Loss::Silence)]);
}

#[test]
fn every_stored_outcome_is_a_sign_of_life() {
    let mut runs = sent();
    let outcomes = BTreeMap::from([(node(0), Status::Pass)]);
    runs.stored(ORDER, 1, &outcomes, after(seconds(20)).utc);
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(49))), []);
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(50))), [(1, Loss::Silence)]);
}

#[test]
fn silence_counts_from_when_we_could_have_heard() {
    let (runs, adapters) = (sent(), Adapters::default());
    let restarted_at = after(seconds(20)).utc;
    assert_eq!(lost(&runs, &adapters, restarted_at, after(seconds(49))).count(), 0);
    assert_eq!(lost(&runs, &adapters, restarted_at, after(seconds(50))).count(), 1);
}

#[test]
fn close_to_its_deadline_a_batch_is_still_given_time_to_be_told_of() {
    let at = |millis| after(Duration::from_millis(millis));
    let mut runs = sent();
    runs.mark_sent(ORDER, 1, at(50_000).utc);
    runs.mark_waiting("foreign", at(57_500).utc);
    assert_eq!(found(&runs, &Adapters::default(), at(58_900)), [], "it was in its queue a moment ago");
    assert_eq!(found(&runs, &Adapters::default(), at(59_000)), [(1, Loss::Silence)]);
    // Checks began anew at 52 s: whoever holds it says so within 5 s.
    let mut runs = sent();
    runs.mark_sent(ORDER, 1, at(50_000).utc);
    let lost_at = |millis| lost(&runs, &Adapters::default(), at(52_000).utc, at(millis)).count();
    assert_eq!((lost_at(57_900), lost_at(58_000)), (0, 1));
}

#[test]
fn a_batch_that_is_held_is_not_lost_however_long_it_takes() {
    let (runs, mut adapters) = (sent(), Adapters::default());
    for beat in (0..55).step_by(5) {
        adapters.announced(&foreign(), sign("a", &[name(1)]), seconds(beat));
        assert_eq!(found(&runs, &adapters, after(seconds(beat + 4))), []);
    }
}

#[test]
fn when_its_holder_is_gone_a_batch_is_lost_long_before_it_is_silent_and_what_others_hold_is_not() {
    let ticket = document();
    let mut runs = Runs::restore(vec![run(4)], vec![batch(1, 0..2, &ticket), batch(3, 2..4, &ticket)]);
    runs.mark_sent(ORDER, 1, START);
    runs.mark_sent(ORDER, 3, START);
    let mut adapters = Adapters::default();
    adapters.announced(&foreign(), sign("a", &[name(1)]), seconds(0));
    adapters.announced(&foreign(), sign("b", &[TicketRef { batch: 3, ..name(1) }]), seconds(10));
    let now = after(seconds(21));
    for lost in adapters.take_lost(now.monotonic) {
        runs.mark_lost(&lost);
    }
    assert_eq!(found(&runs, &adapters, now), [(1, Loss::AdapterGone)]);
    // The broker delivered it again, to a living instance: then it is not lost after all.
    adapters.announced(&foreign(), sign("c", &[name(1)]), seconds(21));
    assert_eq!(found(&runs, &adapters, now), []);
}

#[test]
fn only_the_attempt_that_is_awaited_can_be_lost_and_only_with_its_own_adapter() {
    let mut runs = sent();
    let (_, next) = runs.next_attempt(ORDER, 1, document(), Loss::Silence).unwrap();
    runs.put_attempt(next);
    runs.mark_sent(ORDER, 1, after(seconds(30)).utc);
    for (adapter, attempt) in [("foreign", 1), ("other", 2)] {
        runs.mark_lost(&LostBatch { adapter: adapter.to_owned(), ticket: name(attempt), loss: Loss::AdapterGone });
        assert_eq!(found(&runs, &Adapters::default(), after(seconds(31))), []);
    }
}

#[test]
fn near_the_deadline_and_after_the_last_attempt_nothing_is_cast_again() {
    let mut runs = sent();
    runs.mark_lost(&LostBatch { adapter: "foreign".to_owned(), ticket: name(1), loss: Loss::AdapterGone });
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(54))).len(), 1);
    assert_eq!(found(&runs, &Adapters::default(), after(Duration::from_millis(54_001))), []);
    let mut last = runs.batch(ORDER, 1).unwrap().clone();
    last.attempt = MAX_ATTEMPTS;
    runs.put_attempt(last);
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(31))), []);
}

#[test]
fn what_waited_in_its_queue_until_now_is_not_silent() {
    let mut runs = sent();
    runs.mark_waiting("foreign", after(seconds(40)).utc);
    runs.mark_waiting("other", after(seconds(49)).utc);
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(49))), [], "whoever took it has had no time to answer");
    assert_eq!(found(&runs, &Adapters::default(), after(seconds(50))), [(1, Loss::Silence)]);
}

#[test]
fn what_was_just_answered_is_not_silent_because_nobody_holds_it_any_more() {
    let (mut runs, mut adapters) = (sent(), Adapters::default());
    adapters.announced(&foreign(), sign("a", &[name(1)]), seconds(40));
    take_note(&mut runs, &mut adapters, after(seconds(40)));
    adapters.announced(&foreign(), sign("a", &[]), seconds(41));
    assert_eq!(found(&runs, &adapters, after(seconds(49))), [], "its results are in somebody's hands");
    assert_eq!(found(&runs, &adapters, after(seconds(50))), [(1, Loss::Silence)]);
}

#[test]
fn what_the_broker_gave_to_the_next_is_not_lost_before_he_could_say_so() {
    let (mut runs, mut adapters) = (sent(), Adapters::default());
    let incarnation =
        |named: &str, holding: &[TicketRef]| Sign { incarnation: Some(named.to_owned()), ..sign("a", holding) };
    adapters.announced(&foreign(), incarnation("first", &[name(1)]), seconds(5));
    adapters.announced(&foreign(), incarnation("second", &[]), seconds(9));
    assert_eq!(found(&runs, &adapters, after(seconds(10))), []);
    take_note(&mut runs, &mut adapters, after(seconds(10)));
    assert_eq!(found(&runs, &adapters, after(seconds(11))), [(1, Loss::AdapterRestarted)]);
    adapters.announced(&foreign(), incarnation("second", &[name(1)]), seconds(11));
    take_note(&mut runs, &mut adapters, after(seconds(11)));
    adapters.announced(&foreign(), incarnation("second", &[]), seconds(12));
    assert_eq!(found(&runs, &adapters, after(seconds(13))), [], "it was done, and is not lost any more");
}

#[test]
fn nobody_is_gone_whom_we_could_not_hear() {
    let mut adapters = Adapters::default();
    adapters.announced(&foreign(), sign("a", &[name(1)]), seconds(0));
    adapters.excuse(seconds(15));
    assert_eq!(adapters.take_lost(seconds(34)), []);
    assert!(adapters.is_held("foreign", ORDER, 1, seconds(34)));
    adapters.excuse(seconds(36));
    assert_eq!(adapters.take_lost(seconds(36)).len(), 1, "but nobody comes back by that");
}

/// What can happen to two adapters that acknowledge before they work, to the bus, and to Checks.
#[derive(Debug, Clone)]
enum Event {
    /// An instance takes the oldest batch that waits; one that tells, tells a second later.
    Take(usize),
    /// An instance answers some nodes of what it holds; the answer may be lost.
    Answer { instance: usize, nodes: usize, arrives: bool },
    /// SIGKILL. The broker has what it held, and gives it to others, where it was not acknowledged.
    Die { instance: usize, acknowledged: bool },
    /// Started again, under its old name.
    Start(usize),
    /// Somebody purges the adapter's queue.
    Purge,
    /// An answer that was under way is stored, and told to Checks, perhaps twice.
    Store { twice: bool },
    /// Checks is killed and started, before or after it took note of what it has just cast.
    RestartChecks { unnoted: bool },
}

fn event() -> impl Strategy<Value = Event> {
    let instance = 0_usize..2;
    prop_oneof![
        4 => instance.clone().prop_map(Event::Take),
        4 => (instance.clone(), 1_usize..4, any::<bool>())
            .prop_map(|(instance, nodes, arrives)| Event::Answer { instance, nodes, arrives }),
        2 => (instance.clone(), any::<bool>())
            .prop_map(|(instance, acknowledged)| Event::Die { instance, acknowledged }),
        2 => instance.prop_map(Event::Start),
        1 => Just(Event::Purge),
        5 => any::<bool>().prop_map(|twice| Event::Store { twice }),
        1 => any::<bool>().prop_map(|unnoted| Event::RestartChecks { unnoted }),
    ]
}

struct Peer {
    /// Whether it says what it holds, or is plain oslo.messaging with nothing but results.
    tells: bool,
    alive: bool,
    incarnation: u64,
    held: BTreeMap<TicketRef, BTreeSet<NodeName>>,
}

struct World {
    runs: Runs,
    adapters: Adapters,
    watching: Timestamp,
    now: Now,
    peers: [Peer; 2],
    queue: Vec<(TicketRef, BTreeSet<NodeName>)>,
    under_way: Vec<(i64, BTreeMap<NodeName, Status>)>,
    /// The first stored outcome of each node.
    stored: BTreeMap<NodeName, Status>,
    /// Every cast: what, and when.
    casts: Vec<(TicketRef, Timestamp)>,
    restarts: usize,
    /// Who has taken something and not said so yet.
    untold: BTreeSet<usize>,
    /// Batches that were cast again although an instance that tells had them.
    needless: Vec<(i64, Loss)>,
    ticket: SignedDocument,
}

impl World {
    fn new(tells: [bool; 2]) -> Self {
        let ticket = document();
        let batches = vec![batch(1, 0..3, &ticket), batch(4, 3..6, &ticket)];
        let peer = |index: usize| Peer { tells: tells[index], alive: true, incarnation: 0, held: BTreeMap::new() };
        Self {
            runs: Runs::restore(vec![run(6)], batches),
            adapters: Adapters::default(),
            watching: START,
            now: after(Duration::ZERO),
            peers: [peer(0), peer(1)],
            queue: Vec::new(),
            under_way: Vec::new(),
            stored: BTreeMap::new(),
            casts: Vec::new(),
            restarts: 0,
            untold: BTreeSet::new(),
            needless: Vec::new(),
            ticket,
        }
    }

    fn announce(&mut self, index: usize) {
        let peer = &self.peers[index];
        if peer.alive && peer.tells {
            let sign = Sign {
                instance: format!("peer-{index}"),
                incarnation: Some(peer.incarnation.to_string()),
                holding: peer.held.keys().copied().collect(),
                fault: None,
                schema: serde_json::Value::Null,
            };
            self.adapters.announced(&foreign(), sign, self.now.monotonic);
        }
    }

    fn store(&mut self, batch: i64, outcomes: &BTreeMap<NodeName, Status>) {
        for (node, status) in outcomes {
            self.stored.entry(node.clone()).or_insert(*status);
        }
        self.runs.stored(ORDER, batch, outcomes, self.now.utc);
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Take(index) if self.peers[index].alive && !self.queue.is_empty() => {
                let (ticket, nodes) = self.queue.remove(0);
                self.peers[index].held.insert(ticket, nodes);
                self.untold.insert(index);
            }
            Event::Answer { instance, nodes, arrives } => {
                let peer = &mut self.peers[instance];
                let Some(mut entry) = peer.held.first_entry() else { return };
                let batch = entry.key().batch;
                let told: BTreeSet<NodeName> = entry.get().iter().take(nodes).cloned().collect();
                entry.get_mut().retain(|node| !told.contains(node));
                if entry.get().is_empty() {
                    entry.remove();
                }
                if arrives {
                    self.under_way.push((batch, told.into_iter().map(|node| (node, Status::Pass)).collect()));
                }
            }
            Event::Die { instance, acknowledged } => {
                self.peers[instance].alive = false;
                let held = std::mem::take(&mut self.peers[instance].held);
                if !acknowledged {
                    self.queue.splice(0..0, held);
                }
            }
            Event::Start(index) if !self.peers[index].alive => {
                self.peers[index].alive = true;
                self.peers[index].incarnation += 1;
                self.announce(index);
            }
            Event::Purge => self.queue.clear(),
            Event::Store { twice } if !self.under_way.is_empty() => {
                let (batch, outcomes) = self.under_way.remove(0);
                self.store(batch, &outcomes);
                if twice {
                    self.store(batch, &outcomes);
                }
            }
            Event::RestartChecks { unnoted } => {
                self.restarts += 1;
                let rows = |batch: &Batch| {
                    let mut row: Batch = serde_json::from_str(&serde_json::to_string(batch).unwrap()).unwrap();
                    if unnoted && row.sent_at == Some(self.now.utc) {
                        (row.sent, row.sent_at) = (false, None);
                    }
                    row
                };
                let batches = self.runs.batches().map(rows).collect();
                self.runs = Runs::restore(self.runs.latest().cloned().collect(), batches);
                self.adapters = Adapters::default();
                self.watching = self.now.utc;
            }
            _ => {}
        }
    }

    /// What Checks does with the clock.
    fn dispatch(&mut self) {
        let unsent: Vec<Batch> = self.runs.unsent().cloned().collect();
        for batch in unsent {
            if self.now.utc < batch.deadline {
                let ticket = TicketRef { order: ORDER, batch: batch.batch, attempt: batch.attempt };
                self.casts.push((ticket, self.now.utc));
                self.queue.push((ticket, batch.awaited.clone()));
            }
            self.runs.mark_sent(ORDER, batch.batch, self.now.utc);
        }
        if !self.queue.is_empty() {
            self.runs.mark_waiting("foreign", self.now.utc);
        }
        let lost: Vec<(i64, Loss)> = lost(&self.runs, &self.adapters, self.watching, self.now)
            .map(|(batch, loss)| (batch.batch, loss))
            .collect();
        take_note(&mut self.runs, &mut self.adapters, self.now);
        if self.queue.is_empty() && self.under_way.is_empty() {
            for (batch, loss) in lost {
                let has = |peer: &Peer| peer.alive && peer.tells && peer.held.keys().any(|held| held.batch == batch);
                if self.peers.iter().any(has) {
                    self.needless.push((batch, loss));
                }
                let (run, next) = self.runs.next_attempt(ORDER, batch, self.ticket.clone(), loss).unwrap();
                self.runs.put_run(run);
                self.runs.put_attempt(next);
            }
        }
        for index in std::mem::take(&mut self.untold) {
            self.announce(index);
        }
        let overdue: Vec<Batch> = self.runs.overdue(self.now).cloned().collect();
        for batch in overdue {
            self.runs.mark_timed_out(ORDER, batch.batch, self.now.monotonic);
            let timeouts = batch.awaited.iter().map(|node| (node.clone(), Status::Timeout)).collect();
            self.store(batch.batch, &timeouts);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever is lost, restarted or delivered twice: at the deadline every node has one outcome, nothing was cast at or
    /// after it, and no more often than allowed.
    #[test]
    fn whatever_is_lost_every_node_ends_in_one_outcome_by_the_deadline(
        tells in prop::array::uniform2(any::<bool>()),
        events in prop::collection::vec(prop::collection::vec(event(), 0..3), 61),
    ) {
        let mut world = World::new(tells);
        for (second, happening) in events.iter().enumerate() {
            world.now = after(seconds(second as u64));
            if second % 5 == 0 {
                (0..2).for_each(|index| world.announce(index));
            }
            world.dispatch();
            happening.iter().for_each(|event| world.happen(event));
        }
        world.now = after(TIMEOUT);
        world.dispatch();
        let run = world.runs.run(ORDER).unwrap();
        prop_assert!(run.finished_at.is_some());
        prop_assert_eq!(run.done(), 6, "each node is counted once");
        prop_assert_eq!(world.runs.outstanding(), 0);
        let passed = world.stored.values().filter(|status| **status == Status::Pass).count();
        prop_assert_eq!(run.outcomes.get("pass").copied().unwrap_or(0), i64::try_from(passed).unwrap());
        let mut times: BTreeMap<TicketRef, usize> = BTreeMap::new();
        for (ticket, at) in &world.casts {
            prop_assert!((1..=MAX_ATTEMPTS).contains(&ticket.attempt) && *at < START.plus(TIMEOUT), "{:?}", ticket);
            *times.entry(*ticket).or_default() += 1;
        }
        let repeated: usize = times.values().map(|times| times - 1).sum();
        prop_assert!(repeated <= 2 * world.restarts, "only a crash before it is noted casts an attempt twice");
        prop_assert_eq!(&world.needless, &[], "nobody is asked for what a living instance has and tells of");
        let last_cast = world.casts.iter().map(|(ticket, _)| ticket.attempt).max().unwrap();
        prop_assert!((last_cast..=MAX_ATTEMPTS).contains(&run.attempts), "{} shown, {last_cast} cast", run.attempts);
    }

    /// One instance dies at some moment with what it holds, another one works: everything is answered, nothing times out.
    #[test]
    fn with_one_working_instance_a_single_death_costs_no_outcome(dies_at in 1_usize..30, tells in any::<bool>()) {
        let mut world = World::new([tells, tells]);
        for second in 0..60 {
            world.now = after(seconds(second as u64));
            if second % 5 == 0 {
                (0..2).for_each(|index| world.announce(index));
            }
            world.dispatch();
            world.happen(&Event::Take(0));
            if second == dies_at {
                world.happen(&Event::Die { instance: 0, acknowledged: true });
            }
            if second > dies_at {
                world.happen(&Event::Take(1));
                world.happen(&Event::Answer { instance: 1, nodes: 3, arrives: true });
            }
            world.happen(&Event::Store { twice: false });
        }
        prop_assert_eq!(&world.runs.run(ORDER).unwrap().outcomes, &BTreeMap::from([("pass".to_owned(), 6)]));
        prop_assert_eq!(world.runs.run(ORDER).unwrap().attempts, 2);
    }
}
