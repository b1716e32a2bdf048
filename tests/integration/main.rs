//! Tests with real parts: one binary, so that it links once and helpers are shared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters_command;
mod adapters_command_hostile;
mod adapters_oat;
mod oat;
mod plugins;
