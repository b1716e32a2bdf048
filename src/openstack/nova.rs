//! What is asked of Nova.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::openstack::session::Call;
use crate::openstack::{CloudError, Session};

/// Hypervisors in one page; Nova's own limit is 1000.
const PAGE: usize = 1000;
/// Most pages that are asked for, should Nova never come to an end.
const MAX_PAGES: usize = 1000;

/// A compute service: Nova's record of what runs on a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ComputeService {
    /// The record's id; another one where it was made anew.
    pub id: String,
    /// What it calls itself.
    pub host: String,
    /// Its availability zone.
    #[serde(default)]
    pub zone: Option<String>,
    /// `enabled` or `disabled`, as an administrator wants it.
    pub status: String,
    /// `up` or `down`, as its reports show.
    pub state: String,
    /// Why it is disabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// Whether an administrator says that it is down.
    #[serde(default)]
    pub forced_down: bool,
}

/// A hypervisor: what trust belongs to. With some drivers a host has several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hypervisor {
    /// Its id, which outlives its service's record.
    pub id: String,
    /// The node's name.
    pub hypervisor_hostname: String,
    /// The service it belongs to.
    pub service: HypervisorService,
}

/// The service of a hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HypervisorService {
    /// See [`ComputeService::id`].
    pub id: String,
    /// See [`ComputeService::host`].
    pub host: String,
}

/// A host aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// The hosts (not nodes) in it.
    #[serde(default)]
    pub hosts: BTreeSet<String>,
}

impl Session {
    /// All compute services.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn compute_services(&self) -> Result<Vec<ComputeService>, CloudError> {
        let call = Call::nova("os-services").with("binary", "nova-compute");
        taken(&call, &mut self.ask(&call).await?, "services")
    }

    /// All hypervisors that servers can be placed on. Under this microversion Nova asks no compute service for it, which later ones do: one
    /// that is away would hold the answer up for a minute.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn hypervisors(&self) -> Result<Vec<Hypervisor>, CloudError> {
        let mut all: Vec<Hypervisor> = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut call = Call::nova("os-hypervisors/detail").with("limit", PAGE.to_string());
            if let Some(last) = all.last() {
                call = call.with("marker", last.id.clone());
            }
            let mut answer = self.ask(&call).await?;
            let page: Vec<Hypervisor> = taken(&call, &mut answer, "hypervisors")?;
            // A deployment may have Nova give shorter pages than were asked for: only the link says whether that was all.
            let links = answer["hypervisors_links"].as_array();
            let is_last = !links.is_some_and(|links| links.iter().any(|link| link["rel"] == "next"));
            let is_stuck = page.is_empty();
            all.extend(page);
            if is_last {
                return Ok(all);
            }
            if is_stuck {
                break;
            }
        }
        let what = "GET compute/os-hypervisors/detail".to_owned();
        Err(CloudError::Malformed { what, why: format!("there is no end after {} hypervisors", all.len()) })
    }

    /// All host aggregates.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn aggregates(&self) -> Result<Vec<Aggregate>, CloudError> {
        let call = Call::nova("os-aggregates");
        taken(&call, &mut self.ask(&call).await?, "aggregates")
    }
}

/// A member of an answer, as a value.
fn taken<T: DeserializeOwned>(call: &Call, answer: &mut Value, key: &str) -> Result<T, CloudError> {
    let list = answer.get_mut(key).map(Value::take).unwrap_or_default();
    let why = |error| CloudError::Malformed { what: call.what(), why: format!("{key}: {error}") };
    serde_json::from_value(list).map_err(why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nova_says_of_a_service_is_read_and_what_is_not_needed_left_out() {
        let service: ComputeService = serde_json::from_value(json!({
            "id": "cab07910-9c1d-4bd0-af1b-ac0c030985c7", "binary": "nova-compute", "host": "compute2", "zone": "nova",
            "status": "disabled", "state": "up", "updated_at": "2026-11-23T15:51:05.254101",
            "disabled_reason": "test", "forced_down": false,
        }))
        .unwrap();
        assert_eq!((service.host.as_str(), service.disabled_reason.as_deref()), ("compute2", Some("test")));
    }
}
