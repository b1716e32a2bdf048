//! The gate before every service: signature, time window, seen id and role, by the one table of methods.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::bus::{Bus, BusError, Dispatcher, Disposition, Failure, Incoming, Reply, Server, version_is_compatible};
use crate::clock::Timestamp;
use crate::names::AdapterName;
use crate::rpc::client::topic_name;
use crate::rpc::identity::Identity;
use crate::rpc::table::{self, Class, Method, Topic, VERSION};
use crate::rpc::{Caller, EXCHANGE, Kind, RpcError, Service, WORK_EXCHANGE, failure_as_signed};
use crate::security::request::{ADMIN_WINDOW, CONTEXT_MEMBER};
use crate::security::seen::DEFAULT_CAPACITY;
use crate::security::{
    AuthError, FORGOTTEN, ReplyOutcome, RequestParts, Role, SeenIds, TrustStore, Vouch, check_window, sign_reply,
    verify_request,
};
use crate::telemetry::Sparingly;

/// How long a stopping server waits for requests under way.
const DRAIN: Duration = Duration::from_secs(10);
/// After how long work that could not be carried out now is tried again.
const RETRY_WORK: Duration = Duration::from_secs(1);

/// A served topic.
pub struct Serving(Server);

impl Serving {
    /// Takes no more requests and lets those under way finish.
    pub async fn stop(self) {
        self.0.stop(DRAIN).await;
    }
}

/// The gate. It lets a request through to its service only if the signature holds and the table allows the signer's roles.
pub struct Secured {
    topic: Topic,
    identity: Arc<Identity>,
    service: Arc<dyn Service>,
    seen: Mutex<SeenIds>,
    /// When this began, by the time of day and by the clock that never steps.
    began: (Timestamp, Duration),
    /// When refusals are logged: whoever can send can send rubbish in masses.
    refused: Sparingly,
}

impl Secured {
    fn new(topic: Topic, identity: Arc<Identity>, service: Arc<dyn Service>) -> Arc<Self> {
        let seen = Mutex::new(SeenIds::new(ADMIN_WINDOW, DEFAULT_CAPACITY));
        let began = (identity.clock.now(), identity.clock.boottime());
        Arc::new(Self { topic, identity, service, seen, began, refused: Sparingly::default() })
    }

    /// What was signed before this process began may have been served by its predecessor, whose memory is gone. A clock that was far ahead
    /// then and has been set right since does not have everything refused for as long: then, the clock as it is now tells when it began.
    /// By how little it must not be set back for that, recorded requests decide: those of the last moments before the start.
    fn check_of_this_life(&self, signed_at: Timestamp, now: Timestamp) -> Result<(), AuthError> {
        let (said, began) = self.began;
        let by_now = now.minus(self.identity.clock.boottime().saturating_sub(began));
        let began_at = if said.since(by_now) > ADMIN_WINDOW { by_now } else { said };
        if signed_at <= began_at { Err(AuthError::Replayed(FORGOTTEN)) } else { Ok(()) }
    }

    /// Serves an RPC topic under `server`.
    ///
    /// # Errors
    /// When the broker refuses the queues.
    pub async fn serve_rpc(
        bus: &Bus,
        topic: Topic,
        server: &str,
        identity: Arc<Identity>,
        service: Arc<dyn Service>,
    ) -> Result<Serving, BusError> {
        let offered = crate::bus::Service::rpc(EXCHANGE, topic.as_str(), server);
        Ok(Serving(bus.serve(offered, Self::new(topic, identity, service)).await?))
    }

    /// Serves a work queue, holding at most `prefetch` messages.
    ///
    /// # Errors
    /// When the broker refuses the queue.
    pub async fn serve_work(
        bus: &Bus,
        topic: Topic,
        adapter: Option<&AdapterName>,
        prefetch: u16,
        identity: Arc<Identity>,
        service: Arc<dyn Service>,
    ) -> Result<Serving, BusError> {
        let offered = crate::bus::Service::work(WORK_EXCHANGE, topic_name(topic, adapter), prefetch);
        Ok(Serving(bus.serve(offered, Self::new(topic, identity, service)).await?))
    }

