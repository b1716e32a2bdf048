//! What reading an input costs: memory held at once, and how time grows with the input.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rustix::time::{ClockId, clock_gettime};

/// A shape that input may have, and the maker of a text of about so many bytes in that shape.
pub(crate) type Shape = (&'static str, fn(usize) -> String);

/// The times a measurement is repeated; the shortest counts.
const REPEATS: usize = 3;
/// How much larger the larger input is.
const STEP: usize = 8;
/// The most the time may grow over one step. What is linear grows by 8, with caches and logarithms by less than twice that; what
/// is quadratic by 64.
const MOST_GROWTH: f64 = 24.0;

/// What `work` gives, and the most memory this thread held at once for it, in bytes.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let mut outcome = None;
    // The measurement must end also when the work panics.
    let counted = allocation_counter::measure(|| outcome = Some(catch_unwind(AssertUnwindSafe(work))));
    match outcome {
        Some(Ok(given)) => (given, counted.bytes_max),
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("the work is always done"),
    }
}

/// Asserts that `read` takes time in proportion to its input, and memory within `most` bytes for each byte of it.
///
/// `made` gives an input of about so many bytes. Time is this thread's own processor time, and only its growth is judged, so that
/// a busy machine changes nothing.
pub(crate) fn grows_with_its_input(
    what: &str,
    size: usize,
    most: u64,
    made: impl Fn(usize) -> Vec<u8>,
    read: impl Fn(&[u8]),
) {
    let (small, large) = (made(size), made(size * STEP));
    assert!(large.len() > small.len() * (STEP - 2), "{what}: not made in proportion");
    // A quarter of a millisecond below everything: the clock's grain must not look like growth.
    let growth = seconds(&read, &large) / (seconds(&read, &small) + 0.000_25);
    assert!(growth < MOST_GROWTH, "{what}: {STEP} times the input takes {growth:.0} times as long");
    let ((), held) = peak(|| read(&large));
    let share = held / large.len() as u64;
    assert!(share <= most, "{what}: {} bytes of input take {share} times as much memory", large.len());
}

fn seconds(read: &impl Fn(&[u8]), input: &[u8]) -> f64 {
    let now = || {
        let at = clock_gettime(ClockId::ThreadCPUTime);
        at.tv_sec as f64 + at.tv_nsec as f64 / 1e9
    };
    let once = || {
        let begun = now();
        read(input);
        now() - begun
    };
    (0..REPEATS).map(|_| once()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_at_its_highest() {
        let (length, held) = peak(|| {
            let first = vec![0_u8; 1000];
            let second = vec![0_u8; 500];
            drop(first);
            second.len() + vec![0_u8; 100].len()
        });
        assert_eq!((length, held), (600, 1500));
    }

    #[test]
    #[should_panic(expected = "as long")]
    fn what_is_quadratic_is_noticed() {
        let all_pairs = |input: &[u8]| {
            let same = input.iter().map(|one| input.iter().filter(|other| *other == one).count()).sum::<usize>();
            assert!(same > 0);
        };
        grows_with_its_input("all pairs", 1000, 1, |size| vec![b'x'; size], all_pairs);
    }

    #[test]
    #[should_panic(expected = "as much memory")]
    fn what_takes_too_much_is_noticed() {
        let doubled = |input: &[u8]| assert!(!input.repeat(10).is_empty());
        grows_with_its_input("ten copies", 1000, 9, |size| vec![b'x'; size], doubled);
    }
}
