//! What a key may be allowed to do. Roles come from the verifier's trust store, never from a message.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{AdapterName, NodeName};
use crate::text::display_safe_to;

/// One thing a key may be trusted with. Its text form is what trust files hold: `operator`, `adapter:openattestation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// May do everything an administrator can, overrides included.
    Admin,
    /// May register, change and run checks.
    Operator,
    /// May read.
    Reader,
    /// Speaks as Checks: tickets, policies.
    Checks,
    /// Speaks as Nodes: publications, stored outcomes.
    Nodes,
    /// Speaks as the role that asks Nova: which compute nodes there are.
    Nova,
    /// Speaks as the adapter of this name: results.
    Adapter(AdapterName),
    /// Speaks as the agent on this node: evidence.
    Agent(NodeName),
}

impl Role {
    /// Whether holding `self` is enough where `required` is asked for: `admin` is also `operator`, which is also
    /// `reader`; every other role is only itself.
    #[must_use]
    pub fn satisfies(&self, required: &Role) -> bool {
        match required {
            Role::Reader => matches!(self, Role::Reader | Role::Operator | Role::Admin),
            Role::Operator => matches!(self, Role::Operator | Role::Admin),
            other => self == other,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.pad("admin"),
            Self::Operator => f.pad("operator"),
            Self::Reader => f.pad("reader"),
            Self::Checks => f.pad("checks"),
            Self::Nodes => f.pad("nodes"),
            Self::Nova => f.pad("nova"),
            Self::Adapter(name) => f.pad(&format!("adapter:{name}")),
            Self::Agent(node) => f.pad(&format!("agent:{node}")),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.to_string()
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no role: use admin, operator, reader, checks, nodes, nova, adapter:<name of an adapter> or agent:<name of a node>"
)]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let role = match text.split_once(':') {
            None => match text {
                "admin" => Some(Self::Admin),
                "operator" => Some(Self::Operator),
                "reader" => Some(Self::Reader),
                "checks" => Some(Self::Checks),
                "nodes" => Some(Self::Nodes),
                "nova" => Some(Self::Nova),
                _ => None,
            },
            Some(("adapter", name)) => AdapterName::new(name).ok().map(Self::Adapter),
            Some(("agent", node)) => NodeName::new(node).ok().map(Self::Agent),
            Some(_) => None,
        };
        role.ok_or_else(|| RoleError(display_safe_to(text, 64)))
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;

    fn try_from(text: String) -> Result<Self, RoleError> {
        text.parse()
    }
}

/// The roles of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleSet(BTreeSet<Role>);

impl RoleSet {
    /// Whether one of the roles is enough where `required` is asked for; see [`Role::satisfies`].
    #[must_use]
    pub fn satisfies(&self, required: &Role) -> bool {
        self.0.iter().any(|role| role.satisfies(required))
    }

    /// Whether one of the roles is enough for any of `required`. An empty list is satisfied by nobody.
    #[must_use]
    pub fn satisfies_any(&self, required: &[Role]) -> bool {
        required.iter().any(|role| self.satisfies(role))
    }

    /// Whether this very role was given.
    #[must_use]
    pub fn contains(&self, role: &Role) -> bool {
        self.0.contains(role)
    }

    /// The adapters the key may speak for.
    pub fn adapters(&self) -> impl Iterator<Item = &AdapterName> {
        self.0.iter().filter_map(|role| match role {
            Role::Adapter(name) => Some(name),
            _ => None,
        })
    }

    /// The roles, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The roles both sets hold.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }
}

impl FromIterator<Role> for RoleSet {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Role::to_string).collect();
        f.pad(&names.join(", "))
    }
}
