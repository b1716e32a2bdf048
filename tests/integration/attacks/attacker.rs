//! What a compromised compute node brings along: bus credentials, patience, and sometimes a stolen key.

use std::sync::Arc;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::{Map, Value, json};
use spice::bus::{Failure, Request, Target};
use spice::clock::{Timestamp, VirtualClock};
use spice::rpc::table::{self, Class, Topic};
use spice::rpc::{EXCHANGE, Identity, RpcClient, WORK_EXCHANGE};
use spice::security::{RequestParts, SharedTrustStore, SigningKey};

use crate::cloud::{Cloud, deployment, object};
use crate::lab::PATIENCE;

pub fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

/// A message as it travelled.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Recorded {
    /// What is inside oslo.messaging's envelope.
    pub fn inner(&self) -> Map<String, Value> {
        let envelope: Value = serde_json::from_slice(&self.body).unwrap();
        serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap()
    }

    /// The method it calls, or the event it tells of.
    pub fn method(&self) -> String {
        let inner = self.inner();
        inner.get("method").unwrap_or_else(|| &inner["event_type"]).as_str().unwrap().to_owned()
    }

    /// The same with another `_unique_id`, which no signature covers: what only drops duplicates lets it through.
    pub fn renewed(&self) -> Self {
        let mut inner = self.inner();
        inner.insert("_unique_id".into(), json!(uuid::Uuid::new_v4().simple().to_string()));
        Self { body: enveloped(&Value::Object(inner).to_string()), ..self.clone() }
    }
}

/// A text in oslo.messaging's envelope: any text.
pub fn enveloped(inner: &str) -> Vec<u8> {
    json!({ "oslo.version": "2.0", "oslo.message": inner }).to_string().into_bytes()
}

/// The content of an oslo.messaging request.
pub fn request_text(method: &str, args: &Map<String, Value>, auth: &Value) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    json!({ "method": method, "args": args, "version": "1.0", "_unique_id": id, "_context_spice_auth": auth })
        .to_string()
}

/// Somebody with a channel to the broker and no key.
pub struct Attacker {
    pub channel: Channel,
    tap: Option<String>,
}

impl Attacker {
    /// In a virtual host that SPICE shares, with the rights `.*` `.*` `.*` that many clouds give everybody.
    pub async fn let_in(cloud: &Cloud) -> Self {
        let channel = cloud.lab.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, tap: None }
    }

    /// Begins to record all that goes through SPICE's exchanges. (Replies go to exclusive queues through the default
    /// exchange, where nobody can bind.)
    pub async fn record(&mut self) {
        let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = self.channel.queue_declare("".into(), own, FieldTable::default()).await.unwrap();
        let name = queue.name().to_string();
        for (exchange, key) in [(EXCHANGE, "#"), (WORK_EXCHANGE, "#"), ("spice-pool_fanout", "")] {
            let bound = self.channel.queue_bind(
                name.as_str().into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.unwrap();
        }
        self.tap = Some(name);
    }

    /// Everything recorded since the last time.
    pub async fn recorded(&self) -> Vec<Recorded> {
        let tap = self.tap.as_ref().expect("recording");
        let mut all = Vec::new();
        while let Some(message) = self.steal(tap).await {
            all.push(message);
        }
        all
    }

    /// Takes a message out of a queue before its consumer does.
    pub async fn steal(&self, queue: &str) -> Option<Recorded> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap()?;
        got.delivery.ack(BasicAckOptions::default()).await.unwrap();
        Some(Recorded {
            exchange: got.delivery.exchange.to_string(),
            routing_key: got.delivery.routing_key.to_string(),
            properties: got.delivery.properties.clone(),
            body: got.delivery.data.clone(),
        })
    }

    /// Sends a message as it is.
    pub async fn replay(&self, message: &Recorded) {
        self.send(&message.exchange, &message.routing_key, &message.properties, &message.body).await;
    }

    /// Publishes anything anywhere; with the empty exchange right into a queue.
    pub async fn send(&self, exchange: &str, routing_key: &str, properties: &BasicProperties, body: &[u8]) {
        self.channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                BasicPublishOptions::default(),
                body,
                properties.clone(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
    }

    /// Publishes an unremarkable message.
    pub async fn send_text(&self, exchange: &str, routing_key: &str, inner: &str) {
        self.send(exchange, routing_key, &properties(), &enveloped(inner)).await;
    }
}

