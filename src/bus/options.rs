//! The options of the bus, with oslo.messaging's names and defaults, so that a deployment's settings can be copied.

use std::time::Duration;

use crate::text::display_safe_to;

/// What a [`super::Bus`] is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct BusOptions {
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
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
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

/// `[oslo_messaging_rabbit]`: the options that have an effect on the wire.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // oslo's own option set
pub struct RabbitOptions {
    /// Control exchanges and topic queues are durable.
    pub amqp_durable_queues: bool,
    /// Control exchanges and topic queues vanish with their last user.
    pub amqp_auto_delete: bool,
    /// Topic queues are quorum queues, and control exchanges durable.
    pub rabbit_quorum_queue: bool,
    /// Fanout exchanges are durable. (Our own fanout and reply queues are exclusive, whatever this says.)
    pub rabbit_transient_quorum_queue: bool,
    /// `x-delivery-limit` of quorum queues; 0: none.
    pub rabbit_quorum_delivery_limit: u32,
    /// `x-max-in-memory-length` of quorum queues; 0: none.
    pub rabbit_quorum_max_memory_length: u32,
    /// `x-max-in-memory-bytes` of quorum queues; 0: none.
    pub rabbit_quorum_max_memory_bytes: u32,
    /// Life of an unused fanout queue of a peer, in seconds. Ours are exclusive and need none.
    pub rabbit_transient_queues_ttl: u32,
    /// Most unacknowledged messages per consumer; 0: as many as the server runs at once.
    pub rabbit_qos_prefetch_count: u16,
    /// Seconds without a sign of life after which a connection is dead; 0: no heartbeats.
    pub heartbeat_timeout_threshold: u16,
    /// Seconds before a lost connection is opened again.
    pub kombu_reconnect_delay: f64,
    /// Seconds during which a reply that has no queue is tried again.
    pub kombu_missing_consumer_retry_timeout: u32,
    /// Seconds before the first retry of a failed connection attempt.
    pub rabbit_retry_interval: u32,
    /// Seconds added for each further retry.
    pub rabbit_retry_backoff: u32,
    /// Most seconds between two attempts.
    pub rabbit_interval_max: u32,
    /// SASL mechanism: PLAIN, AMQPLAIN or EXTERNAL.
    pub rabbit_login_method: String,
    /// Replies are published so that a missing reply queue is noticed.
    pub direct_mandatory_flag: bool,
    /// Use TLS.
    pub ssl: bool,
    /// The only authorities trusted, PEM; empty: the system's.
    pub ssl_ca_file: String,
    /// Client certificate with its chain, PEM.
    pub ssl_cert_file: String,
    /// The client certificate's key, PEM.
    pub ssl_key_file: String,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            amqp_durable_queues: false,
            amqp_auto_delete: false,
            rabbit_quorum_queue: false,
            rabbit_transient_quorum_queue: false,
            rabbit_quorum_delivery_limit: 0,
            rabbit_quorum_max_memory_length: 0,
            rabbit_quorum_max_memory_bytes: 0,
            rabbit_transient_queues_ttl: 1800,
            rabbit_qos_prefetch_count: 0,
            heartbeat_timeout_threshold: 60,
            kombu_reconnect_delay: 1.0,
            kombu_missing_consumer_retry_timeout: 60,
            rabbit_retry_interval: 1,
            rabbit_retry_backoff: 2,
            rabbit_interval_max: 30,
            rabbit_login_method: "AMQPLAIN".to_owned(),
            direct_mandatory_flag: true,
            ssl: false,
            ssl_ca_file: String::new(),
            ssl_cert_file: String::new(),
            ssl_key_file: String::new(),
        }
    }
}

