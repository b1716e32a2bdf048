//! DESIGN's rules of trust as they show outside: what the filter may see, given what is known to have happened before Nodes said what it sees.

use std::collections::BTreeMap;
use std::time::Duration;

use super::oracle::{Definition, Facts, HOLD_DOWN, MAX_SILENCE, NodeFact, Oracle, PERIOD, Stored, TTL, Word, now};
use super::provider::Verdict;
use super::reader::{Taken, View};
use crate::protocol::Status;

/// How far clocks may differ unpunished.
const SKEW: Duration = Duration::from_secs(30);
/// What a moment is.
const MOMENT: Duration = Duration::from_millis(100);

impl Oracle {
    /// Judges what the filter sees now.
    pub(super) fn look(&self, view: &View) {
        let mut guard = self.facts();
        let facts = &mut *guard;
        let version = (view.epoch, view.version);
        if facts.last.is_some_and(|last| last > version) {
            let text = format!("the pool file went back from {:?} to {version:?}", facts.last);
            self.breaks(facts, 4, &text);
        }
        facts.last = Some(version);
        let t = now();
        if facts.offsets.values().any(|(offset, _)| *offset != 0) {
            facts.clock_wrong = t;
        }
        let truth = self.provider.truth();
        let word = facts.word(view);
        for (node, taken) in &view.levels {
            let Some(fact) = facts.nodes.get(node).cloned() else {
                self.breaks(facts, 3, &format!("{node} was never registered"));
                continue;
            };
            let good = matches!(taken, Taken::Trusted | Taken::Override);
            if good && t > facts.heard + MAX_SILENCE + MOMENT * 10 {
                self.breaks(facts, 2, &format!("{node} is trusted although nothing was heard for too long"));
            }
            let steady = !fact.changing && word.is_some_and(|word| fact.changed < word.as_of);
            if steady && !fact.registered && !view.silent {
                self.breaks(facts, 3, &format!("{node} was deleted and is in the pool"));
            }
            if let (true, Some(word)) = (good && !fact.changing, word) {
                let why = forbidden(facts, &truth.verdicts, node, &fact, *taken, word);
                for why in why {
                    self.breaks(facts, 1, &why);
                }
            }
            let settled = (!fact.changing && !view.silent && !facts.clocks_step).then_some(word).flatten();
            if let Some(word) = settled
                && facts.flaps.look(node, *taken, &fact, word)
            {
                self.breaks(facts, 1, &format!("{node} is trusted although it fell too often"));
            }
            match taken {
                Taken::Untrusted if !fact.was_quarantined && !has_failed(facts, &truth.verdicts, node) => {
                    self.breaks(facts, 2, &format!("{node} is distrusted, and did not fail often enough"));
                }
                Taken::Unknown
                    if steady && !view.silent && !facts.clocks_step && word.is_some_and(|word| word.is_exact) =>
                {
                    if let Some(word) = word
                        && !truth.verdicts.iter().any(|verdict| verdict.node == *node && verdict.status == Status::Fail)
                        && is_proved(facts, node, &fact, word, t)
                    {
                        self.breaks(facts, 2, &format!("{node} is unknown although its passes count"));
                    }
                }
                _ => {}
            }
        }
        self.storms(facts, &truth.asked, t);
    }

    /// Nothing runs more often than it has reason to.
    fn storms(&self, facts: &mut Facts, asked: &[(String, String, Duration)], t: Duration) {
        let lately = asked.iter().rev().take_while(|(_, _, at)| *at + PERIOD > t);
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (check, node, _) in lately {
            *counts.entry((check, node)).or_default() += 1;
        }
        let reasons = facts.events.iter().filter(|at| **at + PERIOD + PERIOD / 2 > t).count();
        for ((check, node), count) in counts {
            if count > 4 + reasons {
                self.breaks(facts, 5, &format!("{node} was asked {count} times within a period by {check}"));
            }
        }
    }

    /// Rule 5: in quiet times no period is skipped.
    pub(super) fn skips(&self, since: Duration) {
        let mut guard = self.facts();
        let facts = &mut *guard;
        let asked = self.provider.truth().asked.clone();
        let checks = facts.checks.iter().filter(|(_, fact)| fact.exists && fact.enabled);
        let enabled: Vec<String> = checks.map(|(name, _)| name.clone()).collect();
        let nodes = facts.nodes.iter().filter(|(_, fact)| fact.registered);
        let registered: Vec<String> = nodes.map(|(name, _)| name.clone()).collect();
        for check in &enabled {
            for node in &registered {
                let mut last = since;
                let times = asked.iter().filter(|(c, n, at)| c == check && n == node && *at >= since);
                for at in times.map(|(_, _, at)| *at).chain([now()]) {
                    if at.saturating_sub(last) > PERIOD * 2 + PERIOD / 2 {
                        let text = format!("{node} was not asked by {check} from {last:?} to {at:?}");
                        self.breaks(facts, 5, &text);
                    }
                    last = at;
                }
            }
        }
    }
}

