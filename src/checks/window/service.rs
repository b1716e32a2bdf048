//! What people call: windows are made, listed, shown and deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checks::audit::Author;
use crate::checks::schedule::Schedule;
use crate::checks::window::Window;
use crate::checks::window::when::{When, read_time};
use crate::checks::{Checks, State};
use crate::clock::Timestamp;
use crate::names::{CheckName, WindowName};
use crate::protocol::{TargetMatcher, Targets};
use crate::rpc::{Caller, RpcError};

/// How many times at which it opens next are shown.
const NEXT: usize = 5;
/// A window that was open once is forgotten so long after its end.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// What `window_set` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenWindow {
    /// See [`Window::name`].
    pub name: WindowName,
    /// See [`Window::reason`].
    pub reason: String,
    /// See [`Window::targets`].
    pub targets: Targets,
    /// See [`Window::checks`].
    #[serde(default)]
    pub checks: Option<BTreeSet<CheckName>>,
    /// RFC 3339. Where absent: since when it is open already, else now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Cron text and zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// See [`When::Recurring`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<i64>,
}

impl GivenWindow {
    /// The same with its times as the service shows them.
    ///
    /// # Errors
    /// A sentence, where a text is no time, or what is given is neither once nor again and again.
    pub fn in_order(self) -> Result<Self, String> {
        let time = |text: &Option<String>| text.as_deref().map(read_time).transpose();
        let (from, until) = (time(&self.from)?, time(&self.until)?);
        match (until, &self.schedule, self.duration_s) {
            (Some(_), None, None) => {}
            (None, Some(_), Some(_)) if from.is_none() => {}
            _ => {
                return Err("a window has either until (and, if not now, from), or schedule and duration_s".to_owned());
            }
        }
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Ok(Self { from: text(from), until: text(until), ..self })
    }

    /// When it ends for good, if it does.
    #[must_use]
    pub fn over_at(&self) -> Option<Timestamp> {
        read_time(self.until.as_deref()?).ok()
    }

