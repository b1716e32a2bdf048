//! From flags, environment and configuration file to a signed connection.
//!
//! Flags are handed to the configuration loader as if they stood in the environment, so that they are validated by the same
//! table of options and outrank the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use crate::bus::Bus;
use crate::cli::error::{CliError, Exit};
use crate::clock::SystemClock;
use crate::config::{ConfigFault, Origin, Settings, Sources, Warning};
use crate::rpc::table::Topic;
use crate::rpc::{Identity, RpcClient};
use crate::security::{SharedTrustStore, SigningKey, TrustStore};

/// The configuration file read when none is named.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/spice/spice.conf";
/// How long the broker may take to be reached.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a polite goodbye to the broker may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How to reach and address the service; every command takes these.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Configuration file, the daemon's own; repeat for several [default: /etc/spice/spice.conf if it exists]
    #[arg(long, value_name = "FILE", env = "SPICE_CONFIG", hide_env_values = true, global = true)]
    pub config_file: Vec<PathBuf>,
    /// Folder whose *.conf are read after the files
    #[arg(long, value_name = "DIR", global = true)]
    pub config_dir: Vec<PathBuf>,
    /// Message bus; visible to others in the list of processes, so prefer the file or OS_DEFAULT__TRANSPORT_URL
    #[arg(long, value_name = "URL", global = true)]
    pub transport_url: Option<String>,
    /// Name of the cloud
    #[arg(long, value_name = "NAME", global = true)]
    pub deployment: Option<String>,
    /// Private key to sign with [default: key_file of section spicectl, else admin.pem in key_dir of section security]
    #[arg(long, value_name = "FILE", env = "SPICE_KEY", hide_env_values = true, global = true)]
    pub key: Option<PathBuf>,
    /// Name under which the trust stores know the key [default: as in the trust directory, else the key file's name]
    #[arg(long, value_name = "NAME", global = true)]
    pub sender: Option<String>,
    /// Folder of the keys whose answers are believed
    #[arg(long, value_name = "DIR", global = true)]
    pub trust_dir: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Where settings are read from.
    ///
    /// # Errors
    /// A flag whose value is not UTF-8.
    pub fn sources(&self) -> Result<Sources, CliError> {
        let default = PathBuf::from(DEFAULT_CONFIG_FILE);
        let nothing_named = self.config_file.is_empty() && self.config_dir.is_empty();
        let files = match nothing_named && default.exists() {
            true => vec![default],
            false => self.config_file.clone(),
        };
        let mut env = self.overrides()?;
        // The first one of a name counts.
        env.extend(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        Ok(Sources { files, dirs: self.config_dir.clone(), env })
    }

    fn overrides(&self) -> Result<Vec<(String, String)>, CliError> {
        let path = |path: &Option<PathBuf>, flag: &str| {
            let Some(path) = path else { return Ok(None) };
            // The loader wants absolute paths; here a path means what it means to the shell.
            let absolute = std::path::absolute(path).map_err(|error| CliError::local(format!("{flag}: {error}")))?;
            let text = absolute.to_str().map(|text| Some(literal(text)));
            text.ok_or_else(|| CliError::local(format!("{flag} is not UTF-8; use another path")))
        };
        let given = [
            (FLAGS[0], self.transport_url.as_deref().map(literal)),
            (FLAGS[1], self.deployment.as_deref().map(literal)),
            (FLAGS[2], path(&self.key, "--key")?),
            (FLAGS[3], self.sender.as_deref().map(literal)),
            (FLAGS[4], path(&self.trust_dir, "--trust-dir")?),
        ];
        Ok(given.into_iter().filter_map(|((name, _), value)| Some((name.to_owned(), value?))).collect())
    }

    /// The settings, validated as the daemon does.
    ///
    /// # Errors
    /// All faults, one a line.
    pub fn settings(&self) -> Result<(Settings, Vec<Warning>), CliError> {
        Settings::load(&self.sources()?).map_err(|faults| {
            let told: Vec<String> = faults.iter().map(|fault| self.told(fault)).collect();
            CliError::local(told.join("\n")).hint(format!(
                "correct {}, or give --config-file, --transport-url and --deployment",
                self.config_file.first().map_or(DEFAULT_CONFIG_FILE.into(), |file| file.to_string_lossy())
            ))
        })
    }

    /// A fault as a sentence that names the flag where it was one.
    fn told(&self, fault: &ConfigFault) -> String {
        let Some(Origin::Environment(variable)) = &fault.origin else { return fault.to_string() };
        let given = self.overrides().is_ok_and(|given| given.iter().any(|(name, _)| name == variable));
        match FLAGS.iter().find(|(name, _)| given && name == variable) {
            Some((_, flag)) => format!("{flag}: {}", fault.message),
            None => fault.to_string(),
        }
    }

    /// Connects, with a key to sign with and the trust store to believe by.
    ///
    /// # Errors
    /// What is missing or cannot be used, or why the broker is not reached.
    pub async fn connect(&self) -> Result<Session, CliError> {
        let (settings, _) = self.settings()?;
        let trust = TrustStore::load(&settings.security.trust_dir).map_err(|error| {
            CliError::local(error.to_string()).hint("name the folder of trusted keys with --trust-dir")
        })?;
        let key_file = match &settings.spicectl.key_file {
            Some(file) => file.clone(),
            None => settings.security.key_dir.join("admin.pem"),
        };
        let key = SigningKey::load(&key_file).map_err(|error| {
            CliError::local(error.to_string()).hint("name the key to sign with by --key or [spicectl] key_file")
        })?;
        let known_as = trust.lookup(&key.key_id()).map(|known| known.sender.clone());
        let file_name = key_file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let sender = settings.spicectl.sender.clone().or(known_as).or(file_name).unwrap_or_default();
        let identity = Identity::new(
            settings.deployment.clone(),
            &sender,
            key,
            SharedTrustStore::fixed(trust),
            SystemClock::shared(),
        );
        let bus = Bus::start(settings.bus_options(), "spicectl")
            .map_err(|error| CliError::local(error.to_string()).hint("correct transport_url in the configuration"))?;
        if let Err(error) = bus.reached(BROKER_PATIENCE).await {
            return Err(CliError::unavailable(format!("{error}").replace("; it is retried in the background", ""))
                .hint("see that the broker runs, and that transport_url has its address, account and virtual host"));
        }
        let rpc = RpcClient::new(bus.clone(), Arc::new(identity));
        Ok(Session { rpc, bus, patience: settings.bus.rpc_response_timeout })
    }
}

