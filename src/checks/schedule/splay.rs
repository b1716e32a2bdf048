//! Splay: each node takes its own share of the time after a slot, always the same one.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::names::{CheckName, NodeName};

/// No run is put off longer than this.
pub const MAX_SPLAY: Duration = Duration::from_secs(600);

/// The time over which the nodes of a check with this period are spread: half of it, at most [`MAX_SPLAY`].
#[must_use]
pub fn splay_window(period: Duration) -> Duration {
    (period / 2).min(MAX_SPLAY)
}

/// How long after a slot `node` is checked, below `window`, in whole milliseconds.
///
/// Only the two names decide, so that adding a node moves no other and a restart moves none. The bytes hashed are part of
/// what versions of SPICE must agree on; the test vectors hold them.
#[must_use]
pub fn splay(check: &CheckName, node: &NodeName, window: Duration) -> Duration {
    // The zero byte cannot be in a name, so no two pairs share a text.
    let seed = format!("spice splay 1\0{check}\0{node}");
    let hash = digest(&SHA256, seed.as_bytes());
    let share = hash.as_ref().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    // The product of 64 bits and a bounded window, shifted: uniform without the bias of a remainder.
    let millis = (u128::from(share) * window.as_millis().min(u128::from(u64::MAX))) >> 64;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}
