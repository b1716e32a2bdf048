"""The Python adapter: judging by the deadline, keeping results, believing only Checks."""

import asyncio
import json
import os
import pathlib
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugins" / "client"), str(ROOT / "plugins" / "adapter-python")]

import spice_adapter.batch as batches  # noqa: E402
import spice_adapter.handover as handover  # noqa: E402
from spice_adapter import Adapter, Batch, Check, CheckError, HandOver, InHand, Presence, Transports, failed, passed  # noqa: E402  # noqa: E402
from spice_adapter.__main__ import EXIT_USAGE, load_check, main  # noqa: E402
from spice_adapter.reported import Reported  # noqa: E402
from spice_client import Signer, TrustStore, sign_document, sign_request  # noqa: E402
from spice_client.request import CONTEXT_MEMBER, now_ms  # noqa: E402
from spice_client.trust import TrustedKey  # noqa: E402

VECTORS = ROOT / "tests" / "vectors"
NAME = {"epoch": 1, "run": 2, "batch": 3, "attempt": 1}


class Scripted(Check):
    """Does with each node what its name says."""

    name = "scripted"
    schema = {"type": "object"}

    def __init__(self):
        self.at_once = 0
        self.most_at_once = 0

    async def judge(self, node, parameters):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if node.startswith("silent"):
                await asyncio.sleep(3600)
            if node.startswith("hung"):
                await asyncio.to_thread(time.sleep, 4)
            if node.startswith("slow"):
                await asyncio.sleep(0.2)
        finally:
            self.at_once -= 1
        if node.startswith("unknown"):
            raise CheckError("the verifier\x1b[2J does not know it")
        if node.startswith("bug"):
            return None
        if node.startswith("bad"):
            return failed("x" * 500, verified_at=5, boot="b" * 500)
        return passed("good", self_reported=True)


def batch(nodes, seconds=60, **parameters):
    return Batch(NAME, "c", tuple(nodes), now_ms() + int(seconds * 1000), parameters)


def judged(nodes, seconds=60, check=None, at_once=100):
    told = []
    batches.run(check or Scripted(), batch(nodes, seconds), told.extend, at_once)
    return {result["node"]: result for result in told}, told


def test_every_node_has_one_result_and_no_node_spoils_another():
    by_node, told = judged(["good-1", "bad-1", "unknown-1", "bug-1"])
    assert len(told) == 4
    statuses = {node: result["status"] for node, result in by_node.items()}
    assert statuses == {"good-1": "pass", "bad-1": "fail", "unknown-1": "error", "bug-1": "error"}
    assert by_node["good-1"]["self_reported"] and "verified_at" not in by_node["good-1"]
    bad = by_node["bad-1"]
    assert bad["verified_at"] == 5 and len(bad["reason"]) <= 255 and len(bad["boot"]) <= 128
    assert "\x1b" not in by_node["unknown-1"]["reason"]
    assert "report this as a bug" in by_node["bug-1"]["reason"]


def test_at_the_deadline_silent_nodes_are_timeouts_and_the_others_stand():
    started = time.monotonic()
    by_node, told = judged(["silent-1", "good-1", "hung-1"], seconds=2)
    assert time.monotonic() - started < 3.5, "a thread that does not end is not waited for"
    assert {node: result["status"] for node, result in by_node.items()} == {
        "silent-1": "timeout",
        "good-1": "pass",
        "hung-1": "timeout",
    }
    assert told[0]["node"] == "good-1" and len(told) == 3


def test_nodes_are_judged_side_by_side_but_not_too_many():
    check = Scripted()
    by_node, _ = judged([f"slow-{n}" for n in range(30)], check=check, at_once=10)
    assert len(by_node) == 30 and check.most_at_once == 10


def test_results_are_kept_until_they_are_stored_failures_first(monkeypatch):
    monkeypatch.setattr(handover, "RETRY", (0.01, 0.02))
    sent, refusals = [], iter([OSError("no broker"), RuntimeError("the queue is full")])

    def send(ticket, results):
        for refusal in refusals:
            raise refusal
        sent.append((ticket, [result["status"] for result in results]))

    hand_over = HandOver(send)
    assert hand_over.give({"kind": "ticket"}, [{"status": "pass"}, {"status": "error"}, {"status": "fail"}])
    assert sent == [({"kind": "ticket"}, ["fail", "pass", "error"])]
    assert hand_over.kept == 0


def test_whoever_stops_says_how_much_it_could_not_hand_over():
    tried = threading.Event()

    def send(ticket, results):
        tried.set()
        raise OSError("no broker")

    hand_over = HandOver(send)
    outcome = []
    giver = threading.Thread(target=lambda: outcome.append(hand_over.give({}, [{"status": "fail"}] * 3)))
    giver.start()
    assert tried.wait(10)
    assert hand_over.kept == 3
    hand_over.give_up()
    giver.join(10)
    assert outcome == [False]


def test_announcements_name_what_is_in_hand_and_a_new_word_with_every_start():
    in_hand, said, changed = InHand(), [], threading.Event()

    def announce(args):
        said.append(args)
        changed.set()

    presences = [Presence(announce, "scripted", "host-1", {}, in_hand) for _ in range(2)]
    with in_hand.holding(batch(["n1"])) as fresh:
        assert fresh
        with in_hand.holding(batch(["n1"])) as again:
            assert not again, "the same ticket twice is one batch"
        for presence in presences:
            changed.clear()
            presence.start()
            assert changed.wait(10)
    for presence in presences:
        presence.stop()
    assert said[0]["holding"] == [NAME] and said[0]["instance"] == "host-1"
    assert len({args["incarnation"] for args in said}) == 2
    assert in_hand.names() == []