/// Options of oslo.messaging that a deployment may carry and that have no meaning here: accepted, without effect.
const WITHOUT_EFFECT: &[&str] = &[
    "ssl_version",
    "ssl_enforce_fips_mode",
    "ssl_enforce_hostname_verification",
    "heartbeat_rate",
    "kombu_compression",
    "kombu_failover_strategy",
    "kombu_reconnect_splay",
    "rabbit_ha_queues",
    "rpc_conn_pool_size",
    "conn_pool_min_size",
    "conn_pool_ttl",
    "enable_cancel_on_failover",
    "use_queue_manager",
    "hostname",
    "processname",
    "rabbit_stream_fanout",
];

impl RabbitOptions {
    /// Every option that [`RabbitOptions::set`] gives an effect to, in the order of the struct.
    pub const NAMES: &'static [&'static str] = &[
        "amqp_durable_queues",
        "amqp_auto_delete",
        "rabbit_quorum_queue",
        "rabbit_transient_quorum_queue",
        "rabbit_quorum_delivery_limit",
        "rabbit_quorum_max_memory_length",
        "rabbit_quorum_max_memory_bytes",
        "rabbit_transient_queues_ttl",
        "rabbit_qos_prefetch_count",
        "heartbeat_timeout_threshold",
        "kombu_reconnect_delay",
        "kombu_missing_consumer_retry_timeout",
        "rabbit_retry_interval",
        "rabbit_retry_backoff",
        "rabbit_interval_max",
        "rabbit_login_method",
        "direct_mandatory_flag",
        "ssl",
        "ssl_ca_file",
        "ssl_cert_file",
        "ssl_key_file",
    ];

    /// Sets one option from its text, as a configuration file or the query of a transport URL has it.
    ///
    /// # Errors
    /// A sentence saying that the name is unknown, or what the value should have been.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "amqp_durable_queues" => self.amqp_durable_queues = boolean(name, value)?,
            "amqp_auto_delete" => self.amqp_auto_delete = boolean(name, value)?,
            "rabbit_quorum_queue" => self.rabbit_quorum_queue = boolean(name, value)?,
            "rabbit_transient_quorum_queue" => self.rabbit_transient_quorum_queue = boolean(name, value)?,
            "rabbit_quorum_delivery_limit" => self.rabbit_quorum_delivery_limit = number(name, value, AMQP_INT)?,
            "rabbit_quorum_max_memory_length" => self.rabbit_quorum_max_memory_length = number(name, value, AMQP_INT)?,
            "rabbit_quorum_max_memory_bytes" => self.rabbit_quorum_max_memory_bytes = number(name, value, AMQP_INT)?,
            "rabbit_transient_queues_ttl" => self.rabbit_transient_queues_ttl = number(name, value, AMQP_INT / 1000)?,
            "rabbit_qos_prefetch_count" => self.rabbit_qos_prefetch_count = number16(name, value)?,
            "heartbeat_timeout_threshold" => self.heartbeat_timeout_threshold = number16(name, value)?,
            "kombu_reconnect_delay" => self.kombu_reconnect_delay = seconds(name, value)?,
            "kombu_missing_consumer_retry_timeout" => {
                self.kombu_missing_consumer_retry_timeout = number(name, value, 86_400)?
            }
            "rabbit_retry_interval" => self.rabbit_retry_interval = number(name, value, 86_400)?,
            "rabbit_retry_backoff" => self.rabbit_retry_backoff = number(name, value, 86_400)?,
            "rabbit_interval_max" => self.rabbit_interval_max = number(name, value, 86_400)?,
            "rabbit_login_method" => self.rabbit_login_method = login_method(name, value)?,
            "direct_mandatory_flag" => self.direct_mandatory_flag = boolean(name, value)?,
            "ssl" => self.ssl = boolean(name, value)?,
            "ssl_ca_file" => value.clone_into(&mut self.ssl_ca_file),
            "ssl_cert_file" => value.clone_into(&mut self.ssl_cert_file),
            "ssl_key_file" => value.clone_into(&mut self.ssl_key_file),
            other if WITHOUT_EFFECT.contains(&other) => {
                tracing::warn!(option = other, "this option of oslo.messaging has no effect here")
            }
            other => return Err(format!("[oslo_messaging_rabbit] has no option {:?}", display_safe_to(other, 64))),
        }
        Ok(())
    }

    /// What cannot work together, as sentences.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.rabbit_quorum_queue && self.amqp_auto_delete {
            found.push(
                "rabbit_quorum_queue and amqp_auto_delete exclude each other: set one of them to false".to_owned(),
            );
        }
        if self.ssl_cert_file.is_empty() != self.ssl_key_file.is_empty() {
            found.push("ssl_cert_file and ssl_key_file belong together: set both or neither".to_owned());
        }
        let tls_files = !self.ssl_ca_file.is_empty() || !self.ssl_cert_file.is_empty();
        if tls_files && !self.ssl {
            found.push("ssl_ca_file or ssl_cert_file is set, but ssl is false: set ssl = true".to_owned());
        }
        if !self.kombu_reconnect_delay.is_finite() || self.kombu_reconnect_delay < 0.0 {
            found.push("kombu_reconnect_delay must be a number of seconds, 0 or more".to_owned());
        }
        found
    }
}

