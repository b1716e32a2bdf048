//! OpenStack's own APIs, asked as one account: keystone for a token, Nova for what there is.
//!
//! [`session`] is the way there, on the SDK's client: catalog, microversions, tokens that are renewed. [`nova`] holds the few calls that SPICE makes
//! and reads of each answer what it needs. Nothing that comes from here is a proof of anything: it says which nodes there are, never whom to trust.

pub mod nova;
pub mod session;

pub use session::{CloudError, Session};
