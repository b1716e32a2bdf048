//! `[oslo_messaging_rabbit]`, with oslo.messaging's names and defaults.

use super::option_values::{
    AMQP_INT, Judge, boolean, is_boolean, is_number, is_seconds, is_strategy, login_method, number, number16, seconds,
};
use crate::text::display_safe_to;

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
    /// Most unacknowledged messages per consumer; 0: as many as the server runs at once.
    pub rabbit_qos_prefetch_count: u16,
    /// Seconds without a sign of life after which a connection is dead, or fewer if the broker wants that; 0: as the broker wants it.
    pub heartbeat_timeout_threshold: u16,
    /// Seconds before a lost connection is opened again.
    pub kombu_reconnect_delay: f64,
    /// Seconds during which a reply that has no queue is tried again.
    pub kombu_missing_consumer_retry_timeout: u32,
    /// Seconds before the first retry of a failed connection attempt.
    pub rabbit_retry_interval: u32,
    /// Seconds added for each further retry.
    pub rabbit_retry_backoff: u32,
    /// Most seconds between two attempts; more than 2 count as 2.
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

/// Options of oslo.messaging that a deployment may carry and that have no effect here, with what their values must be nevertheless.
const WITHOUT_EFFECT: &[(&str, Judge)] = &[
    // rustls negotiates TLS 1.3 or 1.2, and always verifies the host name.
    ("ssl_version", |_, _| Ok(())),
    ("ssl_enforce_fips_mode", is_boolean),
    ("ssl_enforce_hostname_verification", is_boolean),
    // lapin chooses when to send a heartbeat.
    ("heartbeat_rate", is_number),
    // Received compressed bodies are read whatever this says; SPICE's own are not worth compressing.
    ("kombu_compression", |_, _| Ok(())),
    // Every round tries every host, in random order, and waits are jittered.
    ("kombu_failover_strategy", is_strategy),
    ("kombu_reconnect_splay", is_seconds),
    // Brokers since 3.0 do not look at it.
    ("rabbit_ha_queues", is_boolean),
    // One connection to publish carries as many channels as are needed.
    ("rpc_conn_pool_size", is_number),
    ("conn_pool_min_size", is_number),
    ("conn_pool_ttl", is_number),
    // A deleted or moved queue is noticed without it; quorum queues refuse it.
    ("enable_cancel_on_failover", is_boolean),
    // Queues of our own are exclusive: they vanish with us, and nobody else can hold or want their names.
    ("use_queue_manager", is_boolean),
    ("hostname", |_, _| Ok(())),
    ("processname", |_, _| Ok(())),
    ("rabbit_transient_queues_ttl", is_number),
    // Publishing is the same with and without. A server of ours gets its casts through a queue of its own on the same exchange.
    ("rabbit_stream_fanout", is_boolean),
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
            other => match WITHOUT_EFFECT.iter().find(|(known, _)| *known == other) {
                Some((_, judge)) => {
                    judge(name, value)?;
                    tracing::warn!(option = other, "this option of oslo.messaging has no effect here");
                }
                None => return Err(format!("[oslo_messaging_rabbit] has no option {:?}", display_safe_to(other, 64))),
            },
        }
        Ok(())
    }

    /// Whether oslo.messaging has this option, and it changes nothing here.
    #[must_use]
    pub fn is_without_effect(name: &str) -> bool {
        WITHOUT_EFFECT.iter().any(|(known, _)| *known == name)
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
        for name in ["ssl_enforce_fips_mode", "heartbeat_rate", "kombu_failover_strategy", "rabbit_stream_fanout"] {
            assert!(options.set(name, "perhaps").unwrap_err().contains(name));
        }
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
