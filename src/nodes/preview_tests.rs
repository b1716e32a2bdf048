#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::nodes::recorder::tests::{Lab, lab, node, put};
use crate::nodes::world::tests::rules;
use crate::protocol::{Requirement, Status};
use crate::rpc::Kind;
use crate::trust::NodeTrust;

/// The policy of the laboratory with a change.
fn candidate(change: impl FnOnce(&mut Candidate)) -> Candidate {
    let rules = rules();
    let checks = vec![rules.check(&"c".parse().unwrap()).unwrap().check.clone()];
    let mut candidate = Candidate { follows: 1, checks, pools: rules.pools().values().cloned().collect() };
    change(&mut candidate);
    candidate
}

/// n0 and n1 pass, n2 fails, n3 passes by its own word only.
async fn judged_lab() -> Lab {
    let lab = lab().await;
    for (index, status) in [Status::Pass, Status::Pass, Status::Fail, Status::Pass].into_iter().enumerate() {
        let mut batch = lab.batch(&format!("id-{index}"), 1, node(index), status);
        for result in &mut batch.results {
            result.self_reported = index == 3;
        }
        assert!(lab.nodes.record(batch).await.unwrap().is_none());
    }
    lab
}

async fn previewed(lab: &Lab, candidate: Candidate) -> Preview {
    lab.nodes.preview(candidate).await.unwrap()
}

fn told(preview: &Preview) -> Vec<(String, Level, Level, Vec<String>)> {
    let change = |c: &LevelChange| {
        assert_eq!(c.count, c.nodes.len());
        (c.pool.to_string(), c.from, c.to, c.nodes.iter().map(ToString::to_string).collect())
    };
    preview.changes.iter().map(change).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_preview_says_who_would_be_raised_or_lowered_and_changes_nothing() {
    use Level::{Trusted, Unknown};
    let lab = judged_lab().await;
    let before = {
        let world = lab.nodes.world.lock().await;
        (world.nodes.clone(), world.record_head.clone(), world.version, world.pools.clone())
    };
    assert_eq!(previewed(&lab, candidate(|_| ())).await, Preview { nodes: 4, changes: vec![] });

    let accepting = previewed(&lab, candidate(|new| new.pools[0].accept_self_report = true)).await;
    assert_eq!(told(&accepting), [("default".to_owned(), Unknown, Trusted, names(&["n3"]))]);
    assert!(accepting.changes[0].raises());

    let requiring_nothing = previewed(&lab, candidate(|new| new.checks.clear())).await;
    assert_eq!(told(&requiring_nothing), [("default".to_owned(), Trusted, Unknown, names(&["n0", "n1"]))]);
    assert_eq!(requiring_nothing.raised().count(), 0, "distrust outlasts its check");

    let another_pool = previewed(
        &lab,
        candidate(|new| {
            let pool = new.pools[0].clone();
            new.pools.push(crate::protocol::PoolPolicy { name: "gold".parse().unwrap(), ..pool });
            new.checks[0].pools.insert("gold".parse().unwrap(), Requirement::Required);
        }),
    )
    .await;
    assert_eq!(told(&another_pool)[0], ("gold".to_owned(), Unknown, Level::Untrusted, names(&["n2"])));
    assert_eq!(told(&another_pool)[1], ("gold".to_owned(), Unknown, Trusted, names(&["n0", "n1"])));

    let no_pool = previewed(&lab, candidate(|new| new.pools.clear())).await;
    assert_eq!(told(&no_pool), [("default".to_owned(), Trusted, Unknown, names(&["n0", "n1"]))]);

    let world = lab.nodes.world.lock().await;
    assert_eq!((world.nodes.clone(), world.record_head.clone(), world.version, world.pools.clone()), before);
}

#[tokio::test]
async fn passes_that_expire_at_the_time_of_the_preview_are_no_reason_to_raise_anybody() {
    let lab = judged_lab().await;
    lab.clock.step(61_000);
    // The timer has not come yet, so n0 and n1 are trusted on paper.
    let longer = previewed(&lab, candidate(|new| new.checks[0].ttl_ms = 3_600_000)).await;
    assert!(longer.raised().all(|change| change.from != Level::Untrusted), "{longer:?}");
    let named: Vec<_> = longer.raised().flat_map(|change| change.nodes.iter().cloned()).collect();
    assert_eq!(named, [node(0), node(1)], "a longer TTL counts them again, so they have to be shown");
}

#[tokio::test]
async fn a_candidate_for_another_policy_or_with_bad_targets_is_refused() {
    let lab = judged_lab().await;
    let error = lab.nodes.preview(candidate(|new| new.follows = 0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    let bad = candidate(|new| new.checks[0].targets.patterns = ["[".to_owned()].into());
    assert_eq!(lab.nodes.preview(bad).await.unwrap_err().kind, Kind::BadRequest);
}

#[tokio::test]
async fn others_have_the_world_while_many_nodes_are_judged() {
    let lab = lab().await;
    {
        let mut world = lab.nodes.world.lock().await;
        let like = world.open(&node(0)).unwrap();
        for index in 0..20 * AT_ONCE {
            let name = node(index);
            put(&mut world, Entry { name, trust: NodeTrust::new("identity"), ..like.clone() });
        }
    }
    let judging = previewed(&lab, candidate(|_| ()));
    let others = async {
        let mut turns = 0;
        loop {
            drop(lab.nodes.world.lock().await);
            turns += 1;
            tokio::task::yield_now().await;
            if turns == 10_000 {
                std::future::pending::<()>().await;
            }
            TURNS.with(|count| count.set(turns));
        }
    };
    let preview = tokio::select! {
        preview = judging => preview,
        () = others => unreachable!(),
    };
    assert_eq!(preview.nodes, 20 * AT_ONCE);
    let turns = TURNS.with(std::cell::Cell::get);
    assert!(turns >= 19, "others had the world {turns} times");
}

thread_local! {
    static TURNS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
