//! SPICE keeps the trusted computing pool of an OpenStack cloud.
//!
//! # The map
//! From processes at the top to pure rules at the bottom. Dependencies point downwards only.
//!
//! | module | owns |
//! |---|---|
//! | [`app`] | starting the roles of one process in order, and stopping them in reverse |
//! | [`cli`] | `spicectl`: the administrator's commands and how their answers are shown |
//! | [`checks`] | role *checks*: registry of checks and profiles, what is due when, runs and their deadlines |
//! | [`nodes`] | role *nodes*: nodes, results, trust and its record, publication of the pools |
//! | [`adapter`] | role *adapter*: carries out a check on a batch of nodes through a provider |
//! | [`pool`] | role *pool*: the cache that turns publications into the file the Nova filter reads |
//! | [`rpc`] | signed requests and replies on top of the bus; the one table of methods and roles |
//! | [`trust`] | the rules of trust: pure functions of results, policy and the time passed in |
//! | [`security`] | keys, trust store, canonical JSON, signed documents, seen ids |
//! | [`config`] | oslo.config-style files into validated settings |
//! | [`protocol`] | what travels between roles, as types |
//! | [`bus`] | oslo.messaging over AMQP 0-9-1; the only module that names lapin |
//! | [`store`] | the database: connection, migrations, transactions |
//! | [`names`], [`text`], [`clock`], [`telemetry`] | validated names, safe display of foreign text, time that tests can move, logs |
//!
//! Roles share no tables and no memory: they talk over the bus, also within one process.
//!
//! # One check, from its schedule to Nova's decision
//! 1. [`checks::planner`] finds that a slot of the check has begun; every node has its own place in the splay.
//! 2. [`checks::dispatch`] stores a run and its batches, signs a ticket per batch and casts `run_check` to the adapter's
//!    work queue. A batch that was stored but not sent is sent after a restart.
//! 3. [`adapter::service`] verifies the ticket, lets [`adapter::runner`] drive the provider, and hands results over with
//!    the ticket as they come. The batch is acknowledged when the broker has stored its results.
//! 4. [`nodes::results`] verifies ticket and signer, folds each result into what is remembered of the node
//!    ([`trust`]), and stages what follows: history, entries of the record, messages to be sent.
//! 5. [`nodes::commit`] writes all of it in one transaction; only then is it in force, published and acknowledged.
//! 6. A signed delta reaches every [`pool`] cache, which writes the file; the filter in nova-scheduler sees that the file
//!    changed at its next request.
//! 7. Nodes tells Checks which outcomes are stored. What is missing at the deadline Checks reports itself, as `timeout`.
//!
//! # What was weighed
//! - **Deltas are not in the outbox.** They say what committed state already says, and every start of Nodes begins a new
//!   epoch, for which caches take a snapshot: a stored delta of an older epoch could never be applied. Stored outcomes,
//!   changed nodes and notifications are in the outbox, in the transaction that made them true.
//! - **A pool whose policy changes** (mode, silence limit, pools that come or go) is published as a new version without a
//!   delta; caches see another digest and take a snapshot. The digest is a sum of member digests, so it costs what changed.
//! - **Nodes' row is the node**: all that trust depends on is one JSON body, written whole. It keeps results, standing and
//!   verdicts of a node from ever disagreeing, and the schema the same on every database.
//! - **Loosening** a requirement needs a confirmation by an administrator, and until then changes nothing at all; showing
//!   which nodes it would raise is not built yet.
//! - **A required check counts for the nodes it is aimed at**; a node at which a pool aims none is unknown.
//! - **A hold-down that ends raises nobody by itself**: the node becomes unknown, and trusted by a pass from after it.
//! - **Local times that exist twice** run once, except for schedules of every hour, which would otherwise be silent for an
//!   hour a year and let trust expire.
//! - **Refusals of a verified caller are signed** like other replies; a refusal of somebody unknown is not, and a caller
//!   of ours reports it as what it is: unconfirmed.
//! - **Plugins run through the service's own program** (`spiced exec-plugin`), which gives up its rights before it becomes
//!   the plugin: rights can be given up with safe code only before the program starts.

pub mod adapter;
pub mod app;
pub mod bus;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod fuzz;
pub mod names;
pub mod nodes;
pub mod pool;
pub mod protocol;
pub mod rpc;
pub mod security;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod trust;
