//! This process's own keys: made at the very first start, and watched for what others will not believe.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::rpc::Identity;
use crate::security::bootstrap;

/// How often it is looked whether our own keys are still good.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a fault that lasts is told again.
const TELL_EVERY: u32 = 600;

/// An all-in-one process whose state directory is empty makes its own keys; every other process is given them.
pub fn make_first(settings: &Settings, all_in_one: bool) -> anyhow::Result<()> {
    let (keys, trust) = (&settings.security.key_dir, &settings.security.trust_dir);
    let is_empty = |folder: &Path| std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let state_is_new = is_empty(&settings.state_dir);
    if !all_in_one || !state_is_new || !is_empty(keys) || !is_empty(trust) {
        return Ok(());
    }
    let (Some(keys_in), Some(trust_in)) = (keys.parent(), trust.parent()) else { return Ok(()) };
    if keys_in != trust_in || !keys.ends_with("keys") || !trust.ends_with("trust") {
        // Keys make themselves only in one folder with the usual names; anything else is placed by hand.
        return Ok(());
    }
    let created = bootstrap::create_keys(keys_in, &settings.deployment, &settings.adapter.names)?;
    for key in &created {
        tracing::info!(name = key.name, key_id = %key.key_id, file = %key.key_file.display(), "a key was made");
    }
    Ok(())
}

/// What to do when the key of `name` cannot be read.
pub fn how_to_replace(name: &str) -> String {
    format!(
        "reading the key of {name}: put the file back from a backup, or make a new key (spicectl key create {name} --role ...), \
         place its trust file on every machine and revoke the lost one; the README says how under \"Keys: make, rotate, lose, revoke\""
    )
}

/// Tells when one of our own keys is not believed by our own trust store, and looks at the store so often that a change of it
/// is seen by every role within seconds; until `stop`.
pub async fn watch(identities: Vec<(String, Arc<Identity>)>, stop: CancellationToken) {
    let mut told: Vec<(Option<String>, u32)> = vec![(None, 0); identities.len()];
    loop {
        let mut faults = 0;
        for ((name, identity), told) in identities.iter().zip(&mut told) {
            let fault = identity.own_key_fault();
            faults += u32::from(fault.is_some());
            let again = told.1 >= TELL_EVERY && fault.is_some();
            if fault == told.0 && !again {
                told.1 += 1;
                continue;
            }
            match &fault {
                Some(fault) => tracing::error!(key = name, "{fault}"),
                None => tracing::info!(key = name, "this service's key is believed"),
            }
            *told = (fault, 0);
        }
        metrics::gauge!("spice_own_keys_not_believed").set(f64::from(faults));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
