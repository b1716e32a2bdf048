//! The one table of options. Names are oslo's own where oslo has one.

use super::options::{BUILT_IN_ADAPTERS, Kind, OptionSpec, Role};

const TRUST_ROLES: &[Role] = &[Role::Checks, Role::Nodes];
const ADAPTER: &[Role] = &[Role::Adapter];
const NODES: &[Role] = &[Role::Nodes];
const POOL: &[Role] = &[Role::Pool];
const SPICECTL: &[Role] = &[Role::Spicectl];
const NOVA: &[Role] = &[Role::Nova];
const SERVICES: &[Role] = &[Role::Checks, Role::Nodes, Role::Adapter, Role::Pool, Role::Nova];

pub(super) const RABBIT: &str = "oslo_messaging_rabbit";
const RABBIT_URL: Kind = Kind::Url(&["rabbit"]);
const COUNT: Kind = Kind::Int { min: 0, max: 1_000_000_000 };
const SECONDS: Kind = Kind::Int { min: 0, max: 86_400 };

const fn option(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec::new(section, name, kind, default, help)
}

/// Options that other users of oslo.messaging carry and that change nothing here: accepted with a warning.
pub(super) const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("DEFAULT", &["executor_thread_pool_size", "log_file", "log_dir", "use_syslog", "use_journal", "use_stderr"]),
    // Those of the bus itself are in RabbitOptions. This one oslo.messaging itself has no more.
    (RABBIT, &["heartbeat_in_pthread"]),
    ("oslo_messaging_notifications", &["retry"]),
];

