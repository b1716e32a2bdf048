//! Dead letters, for people: work that nobody could carry out, usually because it was not believed or not readable.
//!
//! They are shown, put back or dropped one by one. Putting one back gives it no more belief than it had: whoever takes it judges signature, ticket and
//! deadline as before. That helps where the receiver was at fault, such as a trust file that had not arrived yet.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::{BusError, DeadLetter, Ordered};
use crate::checks::Checks;
use crate::rpc::{Caller, RpcError, WORK_EXCHANGE};
use crate::security::request::CONTEXT_MEMBER;
use crate::text::{display_safe, display_safe_to};

/// How many are listed unless said otherwise, and at most.
const LISTED: (usize, usize) = (100, 1000);
/// How much of a message is shown, in characters.
const SHOWN: usize = 8192;
/// How long a status waits for the broker to count.
const COUNTING: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArguments {
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneArgument {
    id: String,
}

impl Checks {
    /// How many there are; `None` when the broker does not say in time.
    pub(super) async fn dead_letter_count(&self) -> Option<u32> {
        tokio::time::timeout(COUNTING, self.bus.dead_letter_count(WORK_EXCHANGE)).await.ok()?.ok()
    }

    pub(super) async fn dead_letter_list(&self, arguments: ListArguments) -> Result<Value, RpcError> {
        let limit = arguments.limit.unwrap_or(LISTED.0).min(LISTED.1);
        let letters = self.bus.dead_letters(WORK_EXCHANGE, limit).await?;
        Ok(letters.iter().map(summary).collect())
    }

    pub(super) async fn dead_letter_show(&self, OneArgument { id }: OneArgument) -> Result<Value, RpcError> {
        let letter = self.bus.dead_letter(WORK_EXCHANGE, &id).await?.ok_or_else(|| absent(&id))?;
        let text = match letter.message() {
            Some(message) => Value::Object(message).to_string(),
            None => String::from_utf8_lossy(&letter.body).into_owned(),
        };
        let mut shown = summary(&letter);
        if let Some(members) = shown.as_object_mut() {
            members.insert("message".to_owned(), display_safe_to(&text, SHOWN).into());
        }
        Ok(shown)
    }

    pub(super) async fn dead_letter_requeue(&self, caller: &Caller, argument: OneArgument) -> Result<Value, RpcError> {
        let outcome = match self.bus.requeue_dead_letter(WORK_EXCHANGE, &argument.id).await {
            Err(BusError::Unroutable { routing_key, .. }) => {
                return Err(RpcError::conflict(format!(
                    "nobody serves its queue {routing_key} (any more); start what serves it, or drop the dead letter"
                )));
            }
            Err(error @ BusError::Options(_)) => return Err(RpcError::conflict(error.to_string())),
            outcome => outcome?,
        };
        told(outcome, caller, &argument.id, "put back into its queue")
    }

    pub(super) async fn dead_letter_drop(&self, caller: &Caller, argument: OneArgument) -> Result<Value, RpcError> {
        let outcome = self.bus.drop_dead_letter(WORK_EXCHANGE, &argument.id).await?;
        told(outcome, caller, &argument.id, "dropped")
    }
}

fn told(outcome: Ordered, caller: &Caller, id: &str, what: &str) -> Result<Value, RpcError> {
    match outcome {
        Ordered::Done => {
            tracing::info!(sender = caller.sender, dead_letter = %display_safe(id), "a dead letter was {what}");
            Ok(Value::Null)
        }
        Ordered::Absent => Err(absent(id)),
    }
}

fn absent(id: &str) -> RpcError {
    RpcError::not_found(format!(
        "there is no dead letter {} (any more); `spicectl dead-letter list` shows those there are",
        display_safe(id)
    ))
}

/// Without the message itself. Method and sender are what it says of itself, believed by nobody.
fn summary(letter: &DeadLetter) -> Value {
    let message = letter.message().unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(display_safe);
    let signature = message.get(&format!("_context_{CONTEXT_MEMBER}"));
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "queue": display_safe(&letter.topic),
        "method": text(message.get("method")),
        "claimed_sender": text(signature.and_then(|signature| signature.get("sender"))),
        "bytes": letter.body.len(),
    })
}
