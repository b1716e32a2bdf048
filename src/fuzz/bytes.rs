//! Mutants made of bytes: flipped, cut, spliced, repeated.

use proptest::sample::Index;
use proptest_derive::Arbitrary;

/// No mutant made by repeating is larger.
const MOST: usize = 64 * 1024;

/// One change.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Cut {
    /// One bit is flipped.
    Flip(Index, u8),
    /// One byte is replaced.
    Replace(Index, u8),
    /// A byte comes in between.
    Insert(Index, u8),
    /// A word that means something comes in between.
    Word(Index, Index),
    /// A part goes.
    Remove(Index, Index),
    /// A part comes again, up to 255 times.
    Repeat(Index, Index, u8),
    /// The rest becomes that of another seed.
    Splice(Index, Index, Index),
    /// Everything from here on goes.
    End(Index),
}

/// Carries out `cuts` one after the other.
pub(crate) fn cut(input: &mut Vec<u8>, cuts: &[Cut], seeds: &[Vec<u8>], words: &[&str]) {
    for change in cuts {
        let length = input.len();
        let place = |index: &Index| index.index(length + 1);
        let range = |one: &Index, other: &Index| {
            let (one, other) = (place(one), place(other));
            one.min(other)..one.max(other)
        };
        match change {
            Cut::Flip(at, bit) if length > 0 => input[at.index(length)] ^= 1 << (bit % 8),
            Cut::Replace(at, byte) if length > 0 => input[at.index(length)] = *byte,
            Cut::Flip(..) | Cut::Replace(..) => {}
            Cut::Insert(at, byte) => input.insert(place(at), *byte),
            Cut::Word(_, _) if words.is_empty() => {}
            Cut::Word(at, which) => {
                let at = place(at);
                drop(input.splice(at..at, which.get(words).bytes()));
            }
            Cut::Remove(from, to) => drop(input.drain(range(from, to))),
            Cut::Repeat(from, to, times) => {
                let part = input[range(from, to)].to_vec();
                let times = usize::from(*times).min(MOST / part.len().max(1));
                let at = place(from);
                drop(input.splice(at..at, part.repeat(times)));
            }
            Cut::Splice(at, seed, from) => {
                let seed = seed.get(seeds);
                input.truncate(place(at));
                input.extend_from_slice(&seed[from.index(seed.len() + 1)..]);
            }
            Cut::End(at) => input.truncate(place(at)),
        }
    }
}
