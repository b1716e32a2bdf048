//! Hostile input for everything that reads what others wrote: the shared half of the fuzz tests.
//!
//! Each reader has its tests beside it, in a module called `fuzz`, and hands a [`Target`] to [`fuzz`]: real messages to start from
//! and a judge, a function that reads one input and asserts what must hold. Mutants of the seeds are made of structure ([`json`])
//! and of bytes ([`bytes`]). For every input: no panic, and memory within the target's bound ([`bounds`]); for every shape of large
//! input: time that grows no faster than the input.
//!
//! Seeds come from the fixtures and from `tests/fuzz/corpus/TARGET`, where every input goes that ever broke something.
//! `PROPTEST_CASES` says how many mutants are made of each target.

pub(crate) mod bounds;
pub(crate) mod bytes;
pub(crate) mod corpus;
pub(crate) mod json;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestError, TestRunner};

use bytes::Cut;
use json::Graft;

/// One reader of foreign input.
pub(crate) struct Target<'a> {
    /// Its name; also that of its folder in the corpus.
    pub name: &'static str,
    /// Good input, and input that once broke something.
    pub seeds: Vec<Vec<u8>>,
    /// Words that mean something to it.
    pub words: &'a [&'a str],
    /// The most memory it may take for an input: so many bytes for each of the input's, and so many in any case.
    pub memory: Memory,
    /// Reads one input and asserts what must hold.
    pub judge: &'a dyn Fn(&[u8]),
}

/// A bound on the memory held at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub per_byte: u64,
    pub fixed: u64,
}

impl Memory {
    fn most(self, input: usize) -> u64 {
        self.per_byte * input as u64 + self.fixed
    }
}

/// Judges the seeds and many mutants of them.
pub(crate) fn fuzz(target: &Target<'_>) {
    let mut seeds = corpus::of(target.name);
    seeds.extend(target.seeds.iter().cloned());
    assert!(!seeds.is_empty(), "{}: there is nothing to start from", target.name);
    for seed in &seeds {
        judge(target, seed);
    }
    let trees: Vec<Option<json::Tree>> = seeds.iter().map(|seed| json::Tree::read(seed)).collect();
    let mutant = |(seed, grafts, cuts): &(Index, Vec<Graft>, Vec<Cut>)| {
        let seed = seed.index(seeds.len());
        let mut input = match (&trees[seed], grafts.is_empty()) {
            (Some(tree), false) => json::grafted(tree, grafts, target.words),
            _ => seeds[seed].clone(),
        };
        bytes::cut(&mut input, cuts, &seeds, target.words);
        input
    };
    // Half of the mutants of JSON stay JSON: bytes changed at random rarely get past its reader.
    let cuts = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<Cut>(), 1..5)];
    let recipes = (any::<Index>(), prop::collection::vec(any::<Graft>(), 0..5), cuts);
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&recipes, |recipe| {
        judge(target, &mutant(&recipe));
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, recipe)) => {
            let kept = corpus::keep(target.name, &mutant(&recipe));
            panic!("{}: {why}; the input is in {kept}: move it to tests/fuzz/corpus/{}", target.name, target.name);
        }
        Err(TestError::Abort(why)) => panic!("{}: {why}", target.name),
    }
}

fn judge(target: &Target<'_>, input: &[u8]) {
    let ((), peak) = bounds::peak(|| (target.judge)(input));
    let most = target.memory.most(input.len());
    assert!(peak <= most, "{} bytes of input took {peak} bytes of memory, more than {most}", input.len());
}