/// The properties oslo.messaging sets.
pub fn properties() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into()).with_content_encoding("utf-8".into())
}

/// The holder of a key, at a time of its choice.
pub struct Forger {
    identity: Arc<Identity>,
    sender: String,
    at: Option<Timestamp>,
}

impl Forger {
    /// With a key of its own that nobody trusts, in somebody's name.
    pub fn in_the_name_of(cloud: &Cloud, sender: &str) -> Self {
        let trust = SharedTrustStore::open(&cloud.state().join("trust")).unwrap();
        let clock = spice::clock::SystemClock::shared();
        let identity = Identity::new(deployment(), sender, SigningKey::generate().unwrap(), trust, clock);
        Self { identity: Arc::new(identity), sender: sender.to_owned(), at: None }
    }

    /// With a stolen key; what it signs now, or at another time, is what somebody could have recorded then.
    pub fn with_key_of(cloud: &Cloud, sender: &str) -> Self {
        Self { identity: cloud.identity(sender), sender: sender.to_owned(), at: None }
    }

    /// As if signed then.
    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }

    pub fn key(&self) -> &SigningKey {
        &self.identity.key
    }

    pub fn client(&self, cloud: &Cloud) -> RpcClient {
        RpcClient::new(cloud.bus().clone(), self.identity.clone())
    }

    /// The signature of a request.
    pub fn auth(&self, topic: Topic, method: &str, args: &Map<String, Value>) -> Value {
        let (exchange, topic_name, fanout) = address(topic, method);
        let mut signer = self.identity.signer.clone();
        signer.sender.clone_from(&self.sender);
        if let Some(at) = self.at {
            signer.clock = VirtualClock::starting_at(at);
        }
        let parts = RequestParts {
            exchange,
            topic: &topic_name,
            server: None,
            fanout,
            namespace: None,
            method,
            version: Some("1.0"),
            args,
        };
        signer.sign(&parts).unwrap().0
    }

    /// Signs a call, and returns what the server says. Replies are not verified.
    pub async fn ask(&self, cloud: &Cloud, topic: Topic, method: &str, args: Value) -> Result<Value, Failure> {
        let args = object(args);
        let auth = self.auth(topic, method, &args);
        ask_with(cloud, topic, method, args, auth).await
    }

    /// Signs a request and hands it to the bus.
    pub async fn send(&self, cloud: &Cloud, topic: Topic, method: &str, args: Value) {
        let args = object(args);
        let auth = self.auth(topic, method, &args);
        let request = Request::new(method, args).context(object(json!({ "spice_auth": auth })));
        deliver(cloud, topic, method, request).await;
    }
}

/// Calls with a signature made, or recorded, before.
pub async fn ask_with(
    cloud: &Cloud,
    topic: Topic,
    method: &str,
    args: Map<String, Value>,
    auth: Value,
) -> Result<Value, Failure> {
    let (exchange, name, _) = address(topic, method);
    let request = Request::new(method, args).context(object(json!({ "spice_auth": auth })));
    let target = Target::topic(exchange, name).version("1.0");
    cloud.bus().call(&target, request, PATIENCE).await.unwrap().result
}

/// Sends a request that nobody signed.
pub async fn send_unsigned(cloud: &Cloud, topic: Topic, method: &str, args: Value) {
    deliver(cloud, topic, method, Request::new(method, object(args))).await;
}

async fn deliver(cloud: &Cloud, topic: Topic, method: &str, request: Request) {
    let (exchange, name, fanout) = address(topic, method);
    let target = Target::topic(exchange, name).version("1.0");
    if exchange == WORK_EXCHANGE {
        cloud.bus().work(&target, request, None).await.unwrap();
    } else {
        let target = if fanout { target.fanout() } else { target };
        cloud.bus().cast(&target, request).await.unwrap();
    }
}

/// Where a method is served: exchange, topic, and whether by all.
fn address(topic: Topic, method: &str) -> (&'static str, String, bool) {
    let class = table::find(topic, method).expect("a method of the table").class;
    let name = match topic {
        Topic::Adapter => "spice-adapter-openattestation".to_owned(),
        other => other.as_str().to_owned(),
    };
    (if class == Class::Work { WORK_EXCHANGE } else { EXCHANGE }, name, class == Class::Publication)
}
