//! Whether this process lives and can work: what `/healthz`, the watchdog of systemd and `spicectl status` are told.
//!
//! Two questions, kept apart. *Live*: every loop of every role turns; a process that is not must be restarted. *Ready*: the
//! role can do its work: broker, database and whom it listens to are there; a restart mends none of that. So a broker that is
//! away never makes anybody restart SPICE, and a loop that died is never hidden by answers that still come.
//!
//! A loop is watched where it is spawned ([`RoleHealth::watched`]) and says with [`turn`] that it goes on. One that ended
//! although nobody stopped it, by a panic or by itself, is dead whatever its limit.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::text::display_safe;

/// How long a loop that looks at something every few seconds may take for one turn: longer than everything it may wait for.
pub const TURN_LIMIT: Duration = Duration::from_secs(120);

tokio::task_local! {
    static PULSE: Arc<Pulse>;
}

/// Says that the loop this is called in goes on. Does nothing where it is not watched.
pub fn turn() {
    let _ = PULSE.try_with(|pulse| pulse.state().turned = Instant::now());
}

/// Says how the last turn of the loop this is called in went: a loop that cannot do its work is alive, and its role is not ready.
pub fn outcome<T, E: Display>(result: &Result<T, E>) {
    let fault = result.as_ref().err().map(|error| display_safe(&error.to_string()));
    let _ = PULSE.try_with(|pulse| pulse.state().fault = fault);
}

/// Says that the role this is called in, in a watched loop, heard or said the heartbeat.
pub fn heartbeat() {
    let _ = PULSE.try_with(|pulse| pulse.state().heartbeat = Some(Instant::now()));
}

/// What a role is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It starts.
    Starting,
    /// Another instance does the work; this one would take over.
    Standby,
    /// It works.
    Active,
    /// It stops.
    Stopping,
}

impl Standing {
    /// The word shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Stopping => "stopping",
        }
    }
}

/// All roles of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Arc<Role>>>>);

/// One role, as it says of itself. Clones are the same.
#[derive(Clone)]
pub struct RoleHealth(Arc<Role>);

type Condition = Box<dyn Fn() -> Option<String> + Send + Sync>;

struct Role {
    name: String,
    inner: Mutex<Inner>,
}

struct Inner {
    standing: Standing,
    pulses: BTreeMap<&'static str, Arc<Pulse>>,
    /// What must hold for the role to work: nothing, or what is wrong.
    conditions: BTreeMap<&'static str, Condition>,
    /// After which silence the heartbeat is missing.
    heartbeat_limit: Option<Duration>,
    since: Instant,
}

struct Pulse {
    limit: Option<Duration>,
    state: Mutex<PulseState>,
}

struct PulseState {
    turned: Instant,
    heartbeat: Option<Instant>,
    fault: Option<String>,
    /// It ended, and nobody had stopped it.
    dead: bool,
}

impl Pulse {
    fn state(&self) -> MutexGuard<'_, PulseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not alive, if so.
    fn death(&self) -> Option<String> {
        let state = self.state();
        if state.dead {
            return Some("it has ended; see the log for a panic".to_owned());
        }
        let silent = state.turned.elapsed();
        self.limit.filter(|limit| silent > *limit).map(|limit| {
            format!("it has not turned for {} s; at most {} s are usual", silent.as_secs(), limit.as_secs())
        })
    }
}

/// Whatever ends a watched loop drops this.
struct End {
    pulse: Arc<Pulse>,
    stop: CancellationToken,
}

impl Drop for End {
    fn drop(&mut self) {
        self.pulse.state().dead = !self.stop.is_cancelled();
    }
}

/// What is known of a process or a role at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every loop turns.
    pub live: bool,
    /// All that is needed for work is there.
    pub ready: bool,
    /// What is wrong, in sentences.
    pub faults: Vec<String>,
    /// Everything, for people and monitoring.
    pub details: Value,
}

impl Health {
    /// The role `name`, from its beginning: what was known of an earlier life of it is forgotten.
    #[must_use]
    pub fn role(&self, name: &str) -> RoleHealth {
        let inner = Inner {
            standing: Standing::Starting,
            pulses: BTreeMap::new(),
            conditions: BTreeMap::new(),
            heartbeat_limit: None,
            since: Instant::now(),
        };
        let role = Arc::new(Role { name: name.to_owned(), inner: Mutex::new(inner) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), role.clone());
        RoleHealth(role)
    }