    fn window(self, before: Option<&Window>, now: Timestamp) -> Result<Window, String> {
        let given = self.in_order()?;
        let over_at = given.over_at();
        let since = match before.map(|before| &before.when) {
            Some(When::Once { from, until }) if *until > now => *from,
            _ => now,
        };
        let when = match (over_at, given.schedule, given.duration_s) {
            (Some(until), ..) => {
                let from = given.from.as_deref().map(read_time).transpose()?;
                When::Once { from: from.unwrap_or(since), until }
            }
            (None, Some(schedule), Some(duration_s)) => When::Recurring { schedule, duration_s },
            _ => return Err("a window has to end".to_owned()),
        };
        Ok(Window {
            name: given.name,
            id: uuid::Uuid::new_v4().to_string(),
            reason: given.reason,
            targets: given.targets,
            checks: given.checks,
            when,
            changed_at: now,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::checks) struct DeleteWindow {
    name: WindowName,
}

impl Checks {
    pub(in crate::checks) async fn window_set(
        self: &Arc<Self>,
        caller: &Caller,
        given: GivenWindow,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let before = state.registry.windows.get(&given.name).cloned();
        let name = given.name.clone();
        let window = given
            .window(before.as_ref(), self.clock.now())
            .map_err(|fault| RpcError::bad_request(format!("window {name}: {fault}")))?;
        // Said again, it stays what it is, also when it is over.
        let window = before.filter(|before| before.says_the_same_as(&window)).unwrap_or(window);
        let next = state.registry.with_window(window.clone(), self.clock.now())?;
        self.install(&mut state, next, &Author::new(caller, Vec::new())).await?;
        Ok(self.window_details(&state, &window))
    }

    pub(in crate::checks) async fn window_delete(
        self: &Arc<Self>,
        caller: &Caller,
        arguments: DeleteWindow,
    ) -> Result<Value, RpcError> {
        let mut state = self.state.lock().await;
        let next = state.registry.without_window(&arguments.name)?;
        self.install(&mut state, next, &Author::new(caller, Vec::new())).await?;
        Ok(Value::Null)
    }

    /// Forgets windows that ended long ago, so that those of every night do not add up.
    pub(in crate::checks) async fn forget_windows(self: &Arc<Self>) -> Result<(), RpcError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let is_old = |window: &&Window| {
            window.when.over_at().is_some_and(|over| now.since(over) > KEPT)
                // By the timer too: a clock that is far ahead forgets nothing.
                && state.planner.holding.openings.is_spent(window)
        };
        let old: Vec<WindowName> = state.registry.windows.values().filter(is_old).map(|it| it.name.clone()).collect();
        if old.is_empty() {
            return Ok(());
        }
        let mut next = state.registry.clone();
        next.windows.retain(|name, _| !old.contains(name));
        self.install(&mut state, next, &Author::of_the_service()).await
    }

    pub(in crate::checks) fn windows(&self, state: &State) -> Value {
        state.registry.windows.values().map(|window| self.window_summary(state, window)).collect()
    }

    fn window_summary(&self, state: &State, window: &Window) -> Value {
        let now = self.now();
        let open = state.planner.holding.openings.open_until(now).find(|(open, _)| open.id == window.id);
        let next = window.when.next(now.utc);
        let mut shown = json!(window);
        if let Some(members) = shown.as_object_mut() {
            members.remove("id");
            let state = match (&open, &next) {
                (Some(_), _) => "open",
                (None, Some(_)) => "to come",
                (None, None) => "over",
            };
            members.insert("state".to_owned(), json!(state));
            members.insert("open_until".to_owned(), json!(open.map(|(_, until)| until.to_string())));
            members.insert("opens_next".to_owned(), json!(next.map(|next| next.start.to_string())));
            members.insert("changed_at".to_owned(), json!(window.changed_at.to_string()));
        }
        shown
    }

    pub(in crate::checks) fn window_details(&self, state: &State, window: &Window) -> Value {
        let mut details = self.window_summary(state, window);
        let matcher = TargetMatcher::new(&window.targets).ok();
        let covers = |node: &crate::names::NodeName| {
            let traits = state.inventory.get(node);
            traits.zip(matcher.as_ref()).is_some_and(|(traits, matcher)| matcher.means(node, traits))
        };
        let held = state.planner.holding.held().filter(|(check, node)| window.is_about(check) && covers(node)).count();
        if let Some(members) = details.as_object_mut() {
            members.insert("nodes".to_owned(), json!(state.inventory.keys().filter(|node| covers(node)).count()));
            members.insert("held".to_owned(), json!(held));
            members.insert("opens".to_owned(), json!(opens(window, self.clock.now())));
            members.insert("warnings".to_owned(), json!(state.warnings_of(window)));
        }
        details
    }
}

impl State {
    /// What somebody should know who holds runs for so long.
    fn warnings_of(&self, window: &Window) -> Vec<String> {
        let length = window.when.length();
        let mut warnings = Vec::new();
        for check in self.registry.checks.values().filter(|check| check.enabled && window.is_about(&check.name)) {
            if let Ok(ttl) = self.registry.ttl_of(check)
                && length > ttl
            {
                warnings.push(format!(
                    "check {}: a pass counts for {} s and the window is open for {} s; nodes that need one become unknown meanwhile",
                    check.name,
                    ttl.as_secs(),
                    length.as_secs()
                ));
            }
        }
        let gone = window.checks.iter().flatten().filter(|check| !self.registry.checks.contains_key(*check));
        warnings.extend(gone.map(|check| format!("there is no check {check} any more")));
        warnings
    }
}

/// When it opens next, in its zone and UTC, and when it ends then.
fn opens(window: &Window, now: Timestamp) -> Vec<Value> {
    let zone = match &window.when {
        When::Recurring { schedule, .. } => schedule.zone(),
        When::Once { .. } => chrono_tz::Tz::UTC,
    };
    let local = |at: Timestamp| at.to_utc().map(|at| at.with_timezone(&zone).to_rfc3339());
    let occurrences = std::iter::successors(window.when.next(now), |last| window.when.next(last.start)).take(NEXT);
    occurrences
        .map(|next| json!({ "utc": next.start.to_string(), "local": local(next.start), "until": next.end.to_string() }))
        .collect()
}
