//! Settings as used: typed, every option within its limits, contradictions between options found.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::bus_settings;
use super::fault::{ConfigFault, Warning};
use super::file::Written;
use super::secret::Secret;
use super::sections::{
    AdapterSettings, AgentsSettings, BusSettings, CloudAccount, CommandSettings, DatabaseSettings, MetricsSettings,
    NodesSettings, NotificationSettings, NovaSettings, OpenAttestationSettings, OpenStackSettings, PoolSettings,
    SecuritySettings, SpicectlSettings,
};
use super::values::Values;
use crate::names::{AdapterName, DeploymentId};

pub(super) const DEFAULT: &str = "DEFAULT";
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
    /// The bus of the node agents.
    pub agents: AgentsSettings,
    /// What Ceilometer is told, and how.
    pub notifications: NotificationSettings,
    /// Keys and trust.
    pub security: SecuritySettings,
    /// Databases.
    pub database: DatabaseSettings,
    /// Role *nodes*.
    pub nodes: NodesSettings,
    /// Role *pool*.
    pub pool: PoolSettings,
    /// OpenStack's APIs.
    pub openstack: OpenStackSettings,
    /// Role *nova*.
    pub nova: NovaSettings,
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
        let bus = bus_settings::bus(v);
        let settings = deployment.map(|deployment| Self {
            deployment,
            state_dir: folder(v, "spice", "state_dir"),
            debug: v.flag(DEFAULT, "debug"),
            log_json: v.flag(DEFAULT, "log_json"),
            agents: AgentsSettings { transport_url: bus_settings::transport(v, "agents", &bus) },
            notifications: bus_settings::notifications(v, &bus),
            security: security(v),
            database: DatabaseSettings { connection: Secret::new(v.text("database", "connection")) },
            nodes: nodes(v),
            pool: PoolSettings {
                run_dir: folder(v, "pool", "run_dir"),
                coalesce: Duration::from_millis(v.number("pool", "coalesce_ms")),
            },
            openstack: openstack(v),
            nova: NovaSettings {
                interval: v.seconds("nova", "interval_s"),
                transport_url: bus_settings::own_transport(v, "nova", &bus),
                exchange: full_text(v, "nova", "exchange"),
                topic: full_text(v, "nova", "topic"),
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

pub(super) fn some_text(v: &mut Values, section: &'static str, name: &'static str) -> Option<String> {
    Some(v.text(section, name)).filter(|text| !text.is_empty())
}

/// Text that must not be emptied.
pub(super) fn full_text(v: &mut Values, section: &'static str, name: &'static str) -> String {
    let text = v.text(section, name);
    if text.is_empty() {
        v.refuse(section, name, "must not be empty; remove the line for the default");
    }
    text
}

fn folder(v: &mut Values, section: &'static str, name: &'static str) -> PathBuf {
    PathBuf::from(full_text(v, section, name))
}

/// A certificate and its key come together.
pub(super) fn pair(
    v: &mut Values,
    section: &'static str,
    cert: &'static str,
    key: &'static str,
) -> [Option<PathBuf>; 2] {
    let both = [v.path(section, cert), v.path(section, key)];
    match both {
        [Some(_), None] => v.refuse(section, cert, format!("needs {key} beside it")),
        [None, Some(_)] => v.refuse(section, key, format!("needs {cert} beside it")),
        _ => {}
    }
    both
}

fn security(v: &mut Values) -> SecuritySettings {
    let settings = SecuritySettings {
        key_dir: folder(v, "security", "key_dir"),
        trust_dir: folder(v, "security", "trust_dir"),
        unsigned_admin: v.flag("security", "unsigned_admin"),
    };
    if settings.unsigned_admin {
        v.warn("security", "unsigned_admin", "is true: whoever reaches the bus is an administrator. For a lab only");
    }
    settings
}

fn nodes(v: &mut Values) -> NodesSettings {
    NodesSettings {
        heartbeat_interval: v.seconds("nodes", "heartbeat_interval_s"),
        history: Duration::from_secs(v.number::<u64>("nodes", "history_days").saturating_mul(86_400)),
    }
}

/// Whether a URL is that of HTTP without TLS.
fn unencrypted(url: &str) -> bool {
    url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("http:"))
}

fn openstack(v: &mut Values) -> OpenStackSettings {
    const SECTION: &str = "openstack";
    let (cloud, auth_url) = (some_text(v, SECTION, "cloud"), some_text(v, SECTION, "auth_url"));
    let password = some_text(v, SECTION, "password");
    if cloud.is_some() && auth_url.is_some() {
        v.refuse(SECTION, "auth_url", "is set beside cloud: the account is either in clouds.yaml or here");
    }
    if auth_url.is_some() && password.is_none() {
        v.refuse(SECTION, "password", "is missing: auth_url needs an account");
    }
    if auth_url.as_deref().is_some_and(unencrypted) {
        v.warn(
            SECTION,
            "auth_url",
            "is not https: anybody on the way can read the password, and say which compute nodes there are",
        );
    }
    let [username, user_domain_name, project_name, project_domain_name] =
        ["username", "user_domain_name", "project_name", "project_domain_name"].map(|name| full_text(v, SECTION, name));
    let file = v.path(SECTION, "clouds_file");
    let account = match (cloud, auth_url) {
        (Some(name), _) => Some(CloudAccount::Cloud { name, file }),
        (None, Some(auth_url)) => Some(CloudAccount::Password {
            auth_url,
            username,
            password: Secret::new(password.unwrap_or_default()),
            user_domain_name,
            project_name,
            project_domain_name,
        }),
        (None, None) => None,
    };
    OpenStackSettings {
        account,
        region_name: some_text(v, SECTION, "region_name"),
        interface: v.text(SECTION, "interface"),
        cafile: v.path(SECTION, "cafile"),
    }
}

fn adapter(v: &mut Values) -> AdapterSettings {
    // The table admits built-in names only, all of which are valid.
    let names = v.list("adapter", "names").iter().filter_map(|name| AdapterName::new(name).ok()).collect();
    AdapterSettings { names, concurrency: v.number("adapter", "concurrency") }
}

fn openattestation(v: &mut Values) -> OpenAttestationSettings {
    let [client_cert_file, client_key_file] = pair(v, OAT, "client_cert_file", "client_key_file");
    let url = some_text(v, OAT, "url");
    let insecure_http = v.flag(OAT, "insecure_http");
    if url.as_deref().is_some_and(unencrypted) {
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
