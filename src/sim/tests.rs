use std::time::Duration;

use super::story::{Plot, Told, tell};

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Long enough for several faults, short enough for thousands of stories.
const TROUBLE: Duration = Duration::from_secs(300);

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

#[test]
fn whatever_goes_wrong_the_rules_hold() {
    if let Some(seed) = environment("SPICE_SIM_SEED") {
        let told = tell(plot(seed));
        println!("{}", story(seed, &told));
        assert!(told.broken.is_empty(), "{}", told.broken.join("\n"));
        return;
    }
    let first = environment("SPICE_SIM_FIRST").unwrap_or(0);
    let seeds = environment("SPICE_SIM_SEEDS").unwrap_or(40);
    let next = std::sync::atomic::AtomicU64::new(first);
    let began = std::time::Instant::now();
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if seed >= first + seeds || failed.lock().unwrap().len() >= 20 {
                        return;
                    }
                    let told = tell(plot(seed));
                    if !told.broken.is_empty() {
                        failed.lock().unwrap().push((seed, told));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    let each = began.elapsed().as_millis() / u128::from(seeds.max(1));
    println!("{seeds} stories from seed {first}, {each} ms each, {} broken", failed.len());
    for (seed, told) in &failed {
        println!("seed {seed}: {}", told.broken.join("; "));
    }
    if let Some((seed, told)) = failed.first() {
        panic!("{}", story(*seed, told));
    }
}
