//! The one table of methods: who may call what, and how it travels. The RPC reference is generated from it.

use crate::security::roles::Role;

/// A topic of SPICE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Admin RPC of Checks.
    Checks,
    /// Admin RPC of Nodes.
    Nodes,
    /// Publications to pool caches (fanout).
    Pool,
    /// Work for adapters (`spice-adapter-<name>`).
    Adapter,
    /// Results, to Nodes.
    Results,
    /// Stored outcomes and node events, to Checks.
    Events,
}

impl Topic {
    /// The topic's name on the bus; for [`Topic::Adapter`] the prefix that the adapter's name follows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checks => "spice-checks",
            Self::Nodes => "spice-nodes",
            Self::Pool => "spice-pool",
            Self::Adapter => "spice-adapter-",
            Self::Results => "spice-nodes-results",
            Self::Events => "spice-checks-events",
        }
    }
}

/// How a method is delivered (DESIGN: delivery classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Call with a reply; time window and seen id.
    Call,
    /// Cast without reply; time window and seen id.
    Cast,
    /// To every reader; ordered by epoch and version in its content.
    Publication,
    /// Durable, confirmed, acknowledged after commit, idempotent; bounded by its ticket instead of a time window.
    Work,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Administrators only.
    Admin,
    /// Operators and administrators.
    Operator,
    /// Anyone who may read: readers, operators, administrators.
    Reader,
    /// Role checks.
    Checks,
    /// Role nodes.
    Nodes,
    /// Role nova.
    Nova,
    /// Any adapter; which one is compared with the ticket or the announcement.
    Adapter,
    /// Any adapter, or Checks (which reports time-outs).
    AdapterOrChecks,
    /// Pool caches and everything that may read.
    PoolReader,
}

impl Allowed {
    /// Whether a key with `roles` may call.
    #[must_use]
    pub fn permits(self, roles: &[Role]) -> bool {
        roles.iter().any(|role| match self {
            Self::Admin => matches!(role, Role::Admin),
            Self::Operator => matches!(role, Role::Admin | Role::Operator),
            Self::Reader | Self::PoolReader => matches!(role, Role::Admin | Role::Operator | Role::Reader),
            Self::Checks => matches!(role, Role::Checks),
            Self::Nodes => matches!(role, Role::Nodes),
            Self::Nova => matches!(role, Role::Nova),
            Self::Adapter => matches!(role, Role::Adapter(_)),
            Self::AdapterOrChecks => matches!(role, Role::Adapter(_) | Role::Checks),
        })
    }

    /// For error messages and the reference.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator or admin",
            Self::Reader | Self::PoolReader => "reader, operator or admin",
            Self::Checks => "checks",
            Self::Nodes => "nodes",
            Self::Nova => "nova",
            Self::Adapter => "adapter:<name>",
            Self::AdapterOrChecks => "adapter:<name> or checks",
        }
    }

    /// Whether `[security] unsigned_admin` may stand in for a signature: only for what people call.
    #[must_use]
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Admin | Self::Operator | Self::Reader)
    }
}

/// One method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Where it is served.
    pub topic: Topic,
    /// Its name on the wire.
    pub name: &'static str,
    /// Who may call it.
    pub allowed: Allowed,
    /// How it travels.
    pub class: Class,
    /// Its arguments, optional ones with a question mark.
    pub args: &'static str,
    /// What it does, for the reference.
    pub summary: &'static str,
}

/// Version of every SPICE endpoint.
pub const VERSION: &str = "1.0";

const fn method(
    topic: Topic,
    name: &'static str,
    allowed: Allowed,
    class: Class,
    args: &'static str,
    summary: &'static str,
) -> Method {
    Method { topic, name, allowed, class, args, summary }
}