/// Whether some check has failed so often that the node may be distrusted.
fn has_failed(facts: &Facts, verdicts: &[Verdict], node: &str) -> bool {
    facts.checks.iter().any(|(check, fact)| {
        let fails =
            |verdict: &&Verdict| verdict.node == node && verdict.check == *check && verdict.status == Status::Fail;
        verdicts.iter().filter(fails).count() >= fact.fail_after
    })
}

/// Why a node that is shown as trusted must not be.
fn forbidden(
    facts: &Facts,
    verdicts: &[Verdict],
    node: &str,
    fact: &NodeFact,
    taken: Taken,
    word: Word,
) -> Vec<String> {
    let mut why = Vec::new();
    let steady = fact.changed < word.as_of;
    if steady && fact.quarantined {
        why.push(format!("{node} is in quarantine and trusted"));
    }
    for check in facts.checks.keys() {
        why.extend(distrusted(facts, verdicts, node, fact, (check, taken), word));
    }
    if taken == Taken::Override {
        match fact.overridden {
            None if steady => why.push(format!("{node} is shown by an override that nobody gave")),
            Some(boot) if facts.boot_noticed(node, word.as_of) > boot => {
                why.push(format!("the override of {node} was given for another boot"));
            }
            _ => {}
        }
        return why;
    }
    // By every policy that Nodes can have judged by.
    let newest = if word.is_exact { word.policy } else { facts.policies.keys().copied().max().unwrap_or(0) };
    let mut reasons = Vec::new();
    for number in word.policy..=newest {
        let Some(policy) = facts.policies.get(&number) else { return why };
        let missing = missing(facts, verdicts, node, fact, policy, word);
        if missing.is_empty() {
            return why;
        }
        reasons = missing;
    }
    why.extend(reasons);
    why
}

/// What the node lacks under a policy.
fn missing(
    facts: &Facts,
    verdicts: &[Verdict],
    node: &str,
    fact: &NodeFact,
    policy: &BTreeMap<String, Definition>,
    word: Word,
) -> Vec<String> {
    let t = now();
    let required: Vec<(&String, &Definition)> = policy.iter().filter(|(_, it)| it.required).collect();
    if required.is_empty() {
        return vec![format!("{node} is trusted, and nothing is required")];
    }
    let boot = facts.boot_noticed(node, word.as_of);
    let mut why = Vec::new();
    for (check, definition) in required {
        if !definition.enabled {
            why.push(format!("{node} is trusted although {check} is disabled"));
        }
        let counts = |verdict: &&Verdict| {
            let exact = !facts.clocks_step || verdict.asked > facts.clock_wrong + MOMENT * 10;
            let lasts = if exact { TTL + MOMENT } else { TTL + SKEW * 2 + Duration::from_secs(5) };
            verdict.node == node
                && verdict.check == *check
                && verdict.status == Status::Pass
                && !verdict.self_reported
                && (verdict.made, verdict.rule) == (definition.made, definition.rule)
                && verdict.asked + lasts >= t
                && (verdict.boot >= boot || !exact)
                // Where the word is from before what made it forget, it could not.
                && (verdict.asked >= fact.forgets || !exact || fact.changed >= word.as_of)
                && was_taken(facts, verdict)
        };
        if !verdicts.iter().any(|verdict| counts(&verdict)) {
            why.push(format!("{node} is trusted without a pass of {check} that counts"));
        }
    }
    why
}

/// Whether Nodes can have stored a pass so that it counts. Whoever is down, paused or cut off may have stored what it never acknowledged.
fn was_taken(facts: &Facts, pass: &Verdict) -> bool {
    if facts.unsteady + MOMENT * 10 >= pass.asked {
        return true;
    }
    let of_it = |stored: &&Stored| {
        stored.node == pass.node
            && stored.check == pass.check
            && stored.status == Status::Pass
            && !stored.own_word
            && stored.asked == pass.asked
    };
    let Some(stored) = facts.stored.iter().find(of_it) else { return false };
    // What came after its timeout was stored counts for nothing.
    !facts.stored.iter().any(|other| {
        other.node == stored.node
            && other.check == stored.check
            && other.order == stored.order
            && other.status == Status::Timeout
            && other.at + MOMENT < stored.at
    })
}

