//! Where Nova has a node, as options of `spicectl node`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::error::{CliError, unexpected};

/// Aggregates and zone a node is in.
#[derive(Debug, Clone, Default, Args)]
pub struct Placed {
    /// Host aggregate it is in; repeat for several
    #[arg(long, value_name = "NAME")]
    pub aggregate: Vec<String>,
    /// Availability zone it is in
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
}

/// Aggregates and zone it is in no more.
#[derive(Debug, Clone, Default, Args)]
pub struct Displaced {
    /// Host aggregate it is in no more; repeat for several
    #[arg(long, value_name = "NAME")]
    unset_aggregate: Vec<String>,
    /// In no host aggregate but those given here
    #[arg(long)]
    no_aggregates: bool,
    /// In no availability zone
    #[arg(long, conflicts_with = "zone")]
    no_zone: bool,
}

impl Placed {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aggregate.is_empty() && self.zone.is_none()
    }
}

impl Displaced {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unset_aggregate.is_empty() && !self.no_aggregates && !self.no_zone
    }

    /// The arguments of `node_update` that make it so of the node as it is shown.
    ///
    /// # Errors
    /// The node is not shown as expected.
    pub fn change(&self, node: &Value, placed: Placed) -> Result<Map<String, Value>, CliError> {
        let mut update = Map::new();
        if self.no_aggregates || !self.unset_aggregate.is_empty() || !placed.aggregate.is_empty() {
            let known = node.get("aggregates").cloned().unwrap_or_default();
            let mut aggregates: BTreeSet<String> =
                serde_json::from_value(known).map_err(|_| unexpected("aggregates"))?;
            aggregates.retain(|name| !self.no_aggregates && !self.unset_aggregate.contains(name));
            aggregates.extend(placed.aggregate);
            update.insert("aggregates".to_owned(), json!(aggregates));
        }
        if self.no_zone {
            update.insert("zone".to_owned(), json!(""));
        } else if let Some(zone) = placed.zone {
            update.insert("zone".to_owned(), json!(zone));
        }
        Ok(update)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let node = json!({ "aggregates": ["a", "b"], "zone": "eu-1" });
        let change = |displaced: Displaced, aggregate: &[&str]| {
            let aggregate = aggregate.iter().map(|name| (*name).to_owned()).collect();
            Value::Object(displaced.change(&node, Placed { aggregate, zone: None }).unwrap())
        };
        assert_eq!(change(Displaced::default(), &["c"]), json!({ "aggregates": ["a", "b", "c"] }));
        let unset = Displaced { unset_aggregate: vec!["a".to_owned()], no_zone: true, ..Displaced::default() };
        assert_eq!(change(unset, &[]), json!({ "aggregates": ["b"], "zone": "" }));
        assert_eq!(
            change(Displaced { no_aggregates: true, ..Displaced::default() }, &["c"]),
            json!({ "aggregates": ["c"] })
        );
        assert_eq!(change(Displaced::default(), &[]), json!({}));
    }
}
