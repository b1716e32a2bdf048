//! The options of the bus, with oslo.messaging's names and defaults, so that a deployment's settings can be copied.

use std::time::Duration;

pub use super::rabbit_options::RabbitOptions;
use super::transport_url;

/// Which of SPICE's transports a bus is: each may have a virtual host, or a broker, of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Transport {
    /// SPICE's own, in which no compute node has an account.
    #[default]
    Control,
    /// On which agents of compute nodes are asked, with an account per node.
    Agents,
    /// On which Ceilometer listens.
    Notifications,
    /// On which Nova notifies.
    Nova,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Control, Self::Agents, Self::Notifications, Self::Nova];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Agents => "agents",
            Self::Notifications => "notifications",
            Self::Nova => "nova",
        }
    }
}

/// What a [`super::Bus`] is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct BusOptions {
    /// Which transport this is; for metrics and logs.
    pub transport: Transport,
    /// `[DEFAULT] transport_url`: hosts, credentials, virtual host; its query overrides `rabbit`. Never logged.
    pub transport_url: String,
    /// `[oslo_messaging_rabbit]`.
    pub rabbit: RabbitOptions,
    /// `[DEFAULT] rpc_response_timeout`: how long callers wait who do not say it themselves.
    pub rpc_response_timeout: Duration,
    /// `[DEFAULT] rpc_ping_enabled`: whether servers answer `oslo_rpc_server_ping`.
    pub rpc_ping_enabled: bool,
    /// Where and how notifications are published.
    pub notifications: NotificationOptions,
    /// How long one publish waits for a connection and for the broker's confirmation.
    pub publish_timeout: Duration,
    /// Largest message sent or accepted, in bytes; larger ones are refused, and so are requests whose values would take four times
    /// as much memory, and replies whose values would take sixteen times as much.
    pub max_message_bytes: usize,
    /// How many messages each queue that only SPICE declares may hold before it refuses more.
    pub work_queue_max_length: u32,
}

impl BusOptions {
    /// oslo.messaging's defaults on the given transport.
    #[must_use]
    pub fn new(transport_url: impl Into<String>) -> Self {
        Self { transport_url: transport_url.into(), ..Self::default() }
    }

    /// What is wrong with `transport_url`, its query included; the sentence holds no password.
    ///
    /// # Errors
    /// That sentence.
    pub fn check_url(&self) -> Result<(), String> {
        transport_url::parse(&self.transport_url, &mut self.rabbit.clone()).map(drop)
    }
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            transport: Transport::Control,
            transport_url: "rabbit://".to_owned(),
            rabbit: RabbitOptions::default(),
            rpc_response_timeout: Duration::from_secs(60),
            rpc_ping_enabled: false,
            notifications: NotificationOptions::default(),
            publish_timeout: Duration::from_secs(30),
            max_message_bytes: 16 * 1024 * 1024,
            work_queue_max_length: 50_000,
        }
    }
}

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationOptions {
    /// The exchange published to; Ceilometer must listen on it.
    pub exchange: String,
    /// `[oslo_messaging_notifications] topics`.
    pub topics: Vec<String>,
    /// Whether the exchange is expected to be there or made by us.
    pub declare: Declare,
}

impl Default for NotificationOptions {
    fn default() -> Self {
        Self { exchange: "ceilometer".to_owned(), topics: vec!["notifications".to_owned()], declare: Declare::Passive }
    }
}

/// Who declares what notifications are published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Declare {
    /// The listener does; until it has, publishing fails with [`super::BusError::Refused`] 404 and is to be repeated. The safe choice: an
    /// exchange or queue made with other flags than the telemetry agent's own stops that agent for all of OpenStack.
    #[default]
    Passive,
    /// We do, as oslo.messaging's notifier would, with the flags of the `[oslo_messaging_rabbit]` options: exchange, queue `TOPIC.info` and binding.
    Active,
}
