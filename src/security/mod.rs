//! Who may say what: keys, the trust store, signed requests, replies and documents.
//!
//! On the bus of an OpenStack cloud every compute node may write, so nothing is believed because of where it came from.
//! Everything that decides something is signed with Ed25519 over canonical JSON (RFC 8785) and names the deployment; what
//! a key may do stands in files the administrator placed beside the verifier, never in the message.
//!
//! | file | owns |
//! |---|---|
//! | [`canonical`] | one JSON text per value |
//! | [`strict`] | how text that was signed is read |
//! | [`keys`] | key pairs, key ids, key files |
//! | [`roles`] | what a key may be allowed to do |
//! | [`trust_store`], [`trust_file`], [`trust_shared`], [`trust_edit`] | which keys the administrator trusts, as what, until when |
//! | [`request`], [`reply`] | signatures of RPC requests and of their answers |
//! | [`document`] | signed documents that outlive a message: tickets, policies, publications |
//! | [`vouch`] | who vouches for what was taken in, and what a revocation takes back |
//! | [`seen`] | ids that were used already |
//! | [`bootstrap`], [`rotation`] | making keys, and replacing one by another |
//! | [`error`] | why something is not believed |

pub mod bootstrap;
pub mod canonical;
pub mod document;
pub mod error;
mod files;
pub mod keys;
pub mod reply;
pub mod request;
pub mod roles;
pub mod rotation;
pub mod seen;
pub mod strict;
pub mod trust_edit;
pub mod trust_file;
pub mod trust_shared;
pub mod trust_store;
pub mod vouch;

#[cfg(test)]
mod tests;

pub use canonical::{CanonicalError, canonicalize};
pub use document::{DocumentKind, SignedDocument};
pub use error::{AuthError, SignError};
pub use keys::{KeyError, KeyId, PublicKey, SigningKey};
pub use reply::{ReplyOutcome, sign_reply, verify_reply};
pub use request::{RequestParts, RequestSigner, ServerAddress, Verified, check_window, verify_request};
pub use roles::{Role, RoleSet};
pub(crate) use seen::FORGOTTEN;
pub use seen::SeenIds;
pub use strict::parse_strict;
pub use trust_shared::{SharedTrustStore, TrustReport};
pub use trust_store::{TrustStore, TrustedKey};
pub use vouch::{Revocations, Vouch};