/// The largest value of an AMQP 32-bit queue argument.
const AMQP_INT: u32 = i32::MAX as u32;

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(format!("{name} must be true or false, not {:?}", display_safe_to(value, 64))),
    }
}

fn number(name: &str, value: &str, max: u32) -> Result<u32, String> {
    match value.trim().parse::<u32>() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("{name} must be a whole number from 0 to {max}, not {:?}", display_safe_to(value, 64))),
    }
}

fn number16(name: &str, value: &str) -> Result<u16, String> {
    value.trim().parse().map_err(|_| {
        format!("{name} must be a whole number from 0 to {}, not {:?}", u16::MAX, display_safe_to(value, 64))
    })
}

fn seconds(name: &str, value: &str) -> Result<f64, String> {
    match value.trim().parse::<f64>() {
        Ok(number) if (0.0..=86_400.0).contains(&number) => Ok(number),
        _ => Err(format!("{name} must be a number of seconds from 0 to 86400, not {:?}", display_safe_to(value, 64))),
    }
}

fn login_method(name: &str, value: &str) -> Result<String, String> {
    match value.to_ascii_uppercase().as_str() {
        known @ ("PLAIN" | "AMQPLAIN" | "EXTERNAL") => Ok(known.to_owned()),
        _ => Err(format!("{name} must be PLAIN, AMQPLAIN or EXTERNAL, not {:?}", display_safe_to(value, 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unwrap_in_result)]
    use super::*;

    #[test]
    fn every_listed_name_can_be_set() {
        for name in RabbitOptions::NAMES {
            let mut options = RabbitOptions::default();
            let value = match *name {
                "rabbit_login_method" => "PLAIN",
                _ => "1",
            };
            options.set(name, value).unwrap();
            if *name != "kombu_reconnect_delay" && *name != "rabbit_retry_interval" && *name != "direct_mandatory_flag"
            {
                assert_ne!(options, RabbitOptions::default(), "{name} had no effect");
            }
        }
    }

    #[test]
    fn unknown_names_and_bad_values_say_what_is_wrong() {
        let mut options = RabbitOptions::default();
        assert!(options.set("heartbeat_in_pthread", "1").unwrap_err().contains("heartbeat_in_pthread"));
        assert!(options.set("ssl", "perhaps").unwrap_err().contains("true or false"));
        assert!(options.set("rabbit_quorum_delivery_limit", "-1").is_err());
        assert!(options.set("kombu_reconnect_delay", "NaN").is_err());
        assert!(options.set("rabbit_login_method", "MAGIC").is_err());
        assert_eq!(options, RabbitOptions::default());
    }

    #[test]
    fn contradictions_are_all_reported() {
        let options = RabbitOptions {
            rabbit_quorum_queue: true,
            amqp_auto_delete: true,
            ssl_cert_file: "/c".into(),
            ..RabbitOptions::default()
        };
        assert_eq!(options.contradictions().len(), 3);
        assert!(RabbitOptions::default().contradictions().is_empty());
    }
}
