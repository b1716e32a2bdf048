"""Rules of the engine, each broken on purpose: what stands once in a file is replaced, and asks there which rule to break.

So all of them are built at once, and one at a time is in force. BROKEN in a replacement stands for that question.
"""

# Lines of Rust are as long as they are.
# ruff: noqa: E501

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutation:
    name: str
    what: str
    edits: tuple

    def apply(self, sources):
        """Changes the files under `sources`, which is a copy."""
        for file, old, new in self.edits:
            path = sources / "src" / file
            text = path.read_text()
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {file} has {text.count(old)} times: {old}")
            path.write_text(text.replace(old, new.replace("BROKEN", f'crate::sim::breaks("{self.name}")')))


MUTATIONS = [
    Mutation(
        "own-word-counts",
        "What a node says of itself counts as a required pass.",
        (
            (
                "trust/judge.rs",
                "&& (pool.accept_self_report || !pass.own_word)",
                "&& (pool.accept_self_report || BROKEN || !pass.own_word)",
            ),
        ),
    ),
    Mutation(
        "revision-ignored",
        "Passes of an older definition count.",
        (
            (
                "trust/judge.rs",
                "let generation = state.generation_of(check)?;",
                "let generation = state.generation_of(check).or(BROKEN.then_some(0))?;",
            ),
            (
                "trust/judge.rs",
                "        pass.generation == generation\n",
                "        (pass.generation == generation || BROKEN)\n",
            ),
        ),
    ),
    Mutation(
        "boot-ignored",
        "Passes of an earlier boot count.",
        (
            (
                "trust/judge.rs",
                "            && pass.boot == facts.boots.count()\n",
                "            && (pass.boot == facts.boots.count() || BROKEN)\n",
            ),
        ),
    ),
    Mutation(
        "ttl-ignored",
        "A pass counts for longer than its time.",
        (
            (
                "trust/standing.rs",
                "pass.evidence_at.plus(Duration::from_millis(u64::try_from(check.ttl_ms).unwrap_or(0)))",
                "pass.evidence_at.plus(Duration::from_millis(u64::try_from(check.ttl_ms).unwrap_or(0) * if BROKEN { 3 } else { 1 }))",
            ),
        ),
    ),
    Mutation(
        "dated-by-arrival",
        "A result is as old as its arrival.",
        (
            (
                "nodes/recorder.rs",
                "        for result in results {\n",
                "        for mut result in results {\n"
                "            let mut ticket = ticket.clone();\n"
                "            if BROKEN {\n"
                "                (ticket.issued_at, result.requested_at) = (now, now);\n"
                "            }\n"
                "            let ticket = &ticket;\n",
            ),
        ),
    ),
    Mutation(
        "hold-down-ignored",
        "Passes end distrust at once.",
        (
            (
                "trust/flap.rs",
                "let usual = after(distrust.failed_at, check.judgement.hold_down_ms);",
                "let usual = after(distrust.failed_at, if BROKEN { 0 } else { check.judgement.hold_down_ms });",
            ),
        ),
    ),
    Mutation(
        "recover-after-ignored",
        "One pass ends distrust.",
        (
            (
                "trust/standing.rs",
                ">= check.judgement.recover_after.max(1)\n",
                ">= if BROKEN { 1 } else { check.judgement.recover_after.max(1) }\n",
            ),
        ),
    ),
    Mutation(
        "fail-after-ignored",
        "One failure is enough.",
        (
            (
                "trust/standing.rs",
                "        enough && unforgiven &&",
                "        (enough || BROKEN) && unforgiven &&",
            ),
        ),
    ),
    Mutation(
        "errors-distrust",
        "A verifier that cannot judge a node distrusts it.",
        (
            (
                "trust/fold.rs",
                "Status::Error | Status::Timeout => take_unjudged(state, seen),",
                "Status::Error | Status::Timeout if BROKEN => take_failure(state, seen, generation, now),\n"
                "            Status::Error | Status::Timeout => take_unjudged(state, seen),",
            ),
        ),
    ),
    Mutation(
        "late-pass-counts",
        "A pass counts although its run was over without an answer.",
        (
            (
                "trust/fold.rs",
                "if let Some(run) = state.closed.iter_mut().find(|run| run.order == key) {\n        return match run.how {",
                "if let Some(run) = state.closed.iter_mut().find(|run| run.order == key && !BROKEN) {\n        return match run.how {",
            ),
        ),
    ),
    Mutation(
        "quarantine-ignored",
        "A node in quarantine is judged by its checks.",
        (
            (
                "trust/judge.rs",
                "= &node.quarantine {",
                "= node.quarantine.as_ref().filter(|_| !BROKEN) {",
            ),
        ),
    ),
    Mutation(
        "release-trusts",
        "A released node is trusted by what it passed before.",
        (
            (
                "trust/node.rs",
                "self.facts.forget_up_to = self.facts.forget_up_to.max(Some(now));",
                "if !BROKEN {\n            self.facts.forget_up_to = self.facts.forget_up_to.max(Some(now));\n        }",
            ),
        ),
    ),
    Mutation(
        "tombstone-ignored",
        "Whoever registers a node again washes it clean.",
        (("nodes/registry.rs", "match graves.is_empty() {", "match graves.is_empty() || BROKEN {"),),
    ),
    Mutation(
        "late-result-revives",
        "A late result brings a deleted node back.",
        (
            (
                "nodes/recorder.rs",
                "        let Some(entry) = world.touch(stage, &node) else {\n",
                "        if BROKEN && !world.nodes.contains_key(&node) {\n"
                "            let fresh = crate::nodes::entry::Entry {\n"
                "                name: node.clone(),\n"
                "                labels: BTreeMap::new(),\n"
                "                placement: crate::protocol::Placement::default(),\n"
                "                registered_at: now,\n"
                '                trust: crate::trust::NodeTrust::new(""),\n'
                "                verdicts: BTreeMap::new(),\n"
                "                targeting: Vec::new(),\n"
                "            };\n"
                "            stage.touched.entry(node.clone()).or_insert(fresh);\n"
                "        }\n"
                "        let Some(entry) = world.touch(stage, &node) else {\n",
            ),
            (
                "nodes/world.rs",
                "    pub fn touch<'a>(&self, stage: &'a mut Stage, node: &NodeName) -> Option<&'a mut Entry> {\n",
                "    pub fn touch<'a>(&self, stage: &'a mut Stage, node: &NodeName) -> Option<&'a mut Entry> {\n"
                "        if BROKEN && stage.touched.contains_key(node) {\n"
                "            return stage.touched.get_mut(node);\n"
                "        }\n",
            ),
        ),
    ),
    Mutation(
        "foreign-results",
        "Whoever holds a ticket reports about any node.",
        (
            (
                "nodes/results.rs",
                "results.retain(|result| in_ticket.contains(&result.node));",
                "results.retain(|result| BROKEN || in_ticket.contains(&result.node));",
            ),
        ),
    ),
    Mutation(
        "override-outlives-boot",
        "An override holds for whatever the node boots.",
        (
            (
                "trust/standing.rs",
                "&& self.boot == boots.count()",
                "&& (self.boot == boots.count() || BROKEN)",
            ),
        ),
    ),
    Mutation(
        "override-covers-untrusted",
        "An override shows a distrusted node as trusted.",
        (
            (
                "trust/judge.rs",
                "    if let Some(verdict) = distrusted(pool, rules, node, standing, now) {\n        return verdict;\n    }\n"
                "    let required",
                "    if let Some(verdict) = distrusted(pool, rules, node, standing, now) {\n"
                "        return if BROKEN { unknown(node, standing, verdict.reason, now) } else { verdict };\n    }\n"
                "    let required",
            ),
        ),
    ),
    Mutation(
        "distrust-washed-off",
        "Disabling or deleting a check ends the distrust by it.",
        (
            (
                "trust/node.rs",
                "            changed |= self.settle(&mut standing, pool, rules, targeting, now);\n",
                "            if BROKEN {\n"
                "                standing.distrust.retain(|check, _| rules.check(check).is_some_and(|rule| rule.check.enabled));\n"
                "            }\n"
                "            changed |= self.settle(&mut standing, pool, rules, targeting, now);\n",
            ),
        ),
    ),
    Mutation(
        "unconfirmed-loosening",
        "A requirement is loosened, and nobody was asked.",
        (
            (
                "checks/consent.rs",
                "if loosened.is_empty() && !consent.dry_run {",
                "if (loosened.is_empty() || BROKEN) && !consent.dry_run {",
            ),
        ),
    ),
    Mutation(
        "older-policy",
        "Nodes goes back to an older policy.",
        (
            (
                "nodes/policy.rs",
                "known_epoch.filter(|epoch| policy.epoch < *epoch) {",
                "known_epoch.filter(|epoch| policy.epoch < *epoch && !BROKEN) {",
            ),
            (
                "nodes/policy.rs",
                "_ => policy.number >= floor,\n        };",
                "_ => policy.number >= floor || BROKEN,\n        };",
            ),
        ),
    ),
    Mutation(
        "acknowledged-before-stored",
        "Results are acknowledged before the commit.",
        (
            (
                "nodes/recorder.rs",
                "        writing.write(last);\n",
                "        writing.write(last);\n"
                "        if BROKEN {\n"
                "            answer(answers.drain(..), &Ok(()));\n"
                "        }\n",
            ),
        ),
    ),
    Mutation(
        "published-before-stored",
        "The pools are published before the commit.",
        (
            (
                "nodes/recorder.rs",
                "        let outcome = writing.commit().await.map_err(RpcError::from);\n",
                "        if BROKEN {\n"
                "            world.last_result = last_result;\n"
                "            self.take_effect(world, stage, sealed);\n"
                "            let outcome = writing.commit().await.map_err(RpcError::from);\n"
                "            self.recorder.succeeded(size);\n"
                "            return answer(answers.into_iter(), &outcome);\n"
                "        }\n"
                "        let outcome = writing.commit().await.map_err(RpcError::from);\n",
            ),
        ),
    ),
    Mutation(
        "stale-leader-writes",
        "Whoever was paused and is not the leader any more still writes.",
        (
            (
                "store/lease.rs",
                "        database.guarded(Guard { statement, arguments })\n",
                "        if BROKEN {\n            return database.clone();\n        }\n"
                "        database.guarded(Guard { statement, arguments })\n",
            ),
        ),
    ),
    Mutation(
        "paused-leader-acts",
        "Whoever was paused between deciding and acting does not ask whether it leads.",
        (
            (
                "store/lease.rs",
                "        Duration::from_millis(self.0.until.load(Ordering::SeqCst)).saturating_sub(self.now())\n",
                "        if BROKEN {\n            return LEASE;\n        }\n"
                "        Duration::from_millis(self.0.until.load(Ordering::SeqCst)).saturating_sub(self.now())\n",
            ),
        ),
    ),
    Mutation(
        "flapping-ignored",
        "Falls are not counted, so that the hold-down of the check is all a node waits for.",
        (
            (
                "trust/flap.rs",
                "        let last = self.falls.last()?;\n",
                "        let last = self.falls.last().filter(|_| !BROKEN)?;\n",
            ),
        ),
    ),
    Mutation(
        "stale-leader-believed",
        "Whoever was paused goes on speaking, and readers take the epoch that comes.",
        (
            (
                "store/lease.rs",
                "        Duration::from_millis(self.0.until.load(Ordering::SeqCst)).saturating_sub(self.now())\n",
                "        if BROKEN {\n            return LEASE;\n        }\n"
                "        Duration::from_millis(self.0.until.load(Ordering::SeqCst)).saturating_sub(self.now())\n",
            ),
            ("pool/cache.rs", "        if epoch < self.epoch {\n", "        if epoch < self.epoch && !BROKEN {\n"),
            (
                "pool/cache.rs",
                "        if (snapshot.epoch, snapshot.version) < (self.epoch, self.version) {\n",
                "        if (snapshot.epoch, snapshot.version) < (self.epoch, self.version) && !BROKEN {\n",
            ),
        ),
    ),
    Mutation(
        "silence-ignored",
        "Readers are told to believe the last word for ever.",
        (
            (
                "pool/file.rs",
                '"max_silence_ms": pool.max_silence_ms }',
                '"max_silence_ms": if BROKEN { 600_000 } else { pool.max_silence_ms } }',
            ),
        ),
    ),
    Mutation(
        "missed-slots-storm",
        "Slots that were missed run one after the other.",
        (
            (
                "checks/planner.rs",
                "            None => schedule::due(&self.schedule, self.last_slot, self.last_slot, now.utc),\n",
                "            None if BROKEN => {\n"
                "                self.schedule.next_after(self.last_slot, self.last_slot).filter(|slot| *slot <= now.utc)\n"
                "            }\n"
                "            None => schedule::due(&self.schedule, self.last_slot, self.last_slot, now.utc),\n",
            ),
        ),
    ),
    Mutation(
        "future-slot-freezes",
        "A slot stored by a clock that was ahead is waited for.",
        (
            (
                "checks/planner.rs",
                "last_slot.map_or(now.utc, |slot| slot.min(now.utc));",
                "last_slot.map_or(now.utc, |slot| if BROKEN { slot } else { slot.min(now.utc) });",
            ),
            ("checks/schedule/due.rs", "    if last <= now {\n", "    if last <= now || BROKEN {\n"),
        ),
    ),
    Mutation(
        "clock-ahead-binds",
        "What a clock far ahead has dated holds until that time has come.",
        (
            (
                "trust/node.rs",
                "let mut changed = self.mend_clock(now);",
                "let mut changed = !BROKEN && self.mend_clock(now);",
            ),
        ),
    ),
    Mutation(
        "start-by-a-wrong-clock",
        "Everything is refused that was signed before the time that a wrong clock showed at the start.",
        (
            (
                "rpc/server.rs",
                "let began_at = if said.since(by_now) > ADMIN_WINDOW { by_now } else { said };",
                "let began_at = if said.since(by_now) > ADMIN_WINDOW && !BROKEN { by_now } else { said };",
            ),
        ),
    ),
]

SWITCH = """
/// Whether this rule is to be broken.
pub(crate) fn breaks(rule: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("SPICE_SIM_BREAKS").ok()).as_deref() == Some(rule)
}
"""
"""What BROKEN asks; it goes into src/sim/mod.rs."""