    /// Listens to publications.
    ///
    /// # Errors
    /// When the broker refuses the queue.
    pub async fn listen(
        bus: &Bus,
        topic: Topic,
        identity: Arc<Identity>,
        service: Arc<dyn Service>,
    ) -> Result<Serving, BusError> {
        let offered = crate::bus::Service::fanout_only(EXCHANGE, topic.as_str());
        Ok(Serving(bus.serve(offered, Self::new(topic, identity, service)).await?))
    }

    /// Lets `incoming` through, or says why not. The signature comes first, so that every refusal of a verified caller can
    /// be signed and believed.
    fn admit(&self, incoming: &Incoming) -> Result<Admitted, Refused> {
        let name = &incoming.request.method;
        let method = table::find(self.topic, name);
        let auth = incoming.request.context.get(CONTEXT_MEMBER).unwrap_or(&Value::Null);
        if auth.is_null()
            && self.identity.unsigned_admin
            && let Some(method) = method.filter(|method| method.allowed.is_for_people())
        {
            let caller = Caller {
                sender: "unsigned".to_owned(),
                vouch: None,
                roles: vec![Role::Admin],
                request_id: incoming.msg_id.clone().unwrap_or_default(),
                signed_at: self.identity.clock.now(),
            };
            return Ok(Admitted { method, caller, digest: None });
        }
        let parts = RequestParts {
            exchange: &incoming.exchange,
            topic: &incoming.topic,
            server: if incoming.via_server { incoming.server.as_deref() } else { None },
            fanout: incoming.fanout,
            namespace: incoming.namespace.as_deref(),
            method: name,
            version: incoming.version.as_deref(),
            args: &incoming.request.args,
        };
        let now = self.identity.clock.now();
        let verify = |trust: &TrustStore| verify_request(&parts, auth, trust, &self.identity.deployment, now);
        let verified = match verify(&self.identity.trust.current()) {
            Err(AuthError::UnknownKey(_)) => verify(&self.identity.trust.looked_again()),
            known => known,
        };
        let verified = verified.map_err(|error| Refused::not_believed(&error, None))?;
        let digest = Some(verified.digest);
        let no_such = |failure: Failure| Refused { reason: "no_such_method", failure: Box::new(failure), digest };
        // A publication is only for everybody, anything else only for one: what was signed for one delivery is not
        // accepted through another.
        let method = method
            .filter(|method| (method.class == Class::Publication) == incoming.fanout)
            .ok_or_else(|| no_such(Failure::no_such_method(name)))?;
        if incoming.namespace.is_some() || !version_is_compatible(VERSION, incoming.version.as_deref()) {
            return Err(no_such(Failure::unsupported_version(incoming.version.as_deref(), name)));
        }
        // Before its id is remembered: a key that may not do this must not fill the memory of those that may.
        let roles: Vec<Role> = verified.roles.iter().cloned().collect();
        if !method.allowed.permits(&roles) {
            let required = method.allowed.describe().to_owned();
            let error = AuthError::Forbidden { key_id: verified.key_id, required };
            let failure = Box::new(RpcError::forbidden(error.to_string()).to_failure());
            return Err(Refused { reason: error.kind(), failure, digest });
        }
        if method.class != Class::Work {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // A publication says itself how long it may be believed; that it came before must be known here, or a recorded
            // heartbeat, played again within that time, would pass for a sign of life.
            let in_time = match method.class {
                Class::Publication => Ok(()),
                _ => check_window(verified.time, now, ADMIN_WINDOW),
            };
            in_time
                .and_then(|()| self.check_of_this_life(verified.time, now))
                .and_then(|()| seen.record(&verified.id, verified.time, now))
                .map_err(|error| Refused::not_believed(&error, digest))?;
        }
        // Signed at the latest then, whatever the signature states.
        let vouch = Some(Vouch { key: verified.key_id, at: verified.time.max(now) });
        let caller =
            Caller { sender: verified.sender, vouch, roles, request_id: verified.id, signed_at: verified.time };
        Ok(Admitted { method, caller, digest })
    }

