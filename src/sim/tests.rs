use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Log;
use super::story::{self, Plot, Told};

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Long enough for a score of faults, short enough for thousands of stories.
const TROUBLE: Duration = Duration::from_secs(90);

/// How many stories every test run tells. Tens of thousands: `tools/bench sim`.
const SEEDS: u64 = 2000;

/// After so many broken stories no further ones are told; or after `SPICE_SIM_ENOUGH`.
const ENOUGH: u64 = 20;

/// A story that takes so many seconds hangs: it is one of a tenth of a second.
const PATIENCE: u64 = 60;

fn tell(plot: Plot) -> Told {
    story::tell(plot, &Log::default())
}

fn plot(seed: u64) -> Plot {
    Plot { seed, trouble: TROUBLE }
}

/// The story of a failed seed, for whoever has to understand it.
fn story(seed: u64, told: &Told) -> String {
    format!(
        "seed {seed}; tell it again with SPICE_SIM_SEED={seed}\n{}\n{}",
        told.log.join("\n"),
        told.broken.join("\n")
    )
}

/// Dates the log as the story is.
struct StoryTime;

impl tracing_subscriber::fmt::time::FormatTime for StoryTime {
    fn format_time(&self, to: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(to, "{:>8.3}", super::boottime().unwrap_or_default().as_secs_f64())
    }
}

#[test]
fn without_trouble_good_nodes_are_trusted_and_bad_ones_are_not() {
    let told = tell(Plot { seed: 1, trouble: Duration::ZERO });
    assert!(told.broken.is_empty(), "{}", story(1, &told));
    assert!(told.log.len() > 50, "{}", story(1, &told));
}

#[test]
fn without_trouble_each_node_that_turns_out_bad_is_fenced_once() {
    let told: Vec<Told> = (1..5).map(|seed| tell(Plot { seed, trouble: Duration::ZERO })).collect();
    let mut fenced = 0;
    for (seed, told) in (1..).zip(&told) {
        let bad = told.log.iter().filter_map(|line| line.trim_start().split_once(' ')?.1.strip_suffix(" is Bad"));
        for node in bad {
            let acts = told.log.iter().filter(|line| line.contains(&format!(" fences {node} "))).count();
            assert_eq!(acts, 1, "{node} in {}", story(seed, told));
            fenced += 1;
        }
    }
    assert!(fenced > 0, "these seeds have no bad node: choose others");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [3, 4, 5] {
        let (one, two) = (tell(plot(seed)), tell(plot(seed)));
        let differs = one.log.iter().zip(&two.log).position(|(one, two)| one != two);
        let at = differs.unwrap_or(one.log.len().min(two.log.len()));
        let line = |told: &Told| told.log.get(at).cloned().unwrap_or_default();
        assert_eq!(one.hash(), two.hash(), "seed {seed} differs at line {at}:\n{}\n{}", line(&one), line(&two));
    }
    assert_ne!(tell(plot(3)).hash(), tell(plot(4)).hash());
}

/// The seeds of `SPICE_SIM_SEEDS=a..b`, or `SPICE_SIM_SEED=n`; otherwise those of every test run.
fn seeds() -> std::ops::Range<u64> {
    let range = std::env::var("SPICE_SIM_SEEDS").ok();
    let range = range.and_then(|text| {
        let (first, end) = text.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    });
    let one = environment("SPICE_SIM_SEED").map(|seed| seed..seed + 1);
    one.or(range).unwrap_or(0..SEEDS)
}

/// What one thread is telling, so that others can tell how far it came.
#[derive(Default)]
struct Desk {
    seed: AtomicU64,
    /// Seconds since it began, and whether it tells one.
    since: AtomicU64,
    busy: AtomicBool,
    log: Log,
}

impl Desk {
    fn tell(&self, seed: u64) -> Told {
        self.seed.store(seed, Ordering::SeqCst);
        self.since.store(0, Ordering::SeqCst);
        self.busy.store(true, Ordering::SeqCst);
        let told = std::panic::catch_unwind(|| story::tell(plot(seed), &self.log));
        self.busy.store(false, Ordering::SeqCst);
        told.unwrap_or_else(|_| {
            super::end();
            let log = std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner));
            Told { log, broken: vec!["RULE 7 BROKEN: a panic".to_owned()] }
        })
    }

    /// A second has passed. A story that does not end cannot be stopped, so all of it ends.
    fn watch(&self) {
        if self.busy.load(Ordering::SeqCst) && self.since.fetch_add(1, Ordering::SeqCst) >= PATIENCE {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let broken = vec![format!("RULE 7 BROKEN: it hangs, after {} events", log.len())];
            let seed = self.seed.load(Ordering::SeqCst);
            println!("{}", story(seed, &Told { log: log[log.len().saturating_sub(200)..].to_vec(), broken }));
            println!("1 stories of seeds {seed}..{}, and it hangs\nseed {seed}: it hangs", seed + 1);
            std::process::exit(1);
        }
    }
}

/// Keeps this thread, and those that it starts, on one processor: whoever waits for the other then need not be woken from afar.
fn stay_on(number: usize) {
    let Ok(all) = rustix::thread::sched_getaffinity(None) else { return };
    let allowed: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    if let Some(cpu) = allowed.get(number % allowed.len().max(1)) {
        let mut own = rustix::thread::CpuSet::new();
        own.set(*cpu);
        let _ = rustix::thread::sched_setaffinity(None, &own);
    }
}

#[test]
fn many_stories_in_which_much_goes_wrong_and_the_rules_hold() {
    if std::env::var_os("SPICE_SIM_LOG").is_some() {
        let log = tracing_subscriber::fmt().with_env_filter("spice=debug").with_timer(StoryTime).with_ansi(false);
        let _ = log.try_init();
    }
    let (seeds, enough) = (seeds(), environment("SPICE_SIM_ENOUGH").unwrap_or(ENOUGH));
    let next = AtomicU64::new(seeds.start);
    let began = std::time::Instant::now();
    let failed = Mutex::new(Vec::new());
    let told = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let desks: Vec<Desk> = (0..threads).map(|_| Desk::default()).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let told_by_all: Vec<_> = desks
            .iter()
            .enumerate()
            .map(|(number, desk)| {
                let (next, failed, told, seeds) = (&next, &failed, &told, &seeds);
                scope.spawn(move || {
                    stay_on(number);
                    loop {
                        let seed = next.fetch_add(1, Ordering::SeqCst);
                        if seed >= seeds.end || failed.lock().unwrap().len() as u64 >= enough {
                            return;
                        }
                        let story = desk.tell(seed);
                        told.fetch_add(1, Ordering::SeqCst);
                        if story.broken.is_empty() && environment("SPICE_SIM_SEED").is_some() {
                            println!("{}", story.log.join("\n"));
                        }
                        if !story.broken.is_empty() {
                            // At once: whoever stops a long run before its end learns what it found.
                            println!("seed {seed}: {}", story.broken.join("; "));
                            failed.lock().unwrap().push((seed, story));
                        }
                    }
                })
            })
            .collect();
        // Counted, not measured: where all of us are stopped for a while, nothing hangs.
        let watch = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_secs(1));
                desks.iter().for_each(Desk::watch);
            }
        });
        for telling in told_by_all {
            telling.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        watch.thread().unpark();
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    let (told, took) = (told.into_inner(), began.elapsed());
    let each = took.as_millis() / u128::from(told.max(1));
    println!("{told} stories of seeds {seeds:?} in {took:.0?}, {each} ms each, {} broken", failed.len());
    if let Some((seed, told)) = failed.first() {
        panic!("{}", story(*seed, told));
    }
}
