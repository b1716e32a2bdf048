//! A verifier that cannot be reached.
//!
//! A request that meets a transport error is sent again, as often as the check allows, once the verifier is known to answer. Until then it
//! is put off; where nothing is answered at all, the run ends with that error, and the runner asks again about all of it. So a verifier
//! that is down is asked as often as the check says, whatever the number of groups.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::names::NodeName;

use super::batch::{Ask, Kind, Run, locked};
use super::client::PollError;

/// First pause before asking again after a transport error; doubles, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

impl Run<'_> {
    /// Asks once, and again as often as the check allows once the verifier is known to answer.
    pub(super) async fn poll_with_retries(&self, nodes: &[NodeName], limit: Duration) -> Result<Vec<u8>, PollError> {
        let until = Instant::now() + limit;
        let mut pause = FIRST_PAUSE;
        let mut retries = self.request.retries;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let outcome = self.provider.poller.poll(nodes, left).await;
            let jittered = pause.mul_f64(rand::random_range(0.5..1.5));
            match outcome {
                Err(PollError::Transport(told)) if !self.verifier_answers.load(Ordering::Relaxed) => {
                    return Err(PollError::Unreached(told));
                }
                Err(PollError::Transport(told)) => {
                    if retries == 0 || Instant::now() + jittered >= until {
                        return Err(PollError::Transport(told));
                    }
                    tracing::debug!(hosts = nodes.len(), reason = told, "asking the verifier again");
                }
                other => return other,
            }
            retries -= 1;
            tokio::time::sleep(jittered).await;
            pause *= 2;
        }
    }

    /// The groups put off, as soon as the verifier is known to answer: to be asked about now.
    pub(super) fn reached(&self) -> Vec<Ask> {
        if !self.verifier_answers.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let put_off: Vec<Ask> = std::mem::take(&mut *locked(&self.unreached)).into_iter().map(|(ask, _)| ask).collect();
        let alone = put_off.iter().filter(|ask| ask.kind == Kind::Alone).count();
        self.alone_pending.fetch_add(alone, Ordering::Relaxed);
        put_off
    }
}
