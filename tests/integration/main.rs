//! Integration tests: real parts, one binary. Each file is a story about one part of SPICE.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

mod adapters_command;
mod adapters_command_hostile;
mod adapters_oat;
mod bus;
mod bus_outage;
mod bus_python;
mod bus_work;
mod lab;
mod oat;
mod plugins;
