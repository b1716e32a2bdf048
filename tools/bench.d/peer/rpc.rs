//! Calls, and what answers them: one method that gives back its argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use spice::bus::{
    Bus, BusOptions, Declare, Dispatcher, Disposition, Incoming, Notification, Reply, Request, Server, Service, Target,
};
use spice::clock::Timestamp;

use crate::Peer;

/// The exchange of the measurements.
const EXCHANGE: &str = "bench";
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Echo;

#[async_trait]
impl Dispatcher for Echo {
    async fn dispatch(&self, mut incoming: Incoming) -> Disposition {
        Disposition::Reply(Reply::ok(incoming.request.args.remove("payload").unwrap_or_default()))
    }
}

/// A server of the topic `rust`.
pub struct Served {
    _server: Server,
}

impl Served {
    /// Serves when this returns.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let bus = Bus::start(BusOptions::new(url), "bench-server")?;
        Ok(Self { _server: bus.serve(Service::rpc(EXCHANGE, "rust", "host1"), Arc::new(Echo)).await? })
    }
}

#[async_trait]
impl Peer for Served {
    async fn obey(&mut self, command: Value) -> anyhow::Result<Value> {
        bail!("a server obeys nobody: {command}")
    }
}

/// A client, and a notifier.
pub struct Caller {
    bus: Bus,
}

impl Caller {
    /// Connects.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let mut options = BusOptions::new(url);
        options.notifications.exchange = EXCHANGE.to_owned();
        options.notifications.topics = vec!["rust_notifications".to_owned()];
        options.notifications.declare = Declare::Active;
        let bus = Bus::start(options, "bench-client")?;
        bus.reached(PATIENCE).await?;
        Ok(Self { bus })
    }
}

#[async_trait]
impl Peer for Caller {
    async fn obey(&mut self, command: Value) -> anyhow::Result<Value> {
        let number = |name: &str| command[name].as_u64().unwrap_or(1);
        let (callers, limit) = (number("callers"), Duration::from_millis(number("milliseconds")));
        let Value::Object(context) = command["context"].clone() else { bail!("the context is no object") };
        let call = Call {
            bus: self.bus.clone(),
            target: Target::topic(EXCHANGE, command["topic"].as_str().unwrap_or_default()),
            payload: command["payload"].clone(),
            context,
            notify: command["do"] == "notify",
        };
        let (call, wrong) = (Arc::new(call), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (call, wrong) = (Arc::clone(&call), Arc::clone(&wrong));
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    while begun.elapsed() < limit {
                        let since = Instant::now();
                        match call.once().await {
                            Ok(()) => took.push(since.elapsed().as_secs_f64() * 1e3),
                            Err(_) => drop(wrong.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                    took
                })
            })
            .collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await?);
        }
        let seconds = begun.elapsed().as_secs_f64();
        took.sort_by(f64::total_cmp);
        let share = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).copied();
        Ok(json!({
            "count": took.len(), "seconds": seconds, "errors": wrong.load(Ordering::Relaxed),
            "median_ms": share(50), "p99_ms": share(99),
        }))
    }
}

/// What is done again and again.
struct Call {
    bus: Bus,
    target: Target,
    payload: Value,
    context: Map<String, Value>,
    notify: bool,
}

impl Call {
    async fn once(&self) -> anyhow::Result<()> {
        if self.notify {
            let notification = Notification {
                message_id: uuid::Uuid::new_v4().to_string(),
                publisher_id: "bench.host1".to_owned(),
                event_type: "bench.event".to_owned(),
                payload: self.payload.as_object().cloned().unwrap_or_default(),
                timestamp: Timestamp::from_datetime(&chrono::Utc::now()),
                context: Map::new(),
            };
            return Ok(self.bus.notify(&notification).await?);
        }
        let args = Map::from_iter([("payload".to_owned(), self.payload.clone())]);
        let request = Request::new("echo", args).context(self.context.clone());
        match self.bus.call(&self.target, request, PATIENCE).await?.result {
            Ok(echoed) if echoed == self.payload => Ok(()),
            other => bail!("not an echo: {other:?}"),
        }
    }
}
