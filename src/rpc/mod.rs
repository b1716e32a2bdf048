//! Signed requests and replies on top of the bus.
//!
//! Every role offers a [`Service`]; [`server::Secured`] stands before it and lets through only what the one table of methods
//! ([`table::METHODS`]) allows the signer's roles. [`client::RpcClient`] signs what a role sends and believes only signed
//! replies of the right role.

pub mod client;
pub mod error;
pub mod identity;
pub mod reference;
pub mod server;
pub mod table;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::security::Vouch;
use crate::security::roles::Role;

pub use client::RpcClient;
pub use error::{Kind, RpcError};
pub use identity::Identity;
pub use server::Secured;
pub use table::Method;

/// The exchange of admin RPC and publications.
pub const EXCHANGE: &str = "spice";
/// The exchange of work queues.
pub const WORK_EXCHANGE: &str = "spice_work";

/// Who asks, as established from the signature and our own trust store.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The sender's name in our trust store, or `unsigned`.
    pub sender: String,
    /// The key that signed, and when at the latest; `None` for an unsigned call in a lab.
    pub vouch: Option<Vouch>,
    /// What the key may do.
    pub roles: Vec<Role>,
    /// The request's unique id.
    pub request_id: String,
    /// When the request was signed, by the sender's clock.
    pub signed_at: Timestamp,
}

/// What a role offers on a topic. Methods not in the table never reach it.
#[async_trait]
pub trait Service: Send + Sync {
    /// Carries out `method`. For work, an error of kind [`Kind::Unavailable`] means "not now": the message is delivered
    /// again; any other error means it can never succeed: it goes to the dead-letter queue.
    ///
    /// # Errors
    /// What the caller should be told.
    async fn handle(
        &self,
        method: &'static Method,
        caller: Caller,
        args: Map<String, Value>,
    ) -> Result<Value, RpcError>;
}

/// The arguments of a method that takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// The arguments of a method about one thing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named<T> {
    /// Its name.
    pub name: T,
}

/// Arguments as a typed value; unknown and missing ones are a clear error.
///
/// # Errors
/// [`Kind::BadRequest`] naming the argument.
pub fn typed<T: DeserializeOwned>(args: Map<String, Value>) -> Result<T, RpcError> {
    serde_json::from_value(Value::Object(args)).map_err(|error| {
        RpcError::bad_request(format!("bad arguments: {}", crate::text::display_safe(&error.to_string())))
    })
}

/// A failure as reply signatures cover it: what decides, and nothing a peer's decoder may normalise.
fn failure_as_signed(failure: &crate::bus::Failure) -> Value {
    serde_json::json!({ "class": failure.class, "message": failure.message })
}
