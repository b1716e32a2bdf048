//! Changes of what pools require: what they would do is shown first, and what loosens a pool needs an administrator's word for
//! exactly what was shown.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::MutexGuard;

use crate::checks::registry::Registry;
use crate::checks::{Checks, State};
use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::{Candidate, LevelChange, Preview};
use crate::rpc::table::Topic;
use crate::rpc::{Caller, RpcError};
use crate::security::Role;
use crate::security::keys::sha256;
use crate::store::to_body;
use crate::trust::loosens;

/// How long a preview can be confirmed.
const VALID_FOR: Duration = Duration::from_secs(900);
/// Most previews that can be confirmed; the oldest go first.
const MOST_PREVIEWS: usize = 32;
/// How long Nodes may take to judge everybody: shorter than callers of Checks wait, so that they hear the answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most nodes and most sentences that an error tells; the preview itself has all.
const MOST_TOLD: usize = 5;

/// How somebody goes about a change.
#[derive(Debug, Clone, Default)]
pub(super) struct Consent {
    /// The id of the preview that is confirmed.
    pub(super) confirm: Option<String>,
    /// Only show what would happen.
    pub(super) dry_run: bool,
}

/// What becomes of a change.
pub(super) enum Agreed<'a> {
    /// It may be made, with the state as it was; `confirmed`: what it loosens.
    Made { state: MutexGuard<'a, State>, confirmed: Vec<String> },
    /// It is only looked at.
    Shown(Value),
}

/// What was shown and can be confirmed, by id.
#[derive(Default)]
pub(super) struct Previews(Mutex<BTreeMap<String, Shown>>);

#[derive(Clone)]
struct Shown {
    at: Timestamp,
    /// The change it is about: the definitions before and after.
    change: String,
    preview: Preview,
}

impl Previews {
    fn keep(&self, id: String, shown: Shown) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, other| shown.at.since(other.at) < VALID_FOR);
        if kept.len() >= MOST_PREVIEWS
            && let Some(oldest) = kept.iter().min_by_key(|(_, shown)| shown.at).map(|(id, _)| id.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(id, shown);
    }

    /// The preview `id` of this very change, unless it is too old.
    fn find(&self, id: &str, change: &str, now: Timestamp) -> Result<Preview, &'static str> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(id) {
            Some(shown) if shown.change != change => {
                Err("what was confirmed is another change, or one of other definitions")
            }
            // A clock that was stepped back must not stretch it.
            Some(shown) if shown.at > now || now.since(shown.at) >= VALID_FOR => Err("what was confirmed has expired"),
            Some(shown) => Ok(shown.preview.clone()),
            None => Err("what was confirmed is not known (any more)"),
        }
    }

    /// It was confirmed, once.
    fn spend(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Checks {
    /// Lets a change to `next` through, or says what it would do. What loosens a pool is let through only if an administrator has
    /// confirmed what was shown, and no more nodes would be raised by now.
    ///
    /// # Errors
    /// Conflict with what is to be confirmed; unavailable while Nodes does not say.
    pub(super) async fn agreed<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        next: &Registry,
        caller: &Caller,
        consent: &Consent,
    ) -> Result<Agreed<'a>, RpcError> {
        let number = state.policy_number;
        let policy =
            |registry: &Registry| registry.policy(&self.identity.deployment, self.epoch, number, Timestamp::default());
        let (old, new) = (policy(&state.registry), policy(next));
        let loosened: Vec<String> = loosens(&old, &new).iter().map(ToString::to_string).collect();
        if loosened.is_empty() && !consent.dry_run {
            return Ok(Agreed::Made { state, confirmed: loosened });
        }
        // Nodes takes its time; nobody waits for the state meanwhile.
        drop(state);
        let change = hex::encode(sha256(to_body(&(&old, &new)).as_bytes()));
        let (checks, pools) = (new.checks, new.pools);
        let preview = self.preview(&Candidate { follows: number, checks, pools }).await?;
        let state = self.state.lock().await;
        if state.policy_number != number {
            return Err(RpcError::conflict(
                "the definitions were changed meanwhile by somebody else; nothing was done, try again",
            ));
        }
        let now = self.clock.now();
        let is_admin = caller.roles.contains(&Role::Admin);
        let mut not_confirmed = None;
        if let Some(id) = consent.confirm.as_ref().filter(|_| !consent.dry_run && is_admin) {
            match self.previews.find(id, &change, now) {
                Ok(shown) if preview.raises_no_more_than(&shown) => {
                    self.previews.spend(id);
                    tracing::warn!(sender = caller.sender, changes = loosened.join("; "), "a pool was loosened");
                    return Ok(Agreed::Made { state, confirmed: loosened });
                }
                Ok(_) => not_confirmed = Some("more nodes would be raised than was shown"),
                Err(why) => not_confirmed = Some(why),
            }
        }
        let id = id_of(&change, &preview);
        if !loosened.is_empty() {
            self.previews.keep(id.clone(), Shown { at: now, change, preview: preview.clone() });
        }
        if consent.dry_run {
            return Ok(Agreed::Shown(shown(&loosened, &preview, &id, now)));
        }
        let not_confirmed = not_confirmed.map(|why| format!("{why}; ")).unwrap_or_default();
        let who = if is_admin { "" } else { " by a key with the role admin" };
        Err(RpcError::conflict(format!(
            "{not_confirmed}this loosens what a pool requires: {}. {} Nothing was changed; to do it, confirm what is shown here within \
             {} minutes (--confirm {id}){who}",
            some(&loosened),
            raised_in_words(&preview),
            VALID_FOR.as_secs() / 60
        )))
    }

    async fn preview(&self, candidate: &Candidate) -> Result<Preview, RpcError> {
        let args = Map::from_iter([("candidate".to_owned(), json!(candidate))]);
        let answer =
            self.rpc.call_within(Topic::Nodes, "policy_preview", args, PATIENCE).await.map_err(|error| RpcError {
                message: format!("Nodes does not say whom this would raise, so nothing was changed: {}", error.message),
                ..error
            })?;
        serde_json::from_value(answer).map_err(RpcError::internal)
    }
}

