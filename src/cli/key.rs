//! `spicectl key`: keys and the trust store of this machine. No service is asked.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::ConnectionArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::import::read_text;
use crate::cli::key_change::{begin_rotation, revoke, since, switch};
use crate::cli::output::{Field, OutputArgs, field, safe, say};
use crate::cli::values::seconds;
use crate::clock::Timestamp;
use crate::config::BUILT_IN_ADAPTERS;
use crate::names::{AdapterName, DeploymentId};
use crate::security::bootstrap::{BootstrapError, CreatedKey, create_key, create_keys};
use crate::security::{PublicKey, Role, SigningKey, TrustStore, TrustedKey};

/// Keys.
#[derive(Debug, Args)]
pub struct KeyCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a key: DIR/keys/NAME.pem, and DIR/trust/NAME.json for the trust directory of every verifier
    #[command(after_help = "\
Example: a key for an operator; place the trust file in the trust directory where Checks and Nodes run:
  spicectl --deployment cloud-1 key create alice --role operator --dir ./alice")]
    #[command(visible_alias = "generate")]
    Create {
        /// Its name, which is also the sender's
        name: String,
        /// What it may do: admin, operator, reader, checks, nodes, nova, adapter:NAME or agent:NODE; repeat for several
        #[arg(long, required = true)]
        role: Vec<Role>,
        /// Where to [default: [spice] state_dir]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Replaces a key by a new one in two steps, between which both are believed
    #[command(after_help = "\
Example: the key of Checks, on the machine where Checks runs:
  spicectl key rotate checks              # makes the new key; copy the trust file it names to every machine
  spicectl key rotate checks --switch     # the new key takes over; then restart the service, copy the old trust file again")]
    Rotate {
        /// Its name: that of the private key's file, without .pem
        name: String,
        /// Second step: the new key takes the old one's place
        #[arg(long)]
        switch: bool,
        /// How long the old key is still believed, for what it signed before the restart and what is on its way
        #[arg(long, default_value = "1h", value_parser = seconds, requires = "switch")]
        overlap: i64,
        /// Shows what the second step would change
        #[arg(long, requires = "switch")]
        dry_run: bool,
    },
    /// Voids what a key signed from a time on; every service that reads this trust directory takes it back within seconds
    #[command(after_help = "\
Example: the key of an adapter was stolen, at the earliest in the night:
  spicectl key revoke adapter-openattestation --since \"2026-11-22 01:00\" --dry-run
Copy the changed file to every machine. Nodes takes back what the key vouched for; see README, Keys.")]
    Revoke {
        /// The key's id, or the name of its sender where that has one key only
        #[arg(id = "revoked", value_name = "KEY")]
        key: String,
        /// From when on: a time (2026-11-22T13:00:00Z), how long ago (90m), or now
        #[arg(long, value_parser = since)]
        since: Timestamp,
        /// Shows what would be changed
        #[arg(long)]
        dry_run: bool,
    },
    /// Shows a private key's public half, or a trust file
    #[command(after_help = "Example:\n  spicectl key show /var/lib/spice/keys/admin.pem")]
    Show {
        /// The file
        file: PathBuf,
    },
    /// Lists the keys of the trust directory, and every fault in it; exit code 1 if there is one
    #[command(after_help = "Example:\n  spicectl key list --trust-dir /var/lib/spice/trust")]
    List,
    /// Makes all keys of a deployment in an empty directory
    #[command(after_help = "\
Example: keys of checks, nodes, pool, admin and two adapters:
  spicectl --deployment cloud-1 key bootstrap ~/spice-keys --adapter openattestation --adapter command")]
    Bootstrap {
        /// Where to
        dir: PathBuf,
        /// An adapter that gets a key; repeat for several [default: those built in]
        #[arg(long)]
        adapter: Vec<AdapterName>,
    },
}

pub(super) const CREATED: &[Field] =
    &[field("name"), field("key_id"), field("roles"), field("key_file"), field("trust_file")];

const TRUSTED: &[Field] = &[field("sender"), field("roles"), field("key_id"), field("state"), field("comment")];

const SHOWN: &[Field] = &[
    field("key_id"),
    field("public_key"),
    field("sender"),
    field("roles"),
    field("revoked_since"),
    field("not_before"),
    field("not_after"),
    field("comment"),
];

