//! Settings as used: typed, every option within its limits, contradictions between options found.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{ConfigFault, Warning};
use super::file::Written;
use super::secret::Secret;
use super::sections::{
    AdapterSettings, BusSettings, ChecksSettings, CommandSettings, DatabaseSettings, DeclareSetting, MetricsSettings,
    NodesSettings, NotificationSettings, OpenAttestationSettings, PoolSettings, RabbitSettings, ResultsSetting,
    SecuritySettings, SpicectlSettings,
};
use super::values::Values;
use crate::names::{AdapterName, DeploymentId};

const DEFAULT: &str = "DEFAULT";
const RABBIT: &str = "oslo_messaging_rabbit";
const OSLO_NOTIFICATIONS: &str = "oslo_messaging_notifications";
const OAT: &str = "openattestation";

/// Where settings come from; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config-file`, in order.
    pub files: Vec<PathBuf>,
    /// `--config-dir`: their `*.conf`, sorted by name.
    pub dirs: Vec<PathBuf>,
    /// The environment; only `OS_<SECTION>__<OPTION>` of known options count, as in oslo.config.
    pub env: Vec<(String, String)>,
}

/// All settings of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The cloud.
    pub deployment: DeploymentId,
    /// Folder of the databases.
    pub state_dir: PathBuf,
    /// Log in detail.
    pub debug: bool,
    /// Log JSON.
    pub log_json: bool,
    /// The message bus.
    pub bus: BusSettings,
    /// What Ceilometer is told, and how.
    pub notifications: NotificationSettings,
    /// Keys and trust.
    pub security: SecuritySettings,
    /// Databases.
    pub database: DatabaseSettings,
    /// Role *checks*.
    pub checks: ChecksSettings,
    /// Role *nodes*.
    pub nodes: NodesSettings,
    /// Role *pool*.
    pub pool: PoolSettings,
    /// Role *adapter*.
    pub adapter: AdapterSettings,
    /// The adapter `openattestation`.
    pub openattestation: OpenAttestationSettings,
    /// The adapter `command`.
    pub command: CommandSettings,
    /// Metrics and health.
    pub metrics: MetricsSettings,
    /// The command line.
    pub spicectl: SpicectlSettings,
}

impl Settings {
    /// Reads and validates everything.
    ///
    /// # Errors
    /// All faults found, in the order of the files, then of the options; at most 100.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Warning>), Vec<ConfigFault>> {
        Self::from_values(Values::new(Written::read(&sources.files, &sources.dirs), &sources.env))
    }

    pub(super) fn from_values(mut values: Values) -> Result<(Self, Vec<Warning>), Vec<ConfigFault>> {
        let v = &mut values;
        let deployment = deployment(v);
        let bus = bus(v);
        let settings = deployment.map(|deployment| Self {
            deployment,
            state_dir: folder(v, "spice", "state_dir"),
            debug: v.flag(DEFAULT, "debug"),
            log_json: v.flag(DEFAULT, "log_json"),
            notifications: notifications(v, &bus),
            security: security(v),
            database: DatabaseSettings { connection: Secret::new(v.text("database", "connection")) },
            checks: checks(v),
            nodes: nodes(v),
            pool: PoolSettings {
                run_dir: folder(v, "pool", "run_dir"),
                coalesce: Duration::from_millis(v.number("pool", "coalesce_ms")),
            },
            adapter: adapter(v),
            openattestation: openattestation(v),
            command: command(v),
            metrics: MetricsSettings { listen: listen(v) },
            spicectl: SpicectlSettings {
                key_file: v.path("spicectl", "key_file"),
                sender: some_text(v, "spicectl", "sender"),
            },
            bus,
        });
        match settings {
            Some(settings) if values.faults.is_empty() => Ok((settings, values.warnings)),
            _ => Err(values.faults),
        }
    }
}

/// A stand-in lets the other sections be judged when this name is missing or bad: all faults are reported together.
fn deployment(v: &mut Values) -> Option<DeploymentId> {
    let name = v.text("spice", "deployment");
    match DeploymentId::new(&name) {
        Ok(deployment) => Some(deployment),
        Err(error) => {
            // An empty one was reported as missing.
            if !name.is_empty() {
                v.refuse("spice", "deployment", error.to_string());
            }
            DeploymentId::new("unnamed").ok()
        }
    }
}

