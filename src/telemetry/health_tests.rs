//! Who is alive, and who can work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn active(health: &Health) -> RoleHealth {
    let role = health.role("nodes");
    role.stands(Standing::Active);
    role
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_hangs_is_dead_after_its_limit_and_alive_again_when_it_goes_on() {
    let health = Health::default();
    let (go_on, mut told) = tokio::sync::mpsc::channel::<()>(1);
    let hangs = active(&health).watched("timers", Some(TURN_LIMIT), CancellationToken::new(), async move {
        while told.recv().await.is_some() {
            turn();
        }
        std::future::pending().await
    });
    tokio::spawn(hangs);
    tokio::time::sleep(TURN_LIMIT).await;
    assert!(health.report().live, "the limit is not over");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = health.report();
    assert!(!report.live && !report.ready, "{report:?}");
    assert!(report.faults[0].contains("role nodes: loop timers is dead"), "{report:?}");
    assert_eq!(report.details["roles"]["nodes"]["loops"]["timers"]["alive"], false);
    go_on.send(()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(health.report().live);
}

#[tokio::test]
async fn a_loop_that_ends_unbidden_or_panics_is_dead_and_one_that_was_stopped_is_not() {
    for stopped in [false, true] {
        let health = Health::default();
        let stop = CancellationToken::new();
        if stopped {
            stop.cancel();
        }
        active(&health).watched("outbox", None, stop, async {}).await;
        assert_eq!(health.report().live, stopped);
    }
    let health = Health::default();
    let panics = active(&health).watched("outbox", None, CancellationToken::new(), async { panic!("on purpose") });
    assert!(tokio::spawn(panics).await.is_err());
    assert!(!health.report().live);
}

#[tokio::test(start_paused = true)]
async fn what_a_restart_cannot_mend_makes_a_role_unready_and_not_dead() {
    let health = Health::default();
    assert!(!health.report().ready, "without roles nothing is ready");
    let role = active(&health);
    let (broker, watch) = tokio::sync::watch::channel(None::<String>);
    role.needs("broker", move || watch.borrow().clone());
    assert!(health.report().ready);
    broker.send_replace(Some("connection refused".to_owned()));
    let report = health.report();
    assert!(report.live && !report.ready);
    assert_eq!(report.faults, ["role nodes: broker: connection refused"]);
    broker.send_replace(None);
    assert!(health.report().ready);

    role.expects_heartbeat(Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(31)).await;
    let report = health.report();
    assert!(report.live && !report.ready && report.faults[0].contains("no heartbeat"), "{report:?}");
    role.watched("heartbeats", None, CancellationToken::new(), async {
        heartbeat();
        assert!(health.report().ready);
        outcome::<(), _>(&Err("disk full"));
        assert!(health.report().live && !health.report().ready);
        outcome::<(), &str>(&Ok(()));
        assert!(health.report().ready);
    })
    .await;
}

#[test]
fn a_standby_is_ready_and_a_role_that_starts_or_stops_is_not() {
    let health = Health::default();
    let role = health.role("checks");
    for (standing, ready) in
        [(Standing::Starting, false), (Standing::Standby, true), (Standing::Active, true), (Standing::Stopping, false)]
    {
        role.stands(standing);
        assert_eq!(health.report().ready, ready, "{standing:?}");
    }
    assert_eq!(health.role("checks").report().details["standing"], "starting", "a new life forgets the old one");
}