@pytest.fixture
def adapter(tmp_path):
    """An adapter that never reaches a broker, and what signs as Checks and as somebody else."""

    def signer(name, sender):
        path = tmp_path / name
        path.write_bytes((VECTORS / name).read_bytes())
        path.chmod(0o600)
        return Signer(path, sender, "test-cloud")

    checks, other = signer("checks.pem", "checks"), signer("admin.pem", "other")
    store = TrustStore.of(
        TrustedKey(who.key_id, who.sender, frozenset([role]), who.public_key)
        for who, role in [(checks, "checks"), (other, "adapter:scripted")]
    )
    made = Adapter(Scripted(), Transports([], "rabbit://127.0.0.1:1/"), other, store, "host-1")
    stored = []
    made.hand_over = HandOver(lambda ticket, results: stored.extend(results))
    return made, checks, other, stored


def ticket_for(**changes):
    now = now_ms()
    ticket = {**NAME, "deployment": "test-cloud", "check": "c", "check_id": "c-1", "revision": 1}
    ticket |= {"adapter": "scripted", "nodes": ["good-1"], "issued_at": now, "deadline": now + 60_000}
    return {**ticket, **changes}


def deliver(
    receiver, request_signer, ticket_signer, topic="spice-adapter-scripted", tamper=None, further=None, **changes
):
    args = {"ticket": sign_document("ticket", ticket_for(**changes), ticket_signer), "parameters": {}} | (further or {})
    auth, _ = sign_request(
        request_signer, exchange="spice_work", topic=topic, method="run_check", args=args, version="1.0"
    )
    if tamper:
        tamper(args)
    receiver.run_check({CONTEXT_MEMBER: auth}, **args)


def test_a_batch_of_checks_is_carried_out_once(adapter):
    made, checks, _, stored = adapter
    for _ in range(2):
        deliver(made, checks, checks)
    assert [result["status"] for result in stored] == ["pass"]
    deliver(made, checks, checks, attempt=2)
    assert len(stored) == 2, "another attempt is another batch"


def test_what_checks_says_beside_ticket_and_parameters_is_signed_and_need_not_be_known(adapter, caplog):
    made, checks, _, stored = adapter
    deliver(made, checks, checks, further={"retries": 7})
    assert [result["status"] for result in stored] == ["pass"]
    deliver(made, checks, checks, further={"retries": 7}, attempt=2, tamper=lambda args: args.update(retries=8))
    deliver(made, checks, checks, attempt=2, tamper=lambda args: args.update(retries=8))
    assert len([line for line in caplog.messages if line.startswith("a batch was refused")]) == 2
    assert len(stored) == 1


def test_only_what_checks_signed_for_this_adapter_and_cloud_is_carried_out(adapter, caplog):
    made, checks, other, stored = adapter
    deliver(made, other, checks)
    deliver(made, checks, other)
    deliver(made, checks, checks, adapter="command")
    deliver(made, checks, checks, deployment="other-cloud")
    deliver(made, checks, checks, topic="spice-adapter-command")
    deliver(made, checks, checks, tamper=lambda args: args.update(parameters={"word": "mine"}))
    made.run_check({}, {"kind": "ticket"}, {})
    assert len([line for line in caplog.messages if line.startswith("a batch was refused")]) == 7
    deliver(made, checks, checks, deadline=now_ms() - 1)
    assert stored == []


def test_the_example_compares_and_dates_its_evidence_by_the_file(tmp_path):
    check = Reported(str(tmp_path))
    for node, text in [("n1", "6.12.0\nmore\n"), ("n2", "\x1b[2Jother\n")]:
        (tmp_path / node).write_text(text)
    os.utime(tmp_path / "n1", (1000, 1000))
    judge = lambda node: asyncio.run(check.judge(node, {"expected": "6.12.0"}))  # noqa: E731
    assert (judge("n1").status, judge("n1").verified_at) == ("pass", 1_000_000)
    assert judge("n2").status == "fail" and "\x1b" not in judge("n2").reason


@pytest.mark.parametrize("node", ["absent", "link", "pipe", "folder", "../n1", ".hidden"])
def test_what_is_no_report_is_no_failure_of_the_node(tmp_path, node):
    inner = tmp_path / "reports"
    inner.mkdir()
    (tmp_path / "n1").write_text("6.12.0")
    (inner / ".hidden").write_text("6.12.0")
    (inner / "link").symlink_to(tmp_path / "n1")
    os.mkfifo(inner / "pipe")
    (inner / "folder").mkdir()
    with pytest.raises((CheckError, IsADirectoryError)):
        asyncio.run(Reported(str(inner)).judge(node, {"expected": "6.12.0"}))


def test_wrong_use_is_told_in_a_sentence(tmp_path, capsys):
    for named, options in [("nothing", {}), ("no_such_module:X", {}), ("json:JSONDecoder", {}), ("json:nothing", {})]:
        with pytest.raises(ValueError, match="--check"):
            load_check(named, options)
    usual = ["--deployment", "d", "--key", str(tmp_path / "absent.pem"), "--trust", str(tmp_path)]
    assert main([*usual, "--option", f"folder={tmp_path}"]) == EXIT_USAGE
    assert main([*usual, "--option", f"folder={tmp_path}/absent"]) == EXIT_USAGE
    lines = capsys.readouterr().err.splitlines()
    assert "absent.pem" in lines[0] and "is not a directory" in lines[1]
    json.dumps(Reported.schema)
