//! What the role *nova* tells Nodes of a compute node. It says where a node is and whether it is up; nothing of it makes a node trusted.

use serde::{Deserialize, Serialize};

use crate::names::NodeName;

use super::targets::Placement;

/// A compute node as Nova has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudNode {
    /// Nova's `hypervisor_hostname`.
    pub name: NodeName,
    /// The rest.
    pub nova: InNova,
}

/// What Nova has of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InNova {
    /// What its nova-compute service calls itself; fencing acts on it. Often, not always, the node's name.
    pub host: String,
    /// The id of the service's record. Another one: the record was made anew, and with it whatever was known of the service is gone.
    pub service: String,
    /// The id of the hypervisor, which outlives the service's record. Another one: another machine under the same name, or one that was set up anew.
    pub hypervisor: String,
    /// Whether its reports come, and nobody says that it is down.
    pub up: bool,
    /// Whether an administrator, or SPICE, has disabled it: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// Its host aggregates and its availability zone.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
}

impl InNova {
    /// Whether `other` is of another machine, or of a service that was made anew: nothing that was found out before holds for it.
    #[must_use]
    pub fn is_another(&self, other: &Self) -> bool {
        (&self.service, &self.hypervisor) != (&other.service, &other.hypervisor)
    }
}
