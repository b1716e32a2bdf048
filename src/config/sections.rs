//! The settings of each section, typed and within their limits.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use crate::bus::RabbitOptions;
use crate::names::AdapterName;

/// The bus of SPICE: `[DEFAULT]` and `[oslo_messaging_rabbit]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BusSettings {
    /// Hosts, account, virtual host.
    pub transport_url: Secret<String>,
    /// How long callers wait.
    pub rpc_response_timeout: Duration,
    /// Whether servers answer oslo.messaging's ping.
    pub rpc_ping_enabled: bool,
    /// Flags and timing of the connection.
    pub rabbit: RabbitOptions,
}

/// `[agents]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentsSettings {
    /// The bus of the node agents; the bus of SPICE where not set.
    pub transport_url: Secret<String>,
}

/// `[oslo_messaging_notifications]` and `[notifications]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationSettings {
    /// False for the driver `noop`.
    pub enabled: bool,
    /// Ceilometer's bus; the bus of SPICE where not set.
    pub transport_url: Secret<String>,
    /// Topics, at least one when enabled.
    pub topics: Vec<String>,
    /// Exchange.
    pub exchange: String,
    /// Who creates the exchange.
    pub declare: DeclareSetting,
    /// Which results are sent.
    pub results: ResultsSetting,
    /// Most notifications a second.
    pub per_second: NonZeroU32,
    /// Project of the samples.
    pub project_id: Option<String>,
}

/// Who creates the exchange of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclareSetting {
    /// Ceilometer does.
    Passive,
    /// We do.
    Active,
}

/// Which check results are sent as notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultsSetting {
    /// Every one.
    All,
    /// Those that differ from the node's result before.
    Changes,
    /// None.
    None,
}

/// `[security]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySettings {
    /// Private keys of this machine.
    pub key_dir: PathBuf,
    /// The trust store.
    pub trust_dir: PathBuf,
    /// Accept unsigned administrators' calls (a lab).
    pub unsigned_admin: bool,
}

/// `[database]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSettings {
    pub(super) connection: Secret<String>,
}

impl DatabaseSettings {
    /// The connection of one role: `{role}` replaced by its name.
    #[must_use]
    pub fn connection(&self, role: super::Role) -> Secret<String> {
        Secret::new(self.connection.reveal().replace("{role}", role.as_str()))
    }
}

/// `[nodes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesSettings {
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// How long results are kept.
    pub history: Duration,
}

/// `[pool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Folder of the pool file.
    pub run_dir: PathBuf,
    /// How long changes are gathered.
    pub coalesce: Duration,
}

/// `[openstack]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenStackSettings {
    /// Who asks; `None`: nobody does.
    pub account: Option<CloudAccount>,
    /// Region; `None`: the only one.
    pub region_name: Option<String>,
    /// Endpoints of this kind.
    pub interface: String,
    /// Authorities; `None`: the system's.
    pub cafile: Option<PathBuf>,
}

/// The account in `[openstack]`.
#[derive(Debug, Clone, PartialEq)]
pub enum CloudAccount {
    /// An entry of clouds.yaml.
    Cloud {
        /// Its name.
        name: String,
        /// Which file; `None`: those that are always read.
        file: Option<PathBuf>,
    },
    /// As in `[keystone_authtoken]`.
    Password {
        /// Keystone.
        auth_url: String,
        /// Who.
        username: String,
        /// Its password.
        password: Secret<String>,
        /// The account's domain.
        user_domain_name: String,
        /// The token's project.
        project_name: String,
        /// The project's domain.
        project_domain_name: String,
    },
}

/// `[nova]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NovaSettings {
    /// Between two questions.
    pub interval: Duration,
    /// Nova's bus; `None`: not listened to.
    pub transport_url: Option<Secret<String>>,
    /// Nova's exchange.
    pub exchange: String,
    /// The topic of its versioned notifications.
    pub topic: String,
}

/// `[adapter]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterSettings {
    /// Which adapters run here.
    pub names: Vec<AdapterName>,
    /// Batches at once, per adapter.
    pub concurrency: usize,
}

/// `[openattestation]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAttestationSettings {
    /// The server; `None`: not set up.
    pub url: Option<String>,
    /// Authorities; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate; set together with its key.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Header X-Auth-Blob.
    pub auth_blob: Option<Secret<String>>,
    /// For one reply.
    pub timeout: Duration,
    /// Longest reply.
    pub max_reply_bytes: usize,
    /// Hosts in one request.
    pub batch_size: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// Whether `url` may be without TLS.
    pub insecure_http: bool,
}

/// `[command]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// Check programs and manifests.
    pub plugin_dir: PathBuf,
    /// Account they run under.
    pub user: String,
    /// Programs at once.
    pub max_processes: usize,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Where; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[spicectl]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpicectlSettings {
    /// Signing key.
    pub key_file: Option<PathBuf>,
    /// Its name in the trust stores.
    pub sender: Option<String>,
}
