//! Services, hypervisors and aggregates put together: the compute nodes there are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::NodeName;
use crate::openstack::nova::{Aggregate, ComputeService, Hypervisor};
use crate::protocol::{InNova, Placement};
use crate::text::display_safe_to;

/// Longest text that is taken over from Nova, which lets these be called almost anything.
const MAX_TEXT: usize = 255;
/// Most aggregates of one node; as for those given by hand.
const MAX_AGGREGATES: usize = 64;

/// All compute nodes at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// By name.
    pub nodes: BTreeMap<NodeName, InNova>,
    /// Nodes that are there and of which nothing can be said: they stay as they are known. Were they taken as gone, a compute that calls itself
    /// by another's name would have that other deleted.
    pub doubtful: BTreeSet<NodeName>,
    /// Hypervisors that cannot be nodes here, and why.
    pub refused: Vec<String>,
}

impl Snapshot {
    /// Puts together what Nova told. A hypervisor without its service is one that goes or comes: it is left out.
    #[must_use]
    pub fn of(services: Vec<ComputeService>, hypervisors: Vec<Hypervisor>, aggregates: &[Aggregate]) -> Self {
        let services: BTreeMap<String, ComputeService> =
            services.into_iter().map(|service| (service.id.clone(), service)).collect();
        let mut in_aggregates: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for aggregate in aggregates {
            for host in &aggregate.hosts {
                in_aggregates.entry(host).or_default().insert(display_safe_to(&aggregate.name, MAX_TEXT));
            }
        }
        let mut snapshot = Self::default();
        let mut named = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for hypervisor in hypervisors {
            let Some(service) = services.get(&hypervisor.service.id) else { continue };
            let shown = || display_safe_to(&hypervisor.hypervisor_hostname, 64);
            let name = match NodeName::new(&hypervisor.hypervisor_hostname) {
                Ok(name) => name,
                Err(error) => {
                    snapshot.refused.push(error.to_string());
                    continue;
                }
            };
            if !named.insert(name.clone()) {
                twice.insert(name);
                continue;
            }
            // Nodes takes a batch whole or not at all: one such row would keep the others from it.
            if [&service.host, &service.id, &hypervisor.id].iter().any(|text| text.is_empty()) {
                snapshot.refused.push(format!("{} has no id or no host", shown()));
                snapshot.doubtful.insert(name);
                continue;
            }
            let aggregates = in_aggregates.get(service.host.as_str()).cloned().unwrap_or_default();
            if aggregates.len() > MAX_AGGREGATES {
                snapshot.refused.push(format!(
                    "{} is in {} aggregates; at most {MAX_AGGREGATES} are kept",
                    shown(),
                    aggregates.len()
                ));
                snapshot.doubtful.insert(name);
                continue;
            }
            let zone =
                service.zone.as_deref().map(|zone| display_safe_to(zone, MAX_TEXT)).filter(|zone| !zone.is_empty());
            let reason = || display_safe_to(service.disabled_reason.as_deref().unwrap_or_default(), MAX_TEXT);
            let nova = InNova {
                host: display_safe_to(&service.host, MAX_TEXT),
                service: display_safe_to(&service.id, 64),
                hypervisor: display_safe_to(&hypervisor.id, 64),
                up: service.state == "up" && !service.forced_down,
                disabled: (service.status != "enabled").then(reason),
                placement: Placement { aggregates, zone },
            };
            snapshot.nodes.insert(name, nova);
        }
        // Nobody could say which of them is meant, and the one may be good where the other is not.
        for name in twice {
            snapshot.refused.push(format!("several hypervisors are called {name}: it is none of them"));
            snapshot.nodes.remove(&name);
            snapshot.doubtful.insert(name);
        }
        snapshot
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::openstack::nova::HypervisorService;

    fn service(host: &str) -> ComputeService {
        ComputeService {
            id: format!("service-of-{host}"),
            host: host.into(),
            zone: Some("nova".into()),
            status: "enabled".into(),
            state: "up".into(),
            disabled_reason: None,
            forced_down: false,
        }
    }

    fn hypervisor(name: &str, host: &str) -> Hypervisor {
        let service = HypervisorService { id: format!("service-of-{host}"), host: host.into() };
        Hypervisor { id: format!("id-of-{name}-on-{host}"), hypervisor_hostname: name.into(), service }
    }

    fn named(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_node_is_its_hypervisor_and_what_is_said_of_it_is_its_services() {
        let gold = Aggregate { name: "gold".into(), hosts: ["h1".to_owned()].into() };
        let stopped = ComputeService { forced_down: true, ..service("h2") };
        let snapshot = Snapshot::of(
            vec![service("h1"), stopped],
            vec![hypervisor("n1.example.org", "h1"), hypervisor("n2.example.org", "h2")],
            &[gold],
        );
        let n1 = &snapshot.nodes[&named("n1.example.org")];
        assert_eq!((n1.host.as_str(), n1.up, &n1.disabled), ("h1", true, &None));
        assert!(n1.placement.aggregates.contains("gold"));
        let n2 = &snapshot.nodes[&named("n2.example.org")];
        assert!(!n2.up && n2.placement.aggregates.is_empty());
        assert!(snapshot.refused.is_empty());
    }

    #[test]
    fn a_row_without_an_id_or_a_host_is_refused_and_its_node_is_not_taken_as_gone() {
        let mut services = vec![service("h1"), service("h2"), service("h3")];
        services[0].host.clear();
        let mut hypervisors = vec![hypervisor("n1", "h1"), hypervisor("n2", "h2"), hypervisor("n3", "h3")];
        hypervisors[1].id.clear();
        let snapshot = Snapshot::of(services, hypervisors, &[]);
        assert_eq!(snapshot.nodes.keys().collect::<Vec<_>>(), [&named("n3")]);
        assert_eq!(snapshot.doubtful, [named("n1"), named("n2")].into());
        assert_eq!(snapshot.refused.len(), 2, "{:?}", snapshot.refused);
    }

    #[test]
    fn one_service_with_several_hypervisors_is_several_nodes() {
        let snapshot =
            Snapshot::of(vec![service("ironic")], vec![hypervisor("a", "ironic"), hypervisor("b", "ironic")], &[]);
        assert_eq!(snapshot.nodes.len(), 2);
    }

    #[test]
    fn of_several_hypervisors_of_one_name_none_is_a_node() {
        let services = vec![service("h1"), service("h2")];
        let several = vec![hypervisor("n", "h1"), hypervisor("n", "h2"), hypervisor("n", "h1")];
        let snapshot = Snapshot::of(services, several, &[]);
        assert!(snapshot.nodes.is_empty() && snapshot.refused.len() == 1, "{snapshot:?}");
        assert_eq!(snapshot.doubtful, [named("n")].into(), "and it is not gone");
    }

    #[test]
    fn a_node_in_more_aggregates_than_are_kept_is_refused_and_not_gone() {
        let aggregates: Vec<Aggregate> = (0..=MAX_AGGREGATES)
            .map(|number| Aggregate { name: format!("a{number}"), hosts: ["h1".to_owned()].into() })
            .collect();
        let snapshot = Snapshot::of(vec![service("h1")], vec![hypervisor("n", "h1")], &aggregates);
        assert!(snapshot.nodes.is_empty() && snapshot.doubtful == [named("n")].into(), "{snapshot:?}");
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_and_the_rest_is_taken() {
        let services = vec![service("h1"), service("h2")];
        let snapshot = Snapshot::of(services, vec![hypervisor("-rf", "h1"), hypervisor("n", "h2")], &[]);
        assert_eq!((snapshot.nodes.len(), snapshot.refused.len()), (1, 1));
    }

    #[test]
    fn a_service_is_disabled_also_without_a_reason() {
        let disabled = ComputeService { status: "disabled".into(), ..service("h") };
        let snapshot = Snapshot::of(vec![disabled], vec![hypervisor("n", "h")], &[]);
        assert_eq!(snapshot.nodes[&named("n")].disabled.as_deref(), Some(""));
    }
}
