//! What administrators do in a story, and what they are told.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Person;
use super::oracle::{CheckFact, HOLD_DOWN, NodeFact, Oracle, PERIOD, TTL};
use super::provider::Nature;
use super::story::Story;
use super::{Dice, boottime, note};
use crate::rpc::table::Topic;

/// The definition of a check as it is given to SPICE.
pub(super) fn definition(name: &str, fact: &CheckFact, dice: &Dice) -> Value {
    // By the clock, or in intervals.
    let schedule = match dice.chance(500) {
        true => json!({ "cron": format!("*/{} * * * * *", PERIOD.as_secs()) }),
        false => json!({ "every": format!("{}s", PERIOD.as_secs()) }),
    };
    let hold_down = i64::try_from(HOLD_DOWN.as_millis()).unwrap_or(0) + fact.made;
    json!({
        "name": name, "adapter": "scripted", "schedule": schedule,
        "parameters": { "made": fact.made, "rule": fact.rule }, "timeout_s": 3, "ttl_s": TTL.as_secs(),
        "allow_missing_adapter": true,
        "judgement": {
            "hold_down_ms": hold_down, "fail_after": fact.fail_after, "recover_after": fact.recover_after,
        },
        "pools": { "default": required(fact.required) },
    })
}

fn required(is: bool) -> &'static str {
    if is { "required" } else { "advisory" }
}

impl Story {
    pub(super) fn administer(&self, now: Duration) {
        let name = match self.dice.chance(500) {
            true => None,
            false => Some(["c1", "c2"][self.dice.index(2)].to_owned()),
        };
        let (admin, oracle, dice) = (self.admin.clone(), self.oracle.clone(), self.dice.clone());
        match name {
            None => {
                let (node, what) = (self.some_node(), self.dice.below(6));
                let mut facts = oracle.facts();
                let Some(fact) = facts.nodes.get_mut(&node).filter(|fact| !fact.changing) else { return };
                fact.changing = true;
                let fact = fact.clone();
                drop(facts);
                note(&format!("an administrator begins something ({what}) with {node}"));
                tokio::spawn(async move {
                    let fact = change_node(&admin, &oracle, &node, fact, what).await;
                    let mut facts = oracle.facts();
                    let at = boottime().unwrap_or(now);
                    facts.events.push(at);
                    facts.nodes.insert(node, NodeFact { changed: at, changing: false, ..fact });
                });
            }
            Some(check) => {
                let what = self.dice.below(7);
                let mut facts = oracle.facts();
                let Some(fact) = facts.checks.get_mut(&check).filter(|fact| !fact.changing) else { return };
                fact.changing = true;
                let fact = fact.clone();
                drop(facts);
                note(&format!("an administrator begins something ({what}) with {check}"));
                tokio::spawn(async move {
                    let fact = change_check(&admin, &oracle, &dice, &check, fact, what).await;
                    let mut facts = oracle.facts();
                    facts.events.push(boottime().unwrap_or(now));
                    facts.checks.insert(check, CheckFact { changing: false, ..fact });
                });
            }
        }
    }
}

