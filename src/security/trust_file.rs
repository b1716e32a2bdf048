//! One file of the trust store: what it holds, and every fault in it at once.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::text::display_safe_to;

use super::files;
use super::keys::{KeyId, PublicKey};
use super::roles::{Role, RoleSet};
use super::strict::parse_strict;
use super::trust_store::TrustedKey;

/// A trust file is under 1 KiB; more than this is something else.
const MAX_TRUST_FILE: u64 = 64 * 1024;

/// Longest name of a sender.
pub const MAX_SENDER: usize = 128;

/// A trust file as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustFile {
    /// The key's id; must be that of `public_key`, so that a pasted key cannot be mistaken for another.
    pub key_id: KeyId,
    /// Who signs with it: the name requests carry.
    pub sender: String,
    /// What it may do.
    pub roles: RoleSet,
    /// Base64 of the raw 32 bytes.
    pub public_key: PublicKey,
    /// What the key signed at this time (milliseconds since 1970) or later does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_since: Option<Timestamp>,
    /// What the key signs before this time does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// What the key signs after this time does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl From<TrustedKey> for TrustFile {
    fn from(key: TrustedKey) -> Self {
        let TrustedKey { key_id, sender, roles, public_key, revoked_since, not_before, not_after, comment } = key;
        Self { key_id, sender, roles, public_key, revoked_since, not_before, not_after, comment }
    }
}

impl TrustFile {
    /// The text of the file.
    ///
    /// # Errors
    /// Never in practice; the error says what could not be written.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// Whether `sender` can name a sender: 1 to 128 characters out of `A-Z a-z 0-9 . _ - @`, starting with a letter or digit.
#[must_use]
pub fn is_sender(sender: &str) -> bool {
    sender.len() <= MAX_SENDER
        && sender.starts_with(|c: char| c.is_ascii_alphanumeric())
        && sender.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@'))
}

/// Reads a trust file; the error lists every fault.
pub(super) fn read(path: &Path) -> Result<TrustedKey, Vec<String>> {
    let text = files::read_judged(path, MAX_TRUST_FILE, files::judge_unchangeable).map_err(|fault| vec![fault])?;
    let value = parse_strict(&text).map_err(|fault| vec![fault.to_string()])?;
    let Value::Object(members) = value else {
        return Err(vec!["it must hold a JSON object".into()]);
    };
    let mut faults = Vec::new();
    const KNOWN: [&str; 8] =
        ["key_id", "sender", "roles", "public_key", "revoked_since", "not_before", "not_after", "comment"];
    for name in members.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        // A misspelt revoked_since must not leave a stolen key trusted.
        faults.push(format!("unknown member {:?}: use {}", display_safe_to(name, 64), KNOWN.join(", ")));
    }
    let member = |name: &str| members.get(name).filter(|value| !value.is_null());
    let mut text_of = |name: &str, needed: bool| match member(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => {
            faults.push(format!("{name} must be text"));
            None
        }
        None => {
            if needed {
                faults.push(format!("{name} is missing"));
            }
            None
        }
    };
    let (key_id, sender) = (text_of("key_id", true), text_of("sender", true));
    let (public_key, comment) = (text_of("public_key", true), text_of("comment", false));
    if let Some(sender) = sender.as_deref().filter(|sender| !is_sender(sender)) {
        faults.push(format!(
            "sender {:?} is not valid: use 1 to {MAX_SENDER} characters out of A-Z a-z 0-9 . _ - @, starting with a letter or digit",
            display_safe_to(sender, 64)
        ));
    }
    let key_id = key_id.and_then(|text| text.parse::<KeyId>().map_err(|fault| faults.push(fault.to_string())).ok());
    let public_key =
        public_key.and_then(|text| text.parse::<PublicKey>().map_err(|fault| faults.push(fault.to_string())).ok());
    if let (Some(key_id), Some(public_key)) = (key_id, public_key)
        && key_id != public_key.key_id()
    {
        faults.push(format!("key_id {key_id} is not that of public_key, which is {}", public_key.key_id()));
    }
    let roles = read_roles(member("roles"), &mut faults);
    let mut time_of = |name: &str| match member(name).map(Value::as_i64) {
        None => None,
        Some(Some(time)) if time >= 0 => Some(Timestamp(time)),
        Some(_) => {
            faults.push(format!("{name} must be a time in milliseconds since 1970, or null"));
            None
        }
    };
    let (revoked_since, not_before, not_after) =
        (time_of("revoked_since"), time_of("not_before"), time_of("not_after"));
    if let (Some(begins), Some(ends)) = (not_before, not_after)
        && begins > ends
    {
        faults.push("not_before is after not_after, so the key is never valid".into());
    }
    match (key_id, sender, public_key) {
        (Some(key_id), Some(sender), Some(public_key)) if faults.is_empty() => {
            Ok(TrustedKey { key_id, sender, roles, public_key, revoked_since, not_before, not_after, comment })
        }
        _ => Err(faults),
    }
}

fn read_roles(value: Option<&Value>, faults: &mut Vec<String>) -> RoleSet {
    let Some(Value::Array(items)) = value else {
        faults.push("roles must be a list such as [\"operator\"]".into());
        return RoleSet::default();
    };
    if items.is_empty() {
        faults.push("roles is empty: name at least one role, or remove the file".into());
    }
    let mut roles = Vec::new();
    for item in items {
        match item.as_str().map(str::parse::<Role>) {
            Some(Ok(role)) => roles.push(role),
            Some(Err(fault)) => faults.push(fault.to_string()),
            None => faults.push("every role must be text".into()),
        }
    }
    roles.into_iter().collect()
}