/// Every option there is, by section, in the order of the sample.
pub const OPTIONS: &[OptionSpec] = &[
    option("DEFAULT", "transport_url", RABBIT_URL, "", "The message bus of SPICE: hosts, account and virtual host. Use a virtual host of its own, in which no compute node has an account. Escape special characters of the password as in a URL.")
        .required().secret().example("rabbit://spice:PASSWORD@controller:5672/spice"),
    option("DEFAULT", "rpc_response_timeout", Kind::Int { min: 1, max: 1200 }, "60", "Seconds to wait for the answer to a call."),
    option("DEFAULT", "rpc_ping_enabled", Kind::Bool, "false", "Answer oslo.messaging's ping calls.").used_by(SERVICES),
    option("DEFAULT", "debug", Kind::Bool, "false", "Log what is done in detail. The environment variable SPICE_LOG, if set, decides instead."),
    option("DEFAULT", "log_json", Kind::Bool, "false", "Log one JSON object a line instead of text.").used_by(SERVICES),

    option("spice", "deployment", Kind::Text, "", "Name of this cloud. It is part of everything signed, so that nothing signed for one cloud is believed in another. Letters, digits, dots, dashes and underscores.")
        .required().example("cloud-1"),
    option("spice", "state_dir", Kind::Path, "/var/lib/spice", "Folder of the databases. Other options may refer to it as $state_dir."),

    option("security", "key_dir", Kind::Path, "$state_dir/keys", "Folder of this machine's private keys, readable by the service only."),
    option("security", "trust_dir", Kind::Path, "$state_dir/trust", "Folder of the trust store: whose signature is accepted, in which role. Reloaded when it changes."),
    option("security", "unsigned_admin", Kind::Bool, "false", "Accept administrators' calls that nobody signed. For a lab only; shown in spicectl status.").used_by(SERVICES),

    option(RABBIT, "amqp_durable_queues", Kind::Bool, "false", "As in the rest of the cloud: whether shared queues survive a restart of the broker."),
    option(RABBIT, "amqp_auto_delete", Kind::Bool, "false", "As in the rest of the cloud: whether shared queues vanish with their last user. Not with quorum queues."),
    option(RABBIT, "rabbit_quorum_queue", Kind::Bool, "false", "As in the rest of the cloud: whether shared queues are quorum queues."),
    option(RABBIT, "rabbit_transient_quorum_queue", Kind::Bool, "false", "As in the rest of the cloud: whether fanout and reply queues are quorum queues."),
    option(RABBIT, "rabbit_quorum_delivery_limit", COUNT, "0", "Deliveries after which a quorum queue drops a message; 0: no limit."),
    option(RABBIT, "rabbit_quorum_max_memory_length", COUNT, "0", "Messages a quorum queue keeps in memory; 0: no limit."),
    option(RABBIT, "rabbit_quorum_max_memory_bytes", COUNT, "0", "Bytes a quorum queue keeps in memory; 0: no limit."),
    option(RABBIT, "rabbit_qos_prefetch_count", Kind::Int { min: 0, max: 65_535 }, "0", "Messages a consumer may hold unacknowledged; 0: as many as it works on at once."),
    option(RABBIT, "rabbit_login_method", Kind::Choice(&["PLAIN", "AMQPLAIN", "EXTERNAL"]), "AMQPLAIN", "How to log in to the broker."),
    option(RABBIT, "heartbeat_timeout_threshold", Kind::Int { min: 0, max: 65_535 }, "60", "Seconds without a sign of life after which the broker counts as gone; 0: as many as the broker asks for (60). There is no going without."),
    option(RABBIT, "kombu_reconnect_delay", Kind::Float { min: 0.0, max: 4.5 }, "1.0", "Seconds before a lost connection is opened again."),
    option(RABBIT, "kombu_missing_consumer_retry_timeout", SECONDS, "60", "Seconds during which a reply is offered again to a caller whose queue is gone. No longer than rpc_response_timeout."),
    option(RABBIT, "rabbit_retry_interval", Kind::Int { min: 1, max: 3600 }, "1", "Seconds before the first new attempt to connect."),
    option(RABBIT, "rabbit_retry_backoff", Kind::Int { min: 0, max: 3600 }, "2", "Seconds added for each further attempt."),
    option(RABBIT, "rabbit_interval_max", Kind::Int { min: 1, max: 3600 }, "30", "Most seconds between two attempts. Never more than 2 are waited, so that a service is back soon after its broker."),
    option(RABBIT, "direct_mandatory_flag", Kind::Bool, "true", "Notice when a caller's reply queue is gone."),
    option(RABBIT, "ssl", Kind::Bool, "false", "Use TLS to the broker. Give the port in transport_url: it stays 5672 otherwise."),
    option(RABBIT, "ssl_ca_file", Kind::Path, "", "Authorities trusted for the broker's certificate, PEM; empty: the system's.").example("/etc/ssl/certs/rabbitmq-ca.pem"),
    option(RABBIT, "ssl_cert_file", Kind::Path, "", "Client certificate with its chain, PEM.").example("/etc/spice/rabbitmq-client.pem"),
    option(RABBIT, "ssl_key_file", Kind::Path, "", "Key of the client certificate, PEM.").example("/etc/spice/rabbitmq-client.key"),

    option("oslo_messaging_notifications", "transport_url", RABBIT_URL, "", "The bus on which Ceilometer listens; empty: the bus of SPICE.")
        .secret().example("rabbit://spice-notify:PASSWORD@controller:5672/").used_by(NODES),
    option("oslo_messaging_notifications", "driver", Kind::Choice(&["messagingv2", "noop"]), "messagingv2", "noop sends no notifications.").used_by(NODES),
    option("oslo_messaging_notifications", "topics", Kind::List, "notifications", "Topics on which Ceilometer listens.").used_by(NODES),

    option("agents", "transport_url", RABBIT_URL, "", "The bus on which the agents of compute nodes are asked; empty: the bus of SPICE. Use a virtual host of its own, with an account for each node, made by tools/rabbitmq-permissions. The options of [oslo_messaging_rabbit] hold for it, too.")
        .secret().example("rabbit://spice-adapter-tpm2:PASSWORD@controller:5672/spice-agents").used_by(ADAPTER),

    option("notifications", "exchange", Kind::Text, "spice", "Exchange of the notifications. Ceilometer must list it in [notification] notification_control_exchanges, one line per exchange and beside all it reads already: setting that option replaces its default list.").used_by(NODES),
    option("notifications", "declare", Kind::Choice(&["passive", "active"]), "passive", "passive waits for Ceilometer to create the exchange. active creates it with the flags of [oslo_messaging_rabbit]: if those differ from Ceilometer's own, telemetry stops for the whole cloud.").used_by(NODES),
    option("notifications", "results", Kind::Choice(&["all", "changes", "none"]), "changes", "Which check results are sent. One Ceilometer agent keeps up with about 480 a second.").used_by(NODES),
    option("notifications", "max_per_second", Kind::Int { min: 1, max: 100_000 }, "300", "Most notifications a second. More wait, 20000 at most, before the oldest are dropped; spice.pool.degraded, which tells of a mass of changes, does not wait behind them.").used_by(NODES),
    option("notifications", "project_id", Kind::Text, "", "Project under which Ceilometer files the samples; empty: none.").example("0123456789abcdef0123456789abcdef").used_by(NODES),

    option("database", "connection", Kind::Url(&["sqlite", "mysql", "mysql+pymysql", "mysql+mysqldb", "mariadb", "mariadb+pymysql"]), "sqlite:///$state_dir/spice-{role}.sqlite", "Where checks and nodes keep their state: a file, or MariaDB 10.6 or later as mysql://USER:PASSWORD@HOST/DATABASE with ssl_ca, ssl_cert, ssl_key, ssl_check_hostname or unix_socket behind a ?. {role} stands for the role's name.")
        .secret().used_by(TRUST_ROLES),

    option("nodes", "heartbeat_interval_s", Kind::Int { min: 1, max: 30 }, "2", "Seconds between heartbeats to the pool caches.").used_by(NODES),
    option("nodes", "history_days", Kind::Int { min: 1, max: 3650 }, "30", "Days for which results are kept. The record of trust is kept for ever.").used_by(NODES),

    option("pool", "run_dir", Kind::Path, "/run/spice", "Folder of the pool file that nova-scheduler reads. Containers mount the folder, not the file.").used_by(POOL),
    option("pool", "coalesce_ms", Kind::Int { min: 0, max: 1000 }, "20", "Least milliseconds between two writings of the file; changes meanwhile are gathered.").used_by(POOL),

    option("openstack", "cloud", Kind::Text, "", "The entry of clouds.yaml with which OpenStack's APIs are asked; or leave it empty and set auth_url and what follows, as in [keystone_authtoken] of other services. With neither, nodes are registered by hand.").example("spice").used_by(NOVA),
    option("openstack", "clouds_file", Kind::Path, "", "Which clouds.yaml; empty: those that OpenStack's own client reads.").example("/etc/spice/clouds.yaml").used_by(NOVA),
    option("openstack", "auth_url", Kind::Url(&["https", "http"]), "", "Where Keystone is.").example("https://controller:5000/v3").used_by(NOVA),
    option("openstack", "username", Kind::Text, "spice", "The account. To list services and hypervisors it needs what Nova's policy asks for, by default the role admin in its project.").used_by(NOVA),
    option("openstack", "password", Kind::Text, "", "The password of the account.").secret().example("PASSWORD").used_by(NOVA),
    option("openstack", "user_domain_name", Kind::Text, "Default", "The domain of the account.").used_by(NOVA),
    option("openstack", "project_name", Kind::Text, "service", "The project the token is for.").used_by(NOVA),
    option("openstack", "project_domain_name", Kind::Text, "Default", "The domain of the project.").used_by(NOVA),
    option("openstack", "region_name", Kind::Text, "", "The region; empty: the only one, or that of clouds.yaml.").example("RegionOne").used_by(NOVA),
    option("openstack", "interface", Kind::Choice(&["internal", "public", "admin"]), "internal", "Which endpoints of the catalog are used; with cloud, clouds.yaml decides.").used_by(NOVA),
    option("openstack", "cafile", Kind::Path, "", "Authorities trusted for the APIs' certificates, PEM; empty: the system's.").example("/etc/ssl/certs/cloud-ca.pem").used_by(NOVA),

    option("nova", "interval_s", Kind::Int { min: 5, max: 3600 }, "60", "Seconds between two questions to Nova which compute nodes there are. Its notifications have it asked at once.").used_by(NOVA),
    option("nova", "transport_url", RABBIT_URL, "", "The bus on which Nova notifies; empty: its notifications are not heard. They have to be versioned ([notifications] notification_format = versioned or both in nova.conf).")
        .secret().example("rabbit://spice-nova:PASSWORD@controller:5672/").used_by(NOVA),
    option("nova", "exchange", Kind::Text, "nova", "Nova's exchange (control_exchange in nova.conf).").used_by(NOVA),
    option("nova", "topic", Kind::Text, "versioned_notifications", "The topic of its versioned notifications (versioned_notifications_topics).").used_by(NOVA),

    option("adapter", "names", Kind::ListOf(BUILT_IN_ADAPTERS), "openattestation,command", "Adapters that run here.").used_by(ADAPTER),
    option("adapter", "concurrency", Kind::Int { min: 1, max: 1000 }, "4", "Batches that one adapter works on at once.").used_by(ADAPTER),

    option("openattestation", "url", Kind::Url(&["https", "http"]), "", "The OpenAttestation server; empty: that adapter answers every check with an error.").example("https://attestation.example.org:8443").used_by(ADAPTER),
    option("openattestation", "ca_file", Kind::Path, "", "The only authorities trusted for its certificate, PEM; empty: the system's.").example("/etc/spice/openattestation-ca.pem").used_by(ADAPTER),
    option("openattestation", "client_cert_file", Kind::Path, "", "Client certificate, PEM.").example("/etc/spice/openattestation-client.pem").used_by(ADAPTER),
    option("openattestation", "client_key_file", Kind::Path, "", "Key of the client certificate, PEM.").example("/etc/spice/openattestation-client.key").used_by(ADAPTER),
    option("openattestation", "auth_blob", Kind::Text, "", "What the server expects in the header X-Auth-Blob.").secret().example("SECRET").used_by(ADAPTER),
    option("openattestation", "timeout_s", Kind::Int { min: 1, max: 1200 }, "90", "Seconds to wait for one reply. The server holds a reply for a minute when a host is silent.").used_by(ADAPTER),
    option("openattestation", "max_reply_bytes", Kind::Int { min: 1024, max: 67_108_864 }, "4194304", "Longest reply read.").used_by(ADAPTER),
    option("openattestation", "batch_size", Kind::Int { min: 1, max: 200 }, "50", "Hosts asked for in one request.").used_by(ADAPTER),
    option("openattestation", "concurrency", Kind::Int { min: 1, max: 64 }, "4", "Requests under way at once.").used_by(ADAPTER),
    option("openattestation", "insecure_http", Kind::Bool, "false", "Allow a url without TLS, over which anybody on the way can trust a host. For a lab only.").used_by(ADAPTER),

    option("command", "plugin_dir", Kind::Path, "/etc/spice/plugins", "Folder of the check programs and their manifests, writable by root only.").used_by(ADAPTER),
    option("command", "user", Kind::Text, "spice-check", "Account under which programs run; not the service's own.").used_by(ADAPTER),
    option("command", "max_processes", Kind::Int { min: 1, max: 1000 }, "8", "Programs that run at once.").used_by(ADAPTER),

    option("metrics", "listen", Kind::Text, "", "Address and port for /metrics and /healthz; empty: off. Nobody is asked for a password there, so keep it on the loopback address.").example("127.0.0.1:9180").used_by(SERVICES),

    option("spicectl", "key_file", Kind::Path, "", "Private key with which spicectl signs.").example("/var/lib/spice/keys/admin.pem").used_by(SPICECTL),
    option("spicectl", "sender", Kind::Text, "", "Name under which the trust stores know that key.").example("admin").used_by(SPICECTL),
];
