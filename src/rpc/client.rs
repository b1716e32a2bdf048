//! Signed requests, and replies that are believed only when signed by the role that was asked.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::bus::{Bus, BusError, Reply, Request, Target};
use crate::names::AdapterName;
use crate::rpc::identity::Identity;
use crate::rpc::table::{Topic, VERSION};
use crate::rpc::{EXCHANGE, RpcError, WORK_EXCHANGE, failure_as_signed};
use crate::security::reply::ExpectedReply;
use crate::security::request::CONTEXT_MEMBER;
use crate::security::{AuthError, ReplyOutcome, RequestParts, Role, TrustStore, verify_reply};

/// How long a call waits unless said otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends in the name of one identity. Cheap to clone.
#[derive(Clone)]
pub struct RpcClient {
    bus: Bus,
    identity: Arc<Identity>,
}

impl From<BusError> for RpcError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Unroutable { .. } => RpcError::not_found(error.to_string()),
            BusError::TooLarge { .. } | BusError::Options(_) => RpcError::bad_request(error.to_string()),
            _ => RpcError::unavailable(error.to_string()),
        }
    }
}

impl RpcClient {
    /// A client on `bus`.
    #[must_use]
    pub fn new(bus: Bus, identity: Arc<Identity>) -> Self {
        Self { bus, identity }
    }

    /// Calls a method of Checks or Nodes and waits [`CALL_TIMEOUT`] for the answer.
    ///
    /// # Errors
    /// What the server says, or why there is no believable answer.
    pub async fn call(&self, topic: Topic, method: &str, args: Map<String, Value>) -> Result<Value, RpcError> {
        self.call_within(topic, method, args, CALL_TIMEOUT).await
    }

    /// [`RpcClient::call`], waiting at most `timeout`.
    ///
    /// # Errors
    /// See [`RpcClient::call`].
    pub async fn call_within(
        &self,
        topic: Topic,
        method: &str,
        args: Map<String, Value>,
        timeout: Duration,
    ) -> Result<Value, RpcError> {
        let target = Target::topic(EXCHANGE, topic.as_str()).version(VERSION);
        let (mut request, digest) = self.signed(&target, method, args)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        request.msg_id = Some(id.clone());
        let reply = self.bus.call(&target, request, timeout).await.map_err(|error| match error {
            BusError::Unroutable { .. } => {
                RpcError::unavailable(format!("nobody serves {}: is `spiced` running on this bus?", topic.as_str()))
            }
            other => other.into(),
        })?;
        self.believed(reply, topic, &id, &digest)
    }

    /// Sends a method call without waiting for it to be carried out.
    ///
    /// # Errors
    /// When it could not be handed to the bus.
    pub async fn cast(&self, topic: Topic, method: &str, args: Map<String, Value>) -> Result<(), RpcError> {
        let target = Target::topic(EXCHANGE, topic.as_str()).version(VERSION);
        let (request, _) = self.signed(&target, method, args)?;
        Ok(self.bus.cast(&target, request).await?)
    }

    /// Publishes to every pool cache.
    ///
    /// # Errors
    /// When it could not be handed to the bus.
    pub async fn publish(&self, method: &str, args: Map<String, Value>) -> Result<(), RpcError> {
        let target = Target::topic(EXCHANGE, Topic::Pool.as_str()).version(VERSION).fanout();
        let (request, _) = self.signed(&target, method, args)?;
        Ok(self.bus.cast(&target, request).await?)
    }

    /// Hands over work; the broker has stored it when this returns. `adapter` completes [`Topic::Adapter`].
    ///
    /// # Errors
    /// Not found: nobody ever served that topic. Unavailable: full or not reached; try again.
    pub async fn work(
        &self,
        topic: Topic,
        adapter: Option<&AdapterName>,
        method: &str,
        args: Map<String, Value>,
        expiration: Option<Duration>,
    ) -> Result<(), RpcError> {
        let target = Target::topic(WORK_EXCHANGE, topic_name(topic, adapter)).version(VERSION);
        let (request, _) = self.signed(&target, method, args)?;
        Ok(self.bus.work(&target, request, expiration).await?)
    }

    /// How many messages of a work queue wait for a consumer; `None` where nobody ever served it.
    ///
    /// # Errors
    /// When the broker does not say within `patience`.
    pub async fn waiting(
        &self,
        topic: Topic,
        adapter: Option<&AdapterName>,
        patience: Duration,
    ) -> Result<Option<u32>, RpcError> {
        Ok(self.bus.waiting(&topic_name(topic, adapter), patience).await?)
    }

    fn signed(&self, target: &Target, method: &str, args: Map<String, Value>) -> Result<(Request, [u8; 32]), RpcError> {
        self.identity.may_speak()?;
        let parts = RequestParts {
            exchange: &target.exchange,
            topic: &target.topic,
            server: target.server.as_deref(),
            fanout: target.fanout,
            namespace: target.namespace.as_deref(),
            method,
            version: target.version.as_deref(),
            args: &args,
        };
        let (auth, digest) =
            self.identity.signer.sign(&parts).map_err(|error| RpcError::bad_request(error.to_string()))?;
        let context = Map::from_iter([
            (CONTEXT_MEMBER.to_owned(), auth),
            ("request_id".to_owned(), json!(format!("req-{}", uuid::Uuid::new_v4()))),
        ]);
        Ok((Request::new(method, args).context(context), digest))
    }

    fn believed(&self, reply: Reply, topic: Topic, id: &str, digest: &[u8; 32]) -> Result<Value, RpcError> {
        let role = match topic {
            Topic::Checks | Topic::Events => Role::Checks,
            _ => Role::Nodes,
        };
        let expected = ExpectedReply {
            deployment: &self.identity.deployment,
            request_id: id,
            request_digest: digest,
            role: &role,
        };
        let signature = reply.extras.get(CONTEXT_MEMBER).unwrap_or(&Value::Null);
        let failure = reply.result.as_ref().err().map(failure_as_signed);
        let outcome = match (&reply.result, &failure) {
            (Ok(result), _) => ReplyOutcome::Result(result),
            (Err(_), failure) => ReplyOutcome::Failure(failure.as_ref().unwrap_or(&Value::Null)),
        };
        let verify = |trust: &TrustStore| verify_reply(signature, &expected, outcome, trust, self.identity.clock.now());
        let verified = match verify(&self.identity.trust.current()) {
            Err(AuthError::UnknownKey(_)) => verify(&self.identity.trust.looked_again()),
            known => known,
        };
        if let Err(error) = verified {
            metrics::counter!("spice_replies_refused_total", "reason" => error.kind()).increment(1);
            // An unsigned refusal is told (it changes nothing and may name the cause), an unsigned success is not believed.
            let told = reply.result.as_ref().err().map(RpcError::from_failure);
            let told = told.map(|told| format!("; it says: {told}")).unwrap_or_default();
            return Err(RpcError::unauthorized(format!(
                "the answer of {} is not believed: {error}{told}",
                topic.as_str()
            )));
        }
        reply.result.map_err(|failure| RpcError::from_failure(&failure))
    }
}

/// A topic's name on the bus, complete with the adapter's.
#[must_use]
pub fn topic_name(topic: Topic, adapter: Option<&AdapterName>) -> String {
    match adapter {
        Some(adapter) => format!("{}{adapter}", topic.as_str()),
        None => topic.as_str().to_owned(),
    }
}
