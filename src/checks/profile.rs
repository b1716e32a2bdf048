//! Named schedules, and how a check says when it runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checks::schedule::Schedule;
use crate::names::ProfileName;

/// A schedule of its own, or a profile's by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", untagged)]
pub enum ScheduleRef {
    /// The schedule of a profile: changing the profile re-schedules the check.
    Profile {
        /// The profile's name.
        profile: ProfileName,
    },
    /// A schedule of its own.
    Inline(Schedule),
}

/// Decided by the member `profile`, so that a fault in a schedule is told as such.
impl TryFrom<Value> for ScheduleRef {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value.as_object() {
            Some(members) if members.len() == 1 && members.contains_key("profile") => {
                let name = members.get("profile").and_then(Value::as_str).ok_or("schedule: profile must be a name")?;
                Ok(Self::Profile { profile: ProfileName::new(name).map_err(|error| error.to_string())? })
            }
            _ => serde_json::from_value(value).map(Self::Inline).map_err(|error| format!("schedule: {error}")),
        }
    }
}

/// A named schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// When.
    pub schedule: Schedule,
    /// For people.
    #[serde(default)]
    pub description: String,
}
