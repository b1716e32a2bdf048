//! A role of which one process at a time is active: `standby -> active -> lost -> standby`, until this process is stopped.
//!
//! A standby holds nothing of the role: no consumer, no memory of it. What the active one knew is in the database, so taking over is starting. Nothing that
//! happens to the lease ends the process.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::needs::Vitals;
use crate::store::Database;
use crate::store::lease::{Candidate, Tenure};
use crate::telemetry::health::{RoleHealth, Standing};
use crate::{checks, nodes};

/// How often a standby looks whether the role is free.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a role that could not be started gives others the chance.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How long a role that lost its lease is waited for; it can do nothing any more.
const ABANDON_WITHIN: Duration = Duration::from_secs(5);

/// What this process is in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Another process is active, or nobody yet.
    Standby {
        /// Who was last seen active: host, process id, and what tells its lives apart.
        active: Option<String>,
    },
    /// This process is active.
    Active {
        /// Under which epoch.
        epoch: i64,
    },
    /// It was active and is ending what it did.
    Lost,
}

/// A role's tasks while this process is active in it.
pub enum Running {
    /// Of role nodes.
    Nodes(nodes::Running),
    /// Of role checks.
    Checks(checks::Running),
}

impl Running {
    async fn stop(self) {
        match self {
            Self::Nodes(role) => role.stop().await,
            Self::Checks(role) => role.stop().await,
        }
    }

    async fn abandon(self) {
        match self {
            Self::Nodes(role) => role.abandon().await,
            Self::Checks(role) => role.abandon().await,
        }
    }
}

/// Starts the role under a lease; it serves when this returns.
pub type Start = Box<dyn Fn(Tenure, RoleHealth) -> BoxFuture<'static, anyhow::Result<Running>> + Send + Sync>;

/// A role that is led by one process at a time.
pub struct Led {
    /// Its name.
    pub role: &'static str,
    /// What this process is in it.
    pub phase: watch::Receiver<Phase>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

struct Supervisor {
    role: &'static str,
    vitals: Vitals,
    /// Of the present life.
    health: RoleHealth,
    candidate: Candidate,
    database: Database,
    start: Start,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    /// Told once how the first attempt went.
    first: Option<oneshot::Sender<anyhow::Result<()>>>,
}

enum Ended {
    Stopped,
    Lost,
    NotStarted,
}

impl Led {
    /// Takes the role or stands by for it; returns when either is so.
    ///
    /// # Errors
    /// When the role was free and could not be started. Later failures are logged, and it is tried again.
    pub async fn begin(vitals: Vitals, candidate: Candidate, database: Database, start: Start) -> anyhow::Result<Self> {
        let role = vitals.role();
        let (phase, watched) = watch::channel(Phase::Standby { active: None });
        let (first, begun) = oneshot::channel();
        let stop = CancellationToken::new();
        let health = vitals.life();
        let supervisor = Supervisor {
            role,
            vitals,
            health,
            candidate,
            database,
            start,
            stop: stop.clone(),
            phase,
            first: Some(first),
        };
        // Should this future be dropped, so is the role.
        let dropped = stop.clone().drop_guard();
        let task = tokio::spawn(supervisor.run());
        begun.await.unwrap_or_else(|_| Err(anyhow::anyhow!("the supervisor of role {role} ended")))?;
        dropped.disarm();
        Ok(Self { role, phase: watched, stop, task })
    }

    /// Stops the role, and lets another process have it at once.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(role = self.role, %error, "the supervisor of a role ended badly");
        }
    }
}

impl Supervisor {
    async fn run(mut self) {
        self.show(Phase::Standby { active: None });
        let stop = self.stop.clone();
        loop {
            let tenure = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                tenure = self.stand_by() => tenure,
            };
            let Some(tenure) = tenure else { return };
            match self.lead(tenure).await {
                Ended::Stopped => return,
                Ended::Lost => {}
                Ended::NotStarted => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                    }
                }
            }
            self.show(Phase::Standby { active: None });
        }
    }

    /// Waits until the role is ours; nothing when the first look failed, which is told to whoever waits for it.
    async fn stand_by(&mut self) -> Option<Tenure> {
        let mut failures: u32 = 0;
        loop {
            match self.candidate.attempt().await {
                Ok(Some(tenure)) => return Some(tenure),
                Ok(None) => {
                    failures = 0;
                    let active = self.candidate.seen().map(|seen| seen.holder.clone());
                    let phase = Phase::Standby { active };
                    if *self.phase.borrow() != phase {
                        if let Some(seen) = self.candidate.seen() {
                            tracing::info!(
                                role = self.role,
                                active = seen.holder,
                                epoch = seen.epoch,
                                "role stands by"
                            );
                        }
                        self.show(phase);
                    }
                    self.told(Ok(()));
                }
                Err(error) if self.first.is_some() => {
                    self.told(Err(error.into()));
                    return None;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    // Four times a second is too often to say it.
                    if failures.is_power_of_two() {
                        tracing::warn!(role = self.role, %error, "the role's lease cannot be looked at; it is tried again");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn lead(&mut self, tenure: Tenure) -> Ended {
        let over = tenure.over();
        let keeping = {
            let (tenure, database) = (tenure.clone(), self.database.clone());
            AbortOnDropHandle::new(tokio::spawn(async move { tenure.keep(&database).await }))
        };
        let started = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = over.cancelled() => {
                tracing::warn!(role = self.role, "the role was lost while it was being started");
                return Ended::Lost;
            }
            started = (self.start)(tenure.clone(), self.health.clone()) => Some(started),
        };
        let running = match started {
            Some(Ok(running)) => running,
            None => {
                drop(keeping);
                self.release(&tenure).await;
                return Ended::Stopped;
            }
            Some(Err(error)) => {
                drop(keeping);
                self.release(&tenure).await;
                if self.first.is_some() {
                    self.told(Err(error));
                    return Ended::Stopped;
                }
                tracing::error!(
                    role = self.role,
                    error = format!("{error:#}"),
                    "the role could not be started; it is tried again"
                );
                return Ended::NotStarted;
            }
        };
        tracing::info!(role = self.role, epoch = tenure.epoch(), "role is active");
        self.show(Phase::Active { epoch: tenure.epoch() });
        self.told(Ok(()));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                self.health.stands(Standing::Stopping);
                running.stop().await;
                drop(keeping);
                self.release(&tenure).await;
                self.show(Phase::Standby { active: None });
                Ended::Stopped
            }
            () = over.cancelled() => {
                tracing::warn!(role = self.role, epoch = tenure.epoch(), "role is not active any more: another process may be; it stands by");
                self.show(Phase::Lost);
                if tokio::time::timeout(ABANDON_WITHIN, running.abandon()).await.is_err() {
                    tracing::warn!(role = self.role, "something of the role is still ending; it can neither store nor say anything");
                }
                Ended::Lost
            }
        }
    }

    async fn release(&self, tenure: &Tenure) {
        if let Err(error) = tenure.release(&self.database).await {
            tracing::warn!(role = self.role, %error, "the role could not be given back; others may have it in a few seconds");
        }
    }

    fn show(&mut self, phase: Phase) {
        match phase {
            Phase::Active { .. } => self.health.stands(Standing::Active),
            Phase::Lost => self.health.stands(Standing::Stopping),
            // What the loops of the last tenure left behind says nothing of the next one.
            Phase::Standby { .. } => self.health = self.vitals.life(),
        }
        self.phase.send_replace(phase);
    }

    fn told(&mut self, how: anyhow::Result<()>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(how);
        }
    }
}
