//! Windows in the role: registered, heeded when runs begin, and what is known of them stored.

use crate::checks::registry::{MAX_DEFINITIONS, Registry};
use crate::checks::run::Cause;
use crate::checks::window::Window;
use crate::checks::{Checks, State, storage};
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, WindowName};
use crate::rpc::RpcError;

impl Registry {
    /// This registry with a window that is new or changed.
    ///
    /// # Errors
    /// Bad request with every fault of the definition.
    pub fn with_window(&self, window: Window, now: Timestamp) -> Result<Self, RpcError> {
        let before = self.windows.get(&window.name);
        if before == Some(&window) {
            return Ok(self.clone());
        }
        let mut faults = window.faults(now);
        for check in window.checks.iter().flatten().filter(|check| !self.checks.contains_key(*check)).take(10) {
            faults.push(format!("there is no check named {check}"));
        }
        if before.is_none() && self.windows.len() >= MAX_DEFINITIONS {
            faults.push(format!("there are {MAX_DEFINITIONS} windows already; delete some"));
        }
        if !faults.is_empty() {
            return Err(RpcError::bad_request(format!("window {}: {}", window.name, faults.join("; "))));
        }
        let mut next = self.clone();
        next.windows.insert(window.name.clone(), window);
        Ok(next)
    }

    /// The window `name`.
    ///
    /// # Errors
    /// Not found.
    pub fn window(&self, name: &WindowName) -> Result<&Window, RpcError> {
        self.windows.get(name).ok_or_else(|| {
            RpcError::not_found(format!("there is no window named {name}; `spicectl window list` shows them"))
        })
    }

    /// This registry without the window `name`.
    ///
    /// # Errors
    /// Not found.
    pub fn without_window(&self, name: &WindowName) -> Result<Self, RpcError> {
        self.window(name)?;
        let mut next = self.clone();
        next.windows.remove(name);
        Ok(next)
    }
}

impl Checks {
    /// Stores which maintenance windows opened and ended.
    pub(in crate::checks) async fn store_marks(&self, state: &mut State) -> Result<(), RpcError> {
        let openings = &mut state.planner.holding.openings;
        if openings.unsaved().is_empty() {
            return Ok(());
        }
        let mut changes = self.database.begin().await.map_err(RpcError::from)?;
        storage::save_marks(&mut changes, openings.unsaved()).await.map_err(RpcError::from)?;
        changes.commit().await.map_err(RpcError::from)?;
        openings.saved();
        Ok(())
    }
}

impl State {
    /// Holds those of `nodes` that a maintenance window covers, unless a person asked for them, and those that have not passed what the check runs
    /// after; returns the others.
    pub(in crate::checks) fn held_back(
        &mut self,
        check: &CheckName,
        nodes: Vec<NodeName>,
        cause: Cause,
        now: Timestamp,
    ) -> Vec<NodeName> {
        let free = match cause {
            Cause::Request => nodes,
            Cause::Schedule | Cause::NodeChange => self.planner.hold(check, nodes, &self.inventory, now),
        };
        self.planner.admit(&self.registry, check, free, now)
    }
}
