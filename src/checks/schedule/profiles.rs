//! The profiles that come with SPICE.

use super::{Schedule, ScheduleError};

/// A schedule under a name, there from the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShippedProfile {
    /// Its name.
    pub name: &'static str,
    /// The schedule as a person writes it; UTC.
    pub text: &'static str,
}

impl ShippedProfile {
    /// The schedule.
    ///
    /// # Errors
    /// None for the list shipped, which a test holds.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        Schedule::parse(self.text, None)
    }
}

/// All of them. Those of cron let runs be foreseen from the clock.
pub const SHIPPED_PROFILES: &[ShippedProfile] = &[
    ShippedProfile { name: "every-minute", text: "* * * * *" },
    ShippedProfile { name: "five-minutes", text: "*/5 * * * *" },
    ShippedProfile { name: "hourly", text: "@hourly" },
    ShippedProfile { name: "nightly", text: "15 2 * * *" },
];
