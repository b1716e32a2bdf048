//! Clocks that are set, and processes that stop: neither storm nor silence.

use proptest::prelude::*;

use super::*;

/// A schedule, with its longest gap.
fn any_schedule() -> impl Strategy<Value = (serde_json::Value, i64)> {
    prop::sample::select(vec![
        (serde_json::json!({ "every": "90s" }), 90),
        (serde_json::json!({ "every": "1h" }), 3600),
        (serde_json::json!({ "cron": "* * * * *", "zone": "Asia/Kolkata" }), 60),
        (serde_json::json!({ "cron": "*/5 * * * *" }), 300),
        (serde_json::json!({ "cron": "7,37 * * * *", "zone": "Australia/Lord_Howe" }), 3600),
        (serde_json::json!({ "cron": "0 * * * *", "zone": "Europe/Berlin" }), 3600),
        (serde_json::json!({ "cron": "0 */2 * * *", "zone": "America/New_York" }), 3 * 3600),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Whatever the clock is set to, and whenever: from every run and from every step the next run begins within one period
    /// of true time (and a minute, by which a clock may be corrected over a slot), and a step brings one run at most.
    #[test]
    fn no_storm_and_no_silence_under_clock_steps(
        (schedule, period) in any_schedule(),
        steps in prop::collection::vec((1_i64..7200, prop_oneof![-90_i64..90, -7200_i64..7200, -40_000_000_i64..40_000_000]), 0..6),
    ) {
        let registry = registry(&[("c", schedule)]);
        let mut planner = planner(&registry);
        let inventory = inventory(1);
        let (mut offset, mut at, mut steps) = (0_i64, 0_i64, steps.into_iter());
        let (mut wait, mut jump) = steps.next().unwrap_or((i64::MAX, 0));
        let (mut jumps, mut runs, mut last_event) = (0, 0, 0);
        while at < 6 * 3600 {
            at += 1;
            wait -= 1;
            if wait == 0 {
                offset += jump;
                jumps += 1;
                last_event = at;
                (wait, jump) = steps.next().unwrap_or((i64::MAX, 0));
            }
            let now = Now { utc: Timestamp(START.0 + (at + offset) * 1000), monotonic: Duration::from_secs(u64::try_from(at + 1000).unwrap()) };
            let due = planner.tick(&registry, &inventory, now);
            prop_assert!(due.len() <= 1);
            if due.iter().any(|due| due.begins.is_some()) {
                runs += 1;
                last_event = at;
            }
            prop_assert!(at - last_event <= period + 61, "silent from {last_event} to {at}");
        }
        let shortest = match period { 90 | 60 | 300 => period, 3600 => 1800, _ => 3600 };
        prop_assert!(runs <= 6 * 3600 / shortest + 1 + 2 * jumps, "{runs} runs with {jumps} steps");
    }

    /// The same with the process stopped for any time, with the clock set meanwhile: a restart resets no timer, and what
    /// was missed runs once.
    #[test]
    fn a_restart_at_any_moment_resets_nothing((schedule, period) in any_schedule(), stopped_at in 1_i64..8_000, away in 0_i64..8_000) {
        let registry = registry(&[("c", schedule)]);
        let inventory = inventory(1);
        let begins = |planner: &mut Planner, second| {
            planner.tick(&registry, &inventory, now(second)).iter().any(|due| due.begins.is_some())
        };
        let mut steady = planner(&registry);
        let end = stopped_at + away + 2 * period;
        let steady: Vec<i64> = (1..=end).filter(|second| begins(&mut steady, *second)).collect();
        let mut first = planner(&registry);
        let mut found: Vec<i64> = (1..=stopped_at).filter(|second| begins(&mut first, *second)).collect();
        let stored = first.last_slot(&"c".parse().unwrap()).unwrap();
        let mut second = Planner::default();
        let back = stopped_at + away;
        second.follow(&registry, &[("c".parse().unwrap(), stored)].into(), now(back));
        let after: Vec<i64> = (back + 1..=end).filter(|at| begins(&mut second, *at)).collect();
        let missed = steady.iter().filter(|at| (stopped_at + 1..=back).contains(at)).count();
        let expected: Vec<i64> = (missed > 0).then_some(back + 1).into_iter()
            .chain(steady.iter().copied().filter(|at| (back + 1..=end).contains(at))).collect();
        let mut expected_once = expected;
        expected_once.dedup();
        prop_assert_eq!(&after, &expected_once, "stopped at {}, back at {}", stopped_at, back);
        found.extend(after);
        prop_assert!(found.windows(2).all(|pair| pair[1] - pair[0] <= period + away + 1));
    }
}