/// Why the node is to be distrusted because of `check`, and may not be shown as trusted whatever else holds.
fn distrusted(
    facts: &Facts,
    verdicts: &[Verdict],
    node: &str,
    fact: &NodeFact,
    (check, taken): (&str, Taken),
    word: Word,
) -> Option<String> {
    let of_it = |verdict: &&Verdict| verdict.node == node && verdict.check == check && !verdict.self_reported;
    let passes: Vec<&Verdict> =
        verdicts.iter().filter(of_it).filter(|verdict| verdict.status == Status::Pass).collect();
    let released = fact.released.unwrap_or_default();
    let is_overtaken = |fail: &Stored| {
        passes.iter().any(|pass| pass.asked > fail.asked && pass.asked < fail.at)
            || facts.stored.iter().any(|pass| {
                pass.node == node
                    && pass.check == check
                    && pass.status == Status::Pass
                    && !pass.own_word
                    && pass.order > fail.order
                    && pass.at < fail.at
            })
    };
    let mut fails: Vec<&Stored> = facts
        .stored
        .iter()
        .filter(|stored| stored.node == node && stored.check == check && stored.status == Status::Fail)
        .filter(|fail| fail.is_plain && fail.at < word.as_of && fail.asked > released)
        .filter(|fail| !is_overtaken(fail) && facts.was_required(fail))
        .collect();
    fails.sort_by_key(|fail| fail.order);
    fails.dedup_by_key(|fail| fail.order);
    let judged = facts.checks.get(check)?;
    let in_a_row = |row: &&[&Stored]| {
        let (Some(first), Some(last)) = (row.first(), row.last()) else { return false };
        let same = row.iter().all(|fail| (fail.made, fail.rule) == (last.made, last.rule));
        same && !passes.iter().any(|pass| pass.asked > first.asked && pass.asked < last.asked)
    };
    let last = *fails.windows(judged.fail_after).rfind(in_a_row)?.last()?;
    let since: Vec<&&Verdict> = passes.iter().filter(|pass| pass.asked > last.asked).collect();
    if since.len() < judged.recover_after {
        return Some(format!("{node} is trusted although {check} failed last, and {} passes are since", since.len()));
    }
    let ends = last.asked + HOLD_DOWN;
    let held = match taken {
        // The passes of the hold-down end distrust with it; without another the node is unknown, and that an override may cover.
        Taken::Override => word.as_of < ends,
        // So do they for a check that is not required any more, and the others may make the node trusted.
        _ if !facts.is_required_since(check, last.asked, word) => word.as_of < ends,
        _ => since.iter().all(|pass| pass.asked < ends),
    };
    let held = held && !facts.clocks_step && judged.exists;
    held.then(|| format!("{node} is trusted although the hold-down of {check} is not over"))
}

/// Whether passes that Nodes has stored make the node trusted beyond doubt.
fn is_proved(facts: &Facts, node: &str, fact: &NodeFact, word: Word, t: Duration) -> bool {
    let untouched = NodeFact {
        registered: true,
        changed: fact.changed,
        forgets: fact.forgets,
        registered_at: fact.registered_at,
        ..NodeFact::default()
    };
    let Some(policy) = facts.policies.get(&word.policy) else { return false };
    if *fact != untouched || !facts.judged_by.iter().any(|(_, policy)| *policy == word.policy) {
        return false;
    }
    let from = facts.judged_by.iter().rev().take_while(|(_, policy)| *policy == word.policy).last();
    let from = from.map_or(t, |(at, _)| *at);
    let booted = facts.rebooted.get(node).map_or(Duration::ZERO, |at| *at + PERIOD);
    let counts = |check: &str, it: &Definition, stored: &Stored| {
        stored.node == node
            && stored.check == *check
            && stored.status == Status::Pass
            && !stored.own_word
            && stored.in_time
            && (stored.made, stored.rule) == (it.made, it.rule)
            && stored.asked > from.max(booted).max(fact.changed)
            && stored.at < word.as_of
            && stored.evidence + TTL > t + MOMENT * 30
            && !facts.is_overtaken_by_a_boot(stored)
            // A pass that comes after the answer of a newer run is late.
            && !facts.stored.iter().any(|other| {
                (&other.node, &other.check) == (&stored.node, &stored.check)
                    && other.order > stored.order
                    && other.at <= stored.at
                    && matches!(other.status, Status::Pass | Status::Fail)
            })
            && !facts.stored.iter().any(|other| {
                // Of two answers within one run the worse stands, and what a node says of itself is the worse.
                (&other.node, &other.check, other.order) == (&stored.node, &stored.check, stored.order)
                    && (other.status != Status::Pass || other.own_word)
            })
    };
    let mut required = policy.iter().filter(|(_, it)| it.required).peekable();
    required.peek().is_some()
        && required.all(|(check, it)| it.enabled && facts.stored.iter().any(|stored| counts(check, it, stored)))
}
