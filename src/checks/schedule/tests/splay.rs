//! Splay: stable, bounded, even.

use crate::names::{CheckName, NodeName};

use super::*;

fn millis(check: &str, node: &str, window: Duration) -> u128 {
    splay(&CheckName::new(check).unwrap(), &NodeName::new(node).unwrap(), window).as_millis()
}

#[test]
fn versions_agree_on_these_values() {
    // sha256("spice splay 1\0CHECK\0NODE"), its first eight bytes as a number, times the window, over 2^64.
    for (check, node, expected) in VECTORS {
        assert_eq!(millis(check, node, MAX_SPLAY), *expected, "{check} {node}");
    }
}

#[test]
fn the_window_is_half_the_period_and_at_most_ten_minutes() {
    assert_eq!(splay_window(MINUTE), SECOND * 30);
    assert_eq!(splay_window(MINUTE * 5), SECOND * 150);
    assert_eq!(splay_window(DAY), MAX_SPLAY);
    assert_eq!(millis("boot", "n1", Duration::ZERO), 0);
}

#[test]
fn ten_thousand_nodes_are_spread_evenly() {
    let mut buckets = [0_u32; 20];
    for node in 0..10_000 {
        let share = millis("boot", &format!("compute-{node}.example.org"), MAX_SPLAY);
        buckets[usize::try_from(share / 30_000).unwrap()] += 1;
    }
    // 500 each; the chance that one is off by 120 is below one in a million.
    assert!(buckets.iter().all(|count| (380..620).contains(count)), "{buckets:?}");
}

#[test]
fn check_and_node_cannot_be_confused() {
    assert_ne!(millis("a", "bc", MAX_SPLAY), millis("ab", "c", MAX_SPLAY));
}

const VECTORS: &[(&str, &str, u128)] = &[
    ("boot", "compute-1", 10869),
    ("boot", "compute-2", 144569),
    ("entropy", "compute-1", 330331),
    ("a", "b", 382147),
    ("image-cache", "node-17.example.org", 189863),
];
