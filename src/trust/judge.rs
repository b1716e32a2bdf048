//! The level of a node in a pool, now. Costs as much as the node has checks.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::protocol::{CheckPolicy, Level, MemberState, PoolPolicy};

use super::MAX_SKEW;
use super::node::{NodeFacts, NodeTrust, Quarantine};
use super::reason::Reason;
use super::rules::{Rule, Rules};
use super::standing::{Standing, expires_at};
use super::state::{CheckState, FORGOTTEN, Pass};

/// What the rules say about one node in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The level.
    pub level: Level,
    /// For `trusted`: from then on it is unknown. Zero for the other levels, as in [`MemberState`].
    pub expires_at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// True where an override, not the checks, made it trusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overridden: bool,
    /// True where the pool accepts self reports and a pass that decides here is the node's own word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_reported: bool,
    /// When time alone will change this verdict, if nothing else does; never to `trusted`.
    pub next_change: Option<Timestamp>,
}

impl Verdict {
    /// What the pool publishes.
    #[must_use]
    pub fn member(&self) -> MemberState {
        MemberState { level: self.level, expires_at: self.expires_at, overridden: self.overridden }
    }

    fn plain(level: Level, reason: Reason) -> Self {
        let expires_at = Timestamp::default();
        Self { level, expires_at, reason, overridden: false, self_reported: false, next_change: None }
    }
}

/// Judges `node` in `pool`. `targeting` are the checks of `rules` that target it.
///
/// Reads only; [`NodeTrust::review`] lets recovery, expiry and lost overrides take effect first.
pub fn judge<'a>(
    pool: &PoolPolicy,
    rules: &Rules,
    targeting: impl Iterator<Item = &'a Rule> + Clone,
    node: &NodeTrust,
    standing: &Standing,
    now: Timestamp,
) -> Verdict {
    if let Some(Quarantine { owner, reason, since }) = &node.quarantine {
        let reason = Reason::Quarantined { owner: owner.clone(), why: reason.clone(), since: *since };
        return Verdict::plain(Level::Untrusted, reason);
    }
    if let Some(verdict) = distrusted(pool, rules, node, standing, now) {
        return verdict;
    }
    let required = targeting.filter(|rule| rule.required_in(&pool.name));
    let unabsorbed = required.clone().find_map(|rule| {
        let state = node.checks.get(&rule.check.name)?;
        standing.is_failing(pool, &rule.check, state).then_some((rule, state))
    });
    if let Some((rule, state)) = unabsorbed {
        let mut standing = standing.clone();
        standing.absorb(pool, &rule.check, state, now);
        if let Some(verdict) = distrusted(pool, rules, node, &standing, now) {
            return verdict;
        }
    }
    match by_checks(pool, required, node, standing, now) {
        Ok(verdict) => verdict,
        Err(reason) => unknown(node, standing, reason, now),
    }
}

fn distrusted(
    pool: &PoolPolicy,
    rules: &Rules,
    node: &NodeTrust,
    standing: &Standing,
    now: Timestamp,
) -> Option<Verdict> {
    let (name, distrust) = standing.distrust.iter().min_by_key(|(_, distrust)| distrust.since)?;
    let rule = rules.check(name);
    let none = CheckState::default();
    let state = node.checks.get(name).map_or(&none, |state| state.as_ref());
    let reason = Reason::Failed {
        check: name.clone(),
        cause: distrust.cause.clone(),
        since: distrust.since,
        passes: rule.map_or(0, |r| standing.recovery_passes(pool, &r.check, state, &node.facts)),
        needed: rule.map_or(0, |r| r.check.judgement.recover_after.max(1)),
        hold_down_ends: rule.map_or(distrust.failed_at, |r| standing.hold_down_ends(pool, &r.check, distrust)),
        falls: standing.flaps(pool).unwrap_or(0),
        others: u32::try_from(standing.distrust.len() - 1).unwrap_or(u32::MAX),
    };
    let mut verdict = Verdict::plain(Level::Untrusted, reason);
    // When the last hold-down that is still to be waited for ends, provided that nothing but time is missing.
    let ends = standing.distrust.iter().map(|(name, distrust)| {
        let check = &rules.check(name)?.check;
        let recovered = standing.has_recovered(pool, check, node.checks.get(name)?, &node.facts);
        recovered.then(|| standing.hold_down_ends(pool, check, distrust).max(now))
    });
    verdict.next_change = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
    Some(verdict)
}

