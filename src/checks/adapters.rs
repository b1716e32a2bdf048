//! Which adapters live, and what parameters they take.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::names::AdapterName;

/// An adapter that has not announced itself for this long is taken as gone; it announces itself every 5 s.
pub const ALIVE_FOR: Duration = Duration::from_secs(20);
/// Most adapter names remembered, and most instances of one.
const MAX_KNOWN: usize = 256;

/// All adapters that ever announced themselves.
#[derive(Debug, Default)]
pub struct Adapters {
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    schema: Value,
    instances: BTreeMap<String, Duration>,
}

impl Adapters {
    /// With the schemas they announced before a restart; none lives until it says so.
    #[must_use]
    pub fn restore(schemas: BTreeMap<String, Value>) -> Self {
        let known = schemas.into_iter().map(|(name, schema)| (name, Known { schema, instances: BTreeMap::new() }));
        Self { known: known.collect() }
    }

    /// Takes note that an instance lives. True if the adapter is new or its schema changed: then it is to be stored.
    pub fn announced(&mut self, name: &AdapterName, instance: &str, schema: &Value, now: Duration) -> bool {
        if !self.known.contains_key(name.as_str()) && self.known.len() >= MAX_KNOWN {
            return false;
        }
        let known = self.known.entry(name.as_str().to_owned()).or_default();
        known.instances.retain(|_, seen| now.saturating_sub(*seen) < ALIVE_FOR);
        if known.instances.len() < MAX_KNOWN {
            known.instances.insert(instance.to_owned(), now);
        }
        let changed = known.schema != *schema;
        known.schema = schema.clone();
        changed
    }

    /// Whether an instance of `name` lives.
    #[must_use]
    pub fn is_alive(&self, name: &AdapterName, now: Duration) -> bool {
        self.known
            .get(name.as_str())
            .is_some_and(|known| known.instances.values().any(|seen| now.saturating_sub(*seen) < ALIVE_FOR))
    }

    /// The schema of the parameters of `name`, if it ever announced itself.
    #[must_use]
    pub fn schema(&self, name: &AdapterName) -> Option<&Value> {
        self.known.get(name.as_str()).map(|known| &known.schema)
    }

    /// Name and number of living instances of every known adapter.
    pub fn alive(&self, now: Duration) -> impl Iterator<Item = (&str, usize)> {
        self.known.iter().map(move |(name, known)| {
            let alive = known.instances.values().filter(|seen| now.saturating_sub(**seen) < ALIVE_FOR).count();
            (name.as_str(), alive)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn an_adapter_that_falls_silent_is_gone_but_its_schema_is_remembered() {
        let name = AdapterName::new("command").unwrap();
        let mut adapters = Adapters::default();
        assert!(!adapters.is_alive(&name, Duration::ZERO));
        assert!(adapters.announced(&name, "host-1", &serde_json::json!({"type": "object"}), Duration::ZERO));
        assert!(!adapters.announced(&name, "host-1", &serde_json::json!({"type": "object"}), Duration::from_secs(5)));
        assert!(adapters.is_alive(&name, Duration::from_secs(24)));
        assert!(!adapters.is_alive(&name, Duration::from_secs(25)));
        assert!(adapters.schema(&name).is_some());
    }
}