async fn change_node(admin: &Person, oracle: &Oracle, node: &str, mut fact: NodeFact, what: u64) -> NodeFact {
    let named = json!({ "name": node });
    let because = json!({ "name": node, "reason": "story" });
    let began = boottime().unwrap_or_default();
    match what {
        0 | 1 if fact.registered => {
            admin.insist(Topic::Nodes, "node_delete", named).await;
            let deleted = NodeFact {
                was_quarantined: fact.was_quarantined,
                quarantined: fact.quarantined,
                released: fact.released,
                ..NodeFact::default()
            };
            match what {
                // To have it forgotten what the node is, which then behaves, or does not.
                0 => {
                    let created = create(admin, node, deleted).await;
                    if began.as_millis().is_multiple_of(2) {
                        let mut truth = oracle.provider.truth();
                        let nature = truth.natures.get_mut(node).filter(|nature| **nature == Nature::Bad);
                        if let Some(nature) = nature {
                            note(&format!("{node} behaves"));
                            *nature = Nature::Good;
                        }
                    }
                    created
                }
                _ => deleted,
            }
        }
        0..=2 if !fact.registered => create(admin, node, fact).await,
        2 if fact.registered => {
            // From the moment it is asked for, it may be in force.
            if let Some(fact) = oracle.facts().nodes.get_mut(node) {
                fact.was_quarantined = true;
            }
            fact.was_quarantined = true;
            if admin.insist(Topic::Nodes, "node_quarantine", because).await {
                (fact.quarantined, fact.overridden) = (true, None);
            }
            fact
        }
        3 if fact.registered => {
            if admin.insist(Topic::Nodes, "node_release", because).await {
                (fact.quarantined, fact.overridden, fact.forgets) = (false, None, began);
                fact.released = boottime();
            }
            fact
        }
        4 | 5 if fact.registered => {
            let asked = json!({ "name": node, "hours": 1, "reason": "story" });
            if admin.insist(Topic::Nodes, "node_override", asked).await {
                fact.overridden = Some(oracle.facts().boot_stored(node));
            }
            fact
        }
        _ => fact,
    }
}

async fn create(admin: &Person, node: &str, fact: NodeFact) -> NodeFact {
    let began = boottime().unwrap_or_default();
    admin.insist(Topic::Nodes, "node_create", json!({ "name": node, "identity": node })).await;
    NodeFact { registered: true, forgets: began, registered_at: began, ..fact }
}

async fn change_check(
    admin: &Person,
    oracle: &Oracle,
    dice: &Dice,
    check: &str,
    fact: CheckFact,
    what: u64,
) -> CheckFact {
    let changed = |changes: Value| json!({ "name": check, "changes": changes });
    if !fact.exists {
        let next = CheckFact { made: fact.made + 1, rule: 1, exists: true, enabled: true, ..fact.clone() };
        let check = json!({ "check": definition(check, &next, dice) });
        // Where the answer was lost it exists when it is asked for again.
        admin.insist(Topic::Checks, "check_create", check).await;
        return next;
    }
    let next = match what {
        0 | 1 => CheckFact { rule: fact.rule + 1, ..fact.clone() },
        2 => CheckFact { enabled: dice.chance(500), ..fact.clone() },
        // To have it forgotten what it has found.
        3 => {
            for enabled in [false, true] {
                if !admin.confirm("check_update", changed(json!({ "enabled": enabled }))).await {
                    // What was not confirmed the second time stays disabled.
                    return CheckFact { enabled: fact.enabled && !enabled, ..fact };
                }
                tokio::time::sleep(dice.millis(500, 4000)).await;
            }
            return CheckFact { enabled: true, ..fact };
        }
        4 => CheckFact { required: !fact.required, ..fact.clone() },
        5 => CheckFact { exists: false, ..fact.clone() },
        _ => {
            // Without a word of confirmation.
            if fact.required && fact.enabled {
                let asked = changed(json!({ "pools": { "default": required(false) } }));
                if admin.insist(Topic::Checks, "check_update", asked).await {
                    oracle.broken(1, &format!("{check} was made advisory, and nobody confirmed it"));
                    return CheckFact { required: false, ..fact };
                }
            }
            return fact;
        }
    };
    let done = if next.exists {
        let changes = json!({
            "parameters": { "made": next.made, "rule": next.rule },
            "enabled": next.enabled,
            "pools": { "default": required(next.required) },
        });
        admin.confirm("check_update", changed(changes)).await
    } else {
        admin.confirm("check_delete", json!({ "name": check })).await || is_gone(admin, check).await
    };
    if done { next } else { fact }
}

/// Whether a check was deleted although that was not answered.
async fn is_gone(admin: &Person, check: &str) -> bool {
    !admin.insist(Topic::Checks, "check_show", json!({ "name": check })).await
}
