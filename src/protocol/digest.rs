//! One digest over all pools, cheap to keep while they change.
//!
//! The digest is a set hash: the SHA-256 of every element (a pool's settings, or one node in one pool), added modulo
//! 2^256, then hashed once more with the number of elements. A change of one node costs two hashes however many nodes
//! there are, and the order of changes does not matter.
//!
//! Why addition modulo 2^256 suffices here. The digest travels in a heartbeat that is signed as a whole, and every state
//! it is computed from came in a signed delta or snapshot: nobody but Nodes chooses elements or digests. It answers one
//! question, *did I miss or misapply something*, against chance, and there 256 bits leave nothing to wish. Against
//! someone who may choose thousands of elements freely, sums of this width can be made to collide by the generalised
//! birthday attack; that person would hold the key of Nodes and need no collision.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};

use crate::names::{NodeName, PoolName};

use super::policy::Mode;
use super::publication::{Level, MemberState, PoolState};

/// The running digest of a set of pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolsDigest {
    /// The sum, least significant word first.
    sum: [u64; 4],
    elements: u64,
}

impl PoolsDigest {
    /// The digest of no pools.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The digest of `pools`, computed from nothing.
    #[must_use]
    pub fn of(pools: &BTreeMap<PoolName, PoolState>) -> Self {
        let mut digest = Self::new();
        for (name, pool) in pools {
            digest.add_pool(name, pool.mode, pool.max_silence_ms);
            for (node, state) in &pool.members {
                digest.add(name, node, state);
            }
        }
        digest
    }

    /// A pool came, with no members yet. A change of its settings is `remove_pool` and `add_pool`.
    pub fn add_pool(&mut self, pool: &PoolName, mode: Mode, max_silence_ms: i64) {
        self.plus(pool_element(pool, mode, max_silence_ms));
    }

    /// A pool went; its members are removed one by one.
    pub fn remove_pool(&mut self, pool: &PoolName, mode: Mode, max_silence_ms: i64) {
        self.minus(pool_element(pool, mode, max_silence_ms));
    }

    /// `node` now has `state` in `pool`. A change is `remove` of the old state and `add` of the new one.
    pub fn add(&mut self, pool: &PoolName, node: &NodeName, state: &MemberState) {
        self.plus(member_element(pool, node, state));
    }

    /// `node` no longer has `state` in `pool`.
    pub fn remove(&mut self, pool: &PoolName, node: &NodeName, state: &MemberState) {
        self.minus(member_element(pool, node, state));
    }

    /// The digest as 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut context = Context::new(&SHA256);
        context.update(b"spice pools 1\0");
        for word in self.sum {
            context.update(&word.to_be_bytes());
        }
        context.update(&self.elements.to_be_bytes());
        hex::encode(context.finish())
    }

    fn plus(&mut self, element: [u64; 4]) {
        let mut carry = false;
        for (word, other) in self.sum.iter_mut().zip(element) {
            let (partial, first) = word.overflowing_add(other);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            (*word, carry) = (total, first || second);
        }
        self.elements = self.elements.wrapping_add(1);
    }

    fn minus(&mut self, element: [u64; 4]) {
        let mut borrow = false;
        for (word, other) in self.sum.iter_mut().zip(element) {
            let (partial, first) = word.overflowing_sub(other);
            let (total, second) = partial.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (total, first || second);
        }
        self.elements = self.elements.wrapping_sub(1);
    }
}

/// Names hold no NUL, so a NUL after each keeps `a`,`bc` and `ab`,`c` apart; all other fields have a fixed width.
fn pool_element(pool: &PoolName, mode: Mode, max_silence_ms: i64) -> [u64; 4] {
    let mode = match mode {
        Mode::Enforce => 1,
        Mode::Soft => 2,
        Mode::Observe => 3,
    };
    element(&[b"spice pool 1\0", pool.as_str().as_bytes(), &[0, mode], &max_silence_ms.to_be_bytes()])
}

fn member_element(pool: &PoolName, node: &NodeName, state: &MemberState) -> [u64; 4] {
    let level = match state.level {
        Level::Untrusted => 1,
        Level::Unknown => 2,
        Level::Trusted => 3,
    };
    element(&[
        b"spice member 1\0",
        pool.as_str().as_bytes(),
        &[0],
        node.as_str().as_bytes(),
        &[0, level, u8::from(state.overridden)],
        &state.expires_at.0.to_be_bytes(),
    ])
}

fn element(parts: &[&[u8]]) -> [u64; 4] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let hash = context.finish();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.as_ref().chunks_exact(8)) {
        *word = bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
    }
    words
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