fn unknown(node: &NodeTrust, standing: &Standing, reason: Reason, now: Timestamp) -> Verdict {
    let facts = &node.facts;
    let Some(over) = standing.overriding.as_ref().filter(|over| over.holds(&facts.identity, &facts.boots, now)) else {
        return Verdict::plain(Level::Unknown, reason);
    };
    let (owner, why, until) = (over.owner.clone(), over.reason.clone(), over.until);
    Verdict {
        level: Level::Trusted,
        expires_at: until,
        reason: Reason::Overridden { owner, why, until, covers: Box::new(reason) },
        overridden: true,
        self_reported: false,
        next_change: Some(until),
    }
}

fn by_checks<'a>(
    pool: &PoolPolicy,
    required: impl Iterator<Item = &'a Rule>,
    node: &NodeTrust,
    standing: &Standing,
    now: Timestamp,
) -> Result<Verdict, Reason> {
    let mut checks = 0;
    let mut self_reported = false;
    let mut first: Option<(Timestamp, &CheckPolicy)> = None;
    for rule in required {
        let check = &rule.check;
        if !check.enabled {
            return Err(Reason::Disabled { check: check.name.clone() });
        }
        let state = node.checks.get(&check.name).map(AsRef::as_ref);
        let pass = state.and_then(|state| pass_that_counts(pool, check, state, &node.facts, standing, now));
        let Some(pass) = pass else {
            return Err(missing(pool, check, state, &node.facts, now));
        };
        let ends = expires_at(pass, check);
        if first.is_none_or(|(earliest, _)| ends < earliest) {
            first = Some((ends, check));
        }
        self_reported |= pass.own_word;
        checks += 1;
    }
    let Some((expires_at, check)) = first else { return Err(Reason::NothingRequired) };
    let reason = Reason::AllPassed { checks, first_to_expire: check.name.clone() };
    let next_change = Some(expires_at);
    Ok(Verdict { level: Level::Trusted, expires_at, reason, overridden: false, self_reported, next_change })
}

/// The pass of `check` that holds longest.
fn pass_that_counts<'a>(
    pool: &PoolPolicy,
    check: &CheckPolicy,
    state: &'a CheckState,
    facts: &NodeFacts,
    standing: &Standing,
    now: Timestamp,
) -> Option<&'a Pass> {
    let generation = state.generation_of(check)?;
    let spent = standing.spent.get(&check.name);
    let counts = |pass: &&Pass| {
        pass.generation == generation
            && pass.boot == facts.boots.count()
            && (pool.accept_self_report || !pass.own_word)
            && facts.remembers(pass)
            && spent.is_none_or(|spent| !spent.covers(pass))
            && pass.evidence_at <= now.plus(MAX_SKEW)
            && now < expires_at(pass, check)
    };
    state.passes.iter().filter(counts).max_by_key(|pass| pass.evidence_at)
}

/// Until when the last pass of `check` counts, whatever pools require and accept; `None` where `node` has none that counts, or failed since.
#[must_use]
pub fn passed_until(node: &NodeTrust, check: &CheckPolicy, now: Timestamp) -> Option<Timestamp> {
    let state = node.checks.get(&check.name)?;
    if state.row(true).next().is_some() {
        return None;
    }
    let present = (state.generation_of(check)?, node.facts.boots.count());
    let counts = |pass: &&Pass| (pass.generation, pass.boot) == present && node.facts.remembers(pass);
    let until = state.passes.iter().filter(counts).map(|pass| expires_at(pass, check)).max()?;
    (now < until).then_some(until)
}

/// Why there is no such pass: what is wrong with the newest one.
fn missing(
    pool: &PoolPolicy,
    check: &CheckPolicy,
    state: Option<&CheckState>,
    facts: &NodeFacts,
    now: Timestamp,
) -> Reason {
    let name = check.name.clone();
    let newest = state.and_then(|state| Some((state, state.newest_pass(pool.accept_self_report)?)));
    let Some((state, pass)) = newest else {
        return match state.and_then(|state| state.newest_pass(true)) {
            Some(_) => Reason::OwnWord { check: name },
            None => Reason::NeverPassed { check: name },
        };
    };
    let ends = expires_at(pass, check);
    if pass.generation == FORGOTTEN {
        Reason::Forgotten { check: name }
    } else if state.generation_of(check) != Some(pass.generation) {
        Reason::Redefined { check: name, revision: check.revision }
    } else if pass.boot != facts.boots.count() {
        Reason::Rebooted { check: name }
    } else if !facts.remembers(pass) {
        Reason::Forgotten { check: name }
    } else if ends <= now {
        Reason::Expired { check: name, at: ends }
    } else {
        Reason::Spent { check: name }
    }
}
