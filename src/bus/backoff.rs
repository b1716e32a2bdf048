//! How long to wait before what failed is tried again.

use std::time::Duration;

use super::options::RabbitOptions;

/// The longest wait between two attempts, whatever the options say. oslo.messaging lets it grow to 30 s; with that, a service would stay away for half a
/// minute after the broker came back. Few processes connect here, and an attempt at a closed port costs next to nothing.
const MAX_WAIT: f64 = 2.0;

/// How long to wait before connecting again after `failures` failed rounds. `unit` in 0..1 spreads it between a half and the whole, so that
/// a fleet does not return in step. Never more than [`MAX_WAIT`].
pub(crate) fn backoff(rabbit: &RabbitOptions, failures: u32, unit: f64) -> Duration {
    let whole = match failures.checked_sub(1) {
        None => rabbit.kombu_reconnect_delay,
        Some(earlier) => {
            let grown =
                f64::from(rabbit.rabbit_retry_interval) + f64::from(earlier) * f64::from(rabbit.rabbit_retry_backoff);
            grown.min(f64::from(rabbit.rabbit_interval_max.max(1)))
        }
    };
    let whole = whole.min(MAX_WAIT);
    // Never a busy loop, whatever the options say.
    Duration::try_from_secs_f64(whole * (0.5 + unit.clamp(0.0, 1.0) / 2.0))
        .unwrap_or(Duration::ZERO)
        .max(Duration::from_millis(50))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_grow_and_are_short_also_after_a_long_outage() {
        let rabbit = RabbitOptions::default();
        let waits: Vec<u64> = (0..5).map(|failures| backoff(&rabbit, failures, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 1, 2, 2, 2]);
        assert_eq!(backoff(&rabbit, u32::MAX, 1.0).as_secs(), 2);
    }

    proptest! {
        #[test]
        fn waits_are_never_zero_nor_above_the_limit(failures: u32, unit in 0.0..1.0f64, interval in 0..100u32, step in 0..100u32, max in 0..1000u32) {
            let rabbit = RabbitOptions {
                rabbit_retry_interval: interval,
                rabbit_retry_backoff: step,
                rabbit_interval_max: max,
                ..RabbitOptions::default()
            };
            let wait = backoff(&rabbit, failures, unit);
            prop_assert!(wait >= Duration::from_millis(50));
            prop_assert!(wait <= Duration::from_secs(u64::from(max.clamp(1, 2))));
        }
    }
}
