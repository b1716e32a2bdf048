#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;
use crate::names::CheckName;
use crate::nodes::storage::node_row;
use crate::protocol::{NodeResult, Placement, RunOrder, Status};
use crate::trust::{Observation, Reporter, Rules};

const START: Timestamp = Timestamp(1_800_000_000_000);

fn rules(checks: &[&str]) -> Rules {
    let check = |name: &&str| {
        serde_json::json!({
            "id": uuid::Uuid::new_v4().to_string(), "name": name, "revision": 3, "adapter": "bench", "enabled": true, "targets": {"all": true},
            "pools": {"default": "required"}, "ttl_ms": 900_000,
            "judgement": {"fail_after": 2, "recover_after": 2, "hold_down_ms": 600_000},
        })
    };
    let checks: Vec<_> = checks.iter().map(check).collect();
    let pool = serde_json::json!({"name": "default", "mode": "enforce", "max_silence_ms": 600_000, "accept_self_report": false});
    let policy = serde_json::json!({
        "deployment": "test", "epoch": 1, "number": 1, "issued_at": START, "checks": checks, "pools": [pool],
    });
    Rules::new(&serde_json::from_value(policy).unwrap()).unwrap()
}

/// A node after some results of each check.
fn node(index: usize, rules: &Rules, checks: &[&str], statuses: &[Status]) -> Entry {
    let name: NodeName = format!("compute-{index:06}.region1.example.org").parse().unwrap();
    let mut trust = NodeTrust::new(&uuid::Uuid::new_v4().to_string());
    let placement = Placement::default();
    let targeting = rules.targeting(&name, &BTreeMap::new(), &placement);
    let mut now = START;
    for (run, status) in (1_i64..).zip(statuses) {
        for check in checks {
            now = now.plus(Duration::from_millis(u64::try_from(1000 + index % 977).unwrap()));
            let check: CheckName = check.parse().unwrap();
            let rule = &rules.check(&check).unwrap().check;
            let result = NodeResult {
                node: name.clone(),
                status: *status,
                reason: "kernel and modules are those of the reference".to_owned(),
                requested_at: now,
                finished_at: now,
                verified_at: None,
                boot: index.is_multiple_of(3).then(|| format!("boot-{index}")),
                self_reported: false,
            };
            let seen = Observation {
                order: RunOrder { epoch: 1_795_000_000_000, run: run * 100 },
                attempt: 1,
                check_id: rule.id.clone(),
                revision: rule.revision,
                issued_at: now,
                reporter: Reporter::Adapter,
                reported_by: None,
                ticket_by: None,
                result,
            };
            trust.record(rules, &check, &seen, now);
        }
    }
    let verdicts = trust.review(rules, &targeting, now).verdicts;
    Entry {
        name,
        labels: [("rack".to_owned(), "r1".to_owned())].into(),
        placement,
        nova: None,
        registered_at: START,
        trust,
        verdicts,
        targeting,
    }
}

const CHECKS: [&str; 3] = ["boot", "kernel", "modules"];

#[test]
fn a_node_comes_back_as_it_was_put_away() {
    use Status::{Error, Fail, Pass, Timeout};
    let rules = rules(&CHECKS);
    let mut keeper = Keeper::default();
    let mut kept = Vec::new();
    // More than are compressed against one row, and of different kinds.
    for index in 0..2 * ONE_FOR + 10 {
        let statuses: &[Status] = match index % 4 {
            0 => &[],
            1 => &[Pass, Pass, Pass],
            2 => &[Fail, Fail, Pass],
            _ => &[Error, Timeout, Pass, Fail, Fail],
        };
        let mut entry = node(index, &rules, &CHECKS, statuses);
        if index % 5 == 0 {
            entry.trust.quarantine("ops", "it \"behaves\" oddly: \u{1F916}", START);
        }
        let row = Packed::of(&node_row(&entry).1, keeper.like());
        kept.push((entry.clone(), keeper.keep(entry, row)));
    }
    for (entry, kept) in kept {
        assert_eq!(kept.next_change(), entry.next_change());
        assert_eq!(kept.open(&entry.name).unwrap(), entry);
    }
}

#[test]
fn a_hundred_thousand_nodes_find_room() {
    let rules = rules(&CHECKS);
    let mut keeper = Keeper::default();
    let (mut rows, mut kept) = (0, 0);
    for index in 0..5 * ONE_FOR {
        let entry = node(index, &rules, &CHECKS, &[Status::Pass, Status::Pass]);
        let row = node_row(&entry).1;
        let packed = Packed::of(&row, keeper.like());
        if index >= 2 * ONE_FOR {
            rows += row.len();
            kept += packed.bytes.len();
        }
        keeper.keep(entry, packed);
    }
    let count = 3 * ONE_FOR;
    println!("{} bytes a row, {} kept", rows / count, kept / count);
    assert!(kept * 10 < rows, "{kept} of {rows}");
}
