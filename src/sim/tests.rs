use std::sync::atomic::Ordering;
use std::time::Duration;

use super::story::{Plot, Told, tell};

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Long enough for several faults, short enough for thousands of stories.
const TROUBLE: Duration = Duration::from_secs(300);

/// How many stories every test run tells: a bit more than a minute on two cores, unoptimised. Thousands: `tools/bench sim`.
const SEEDS: u64 = 60;

/// After so many broken stories no further ones are told.
const ENOUGH: usize = 20;

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

#[test]
fn without_trouble_good_nodes_are_trusted_and_bad_ones_are_not() {
    let told = tell(Plot { seed: 1, trouble: Duration::ZERO });
    assert!(told.broken.is_empty(), "{}", story(1, &told));
    assert!(told.log.len() > 50, "{}", story(1, &told));
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

#[test]
fn many_stories_in_which_much_goes_wrong_and_the_rules_hold() {
    let seeds = seeds();
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let began = std::time::Instant::now();
    let failed = std::sync::Mutex::new(Vec::new());
    let told = std::sync::atomic::AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let story = tell(plot(seed));
                    told.fetch_add(1, Ordering::SeqCst);
                    if !story.broken.is_empty() {
                        failed.lock().unwrap().push((seed, story));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    let (told, took) = (told.into_inner(), began.elapsed());
    let each = took.as_millis() / u128::from(told.max(1));
    println!("{told} stories of seeds {seeds:?} in {took:.0?}, {each} ms each, {} broken", failed.len());
    for (seed, told) in &failed {
        println!("seed {seed}: {}", told.broken.join("; "));
    }
    if let Some((seed, told)) = failed.first() {
        panic!("{}", story(*seed, told));
    }
}
