//! The rules of trust: pure functions of what was observed, the policy and the time passed in. No clock, no store, no bus.
//!
//! | file | idea |
//! |---|---|
//! | [`rules`] | a policy made ready: checks by name, targets compiled |
//! | [`boot`] | which boot of a node something belongs to |
//! | [`state`] | what is remembered of one check of one node |
//! | [`observation`] | a result as it came in, and how old it is |
//! | [`mod@fold`] | one result into that memory |
//! | [`standing`] | what sticks to a node in a pool: distrust, releases, overrides |
//! | [`mod@judge`] | the level of a node in a pool, now |
//! | [`reason`] | why, as a sentence |
//! | `outlook` | what would change a level, as a sentence |
//! | [`node`] | all of it for one node: record a result, review, quarantine, release |
//! | [`tombstone`] | what a deleted node leaves behind, and what a node registered again inherits |
//! | [`revoked`] | what is left when a key that vouched turns out to be stolen |
//! | [`loosen`] | what in a new policy asks for less than the old one |
//!
//! A role uses [`NodeTrust::record`] for every result and [`NodeTrust::review`] after it, after every change of policy
//! and at [`Verdict::next_change`]. The parts are public to be read, shown and tested.
//!
//! # The rules, where the design leaves a choice
//! Each choice is the reading that can raise nobody by mistake.
//!
//! - **Targets.** Required checks that target the node count for it; if there are none, it is unknown. A check aimed at
//!   other nodes does not matter to it, except that a failure under it still distrusts: the run asked about this node.
//! - **Merging under one key.** A run is a key. fail outweighs error and timeout, which outweigh pass; two passes merge
//!   to the older evidence. A pass that is outweighed later is gone, as if it had never come: passes of earlier runs stand, and
//!   failures it had ended count again. A `timeout` sent by Checks only fills a gap: it never displaces an answer, but a
//!   pass that comes after it is late.
//! - **Late.** A pass is late when a pass or failure of a newer run counts already, or its run is closed by another
//!   outcome. A late pass counts for nothing, ever. A failure counts whenever it comes, unless a later run's pass stands.
//! - **Failures in a row** are the failing runs newer than the newest pass *that the pool accepts*. Changing the
//!   revision or the check's id does not reset the count, but only a failure under the current one starts distrust.
//! - **Began after the last failure**: the ticket was issued later than the failure was finished (as the adapter says, at most
//!   the time of arrival).
//! - **Hold-down and time.** The end of the hold-down may end distrust, but time alone never makes a node trusted: the passes
//!   made during the hold-down are then spent, and the node is unknown until a pass with evidence from after it. Where the
//!   check is not required any more, those of all checks are.
//! - **Flapping.** A fall is a change from no distrust in a pool to some, however many checks cause it. A node with as many
//!   falls as the pool's limit within its window has the pool's longer hold-down, for every check that distrusts it. Falls
//!   outlive recovery, expiry, restarts, deletion and registration; a release forgets them.
//! - **Expiry is final.** A pass once seen expired, or dated beyond the allowed skew, is spent, so a clock that steps
//!   back revives nothing.
//! - **An override** is dropped, not suspended, when the node is untrusted, changes its boot or identity, or is released.
//! - **Release** forgives the failures up to the newest known one; the count in a row stands, so the next failure
//!   distrusts again. Passes whose evidence is not newer than the release are forgotten.
//! - **Deletion** changes nothing but that passes no longer count: failures and what passes had ended are remembered, so
//!   that a pass taken back after the node was registered again still lets the failures before it count.
//! - **A revoked key** takes with it the passes it reported, overrides and releases it signed; distrust that such passes or
//!   releases had ended is back. Failures it reported stay: whom a thief denounced is to be looked at, and a revocation
//!   raises nobody. Under a ticket of a revoked key nothing can be compared any more (its run number may be any), so what
//!   is remembered of that check begins anew; the distrust it led to stays.
//! - **Boots** are compared per source, since an agent's boot id and a TPM's reset count are different texts.

pub mod boot;
pub mod flap;
pub mod fold;
pub mod judge;
pub mod loosen;
mod mend;
pub mod node;
pub mod observation;
mod outlook;
pub mod reason;
pub mod revoked;
pub mod rules;
pub mod standing;
pub mod state;
pub mod tombstone;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use boot::{BootSeen, Boots};
pub use fold::{Folded, Note, fold};
pub use judge::{Verdict, judge, passed_until};
pub use loosen::{Loosening, loosens};
pub use node::{Maintenance, NodeFacts, NodeTrust, Quarantine, Recorded, Review};
pub use observation::{Observation, Reporter};
pub use reason::Reason;
pub use revoked::{Ended, Release, Voided};
pub use rules::{Rule, Rules};
pub use standing::{Distrust, Override, OverrideError, Spent, Standing};
pub use state::{CheckState, Shown};

/// How far in the future a time from another machine may lie before it is not believed.
pub const MAX_SKEW: Duration = Duration::from_secs(30);

/// The longest override, in milliseconds: 72 hours.
pub const MAX_OVERRIDE_MS: i64 = 72 * 3_600_000;
