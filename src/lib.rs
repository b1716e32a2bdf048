//! SPICE keeps the trusted computing pool of an OpenStack cloud.
//!
//! The map, from pure rules at the bottom to processes at the top. Dependencies point downwards only.
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
//! | [`security`] | keys, trust store, canonical JSON, signed documents, tickets, seen ids |
//! | [`bus`] | oslo.messaging over AMQP 0-9-1; the only module that names lapin |
//! | [`store`] | the database: connection, migrations, transactions |
//! | [`config`] | oslo.config-style files into validated settings |
//! | [`protocol`] | what travels between roles, as types |
//! | [`names`], [`text`], [`clock`] | validated names, safe display of foreign text, time that tests can move |

pub mod adapter;
pub mod app;
pub mod bus;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod config;
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