fn some_text(v: &mut Values, section: &'static str, name: &'static str) -> Option<String> {
    Some(v.text(section, name)).filter(|text| !text.is_empty())
}

/// Text that must not be emptied.
fn full_text(v: &mut Values, section: &'static str, name: &'static str) -> String {
    let text = v.text(section, name);
    if text.is_empty() {
        v.refuse(section, name, "must not be empty; remove the line for the default");
    }
    text
}

fn folder(v: &mut Values, section: &'static str, name: &'static str) -> PathBuf {
    PathBuf::from(full_text(v, section, name))
}

fn history(v: &mut Values, section: &'static str) -> Duration {
    Duration::from_secs(v.number::<u64>(section, "history_days").saturating_mul(86_400))
}

/// A certificate and its key come together.
fn pair(v: &mut Values, section: &'static str, cert: &'static str, key: &'static str) -> [Option<PathBuf>; 2] {
    let both = [v.path(section, cert), v.path(section, key)];
    match both {
        [Some(_), None] => v.refuse(section, cert, format!("needs {key} beside it")),
        [None, Some(_)] => v.refuse(section, key, format!("needs {cert} beside it")),
        _ => {}
    }
    both
}

fn bus(v: &mut Values) -> BusSettings {
    let transport_url = v.text(DEFAULT, "transport_url");
    let agents = some_text(v, "agents", "transport_url").unwrap_or_else(|| transport_url.clone());
    let bus = BusSettings {
        transport_url: Secret::new(transport_url),
        control_exchange: full_text(v, DEFAULT, "control_exchange"),
        rpc_response_timeout: v.seconds(DEFAULT, "rpc_response_timeout"),
        rpc_ping_enabled: v.flag(DEFAULT, "rpc_ping_enabled"),
        rabbit: rabbit(v),
        agents_transport_url: Secret::new(agents),
    };
    if u64::from(bus.rabbit.kombu_missing_consumer_retry_timeout) > bus.rpc_response_timeout.as_secs() {
        let why = "is longer than rpc_response_timeout: replies are offered to callers that have given up";
        v.warn(RABBIT, "kombu_missing_consumer_retry_timeout", why);
    }
    bus
}

fn rabbit(v: &mut Values) -> RabbitSettings {
    let [ssl_cert_file, ssl_key_file] = pair(v, RABBIT, "ssl_cert_file", "ssl_key_file");
    let rabbit = RabbitSettings {
        amqp_durable_queues: v.flag(RABBIT, "amqp_durable_queues"),
        amqp_auto_delete: v.flag(RABBIT, "amqp_auto_delete"),
        rabbit_quorum_queue: v.flag(RABBIT, "rabbit_quorum_queue"),
        rabbit_transient_quorum_queue: v.flag(RABBIT, "rabbit_transient_quorum_queue"),
        rabbit_quorum_delivery_limit: v.number(RABBIT, "rabbit_quorum_delivery_limit"),
        rabbit_quorum_max_memory_length: v.number(RABBIT, "rabbit_quorum_max_memory_length"),
        rabbit_quorum_max_memory_bytes: v.number(RABBIT, "rabbit_quorum_max_memory_bytes"),
        rabbit_transient_queues_ttl: v.number(RABBIT, "rabbit_transient_queues_ttl"),
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
        ssl_ca_file: v.path(RABBIT, "ssl_ca_file"),
        ssl_cert_file,
        ssl_key_file,
    };
    if rabbit.rabbit_quorum_queue && rabbit.amqp_auto_delete {
        v.refuse(
            RABBIT,
            "amqp_auto_delete",
            "cannot be true together with rabbit_quorum_queue: the broker refuses such queues",
        );
    }
    if !rabbit.ssl && (rabbit.ssl_ca_file.is_some() || rabbit.ssl_cert_file.is_some()) {
        v.warn(RABBIT, "ssl", "is false, so the certificates given are not used");
    }
    rabbit
}

