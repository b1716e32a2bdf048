//! A result as it came in, and how old it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::protocol::{NodeResult, RunOrder, Ticket};
use crate::security::Vouch;

/// Who reported a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// The adapter that holds the ticket's role.
    Adapter,
    /// Checks, filling in what nobody reported before the deadline.
    Checks,
}

/// A result whose ticket and signer have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The run it belongs to.
    pub order: RunOrder,
    /// Which attempt of the run.
    pub attempt: i64,
    /// The id of the check's definition in the ticket.
    pub check_id: String,
    /// The revision in the ticket.
    pub revision: i64,
    /// When the ticket was issued.
    pub issued_at: Timestamp,
    /// Who reports.
    pub reporter: Reporter,
    /// Who signed the message it came in.
    pub reported_by: Option<Vouch>,
    /// Who signed the ticket.
    pub ticket_by: Option<Vouch>,
    /// The result.
    pub result: NodeResult,
}

impl Observation {
    /// `result` as reported by `reporter` under `ticket`.
    #[must_use]
    pub fn under(ticket: &Ticket, reporter: Reporter, result: NodeResult) -> Self {
        Self {
            order: ticket.order,
            attempt: ticket.attempt,
            check_id: ticket.check_id.clone(),
            revision: ticket.revision,
            issued_at: ticket.issued_at,
            reporter,
            reported_by: None,
            ticket_by: None,
            result,
        }
    }

    /// With those who vouch for it: the signer of the message, and that of the ticket.
    #[must_use]
    pub fn vouched(self, reported_by: Option<Vouch>, ticket_by: Option<Vouch>) -> Self {
        Self { reported_by, ticket_by, ..self }
    }

    /// How old the evidence is: the earliest of the verifier's own time, the adapter's request and the ticket's issue.
    #[must_use]
    pub fn evidence_at(&self) -> Timestamp {
        let asked = self.issued_at.min(self.result.requested_at);
        self.result.verified_at.map_or(asked, |verified| verified.min(asked))
    }

    /// The latest it can have happened: when the adapter was finished, but not before it began nor after `now`.
    #[must_use]
    pub fn happened_at(&self, now: Timestamp) -> Timestamp {
        self.result.finished_at.min(now).max(self.evidence_at())
    }

    /// Whether one of its times lies more than `max_skew` after `now`.
    #[must_use]
    pub fn from_the_future(&self, now: Timestamp, max_skew: Duration) -> bool {
        let limit = now.plus(max_skew);
        let times = [Some(self.issued_at), Some(self.result.requested_at), self.result.verified_at];
        times.into_iter().flatten().any(|time| time > limit)
    }
}
