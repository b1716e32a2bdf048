//! What travels between roles, as types. Pure data: no bus, no store, no clock.
//!
//! All of it is signed content (see [`crate::security`]): numbers are integers within 2^53, everything else is text.

pub mod cloud;
pub mod digest;
pub mod outcome;
pub mod policy;
pub mod preview;
pub mod publication;
pub mod targets;
pub mod ticket;

pub use cloud::{CloudNode, InNova};
pub use digest::PoolsDigest;
pub use outcome::{NodeResult, Status};
pub use policy::{CheckPolicy, Flapping, Judgement, Mode, Policy, PoolPolicy, Requirement, Targets};
pub use preview::{Candidate, LevelChange, Preview};
pub use publication::{Delta, DeltaError, Heartbeat, Level, MemberState, PoolState, Snapshot, apply_delta};
pub use targets::{Placement, TargetMatcher, TargetsError, Traits};
pub use ticket::{RunOrder, Ticket, TicketRef, run_text};
