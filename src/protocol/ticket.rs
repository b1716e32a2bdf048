//! Run tickets: permission to report results of one run for some nodes, signed by Checks.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::names::{AdapterName, CheckName, DeploymentId, NodeName};

/// The order of runs: Checks' epoch, then its run number. Never a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct RunOrder {
    /// Which incarnation of Checks made the run.
    pub epoch: i64,
    /// Counts runs within the epoch, from 1.
    pub run: i64,
}

impl fmt::Display for RunOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.run)
    }
}

impl std::str::FromStr for RunOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (epoch, run) = text.split_once('-')?;
            Some(Self { epoch: epoch.parse().ok()?, run: run.parse().ok()? })
        };
        parse().ok_or_else(|| {
            format!("{:?} is no run id: it looks like 1795320000000-17", crate::text::display_safe_to(text, 64))
        })
    }
}

/// A [`RunOrder`] as its text, for rows that hold many; read as its members, too, as earlier versions wrote it.
pub mod run_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::RunOrder;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Members(RunOrder),
    }

    /// Writes the text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(order: &RunOrder, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(order)
    }

    /// Reads text or members.
    ///
    /// # Errors
    /// Those of the deserializer, and where the text is no run id.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunOrder, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Either::Members(order) => Ok(order),
        }
    }
}

/// Most tickets one announcement of an adapter may name.
pub const MAX_HOLDING: usize = 1000;

/// Names a ticket: which attempt of which batch of which run. Spelt with the ticket's own members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRef {
    /// The run.
    #[serde(flatten)]
    pub order: RunOrder,
    /// See [`Ticket::batch`].
    pub batch: i64,
    /// See [`Ticket::attempt`].
    pub attempt: i64,
}

/// How often an adapter asks again after a transport error, unless the check says otherwise.
pub const DEFAULT_RETRIES: i64 = 2;
/// The most it is asked to.
pub const MAX_RETRIES: i64 = 10;

/// What a ticket says. It travels signed (`security::SignedDocument` of kind `ticket`) with `run_check` and comes back with
/// `record_results`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The cloud this ticket is for.
    pub deployment: DeploymentId,
    /// The run it belongs to.
    #[serde(flatten)]
    pub order: RunOrder,
    /// Distinguishes the tickets of one run: 1 for its first batch.
    pub batch: i64,
    /// 1, and one more each time Checks casts the same batch again.
    pub attempt: i64,
    /// The check's name.
    pub check: CheckName,
    /// The check's id, which a check of the same name made later does not share.
    pub check_id: String,
    /// The revision of the definition that was in force.
    pub revision: i64,
    /// Which adapter may answer.
    pub adapter: AdapterName,
    /// For which nodes.
    pub nodes: Vec<NodeName>,
    /// When Checks issued it.
    pub issued_at: Timestamp,
    /// Until when an answer is awaited.
    pub deadline: Timestamp,
}

impl Ticket {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> TicketRef {
        TicketRef { order: self.order, batch: self.batch, attempt: self.attempt }
    }
}