fn notifications(v: &mut Values, bus: &BusSettings) -> NotificationSettings {
    let own = some_text(v, OSLO_NOTIFICATIONS, "transport_url");
    let settings = NotificationSettings {
        enabled: v.text(OSLO_NOTIFICATIONS, "driver") != "noop",
        transport_url: own.map_or_else(|| bus.transport_url.clone(), Secret::new),
        topics: v.list(OSLO_NOTIFICATIONS, "topics"),
        // -1: for ever.
        retry: u32::try_from(v.number::<i64>(OSLO_NOTIFICATIONS, "retry")).ok(),
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
        project_id: some_text(v, "notifications", "project_id"),
    };
    if settings.enabled && settings.topics.is_empty() {
        v.refuse(OSLO_NOTIFICATIONS, "topics", "names no topic; set driver = noop to send nothing");
    }
    settings
}

fn security(v: &mut Values) -> SecuritySettings {
    let settings = SecuritySettings {
        key_dir: folder(v, "security", "key_dir"),
        trust_dir: folder(v, "security", "trust_dir"),
        unsigned_admin: v.flag("security", "unsigned_admin"),
        admin_window: v.seconds("security", "admin_window_s"),
    };
    if settings.unsigned_admin {
        v.warn("security", "unsigned_admin", "is true: whoever reaches the bus is an administrator. For a lab only");
    }
    settings
}

fn checks(v: &mut Values) -> ChecksSettings {
    ChecksSettings {
        batch_size: v.number("checks", "batch_size"),
        max_outstanding: v.number("checks", "max_outstanding"),
        max_recasts: v.number("checks", "max_recasts"),
        history: history(v, "checks"),
    }
}

fn nodes(v: &mut Values) -> NodesSettings {
    NodesSettings {
        heartbeat_interval: v.seconds("nodes", "heartbeat_interval_s"),
        history: history(v, "nodes"),
        max_clock_skew: v.seconds("nodes", "max_clock_skew_s"),
    }
}

fn adapter(v: &mut Values) -> AdapterSettings {
    // The table admits built-in names only, all of which are valid.
    let names = v.list("adapter", "names").iter().filter_map(|name| AdapterName::new(name).ok()).collect();
    AdapterSettings {
        names,
        concurrency: v.number("adapter", "concurrency"),
        max_held_results: v.number("adapter", "max_held_results"),
    }
}

fn openattestation(v: &mut Values) -> OpenAttestationSettings {
    let [client_cert_file, client_key_file] = pair(v, OAT, "client_cert_file", "client_key_file");
    let url = some_text(v, OAT, "url");
    let insecure_http = v.flag(OAT, "insecure_http");
    if url.as_ref().is_some_and(|url| url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("http:"))) {
        if insecure_http {
            v.warn(
                OAT,
                "insecure_http",
                "is true: anybody on the way to the server can make a host trusted. For a lab only",
            );
        } else {
            v.refuse(
                OAT,
                "url",
                "is not https: anybody on the way could make a host trusted. For a lab, set insecure_http = true",
            );
        }
    }
    OpenAttestationSettings {
        url,
        ca_file: v.path(OAT, "ca_file"),
        client_cert_file,
        client_key_file,
        auth_blob: some_text(v, OAT, "auth_blob").map(Secret::new),
        timeout: v.seconds(OAT, "timeout_s"),
        max_reply_bytes: v.number(OAT, "max_reply_bytes"),
        batch_size: v.number(OAT, "batch_size"),
        concurrency: v.number(OAT, "concurrency"),
        insecure_http,
    }
}

fn command(v: &mut Values) -> CommandSettings {
    let user = full_text(v, "command", "user");
    if user == "root" {
        v.refuse("command", "user", "must not be root: a check program needs no more than its own account");
    }
    CommandSettings {
        plugin_dir: folder(v, "command", "plugin_dir"),
        user,
        max_processes: v.number("command", "max_processes"),
        max_output_bytes: v.number("command", "max_output_bytes"),
    }
}

fn listen(v: &mut Values) -> Option<SocketAddr> {
    let text = some_text(v, "metrics", "listen")?;
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.clone(), |port| format!("127.0.0.1:{port}"));
    match numeric.parse::<SocketAddr>() {
        Ok(address) => {
            if !address.ip().is_loopback() {
                v.warn("metrics", "listen", "is not a loopback address: whoever reaches it may read the metrics");
            }
            Some(address)
        }
        Err(_) => {
            v.refuse("metrics", "listen", "is not an address and port such as 127.0.0.1:9180 or [::1]:9180");
            None
        }
    }
}
