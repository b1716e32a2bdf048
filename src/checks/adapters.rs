//! Which adapters live, what parameters they take, and which batches they say they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::checks::losses::Loss;
use crate::names::AdapterName;
use crate::protocol::{RunOrder, TicketRef};

/// An adapter that has not announced itself for this long is taken as gone; it announces itself every 5 s.
pub const ALIVE_FOR: Duration = Duration::from_secs(20);
/// Most adapter names remembered, and most instances of one.
const MAX_KNOWN: usize = 256;

/// What one instance says of itself.
#[derive(Debug, Clone, Default)]
pub struct Sign {
    /// Its name.
    pub instance: String,
    /// Differs after a restart, where it says so: what it held before is lost then.
    pub incarnation: Option<String>,
    /// The batches it has taken and not handed over yet. Empty for an adapter that does not tell.
    pub holding: BTreeSet<TicketRef>,
    /// Why it cannot do all of its work, if so.
    pub fault: Option<String>,
    /// The JSON Schema of its parameters.
    pub schema: Value,
}

/// A batch that an instance had taken and can no longer answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBatch {
    /// The adapter's name.
    pub adapter: String,
    /// Which attempt of which batch.
    pub ticket: TicketRef,
    /// What became of the instance.
    pub loss: Loss,
}

/// All adapters that ever announced themselves.
#[derive(Debug, Default)]
pub struct Adapters {
    known: BTreeMap<String, Known>,
    lost: Vec<LostBatch>,
}

#[derive(Debug, Default)]
struct Known {
    schema: Value,
    instances: BTreeMap<String, Instance>,
}

#[derive(Debug)]
struct Instance {
    seen: Duration,
    incarnation: Option<String>,
    holding: BTreeSet<TicketRef>,
    fault: Option<String>,
}

impl Instance {
    fn is_alive(&self, now: Duration) -> bool {
        now.saturating_sub(self.seen) < ALIVE_FOR
    }
}

impl Adapters {
    /// With the schemas they announced before a restart; none lives until it says so.
    #[must_use]
    pub fn restore(schemas: BTreeMap<String, Value>) -> Self {
        let known = schemas.into_iter().map(|(name, schema)| (name, Known { schema, ..Known::default() }));
        Self { known: known.collect(), lost: Vec::new() }
    }

    /// Takes note that an instance lives. True if the adapter is new or its schema changed: then it is to be stored.
    pub fn announced(&mut self, name: &AdapterName, sign: Sign, now: Duration) -> bool {
        if !self.known.contains_key(name.as_str()) && self.known.len() >= MAX_KNOWN {
            return false;
        }
        self.bury(now);
        let known = self.known.entry(name.as_str().to_owned()).or_default();
        let Sign { instance, incarnation, holding, fault, schema } = sign;
        let next = Instance { seen: now, incarnation, holding, fault };
        if known.instances.len() < MAX_KNOWN || known.instances.contains_key(&instance) {
            let restarted = |old: &Instance| old.incarnation != next.incarnation;
            if let Some(old) = known.instances.get(&instance).filter(|old| restarted(old)) {
                let adapter = name.as_str();
                self.lost.extend(lost_with(adapter, &old.holding, Loss::AdapterRestarted));
            }
            known.instances.insert(instance, next);
        }
        let changed = known.schema != schema;
        known.schema = schema;
        changed
    }

    /// Whether an instance of `name` lives.
    #[must_use]
    pub fn is_alive(&self, name: &AdapterName, now: Duration) -> bool {
        let known = self.known.get(name.as_str());
        known.is_some_and(|known| known.instances.values().any(|instance| instance.is_alive(now)))
    }

    /// Whether a living instance of `adapter` says that it holds the batch, under whichever of its tickets.
    #[must_use]
    pub fn is_held(&self, adapter: &str, order: RunOrder, batch: i64, now: Duration) -> bool {
        let of_batch = TicketRef { order, batch, attempt: i64::MIN }..=TicketRef { order, batch, attempt: i64::MAX };
        self.known.get(adapter).is_some_and(|known| {
            let mut living = known.instances.values().filter(|instance| instance.is_alive(now));
            living.any(|instance| instance.holding.range(of_batch.clone()).next().is_some())
        })
    }

    /// The batches whose holder is gone or began anew, each told once.
    pub fn take_lost(&mut self, now: Duration) -> Vec<LostBatch> {
        self.bury(now);
        std::mem::take(&mut self.lost)
    }

    /// Nobody could be heard until now: whoever lived then is not taken as gone for that.
    pub fn excuse(&mut self, now: Duration) {
        for instance in self.known.values_mut().flat_map(|known| known.instances.values_mut()) {
            if instance.is_alive(now) {
                instance.seen = now;
            }
        }
    }

    /// The schema of the parameters of `name`, if it ever announced itself.
    #[must_use]
    pub fn schema(&self, name: &AdapterName) -> Option<&Value> {
        self.known.get(name.as_str()).map(|known| &known.schema)
    }