/// Says which change, and whom it raises: another answer has another id.
fn id_of(change: &str, preview: &Preview) -> String {
    let raised: Vec<&LevelChange> = preview.raised().collect();
    let digest = hex::encode(sha256(to_body(&(change, raised)).as_bytes()));
    digest.chars().take(12).collect()
}

fn shown(loosened: &[String], preview: &Preview, id: &str, now: Timestamp) -> Value {
    let confirm = (!loosened.is_empty()).then_some(id);
    json!({
        "loosens": loosened,
        "nodes": preview.nodes,
        "raised": preview.raised().collect::<Vec<_>>(),
        "lowered": preview.changes.iter().filter(|change| !change.raises()).collect::<Vec<_>>(),
        "confirm": confirm,
        "confirm_until": confirm.map(|_| now.plus(VALID_FOR).to_string()),
    })
}

fn some(texts: &[String]) -> String {
    let more = texts.len().saturating_sub(MOST_TOLD);
    let told = texts.iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    if more == 0 { told } else { format!("{told}; and {more} more") }
}

fn raised_in_words(preview: &Preview) -> String {
    let told: Vec<String> = preview
        .raised()
        .map(|LevelChange { pool, from, to, count, nodes }| {
            let named: Vec<&str> = nodes.iter().take(MOST_TOLD).map(NodeName::as_str).collect();
            let more = if *count > named.len() { ", ..." } else { "" };
            format!("in pool {pool} {count} from {from} to {to} ({}{more})", named.join(", "))
        })
        .collect();
    match told.is_empty() {
        true => format!("Of {} nodes none would be raised now.", preview.nodes),
        false => format!("Of {} nodes it would raise {}.", preview.nodes, told.join("; ")),
    }
}

#[cfg(test)]
#[path = "consent_tests.rs"]
mod tests;
