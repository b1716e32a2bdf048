//! Settings as the options the bus is started with: one conversion, for the service and the command line.

use std::path::PathBuf;

use crate::bus::{BusOptions, Declare, NotificationOptions, RabbitOptions};

use super::sections::{BusSettings, DeclareSetting, RabbitSettings};
use super::settings::Settings;

impl Settings {
    /// The bus as these settings have it.
    #[must_use]
    pub fn bus_options(&self) -> BusOptions {
        let BusSettings { transport_url, rpc_response_timeout, rpc_ping_enabled, rabbit } = &self.bus;
        BusOptions {
            transport_url: transport_url.reveal().clone(),
            rabbit: rabbit_options(rabbit),
            rpc_response_timeout: *rpc_response_timeout,
            rpc_ping_enabled: *rpc_ping_enabled,
            notifications: NotificationOptions {
                exchange: self.notifications.exchange.clone(),
                topics: self.notifications.topics.clone(),
                declare: match self.notifications.declare {
                    DeclareSetting::Passive => Declare::Passive,
                    DeclareSetting::Active => Declare::Active,
                },
            },
            ..BusOptions::default()
        }
    }
}

fn rabbit_options(rabbit: &RabbitSettings) -> RabbitOptions {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    RabbitOptions {
        rabbit_login_method: rabbit.rabbit_login_method.clone(),
        amqp_durable_queues: rabbit.amqp_durable_queues,
        amqp_auto_delete: rabbit.amqp_auto_delete,
        rabbit_quorum_queue: rabbit.rabbit_quorum_queue,
        rabbit_transient_quorum_queue: rabbit.rabbit_transient_quorum_queue,
        rabbit_quorum_delivery_limit: rabbit.rabbit_quorum_delivery_limit,
        rabbit_quorum_max_memory_length: rabbit.rabbit_quorum_max_memory_length,
        rabbit_quorum_max_memory_bytes: rabbit.rabbit_quorum_max_memory_bytes,
        // Our own fanout and reply queues are exclusive: they vanish without it.
        rabbit_transient_queues_ttl: RabbitOptions::default().rabbit_transient_queues_ttl,
        rabbit_qos_prefetch_count: rabbit.rabbit_qos_prefetch_count,
        heartbeat_timeout_threshold: rabbit.heartbeat_timeout_threshold,
        kombu_reconnect_delay: rabbit.kombu_reconnect_delay,
        kombu_missing_consumer_retry_timeout: rabbit.kombu_missing_consumer_retry_timeout,
        rabbit_retry_interval: rabbit.rabbit_retry_interval,
        rabbit_retry_backoff: rabbit.rabbit_retry_backoff,
        rabbit_interval_max: rabbit.rabbit_interval_max,
        direct_mandatory_flag: rabbit.direct_mandatory_flag,
        ssl: rabbit.ssl,
        ssl_ca_file: text(&rabbit.ssl_ca_file),
        ssl_cert_file: text(&rabbit.ssl_cert_file),
        ssl_key_file: text(&rabbit.ssl_key_file),
    }
}