impl KeyCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here.
    pub fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        match verb {
            Verb::Create { name, role, dir } => {
                let dir = match dir {
                    Some(dir) => dir,
                    None => connection.settings().map(|(settings, _)| settings.state_dir).map_err(|error| {
                        CliError::local(format!("where to? The configuration does not say:\n{}", error.message))
                            .hint("name the directory with --dir")
                    })?,
                };
                let created = create_key(&dir, &deployment(connection)?, &name, role).map_err(refused)?;
                output.object(&as_json(&created), CREATED)?;
            }
            Verb::Bootstrap { dir, adapter } => {
                let built_in = || BUILT_IN_ADAPTERS.iter().filter_map(|name| AdapterName::new(name).ok()).collect();
                let adapters = if adapter.is_empty() { built_in() } else { adapter };
                let created = create_keys(&dir, &deployment(connection)?, &adapters).map_err(refused)?;
                output.list(&created.iter().map(as_json).collect(), CREATED)?;
            }
            Verb::Rotate { name, switch: false, .. } => begin_rotation(connection, &output, &name)?,
            Verb::Rotate { name, switch: true, overlap, dry_run } => {
                switch(connection, &output, &name, overlap, dry_run)?;
            }
            Verb::Revoke { key, since, dry_run } => revoke(connection, &output, &key, since, dry_run)?,
            Verb::Show { file } => output.object(&shown(&file)?, SHOWN)?,
            Verb::List => return list(connection, &output),
        }
        Ok(Exit::Done)
    }
}

fn refused(error: BootstrapError) -> CliError {
    CliError::local(error.to_string())
}

/// `--deployment`, else the configuration's.
fn deployment(connection: &ConnectionArgs) -> Result<DeploymentId, CliError> {
    match &connection.deployment {
        Some(name) => DeploymentId::new(name).map_err(|error| CliError::local(error.to_string())),
        None => connection.settings().map(|(settings, _)| settings.deployment).map_err(|error| {
            CliError::local(format!("for which deployment? The configuration does not say:\n{}", error.message))
                .hint("name it with --deployment")
        }),
    }
}

pub(super) fn as_json(created: &CreatedKey) -> Value {
    json!({
        "name": created.name,
        "key_id": created.key_id,
        "roles": created.roles,
        "key_file": created.key_file.to_string_lossy(),
        "trust_file": created.trust_file.to_string_lossy(),
    })
}

fn shown(file: &Path) -> Result<Value, CliError> {
    if file.extension().is_some_and(|extension| extension == "json") {
        return trust_file(file);
    }
    let key = SigningKey::load(file).map_err(|error| CliError::local(error.to_string()))?;
    Ok(json!({ "key_id": key.key_id(), "public_key": key.public_key() }))
}

/// A trust file as it is written, once its key and id belong together. `key list` judges the rest of it.
fn trust_file(file: &Path) -> Result<Value, CliError> {
    let fault = |fault: String| CliError::local(format!("trust file {}: {fault}", file.display()));
    let written =
        crate::security::parse_strict(read_text(file)?.as_bytes()).map_err(|error| fault(error.to_string()))?;
    let text = |name: &str| written.get(name).and_then(Value::as_str).unwrap_or_default();
    let public_key: PublicKey = text("public_key").parse().map_err(|error| fault(format!("{error}")))?;
    if public_key.key_id().to_string() != text("key_id") {
        return Err(fault(format!("key_id is not that of public_key, which is {}", public_key.key_id())));
    }
    Ok(written)
}

/// The trust directory of this machine.
pub(super) fn trust_dir(connection: &ConnectionArgs) -> Result<PathBuf, CliError> {
    match &connection.trust_dir {
        Some(dir) => Ok(dir.clone()),
        None => connection.settings().map(|(settings, _)| settings.security.trust_dir),
    }
}

fn state(key: &TrustedKey, now: Timestamp) -> String {
    match (key.revoked_since, key.not_before, key.not_after) {
        (Some(since), ..) => format!("revoked since {since}"),
        (None, Some(begins), _) if now < begins => format!("valid from {begins}"),
        (None, _, Some(ends)) if ends < now => format!("ended {ends}"),
        (None, _, Some(ends)) => format!("valid until {ends}"),
        _ => "valid".to_owned(),
    }
}

fn list(connection: &ConnectionArgs, output: &OutputArgs) -> Result<Exit, CliError> {
    let dir = trust_dir(connection)?;
    let store = TrustStore::load(&dir).map_err(|error| CliError::local(error.to_string()))?;
    let mut keys: Vec<_> = store.keys().collect();
    keys.sort_by(|one, two| (&one.sender, one.key_id).cmp(&(&two.sender, two.key_id)));
    let now = Timestamp::from_datetime(&chrono::Utc::now());
    let rows = keys.iter().map(|key| {
        json!({
            "sender": key.sender,
            "roles": key.roles,
            "key_id": key.key_id,
            "public_key": key.public_key,
            "state": state(key, now),
            "revoked_since": key.revoked_since.map(|at| at.to_string()),
            "not_before": key.not_before.map(|at| at.to_string()),
            "not_after": key.not_after.map(|at| at.to_string()),
            "comment": key.comment,
        })
    });
    output.list(&rows.collect(), TRUSTED)?;
    for fault in store.faults() {
        say(&format!("spicectl: {}", safe(&fault.to_string())));
    }
    Ok(if store.faults().is_empty() { Exit::Done } else { Exit::Local })
}
