//! Everything that is counted: names, labels and what they mean. `/metrics` shows the texts as HELP, the README as a table.
//!
//! Labels are few on purpose: roles, pools, checks, adapters, plugins, queues of work, and words of ours; never a node, a run or text
//! from outside, so that nobody can make the series grow.

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels, separated by commas; may be empty.
    pub labels: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Figure {
    Figure { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Figure {
    Figure { name, kind: Kind::Gauge, labels, help }
}

/// All figures, by name.
#[rustfmt::skip]
pub const FIGURES: &[Figure] = &[
    counter("spice_adapter_hand_over_retries_total", "adapter", "Attempts to hand results over that failed; the results are kept and tried again."),
    counter("spice_adapter_late_batches_total", "adapter", "Batches taken from the queue when their deadline was over."),
    counter("spice_adapter_misbehaviour_total", "adapter, what", "Answers of a provider that nobody asked for, that came twice or not at all, and its panics."),
    counter("spice_adapter_repeated_batches_total", "adapter", "Batches delivered again after they were carried out."),
    counter("spice_adapter_results_total", "adapter, status", "Results found by an adapter of this process."),
    counter("spice_adapter_retries_total", "adapter", "Batches asked about again after a transport error."),
    gauge("spice_bus_blocked", "transport, role", "1 while the broker takes no messages, because it is short of memory or disk."),
    counter("spice_bus_blocked_total", "", "How often the broker began to take no messages."),
    counter("spice_bus_connect_failures_total", "transport, role", "Attempts to connect that failed."),
    gauge("spice_bus_connected", "transport, role", "1 while the connection to the broker is there."),
    counter("spice_bus_connections_lost_total", "transport, role, reason", "Connections lost; no_answer: it was open and nothing came back."),
    gauge("spice_bus_dead_letters", "queue", "Work that was put aside and can never be carried out; should be 0."),
    counter("spice_bus_dead_letters_total", "reason", "Work put aside."),
    counter("spice_bus_duplicates_total", "", "Requests that came twice and were carried out once."),
    counter("spice_bus_messages_refused_total", "reason", "Messages that could not be read, or were too large."),
    counter("spice_bus_notifications_requeued_total", "", "Notifications heard that could not be taken and were given back."),
    counter("spice_bus_panics_total", "", "Requests whose carrying out panicked: a fault of the program."),
    counter("spice_bus_published_total", "outcome", "Messages sent, by what the broker said."),
    gauge("spice_bus_queue_messages", "queue", "Messages that wait in a queue of work which this process serves."),
    counter("spice_bus_repaired_total", "what", "Exchanges that somebody deleted and that were made again."),
    counter("spice_bus_replies_lost_total", "reason", "Answers that could not be delivered."),
    counter("spice_bus_reply_queues_lost_total", "reason", "Queues of answers that were lost; calls under way fail."),
    counter("spice_bus_sessions_lost_total", "reason", "How often serving was interrupted; consumer_cancelled, queue_deleted: somebody deletes queues."),
    counter("spice_bus_tampered_total", "queue, reason", "Looks at a queue of results from which somebody else takes messages."),
    counter("spice_bus_work_retries_total", "", "Work that could not be carried out now and is tried again."),
    gauge("spice_checks_adapters_alive", "adapter", "Living instances of an adapter that was ever seen."),
    gauge("spice_checks_behind_seconds", "check", "By how much the check's next run is overdue; 0 while its schedule is kept."),
    counter("spice_checks_dispatched_total", "check", "Nodes sent out to be checked: runs that were due."),
    gauge("spice_checks_held", "", "Nodes held by a maintenance window, each counted once for every check."),
    counter("spice_checks_inventory_failures_total", "", "The list of nodes could not be fetched from Nodes; the one known is used."),
    gauge("spice_checks_late", "", "Results that are awaited although their deadline is over."),
    counter("spice_checks_lost_total", "check", "Results of which nothing was heard, not even that their timeout is stored; they are given up."),
    counter("spice_checks_nodes_returned_total", "", "Nodes that answered again after they had not, and were checked at once."),
    gauge("spice_checks_not_passed_before", "", "Nodes that a check leaves out until they have passed the checks it runs after, each counted once for every such check."),
    gauge("spice_checks_outstanding", "", "Results that are awaited."),
    counter("spice_checks_overdue_repeated_total", "", "Timeouts that were told again because nobody said that they are stored."),
    counter("spice_checks_overdue_total", "check", "Results that were not there at the deadline and became a timeout."),
    counter("spice_checks_recast_total", "reason", "Batches that were lost on their way and asked for again."),
    counter("spice_checks_redelivered_total", "", "Stored outcomes that were told twice."),
    counter("spice_checks_skipped_total", "check, reason", "Nodes left out of a run, and why."),
    counter("spice_checks_slots_late_total", "check", "Slots of a schedule that began late."),
    counter("spice_checks_slots_missed_total", "check", "Slots of a schedule that did not begin; however many, one run makes up for them."),
    counter("spice_checks_slots_total", "check", "Slots of a schedule that began."),
    gauge("spice_checks_windows_open", "", "Maintenance windows that are open."),
    gauge("spice_database_answer_seconds", "role", "How long the database took to answer when it was last asked."),
    counter("spice_database_failures_total", "reason, role", "What was to be stored or read and was not."),
    counter("spice_database_retries_total", "reason", "Transactions that were said again."),
    gauge("spice_database_up", "role", "1 while the role's database answers."),
    gauge("spice_loop_dead", "role, loop", "1 for a loop that ended or hangs: the process must be started again. Refreshed when /healthz or /metrics is asked for."),
    counter("spice_nodes_departures_held_total", "", "Times that many nodes went from Nova at once, so that none of them was deleted."),
    gauge("spice_nodes_epoch_refused", "", "1 while readers refuse this role because they know a higher epoch."),
    gauge("spice_nodes_expiring", "pool", "Trusted nodes whose trust ends within one period, that is in less than half the TTL of the check that ends it."),
    gauge("spice_nodes_flapping", "pool", "Nodes that fell into distrust so often that they are held down for longer (`flap_limit` of the pool)."),
    gauge("spice_nodes_members", "pool, level", "Nodes at each level of trust."),
    gauge("spice_nodes_oldest_evidence_seconds", "pool", "Age of the oldest evidence on which somebody's trust stands; of the check that ends it first."),
    counter("spice_nodes_outbox_dropped_total", "lane", "Messages dropped because nobody takes them, or because they can never be sent."),
    counter("spice_nodes_outbox_retries_total", "lane", "Attempts to send a stored message that failed."),
    gauge("spice_nodes_outbox_waiting", "lane", "Stored messages that are not sent yet: events for Checks, notifications for Ceilometer."),
    gauge("spice_nodes_overridden", "pool", "Nodes that are trusted by an administrator's override."),
    counter("spice_nodes_policies_refused_total", "reason", "Policies that Nodes did not take."),
    counter("spice_nodes_publication_failures_total", "", "Publications to the pool caches that were lost; caches ask for a snapshot."),
    counter("spice_nodes_redelivered_total", "", "Batches of results that were delivered twice and counted once."),
    counter("spice_nodes_results_contradicted_total", "check", "Results of one run that contradict each other; the worse stands."),
    counter("spice_nodes_results_refused_total", "reason", "Results of nodes that are not registered or not in the ticket."),
    counter("spice_nodes_results_total", "status", "Results stored."),
    counter("spice_nodes_trust_changes_total", "pool, to", "Changes of a node's level."),
    counter("spice_nodes_voided_total", "", "Nodes judged again because a key was revoked."),
    gauge("spice_nova_nodes", "", "Compute nodes that Nova has."),
    gauge("spice_nova_nodes_refused", "", "Hypervisors of Nova that cannot be nodes, such as several of one name; the log names them."),
    counter("spice_nova_notifications_total", "", "Notifications of Nova that told of services or aggregates."),
    counter("spice_nova_sweeps_total", "outcome", "Times that Nova was asked for all compute nodes."),
    gauge("spice_own_keys_not_believed", "", "Keys of this process that its own trust store does not believe; should be 0."),
    counter("spice_plugin_bad_lines_total", "plugin", "Lines of a program that could not be understood."),
    gauge("spice_pool_clock_skew_seconds", "", "How far this machine's clock and Nodes' differ."),
    gauge("spice_pool_last_heartbeat_timestamp_seconds", "", "When the pool cache last heard Nodes and agreed, in seconds since 1970."),
    counter("spice_pool_publications_dropped_total", "reason", "Publications that were too old, of an older epoch, or too many."),
    counter("spice_pool_publications_refused_total", "reason", "Publications that were not believed."),
    counter("spice_pool_snapshots_total", "", "Snapshots taken: at the start, and whenever something was missed."),
    counter("spice_pool_write_failures_total", "", "Attempts to write the pool file, its sign of life or the cache's memory that failed."),
    counter("spice_pool_writes_total", "", "How often the pool file was written."),
    counter("spice_replies_refused_total", "reason", "Answers to our calls that were not believed."),
    counter("spice_requests_refused_total", "topic, reason", "Requests refused: not signed, not allowed, replayed, expired, not for us."),
    gauge("spice_role_active", "role", "1 for a role that works here; 0 while it is standby, starts or stops."),
    counter("spice_role_takeovers_total", "role", "How often a standby of this process became active."),
    counter("spice_role_withheld_total", "role", "What was not signed because the lease was not certain."),
    gauge("spice_trust_store_faults", "", "Trust files that cannot be used; what they said before stays in force."),
    counter("spice_trust_store_reload_failures_total", "", "Times the trust folder could not be read."),
    counter("spice_work_refused_total", "topic", "Work that was let through and can never be carried out."),
];

/// Makes everything that is counted in this process readable.
///
/// # Errors
/// When something else in this process did so before.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    for Figure { name, kind, help, .. } in FIGURES.iter().copied() {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
        }
    }
    Ok(handle)
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
