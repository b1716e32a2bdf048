//! Integration tests: real parts, one binary, so that it links once and helpers are shared. Each file is a story about one
//! part of SPICE.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

mod adapters_command;
mod adapters_command_hostile;
mod adapters_oat;
mod attacks;
mod bad_input;
mod bus;
mod bus_dead_letters;
mod bus_foreign;
mod bus_outage;
mod bus_python;
mod bus_trouble;
mod bus_trouble_broker;
mod bus_trouble_deleted;
mod bus_work;
mod chaos;
mod chaos_lab;
mod cli;
mod cloud;
mod conformance;
mod conformance_hosts;
mod conformance_listener;
mod conformance_mismatch;
mod conformance_options;
mod conformance_vectors;
mod counters;
mod end_to_end;
mod foreign_adapter;
mod keys;
mod keys_canonical;
mod keys_replies;
mod lab;
mod lab_broker;
mod lab_oslo;
mod lab_peer;
mod news;
mod oat;
mod operations;
mod plugins;
mod proxy;
mod recast;
mod transports;
