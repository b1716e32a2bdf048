//! `spicectl key rotate` and `spicectl key revoke`: what they change on this machine, and what is to be copied where.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::connection::ConnectionArgs;
use crate::cli::error::CliError;
use crate::cli::key::{CREATED, as_json, trust_dir};
use crate::cli::output::{Field, OutputArgs, field, safe, say};
use crate::cli::values::{seconds, time};
use crate::clock::Timestamp;
use crate::security::rotation::Rotation;
use crate::security::trust_edit::{Plan, plan_revocation};
use crate::security::trust_file::TrustFile;
use crate::security::{KeyId, TrustStore};

const CHANGED: &[Field] =
    &[field("file"), field("sender"), field("key_id"), field("revoked_since"), field("not_after")];

/// `--since`: a time, how long ago, or `now`.
///
/// # Errors
/// A sentence that names the forms.
pub fn since(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::from_datetime(&chrono::Utc::now());
    if text == "now" {
        return Ok(now);
    }
    if let Ok(ago) = seconds(text) {
        return Ok(now.minus(Duration::from_secs(ago.unsigned_abs())));
    }
    let at = time(text).map_err(|fault| format!("{fault}, 90m for how long ago, or now"))?;
    if at.0 < 0 { Err("that is before 1970".to_owned()) } else { Ok(at) }
}

fn local(error: impl std::fmt::Display) -> CliError {
    CliError::local(error.to_string())
}

fn rotation(connection: &ConnectionArgs, name: &str) -> Result<Rotation, CliError> {
    let (settings, _) = connection.settings()?;
    Ok(Rotation::of(&settings.security.key_dir, &trust_dir(connection)?, name))
}

/// The first step: a new key beside the old one.
pub fn begin_rotation(connection: &ConnectionArgs, output: &OutputArgs, name: &str) -> Result<(), CliError> {
    let created = rotation(connection, name)?.begin().map_err(local)?;
    output.object(&as_json(&created), CREATED)?;
    say(&format!(
        "spicectl: the old key stays in use. Copy {} to the trust directory of every machine, then: spicectl key rotate {} --switch",
        created.trust_file.display(),
        safe(name)
    ));
    Ok(())
}

/// The second step: the new key takes over.
pub fn switch(
    connection: &ConnectionArgs,
    output: &OutputArgs,
    name: &str,
    overlap_s: i64,
    dry_run: bool,
) -> Result<(), CliError> {
    let now = Timestamp::from_datetime(&chrono::Utc::now());
    let overlap = Duration::from_secs(overlap_s.unsigned_abs());
    let switch = rotation(connection, name)?.plan_switch(overlap, now).map_err(local)?;
    show(output, &switch.ends)?;
    if dry_run {
        return Ok(());
    }
    switch.carry_out().map_err(local)?;
    say(&format!(
        "spicectl: key {} has taken over in the key directory. Restart the service now; within {overlap_s} s copy the file above \
         to every machine. When that time is over the old trust file can be removed everywhere",
        switch.new.key_id
    ));
    Ok(())
}

/// Voids what a key signed from a time on.
pub fn revoke(
    connection: &ConnectionArgs,
    output: &OutputArgs,
    key: &str,
    since: Timestamp,
    dry_run: bool,
) -> Result<(), CliError> {
    let dir = trust_dir(connection)?;
    let store = TrustStore::load(&dir).map_err(local)?;
    let key_id = find(&store, key)?;
    let plan = plan_revocation(&dir, &key_id, since).map_err(local)?;
    show(output, &plan)?;
    if dry_run {
        return Ok(());
    }
    plan.carry_out().map_err(local)?;
    let roles = store.lookup(&key_id).map(|key| key.roles.to_string()).unwrap_or_default();
    say(&format!(
        "spicectl: copy the file to the trust directory of every machine, and keep it there: it is what voids the key. Then give \
         whoever held it ({roles}) a new key: spicectl key create"
    ));
    Ok(())
}

/// The key of this id, or the only one of a sender.
fn find(store: &TrustStore, key: &str) -> Result<KeyId, CliError> {
    if let Ok(key_id) = key.parse() {
        return Ok(key_id);
    }
    let ids: Vec<KeyId> = store.keys().filter(|known| known.sender == key).map(|known| known.key_id).collect();
    match ids[..] {
        [key_id] => Ok(key_id),
        [] => Err(CliError::local(format!("the trust directory has no key and no sender {:?}", safe(key)))
            .hint("spicectl key list shows them")),
        _ => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Err(CliError::local(format!("{} has several keys; name one: {}", safe(key), ids.join(", "))))
        }
    }
}

fn show(output: &OutputArgs, plan: &Plan) -> Result<(), CliError> {
    let rows = plan.edits.iter().map(|edit| {
        let mut row = json!(TrustFile::from(edit.key.clone()));
        for name in ["revoked_since", "not_after"] {
            row[name] = json!(row.get(name).and_then(Value::as_i64).map(|at| Timestamp(at).to_string()));
        }
        row["file"] = json!(edit.path.to_string_lossy());
        row
    });
    output.list(&rows.collect(), CHANGED)?;
    for fault in &plan.unread {
        say(&format!("spicectl: not looked at, and in force as it was read before: {}", safe(&fault.to_string())));
    }
    Ok(())
}
