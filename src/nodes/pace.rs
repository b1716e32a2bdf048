//! How many notifications a second: whoever reads them keeps up with some hundreds.

use std::num::NonZeroU32;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// Lets so many through a second, evenly after the first of them.
pub struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
}

impl Pace {
    /// At most `per_second`.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::direct_with_clock(Quota::per_second(per_second), TokioClock(Instant::now())) }
    }

    /// Waits for the next turn.
    pub async fn turn(&self) {
        while let Err(wait) = self.limiter.check() {
            tokio::time::sleep(wait.wait_time_from(self.limiter.clock().now())).await;
        }
    }
}

/// The runtime's clock, which tests may stop.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_all_at_once_goes_on_evenly() {
        let pace = Pace::new(NonZeroU32::new(100).unwrap());
        let began = Instant::now();
        for _ in 0..1_100 {
            pace.turn().await;
        }
        let took = began.elapsed();
        assert!((Duration::from_millis(9_900)..Duration::from_millis(11_500)).contains(&took), "{took:?}");
    }
}
