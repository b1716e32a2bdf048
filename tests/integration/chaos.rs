//! Chaos: a whole SPICE that produces results all the time, on a broker that is killed and a network that is cut, at random; and whose roles are
//! killed themselves, on each database.
//!
//! Part of the suite with a few rounds; `tools/bench chaos` plays many and holds them against the bars: `SPICE_CHAOS_ROUNDS` rounds from the seed
//! `SPICE_CHAOS_SEED`, which decides every kind of trouble, moment and duration. A seed that failed once is worth keeping.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::chaos_lab::{Chaos, Trouble, runs};
use crate::lab::{PATIENCE, eventually};
use crate::lab_mariadb::Fresh;

/// Rounds where nobody says how many.
const FEW: usize = 3;
/// Seconds from when the broker can be used again until a new run is complete.
const RECOVERY_BAR: f64 = 5.0;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What happens, after how long, and for how long.
type Plan = Vec<(Trouble, Duration, Duration)>;

/// One line of the table.
struct Round {
    trouble: Trouble,
    lasted: Duration,
    recovered: f64,
    sent: usize,
    lost: usize,
    doubled: usize,
    unanswered: usize,
    violations: u64,
}

impl Round {
    fn is_good(&self, bar: f64) -> bool {
        self.recovered <= bar && self.lost + self.doubled + self.unanswered == 0 && self.violations == 0
    }
}

impl Chaos {
    async fn round(&mut self, trouble: Trouble, before: Duration, lasting: Duration) -> Round {
        tokio::time::sleep(before).await;
        let begun = Instant::now();
        self.make(trouble, lasting).await;
        let (usable, usable_ms, lasted) = (Instant::now(), now_ms(), begun.elapsed());
        eventually("a run that began after the trouble is complete", async || {
            let complete = |(started, total, done, finished): &(i64, i64, i64, bool)| {
                *started >= usable_ms && *finished && *total > 0 && done >= total
            };
            runs(&self.checks).await.iter().any(complete)
        })
        .await;
        let recovered = usable.elapsed().as_secs_f64();

        // What was handed over until now must be stored, and every run that began before must end, be it with time-outs.
        let sent = self.producer.sent.lock().await.clone();
        let deadline = Instant::now() + PATIENCE;
        let (lost, unanswered) = loop {
            self.stored.read(&self.nodes).await;
            let lost = self.stored.missing(&sent);
            let old = runs(&self.checks).await;
            let unanswered = old.iter().filter(|(started, _, _, finished)| *started < usable_ms && !finished).count();
            if lost + unanswered == 0 || Instant::now() > deadline {
                break (lost, unanswered);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Round {
            trouble,
            lasted,
            recovered,
            sent: sent.len(),
            lost,
            doubled: self.stored.doubled(),
            unanswered,
            violations: self.guard.violations.load(Ordering::SeqCst),
        }
    }
}

/// A role is killed every time, each in its turn.
fn plan_of_roles(rounds: usize, random: &mut StdRng) -> Plan {
    let mut roles = ["nodes", "checks", "pool"].map(Trouble::Role);
    roles.shuffle(random);
    let round = |trouble: Trouble, random: &mut StdRng| {
        // At any moment of a run, which begins every second.
        let before = Duration::from_millis(random.random_range(500..2000));
        (trouble, before, Duration::from_millis(random.random_range(0..1500)))
    };
    roles.into_iter().cycle().take(rounds).map(|trouble| round(trouble, random)).collect()
}

/// Every other round the broker is killed; the other kinds take turns.
fn plan(rounds: usize, random: &mut StdRng) -> Plan {
    let mut others = [Trouble::Freeze, Trouble::Mute, Trouble::BlockUp, Trouble::Cut, Trouble::BlockDown];
    others.shuffle(random);
    (0..rounds)
        .map(|round| {
            let trouble = if round % 2 == 0 { Trouble::Kill } else { others[round / 2 % others.len()] };
            let before = Duration::from_millis(random.random_range(500..3000));
            let lasting = Duration::from_millis(random.random_range(200..6000));
            (trouble, before, lasting)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_trusted_wrongly_whatever_happens_to_the_broker() {
    played(None, plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_trusted_wrongly_whichever_role_is_killed() {
    played(None, plan_of_roles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_where_the_roles_share_a_mariadb() {
    let server = Fresh::new().await;
    played(Some(&server), plan_of_roles).await;
}

async fn played(server: Option<&Fresh>, plan: fn(usize, &mut StdRng) -> Plan) {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = asked("SPICE_CHAOS_ROUNDS");
    let seed = asked("SPICE_CHAOS_SEED").unwrap_or_else(rand::random);
    // Among the other tests a busy machine may take its time; a measurement is held against the bar.
    let bar = if rounds.is_some() { RECOVERY_BAR } else { PATIENCE.as_secs_f64() };
    let rounds = rounds.map_or(FEW, |rounds| usize::try_from(rounds).unwrap());
    println!("chaos: {rounds} rounds from seed {seed}");
    let mut chaos = Chaos::begin(server).await;
    println!(
        "{:>5}  {:<36} {:>6}  {:>8}  {:>7}  {:>4}  {:>7}  {:>10}  {:>10}",
        "round", "trouble", "s", "back in s", "results", "lost", "doubled", "unanswered", "violations"
    );
    let mut missed = 0;
    for (number, (trouble, before, lasting)) in plan(rounds, &mut StdRng::seed_from_u64(seed)).into_iter().enumerate() {
        let round = chaos.round(trouble, before, lasting).await;
        let good = round.is_good(bar);
        missed += usize::from(!good);
        println!(
            "{:>5}  {:<36} {:>6.1}  {:>8.2}  {:>7}  {:>4}  {:>7}  {:>10}  {:>10}  {}",
            number + 1,
            round.trouble.what(),
            round.lasted.as_secs_f64(),
            round.recovered,
            round.sent,
            round.lost,
            round.doubled,
            round.unanswered,
            round.violations,
            if good { "PASS" } else { "MISS" }
        );
    }
    let repeated = chaos.stored.serials.values().filter(|times| **times > 1).count();
    println!("chaos: {repeated} results are in the history more than once; what counts is above");
    chaos.adapter.stop().await;
    assert_eq!(missed, 0, "rounds that missed a bar; SPICE_CHAOS_SEED={seed} plays them again");
}
