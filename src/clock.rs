//! Time, as one value that tests can move.
//!
//! Rules never read a clock: they are given the time. Loops read it from [`Clock`], so that a schedule of a year can be
//! tested in a moment. Monotonic time runs on tokio's clock, which tests pause.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch, UTC. An integer, so that it can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time minus `duration`, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a chrono date; `None` outside chrono's range (about ±262,000 years).
    #[must_use]
    pub fn to_utc(self) -> Option<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_millis(self.0)
    }

    /// From a chrono date of any zone.
    #[must_use]
    pub fn from_datetime<Z: chrono::TimeZone>(at: &chrono::DateTime<Z>) -> Self {
        Self(at.timestamp_millis())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC, milliseconds: `2026-11-22T04:11:31.637Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc() {
            Some(at) => f.pad(&at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// Where loops get the time from.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, which an administrator or NTP may step.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process; never steps.
    fn monotonic(&self) -> Duration;

    /// Time since some fixed moment that counts on while the machine is suspended (`CLOCK_BOOTTIME`); never steps. By it whoever was
    /// paused knows that it was.
    fn boottime(&self) -> Duration {
        self.monotonic()
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self { origin: tokio::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(chrono::Utc::now().timestamp_millis())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn boottime(&self) -> Duration {
        let boottime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(boottime.tv_sec).unwrap_or(0), u32::try_from(boottime.tv_nsec).unwrap_or(0))
    }
}

/// A clock that follows tokio's, which a test pauses and advances, and whose time of day a test can step besides.
#[derive(Debug)]
pub struct VirtualClock {
    origin: tokio::time::Instant,
    offset_ms: AtomicI64,
}

impl VirtualClock {
    /// A clock that shows `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { origin: tokio::time::Instant::now(), offset_ms: AtomicI64::new(start.0) })
    }

    /// Steps the time of day by `ms` (negative: backwards); monotonic time does not notice.
    pub fn step(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.offset_ms.load(Ordering::SeqCst)).plus(self.origin.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}