    /// All roles, as they are now.
    #[must_use]
    pub fn report(&self) -> Report {
        let roles: Vec<Arc<Role>> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut whole = Report { live: true, ready: !roles.is_empty(), faults: Vec::new(), details: Value::Null };
        let mut shown = serde_json::Map::new();
        for role in roles {
            let report = RoleHealth(role.clone()).report();
            whole.live &= report.live;
            whole.ready &= report.ready;
            whole.faults.extend(report.faults.iter().map(|fault| format!("role {}: {fault}", role.name)));
            shown.insert(role.name.clone(), report.details);
        }
        whole.details = json!({
            "healthy": whole.live && whole.ready,
            "live": whole.live,
            "ready": whole.ready,
            "version": env!("CARGO_PKG_VERSION"),
            "faults": whole.faults,
            "roles": shown,
        });
        whole
    }
}

impl RoleHealth {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the role is doing. Counts a takeover where it was standby and is active now.
    pub fn stands(&self, standing: Standing) {
        let before = std::mem::replace(&mut self.inner().standing, standing);
        let role = self.0.name.clone();
        if (before, standing) == (Standing::Standby, Standing::Active) {
            metrics::counter!("spice_role_takeovers_total", "role" => role.clone()).increment(1);
        }
        metrics::gauge!("spice_role_active", "role" => role).set(f64::from(standing == Standing::Active));
    }

    /// Something the role needs: `fault` says at any time what is wrong with it, or nothing.
    pub fn needs(&self, what: &'static str, fault: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.inner().conditions.insert(what, Box::new(fault));
    }

    /// Without a [`heartbeat`] for longer than `limit` the role is not ready.
    pub fn expects_heartbeat(&self, limit: Duration) {
        self.inner().heartbeat_limit = Some(limit);
    }

    /// `work`, watched as the loop `name`: it must call [`turn`] at least every `limit` (`None`: it waits for ever for what may never
    /// come), and may end only after `stop`.
    pub fn watched<F>(
        &self,
        name: &'static str,
        limit: Option<Duration>,
        stop: CancellationToken,
        work: F,
    ) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = ()>,
    {
        let state = PulseState { turned: Instant::now(), heartbeat: None, fault: None, dead: false };
        let pulse = Arc::new(Pulse { limit, state: Mutex::new(state) });
        self.inner().pulses.insert(name, pulse.clone());
        let end = End { pulse: pulse.clone(), stop };
        async move {
            let _end = end;
            PULSE.scope(pulse, work).await;
        }
    }

    /// The role, as it is now.
    #[must_use]
    pub fn report(&self) -> Report {
        let inner = self.inner();
        let role = &self.0.name;
        let mut report = Report { live: true, ready: true, faults: Vec::new(), details: Value::Null };
        let mut loops = serde_json::Map::new();
        for (name, pulse) in &inner.pulses {
            let death = pulse.death();
            metrics::gauge!("spice_loop_dead", "role" => role.clone(), "loop" => *name).set(f64::from(death.is_some()));
            report.live &= death.is_none();
            report.faults.extend(death.iter().map(|death| format!("loop {name} is dead: {death}")));
            let state = pulse.state();
            report.ready &= state.fault.is_none();
            report.faults.extend(state.fault.iter().map(|fault| format!("loop {name} cannot work: {fault}")));
            loops.insert(
                (*name).to_owned(),
                json!({
                    "alive": death.is_none(),
                    "last_turn_s": state.turned.elapsed().as_secs(),
                    "limit_s": pulse.limit.map(|limit| limit.as_secs()),
                    "fault": state.fault,
                }),
            );
        }
        let mut conditions = serde_json::Map::new();
        for (what, fault) in &inner.conditions {
            let fault = fault();
            report.ready &= fault.is_none();
            report.faults.extend(fault.iter().map(|fault| format!("{what}: {fault}")));
            conditions.insert((*what).to_owned(), json!(fault.unwrap_or_else(|| "ok".to_owned())));
        }
        let heartbeat = inner.pulses.values().filter_map(|pulse| pulse.state().heartbeat).max();
        if let Some(limit) = inner.heartbeat_limit.filter(|_| inner.standing == Standing::Active) {
            let silence = heartbeat.unwrap_or(inner.since).elapsed();
            if silence > limit {
                report.ready = false;
                report.faults.push(format!("no heartbeat for {} s", silence.as_secs()));
            }
        }
        report.ready &= report.live && matches!(inner.standing, Standing::Active | Standing::Standby);
        report.details = json!({
            "standing": inner.standing.as_str(),
            "live": report.live,
            "ready": report.ready,
            "faults": report.faults,
            "needs": conditions,
            "heartbeat_age_s": heartbeat.map(|at| at.elapsed().as_secs()),
            "loops": loops,
        });
        report
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