/// Flags that stand for an option, by the option's variable.
const FLAGS: [(&str, &str); 5] = [
    ("OS_DEFAULT__TRANSPORT_URL", "--transport-url"),
    ("OS_SPICE__DEPLOYMENT", "--deployment"),
    ("OS_SPICECTL__KEY_FILE", "--key"),
    ("OS_SPICECTL__SENDER", "--sender"),
    ("OS_SECURITY__TRUST_DIR", "--trust-dir"),
];

/// A flag's value means itself: `$` begins no reference.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A connection of one command.
pub struct Session {
    rpc: RpcClient,
    bus: Bus,
    patience: Duration,
}

impl Session {
    /// Calls a method of Checks.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn checks(&self, method: &str, args: Value) -> Result<Value, CliError> {
        self.call(Topic::Checks, method, args, self.patience).await
    }

    /// Calls a method of Nodes.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn nodes(&self, method: &str, args: Value) -> Result<Value, CliError> {
        self.call(Topic::Nodes, method, args, self.patience).await
    }

    /// Calls a method and waits at most `patience`; members of `args` that are null are left out, an empty answer of the
    /// method is null.
    ///
    /// # Errors
    /// What the service says, or why it says nothing.
    pub async fn call(&self, topic: Topic, method: &str, args: Value, patience: Duration) -> Result<Value, CliError> {
        let args: Map<String, Value> = match args {
            Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        };
        Ok(self.rpc.call_within(topic, method, args, patience).await?)
    }

    /// Says goodbye.
    pub async fn close(self) {
        // The answer is there already: a broker that dawdles now keeps nobody waiting.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.bus.close()).await;
    }
}

/// Runs `work` with a session and closes that afterwards, however the work ended.
///
/// # Errors
/// Of connecting, or of the work.
pub async fn with_session<F>(args: &ConnectionArgs, work: F) -> Result<Exit, CliError>
where
    F: AsyncFnOnce(&Session) -> Result<Exit, CliError>,
{
    let session = args.connect().await?;
    let outcome = work(&session).await;
    session.close().await;
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn flags_outrank_the_file_and_mean_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spice.conf");
        std::fs::write(&file, "[DEFAULT]\ntransport_url = rabbit://u:p@file/\n[spice]\ndeployment = from-file\n")
            .unwrap();
        let args = ConnectionArgs {
            config_file: vec![file],
            transport_url: Some("rabbit://u:pa$$word@flag/".to_owned()),
            key: Some(PathBuf::from("keys/me.pem")),
            ..ConnectionArgs::default()
        };
        let (settings, _) = args.settings().unwrap();
        assert_eq!(settings.bus.transport_url.reveal(), "rabbit://u:pa$$word@flag/");
        assert_eq!(settings.deployment.as_str(), "from-file");
        let expected = std::env::current_dir().unwrap().join("keys/me.pem");
        assert_eq!(settings.spicectl.key_file, Some(expected));
    }

    #[test]
    fn a_bad_flag_is_told_by_its_own_name_and_shows_no_password() {
        let args = ConnectionArgs {
            deployment: Some("-x".to_owned()),
            transport_url: Some("amqps://u:hidden@flag/".to_owned()),
            config_dir: vec![tempfile::tempdir().unwrap().path().to_owned()],
            ..ConnectionArgs::default()
        };
        let error = args.settings().unwrap_err();
        assert_eq!(error.exit, Exit::Local);
        assert!(error.message.contains("--deployment:") && error.message.contains("--transport-url:"), "{error}");
        assert!(!error.message.contains("hidden"), "{error}");
    }
}