    /// The answer, signed if we may speak; otherwise nothing of it is told, and the refusal is not signed.
    fn reply(&self, incoming: &Incoming, digest: Option<[u8; 32]>, result: Result<Value, Failure>) -> Disposition {
        let (digest, result) = match self.identity.may_speak() {
            Ok(()) => (digest, result),
            Err(error) => (None, Err(error.to_failure())),
        };
        let mut reply = Reply { result, extras: Map::new() };
        if let Some(id) = &incoming.msg_id {
            let failure = reply.result.as_ref().err().map(failure_as_signed);
            let outcome = match (&reply.result, &failure) {
                (Ok(result), _) => ReplyOutcome::Result(result),
                (Err(_), failure) => ReplyOutcome::Failure(failure.as_ref().unwrap_or(&Value::Null)),
            };
            // A refused request has no digest; its refusal is not signed, and changes nothing for whoever gets it.
            if let Some(digest) = digest {
                match sign_reply(&self.identity.signer, id, &digest, outcome) {
                    Ok(signature) => drop(reply.extras.insert(CONTEXT_MEMBER.to_owned(), signature)),
                    Err(error) => {
                        let error = RpcError::internal(format!("the reply cannot be signed: {error}"));
                        reply.result = Err(error.to_failure());
                    }
                }
            }
        }
        Disposition::Reply(reply)
    }
}

struct Admitted {
    method: &'static Method,
    caller: Caller,
    /// The request's digest, to which the reply is bound; none for an unsigned call in a lab.
    digest: Option<[u8; 32]>,
}

struct Refused {
    /// One stable word for counters.
    reason: &'static str,
    /// Boxed: it is far larger than what is usually returned.
    failure: Box<Failure>,
    digest: Option<[u8; 32]>,
}

impl Refused {
    fn not_believed(error: &AuthError, digest: Option<[u8; 32]>) -> Self {
        let failure = Box::new(RpcError::unauthorized(error.to_string()).to_failure());
        Self { reason: error.kind(), failure, digest }
    }
}

#[async_trait]
impl Dispatcher for Secured {
    async fn dispatch(&self, mut incoming: Incoming) -> Disposition {
        let is_work = matches!(self.topic, Topic::Adapter | Topic::Results | Topic::Events);
        if let Err(error) = self.identity.may_speak() {
            // Nothing was looked at: whoever is active by now gets it, or it comes again once the lease is renewed.
            return if is_work {
                Disposition::Retry(RETRY_WORK)
            } else {
                self.reply(&incoming, None, Err(error.to_failure()))
            };
        }
        let Admitted { method, caller, digest } = match self.admit(&incoming) {
            Ok(admitted) => admitted,
            Err(Refused { reason, failure, digest }) => {
                metrics::counter!("spice_requests_refused_total", "topic" => self.topic.as_str(), "reason" => reason)
                    .increment(1);
                if let Some(others) = self.refused.log() {
                    tracing::warn!(
                        topic = self.topic.as_str(),
                        rpc.method = crate::text::display_safe_to(&incoming.request.method, 64),
                        reason,
                        others,
                        detail = failure.message,
                        "a request was refused"
                    );
                }
                return if is_work {
                    Disposition::Poison(format!("refused: {}", failure.message))
                } else {
                    self.reply(&incoming, digest, Err(*failure))
                };
            }
        };
        let sender = caller.sender.clone();
        let result = self.service.handle(method, caller, std::mem::take(&mut incoming.request.args)).await;
        match (is_work, result) {
            (false, result) => self.reply(&incoming, digest, result.map_err(|error| error.to_failure())),
            (true, Ok(_)) => Disposition::Done,
            (true, Err(error)) if error.kind == Kind::Unavailable || error.kind == Kind::Internal => {
                tracing::info!(rpc.method = method.name, sender, %error, "work is carried out later");
                Disposition::Retry(RETRY_WORK)
            }
            (true, Err(error)) => {
                metrics::counter!("spice_work_refused_total", "topic" => self.topic.as_str()).increment(1);
                tracing::warn!(rpc.method = method.name, sender, %error, "work can never be carried out; it is kept among the dead letters");
                Disposition::Poison(error.message)
            }
        }
    }
}

#[cfg(test)]
#[path = "server_fuzz.rs"]
pub(crate) mod fuzz;
#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
