//! The settings of the message bus and of the notifications on it.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::secret::Secret;
use super::sections::{BusSettings, DeclareSetting, NotificationSettings, ResultsSetting};
use super::settings::{DEFAULT, full_text, pair, some_text};
use super::values::Values;
use crate::bus::{BusOptions, RabbitOptions};

const RABBIT: &str = "oslo_messaging_rabbit";
const OSLO_NOTIFICATIONS: &str = "oslo_messaging_notifications";

/// `[DEFAULT]` and `[oslo_messaging_rabbit]`.
pub(super) fn bus(v: &mut Values) -> BusSettings {
    let transport_url = v.text(DEFAULT, "transport_url");
    let rpc_response_timeout = v.seconds(DEFAULT, "rpc_response_timeout");
    let rpc_ping_enabled = v.flag(DEFAULT, "rpc_ping_enabled");
    let rabbit = rabbit(v);
    let transport_url = checked(v, DEFAULT, transport_url, &rabbit);
    let bus = BusSettings { transport_url, rpc_response_timeout, rpc_ping_enabled, rabbit };
    if u64::from(bus.rabbit.kombu_missing_consumer_retry_timeout) > bus.rpc_response_timeout.as_secs() {
        let why = "is longer than rpc_response_timeout: replies are offered to callers that have given up";
        v.warn(RABBIT, "kombu_missing_consumer_retry_timeout", why);
    }
    bus
}

/// As the bus takes it: empty where not set.
fn written(path: Option<PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn rabbit(v: &mut Values) -> RabbitOptions {
    let [ssl_cert_file, ssl_key_file] = pair(v, RABBIT, "ssl_cert_file", "ssl_key_file");
    let rabbit = RabbitOptions {
        amqp_durable_queues: v.flag(RABBIT, "amqp_durable_queues"),
        amqp_auto_delete: v.flag(RABBIT, "amqp_auto_delete"),
        rabbit_quorum_queue: v.flag(RABBIT, "rabbit_quorum_queue"),
        rabbit_transient_quorum_queue: v.flag(RABBIT, "rabbit_transient_quorum_queue"),
        rabbit_quorum_delivery_limit: v.number(RABBIT, "rabbit_quorum_delivery_limit"),
        rabbit_quorum_max_memory_length: v.number(RABBIT, "rabbit_quorum_max_memory_length"),
        rabbit_quorum_max_memory_bytes: v.number(RABBIT, "rabbit_quorum_max_memory_bytes"),
        rabbit_qos_prefetch_count: v.number(RABBIT, "rabbit_qos_prefetch_count"),
        rabbit_login_method: v.text(RABBIT, "rabbit_login_method"),
        heartbeat_timeout_threshold: v.number(RABBIT, "heartbeat_timeout_threshold"),
        kombu_reconnect_delay: v.decimal(RABBIT, "kombu_reconnect_delay"),
        kombu_missing_consumer_retry_timeout: v.number(RABBIT, "kombu_missing_consumer_retry_timeout"),
        rabbit_retry_interval: v.number(RABBIT, "rabbit_retry_interval"),
        rabbit_retry_backoff: v.number(RABBIT, "rabbit_retry_backoff"),
        rabbit_interval_max: v.number(RABBIT, "rabbit_interval_max"),
        direct_mandatory_flag: v.flag(RABBIT, "direct_mandatory_flag"),
        ssl: v.flag(RABBIT, "ssl"),
        ssl_ca_file: written(v.path(RABBIT, "ssl_ca_file")),
        ssl_cert_file: written(ssl_cert_file),
        ssl_key_file: written(ssl_key_file),
    };
    if rabbit.rabbit_quorum_queue && rabbit.amqp_auto_delete {
        v.refuse(
            RABBIT,
            "amqp_auto_delete",
            "cannot be true together with rabbit_quorum_queue: the broker refuses such queues",
        );
    }
    if !rabbit.ssl && (!rabbit.ssl_ca_file.is_empty() || !rabbit.ssl_cert_file.is_empty()) {
        v.warn(RABBIT, "ssl", "is false, so the certificates given are not used");
    }
    rabbit
}

/// The transport URL of `section`, or that of `bus` where it has none.
pub(super) fn transport(v: &mut Values, section: &'static str, bus: &BusSettings) -> Secret<String> {
    own_transport(v, section, bus).unwrap_or_else(|| bus.transport_url.clone())
}

/// The transport URL of `section`, if it has one.
pub(super) fn own_transport(v: &mut Values, section: &'static str, bus: &BusSettings) -> Option<Secret<String>> {
    let url = some_text(v, section, "transport_url")?;
    Some(checked(v, section, url, &bus.rabbit))
}

/// Reads the URL as the bus will, so that its faults are told with all others.
fn checked(v: &mut Values, section: &'static str, transport_url: String, rabbit: &RabbitOptions) -> Secret<String> {
    if !transport_url.is_empty() {
        let options =
            BusOptions { transport_url: transport_url.clone(), rabbit: rabbit.clone(), ..BusOptions::default() };
        if let Err(why) = options.check_url() {
            v.refuse(section, "transport_url", why.trim_start_matches("transport_url "));
        }
    }
    Secret::new(transport_url)
}

/// `[oslo_messaging_notifications]` and `[notifications]`; `bus` stands in for a bus of its own.
pub(super) fn notifications(v: &mut Values, bus: &BusSettings) -> NotificationSettings {
    let settings = NotificationSettings {
        enabled: v.text(OSLO_NOTIFICATIONS, "driver") != "noop",
        transport_url: transport(v, OSLO_NOTIFICATIONS, bus),
        topics: v.list(OSLO_NOTIFICATIONS, "topics"),
        exchange: full_text(v, "notifications", "exchange"),
        declare: match v.text("notifications", "declare").as_str() {
            "active" => DeclareSetting::Active,
            _ => DeclareSetting::Passive,
        },
        results: match v.text("notifications", "results").as_str() {
            "all" => ResultsSetting::All,
            "none" => ResultsSetting::None,
            _ => ResultsSetting::Changes,
        },
        per_second: NonZeroU32::new(v.number("notifications", "max_per_second")).unwrap_or(NonZeroU32::MIN),
        project_id: some_text(v, "notifications", "project_id"),
    };
    if settings.enabled && settings.topics.is_empty() {
        v.refuse(OSLO_NOTIFICATIONS, "topics", "names no topic; set driver = noop to send nothing");
    }
    settings
}