    /// Every known adapter with the schema of its parameters.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.known.iter().map(|(name, known)| (name.as_str(), &known.schema))
    }

    /// Name and number of living instances of every known adapter.
    pub fn alive(&self, now: Duration) -> impl Iterator<Item = (&str, usize)> {
        self.known.iter().map(move |(name, known)| {
            (name.as_str(), known.instances.values().filter(|instance| instance.is_alive(now)).count())
        })
    }

    /// Every living instance of an adapter, and how many batches it says it holds.
    pub fn instances(&self, adapter: &str, now: Duration) -> impl Iterator<Item = (&str, usize)> {
        let instances = self.known.get(adapter).into_iter().flat_map(|known| &known.instances);
        instances
            .filter(move |(_, instance)| instance.is_alive(now))
            .map(|(name, instance)| (name.as_str(), instance.holding.len()))
    }

    /// What living instances say that they lack: adapter, instance, fault.
    pub fn faults(&self, now: Duration) -> impl Iterator<Item = (&str, &str, &str)> {
        let living = self.known.iter().flat_map(move |(adapter, known)| {
            let instances = known.instances.iter().filter(move |(_, instance)| instance.is_alive(now));
            instances.map(move |(name, instance)| (adapter.as_str(), name.as_str(), instance.fault.as_deref()))
        });
        living.filter_map(|(adapter, instance, fault)| Some((adapter, instance, fault?)))
    }

    /// Forgets the instances that fell silent; what they held is lost.
    fn bury(&mut self, now: Duration) {
        let lost = &mut self.lost;
        for (adapter, known) in &mut self.known {
            known.instances.retain(|_, instance| {
                if !instance.is_alive(now) {
                    lost.extend(lost_with(adapter, &instance.holding, Loss::AdapterGone));
                }
                instance.is_alive(now)
            });
        }
    }
}

fn lost_with(adapter: &str, holding: &BTreeSet<TicketRef>, loss: Loss) -> impl Iterator<Item = LostBatch> {
    holding.iter().map(move |ticket| LostBatch { adapter: adapter.to_owned(), ticket: *ticket, loss })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const ORDER: RunOrder = RunOrder { epoch: 1, run: 1 };

    fn name() -> AdapterName {
        AdapterName::new("command").unwrap()
    }

    fn ticket(batch: i64, attempt: i64) -> TicketRef {
        TicketRef { order: ORDER, batch, attempt }
    }

    fn sign(incarnation: &str, holding: &[TicketRef]) -> Sign {
        Sign {
            instance: "host-1".to_owned(),
            incarnation: Some(incarnation.to_owned()),
            holding: holding.iter().copied().collect(),
            fault: None,
            schema: serde_json::json!({ "type": "object" }),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_adapter_that_falls_silent_is_gone_but_its_schema_is_remembered() {
        let mut adapters = Adapters::default();
        assert!(!adapters.is_alive(&name(), at(0)));
        assert!(adapters.announced(&name(), sign("a", &[]), at(0)));
        assert!(!adapters.announced(&name(), sign("a", &[]), at(5)));
        assert!(adapters.is_alive(&name(), at(24)));
        assert!(!adapters.is_alive(&name(), at(25)));
        assert!(adapters.schema(&name()).is_some());
    }

    #[test]
    fn what_a_silent_instance_held_is_lost_once() {
        let mut adapters = Adapters::default();
        adapters.announced(&name(), sign("a", &[ticket(1, 1), ticket(7, 2)]), at(0));
        assert!(adapters.is_held("command", ORDER, 7, at(19)) && !adapters.is_held("command", ORDER, 2, at(19)));
        assert!(!adapters.is_held("openattestation", ORDER, 7, at(19)), "an adapter holds only what is its own");
        assert_eq!(adapters.take_lost(at(19)), []);
        let lost = adapters.take_lost(at(20));
        assert_eq!(
            lost.iter().map(|lost| (lost.ticket.batch, lost.loss)).collect::<Vec<_>>(),
            [(1, Loss::AdapterGone), (7, Loss::AdapterGone)]
        );
        assert_eq!(adapters.take_lost(at(40)), []);
    }

    #[test]
    fn an_instance_that_began_anew_has_lost_what_it_held_and_one_that_goes_on_has_not() {
        let mut adapters = Adapters::default();
        adapters.announced(&name(), sign("a", &[ticket(1, 1)]), at(0));
        adapters.announced(&name(), sign("a", &[]), at(1));
        assert_eq!(adapters.take_lost(at(1)), [], "it has handed over what it held");
        adapters.announced(&name(), sign("a", &[ticket(2, 1)]), at(2));
        adapters.announced(&name(), sign("b", &[]), at(3));
        let lost = adapters.take_lost(at(3));
        assert_eq!((lost[0].ticket, lost[0].loss), (ticket(2, 1), Loss::AdapterRestarted));
        assert_eq!(lost.len(), 1);
    }
}