/// Every method there is.
#[rustfmt::skip]
pub const METHODS: &[Method] = &[
    method(Topic::Checks, "check_create", Allowed::Operator, Class::Call, "check", "Registers a check; answers with it, its next runs and warnings."),
    method(Topic::Checks, "check_update", Allowed::Operator, Class::Call, "name, changes, confirm?, dry_run?", "Changes a check. What loosens a pool is refused with a preview of whom it raises; an admin confirms that preview by its id."),
    method(Topic::Checks, "check_delete", Allowed::Operator, Class::Call, "name, confirm?, dry_run?", "Deletes a check; as check_update where a pool requires it."),
    method(Topic::Checks, "check_list", Allowed::Reader, Class::Call, "", "All checks."),
    method(Topic::Checks, "check_show", Allowed::Reader, Class::Call, "name", "One check with its next five runs in its zone and UTC."),
    method(Topic::Checks, "check_run", Allowed::Operator, Class::Call, "name, nodes?", "Runs a check now on its targets (or those of them named); answers with the run's id."),
    method(Topic::Checks, "node_check", Allowed::Operator, Class::Call, "nodes", "Runs every check that is aimed at these nodes for them now, as when they come back; answers with the runs."),
    method(Topic::Checks, "profile_create", Allowed::Operator, Class::Call, "name, schedule, description?", "Makes a named schedule."),
    method(Topic::Checks, "profile_update", Allowed::Operator, Class::Call, "name, schedule?, description?, confirm?, dry_run?", "Changes it for every check that uses it; as check_update where that loosens a pool."),
    method(Topic::Checks, "profile_delete", Allowed::Operator, Class::Call, "name", "Deletes it; refused while a check uses it."),
    method(Topic::Checks, "profile_list", Allowed::Reader, Class::Call, "", "All profiles, their next five runs in their zone and UTC, and what uses them."),
    method(Topic::Checks, "window_set", Allowed::Operator, Class::Call, "name, reason, targets, checks?, from?, until?, schedule?, duration_s?", "Makes a maintenance window, in which scheduled runs are held, or replaces it: either until (from: now) or a cron schedule with duration_s. Answers with it, and with warnings."),
    method(Topic::Checks, "window_list", Allowed::Reader, Class::Call, "", "All windows, whether they are open, and until when."),
    method(Topic::Checks, "window_show", Allowed::Reader, Class::Call, "name", "One window: how many nodes it covers, what it holds, when it opens next."),
    method(Topic::Checks, "window_delete", Allowed::Operator, Class::Call, "name", "Deletes a window; what it held runs once, as at its end."),
    method(Topic::Checks, "pool_update", Allowed::Admin, Class::Call, "name, mode?, max_silence_s?, accept_self_report?, flap_limit?, flap_window_s?, flap_hold_down_s?, confirm?, dry_run?", "Changes a pool's policy; as check_update where that loosens it."),
    method(Topic::Checks, "pool_create", Allowed::Admin, Class::Call, "name, mode?, max_silence_s?, accept_self_report?, flap_limit?, flap_window_s?, flap_hold_down_s?", "Makes a pool; nobody is trusted in it until a check is required there."),
    method(Topic::Checks, "pool_delete", Allowed::Admin, Class::Call, "name, confirm?, dry_run?", "Deletes a pool that no check names: no host matches it any more. Distrust in it is remembered."),
    method(Topic::Checks, "pool_policies", Allowed::Reader, Class::Call, "", "All pools' policies."),
    method(Topic::Checks, "audit_list", Allowed::Reader, Class::Call, "after?, limit?", "Changes of checks, profiles, pools and windows with who made them, in their order, as they are stored and hashed; the head."),
    method(Topic::Checks, "run_show", Allowed::Reader, Class::Call, "run", "One run: how many nodes are done, by status; attempts, and batches cast again, by reason."),
    method(Topic::Checks, "run_list", Allowed::Reader, Class::Call, "check?, limit?", "The latest runs."),
    method(Topic::Checks, "dead_letter_list", Allowed::Reader, Class::Call, "limit?", "Work that could not be carried out and was put aside, the oldest first."),
    method(Topic::Checks, "dead_letter_show", Allowed::Reader, Class::Call, "id", "One dead letter with what it says."),
    method(Topic::Checks, "dead_letter_requeue", Allowed::Operator, Class::Call, "id", "Puts a dead letter back into its queue, to be judged again like any other message."),
    method(Topic::Checks, "dead_letter_drop", Allowed::Operator, Class::Call, "id", "Removes a dead letter for good."),
    method(Topic::Checks, "adapter_list", Allowed::Reader, Class::Call, "", "All adapters: living instances and how many batches each holds, the schema of their parameters, the checks that use them."),
    method(Topic::Checks, "status", Allowed::Reader, Class::Call, "", "Checks' health: adapters alive, runs due, late and outstanding, dead letters."),
    method(Topic::Checks, "adapter_announce", Allowed::Adapter, Class::Cast, "adapter, instance, schema, incarnation?, holding?, fault?", "An adapter lives, and holds these batches (epoch, run, batch, attempt); fault: why it cannot do all of its work."),
    method(Topic::Checks, "policy_get", Allowed::Nodes, Class::Call, "", "The newest policy, signed."),
    method(Topic::Nodes, "node_create", Allowed::Operator, Class::Call, "name, labels?, aggregates?, zone?, identity?", "Registers a node; it is unknown until checked."),
    method(Topic::Nodes, "node_import", Allowed::Operator, Class::Call, "nodes", "Registers many nodes; those that exist are left as they are."),
    method(Topic::Nodes, "node_update", Allowed::Operator, Class::Call, "name, labels?, aggregates?, zone?, confirm?", "Replaces a node's labels, aggregates or availability zone (\"\": none); what is not given stays. Where a required check would not be aimed at it any more, an admin confirms that."),
    method(Topic::Nodes, "node_delete", Allowed::Operator, Class::Call, "name", "Removes a node; distrust of it stays as a tombstone."),
    method(Topic::Nodes, "node_list", Allowed::Reader, Class::Call, "pool?, level?, limit?, after?", "Nodes with their level in a pool."),
    method(Topic::Nodes, "node_show", Allowed::Reader, Class::Call, "name", "One node: levels, checks, boot, maintenance, override."),
    method(Topic::Nodes, "node_why", Allowed::Reader, Class::Call, "name, at?", "Why a node is (or at a time was) trusted or not."),
    method(Topic::Nodes, "record_list", Allowed::Reader, Class::Call, "node?, since?, until?, after?, limit?", "The record of trust in its order, as it is stored and hashed; the head."),
    method(Topic::Nodes, "node_quarantine", Allowed::Operator, Class::Call, "name, reason", "Distrusts a node until it is released."),
    method(Topic::Nodes, "node_release", Allowed::Admin, Class::Call, "name, reason", "Ends quarantine and distrust; the node is unknown and checked at once."),
    method(Topic::Nodes, "node_override", Allowed::Admin, Class::Call, "name, hours, reason, pool?", "Shows an unknown node as trusted for at most 72 h."),
    method(Topic::Nodes, "node_override_end", Allowed::Admin, Class::Call, "name", "Ends an override."),
    method(Topic::Nodes, "node_maintenance", Allowed::Operator, Class::Call, "name, hours, reason", "Mutes actions on a node until then; 0 hours ends it."),
    method(Topic::Nodes, "result_list", Allowed::Reader, Class::Call, "node?, check?, limit?", "The latest results."),
    method(Topic::Nodes, "pool_list", Allowed::Reader, Class::Call, "", "Pools with the number of nodes at each level."),
    method(Topic::Nodes, "pool_show", Allowed::Reader, Class::Call, "name", "One pool and every node in it."),
    method(Topic::Nodes, "pool_snapshot", Allowed::PoolReader, Class::Call, "nonce, known_epoch?", "All pools, signed, in answer to a nonce; known_epoch: the reader refuses ours because it has seen this one."),
    method(Topic::Nodes, "pool_reset_epoch", Allowed::Admin, Class::Call, "at_least?, reason?, confirm?", "Has Nodes begin anew with an epoch that readers take; without confirm it says what it would do."),
    method(Topic::Nodes, "policy_adopt", Allowed::Admin, Class::Call, "confirm?, reason?", "Has nodes judged by the policy of a restored Checks; without confirm it says what that would change."),
    method(Topic::Nodes, "status", Allowed::Reader, Class::Call, "", "Nodes' health: epoch, version, policy, levels, record head."),
    method(Topic::Nodes, "node_passed", Allowed::Checks, Class::Call, "check, check_id, revision, after?", "Who has passed a check under this definition, and until when that counts, in pages; more: the last node looked at."),
    method(Topic::Nodes, "node_inventory", Allowed::Checks, Class::Call, "known_version?, after?", "Names, labels, aggregates and zones of all nodes, in pages, or nothing if unchanged."),
    method(Topic::Nodes, "node_reconcile", Allowed::Nova, Class::Call, "nodes, gone?", "What Nova has of these nodes: new ones are registered, those that are gone deleted (not many at once), the rest followed. Raises nobody."),
    method(Topic::Nodes, "node_in_nova", Allowed::Nova, Class::Call, "after?", "What Nodes was told of each node by that, in pages; more: the last node looked at."),
    method(Topic::Nodes, "policy_preview", Allowed::Checks, Class::Call, "candidate", "Whose level a policy would change; nothing is changed."),
    method(Topic::Nodes, "policy_publish", Allowed::Checks, Class::Cast, "document", "A new policy, signed."),
    method(Topic::Pool, "pool_heartbeat", Allowed::Nodes, Class::Publication, "document", "Nodes lives; what a cache should hold."),
    method(Topic::Pool, "pool_delta", Allowed::Nodes, Class::Publication, "document", "A change of the pools."),
    method(Topic::Adapter, "run_check", Allowed::Checks, Class::Work, "ticket, parameters, retries?", "Carry out a check on the ticket's nodes; retries: how often to ask again after a transport error, 2 where absent. An adapter may ignore it."),
    method(Topic::Results, "record_results", Allowed::AdapterOrChecks, Class::Work, "ticket, results", "Results of a batch, with its ticket."),
    method(Topic::Events, "results_stored", Allowed::Nodes, Class::Work, "run, batch, outcomes", "Nodes has stored these outcomes."),
    method(Topic::Events, "nodes_changed", Allowed::Nodes, Class::Work, "nodes, cause", "These nodes are new, released or have another boot: check them at once."),
];

/// The method `name` of `topic`.
#[must_use]
pub fn find(topic: Topic, name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.topic == topic && method.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_method_is_listed_once() {
        for (index, method) in METHODS.iter().enumerate() {
            assert!(
                METHODS[index + 1..].iter().all(|other| (other.topic, other.name) != (method.topic, method.name)),
                "{}",
                method.name
            );
        }
    }

    #[test]
    fn no_role_of_a_machine_may_administer() {
        let machines = [
            Role::Checks,
            Role::Nodes,
            Role::Nova,
            Role::Adapter("command".parse().unwrap()),
            Role::Agent("n1".parse().unwrap()),
        ];
        for method in METHODS.iter().filter(|method| method.allowed.is_for_people()) {
            assert!(!method.allowed.permits(&machines), "{}", method.name);
        }
    }
}
