//! SPICE keeps the trusted computing pool of an OpenStack cloud.
//!
//! # The map
//! From processes at the top to pure rules at the bottom. Dependencies point downwards only.
//!
//! | module | owns |
//! |---|---|
//! | [`app`] | starting the roles of one process in order, and stopping them in reverse; who leads a role and who stands by |
//! | [`cli`] | `spicectl`: the administrator's commands and how their answers are shown |
//! | [`checks`] | role *checks*: registry of checks and profiles, what is due when, runs and their deadlines |
//! | [`nodes`] | role *nodes*: nodes, results, trust and its record, publication of the pools |
//! | [`adapter`] | role *adapter*: carries out a check on a batch of nodes through a provider |
//! | [`pool`] | role *pool*: the cache that turns publications into the file the Nova filter reads |
//! | [`nova`] | role *nova*: tells Nodes which compute nodes there are, where, and whether they are up |
//! | [`openstack`] | OpenStack's own APIs: logging in, and the calls SPICE makes |
//! | [`rpc`] | signed requests and replies on top of the bus; the one table of methods and roles |
//! | [`trust`] | the rules of trust: pure functions of results, policy and the time passed in |
//! | [`security`] | keys, trust store, canonical JSON, signed documents, seen ids |
//! | [`config`] | oslo.config-style files into validated settings |
//! | [`protocol`] | what travels between roles, as types |
//! | [`bus`] | oslo.messaging over AMQP 0-9-1; the only module that names lapin |
//! | [`store`] | the database, SQLite or MariaDB: connection, migrations, transactions and when they are tried again, alarm, the lease of who is active |
//! | [`chain`] | records that show when they were tampered with |
//! | [`names`], [`text`], [`clock`], [`telemetry`] | validated names, safe display of foreign text, time that tests can move; logs, figures, health |
//!
//! Roles share no tables and no memory: they talk over the bus, also within one process.
//!
//! # One check, from its schedule to Nova's decision
//! 1. [`checks::planner`] finds that a slot of the check has begun; every node has its own place in the splay.
//! 2. [`checks::dispatch`] stores a run and its batches, signs a ticket per batch and casts `run_check` to the adapter's
//!    work queue. A batch that was stored but not sent is sent after a restart; one that its adapter lost is cast again
//!    under the next attempt ([`checks::losses`], [`checks::recast`]).
//! 3. [`adapter::service`] verifies the ticket, lets [`adapter::runner`] drive the provider, and hands results over with
//!    the ticket as they come. The batch is acknowledged when the broker has stored its results.
//! 4. [`nodes::results`] verifies ticket and signer; [`nodes::recorder`] folds each result into what is remembered of the node
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
//! - **Results are stored in groups**: while one transaction is written, batches that arrive are verified and wait, and the next one takes up to
//!   sixteen of them: what a transaction costs is mostly waiting for the disk. Rows are written while those after them are made
//!   ([`nodes::rows`]). Beginning the next transaction before the first is committed would be faster still, and build on what may yet fail.
//! - **SQLite's log is carried over into the file beside the commits**, on a connection of its own: left to SQLite, every few thousandth page
//!   makes one commit wait for all before it. Only the last pages are done while nobody writes, so that the log can begin anew.
//! - **The history has no index by age**: results lie in the order in which they came, and what is too old is found at their beginning. Its
//!   index by node begins anew in every block of results, so that a batch writes few pages of it; asking for a node's results looks into
//!   one block after the other, the newest first.
//! - **jemalloc in `spiced`**: results are millions of small values that one thread makes and another frees, and what a burst took has to go back
//!   to the system although the thread that had it sleeps now.
//! - **Nodes are kept as their rows, compressed** ([`nodes::kept`]), and read back when something happens to them. As values, what trust depends on
//!   took several kilobytes a node; a hundred thousand of them are to fit, with all roles, into 300 MB.
//! - **At a start nodes are judged while they are read** (`nodes::judging`): the database, the making of values and the rules each have a thread, and
//!   each row is made a value once. Nothing is published before all are judged.
//! - **The lease of a process that certainly died on this machine is not waited for** ([`store::life`]): the kernel lets go of its lock. For all others
//!   the lease decides, by the database's clock.
//! - **What changes all nodes is stored some at a time** (another policy, a restart after a long silence, a revocation): the policy first, so that a
//!   restart on the way judges the rest by it. In one transaction it would outlast the lease, which is renewed in the same database, and a large cloud
//!   could not start.
//! - **A transaction only writes**, so it is remembered while it is made and said again where the database gave it up (a deadlock, Galera at the
//!   commit, a broken connection): every caller gets that for nothing, and none can read inside a transaction what will not be so the second
//!   time. On MariaDB it carries a number of its own; a commit whose answer was lost is looked up before anything goes on.
//! - **PostgreSQL is not supported**: it numbers the places of arguments where SQLite and MariaDB have question marks, so its statements would all be others.
//! - **Loosening** a requirement changes nothing until an administrator has confirmed it. Nodes is asked first whom it would
//!   raise; the confirmation names that answer by its digest, counts for the very same change only, and not if more nodes would
//!   be raised by then. While Nodes does not answer nothing can be loosened.
//! - **Which nodes a change raises** is found by judging every node as it is now. What it lets happen later, when passes
//!   expire or checks fail, is said in words, not counted.
//! - **A required check counts for the nodes it is aimed at**; a node at which a pool aims none is unknown.
//! - **A hold-down that ends raises nobody by itself**: the node becomes unknown, and trusted by a pass from after it.
//! - **Local times that exist twice** run once, except for schedules of every hour, which would otherwise be silent for an
//!   hour a year and let trust expire.
//! - **Refusals of a verified caller are signed** like other replies; a refusal of somebody unknown is not, and a caller
//!   of ours reports it as what it is: unconfirmed.
//! - **The wait between two attempts to reach the broker** never exceeds 2 s, whatever oslo.messaging's options say: those let it grow to 30 s, and
//!   a pool whose passes run out meanwhile costs more than a few attempts at a closed port.
//! - **Whether consumers, bindings and exchanges are still there** is asked once in a heartbeat interval, and at least every 10 s, instead of trusting that nobody
//!   touches them: AMQP tells a consumer nothing of a binding or an exchange that is gone, and a deaf service looks healthy.
//! - **Losses are told by announcements**, which name the batches an adapter holds, not by a message per batch and not stored:
//!   they are heard again within seconds of a restart of Checks. Silence is the second sign, for adapters that only answer.
//!   An adapter of ours loses nothing (the broker delivers an unacknowledged batch again), so what waits in a queue is never
//!   cast again, nor what was held or waited until a moment ago: whoever has it now may not have said so yet. While Checks cannot ask the broker,
//!   nobody's silence counts. The next attempt is issued when it is cast: its evidence is that young, and revoking a key voids it by when
//!   it was really signed.
//! - **A signature counts by the later of the time it states and of its receipt.** A stated time alone would let the thief
//!   of a revoked key sign on with yesterday's date. What was on its way at the time named is lost with it; checks ask again.
//! - **Who vouched is kept beside what it made true**: the reporter with each pass, the keys of tickets with each check's
//!   memory, the signer with overrides, releases, the policy and a cache's epochs. Taking it back is a pure step
//!   ([`trust::revoked`]) that runs when the trust store changes and at every start, and does nothing the second time.
//! - **A failure is not voided** with the key that reported it: lifting distrust because its reporter was bad would let whoever
//!   revokes a key raise a node unseen. What only a stolen key of Checks numbered begins anew, since its numbers can lie
//!   beyond all true ones.
//! - **Services read their private keys at the start only.** Two keys of one name may be valid at once, so a restart between
//!   the steps of a rotation leaves no gap, and no process ever signs with two.
//! - **A lease that was not renewed in time is not lost yet**: nothing is said meanwhile, but where the row is found as it was left, nobody else was active,
//!   and the role goes on under its epoch. A slow disk costs a few seconds of silence, not a new start and a snapshot for every reader.
//! - **A held run is not missed**: its slot counts as had, and who is held waits in memory, once for each check. Stored is only that a window is open
//!   ([`checks::window`]), not hundreds of thousands of names; after a restart everybody it covers counts as held, which costs one run too many for some.
//! - **Windows end by two clocks**, the time of day and a steady timer, whichever is first: what keeps checks from running must not depend on one clock alone.
//! - **A transport error is tried again in one place** ([`adapter::runner`]); a provider that asks in parts may try a part again while its other end answers.
//! - **A standby keeps nothing of its role**: what is in memory is in the database, so taking over is the same as starting, and there is no second path to test.
//! - **Readers reckon lateness by answers to their own nonces** ([`pool::lateness`]): a word held back beyond its lease is dropped whatever the clocks say, without a bound on
//!   how wrong they may be.
//! - **Live and ready are two questions.** A loop that ended or hangs is mended by a restart, and only that starves the watchdog; an absent broker or
//!   database is not, and makes a role unready. Loops say that they turn through a task-local ([`telemetry::health`]), so that no function has an argument
//!   for it and a loop that nobody watches costs nothing. What all nodes together are is counted every five seconds, in parts, and not by whoever asks.
//! - **What Nova says makes nobody trusted**, so a stolen key of the role *nova*, or a forged notification, costs work and no trust. A service that was made anew has
//!   the node forget its passes, as a release does, and is no change of boot: that would explain away the true reboot that another source shows next.
//! - **A node is gone when three whole answers did not have it**: Nova's record may be made anew meanwhile. Many at once stay: they are more likely Nova's fault, and to
//!   delete them would empty the pool.
//! - **Calls of OpenStack's APIs go through its SDK** (tokens, catalog, microversions), under the lowest microversion that has what is needed, so that clouds of today
//!   and tomorrow give the same answer; of its answers we read what we need, since its own types differ with every release of Nova.
//! - **Plugins run through the service's own program** (`spiced exec-plugin`), which gives up its rights before it becomes
//!   the plugin: rights can be given up with safe code only before the program starts.

pub mod adapter;
pub mod app;
pub mod bus;
pub mod chain;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod fuzz;
pub mod names;
pub mod nodes;
pub mod nova;
pub mod openstack;
pub mod pool;
pub mod protocol;
pub mod rpc;
pub mod security;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod sim;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod trust;
