# SPDX-License-Identifier: Apache-2.0
"""One batch: its nodes judged side by side, each result told when it is known, all of them by the deadline."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spice_client.errors import shown
from spice_client.request import now_ms

from spice_adapter.check import Check, CheckError, Outcome

LOG = logging.getLogger(__name__)

# Results known early are handed over together within this time, in seconds.
EARLY = 0.5
# Longest reason and boot SPICE keeps, in characters.
_LONGEST = {"reason": 255, "boot": 128}
_STATUSES = ("pass", "fail")

Result = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """What a ticket allows: judging these nodes until then. ``name`` is how announcements spell the ticket."""

    name: Mapping[str, int]
    check: str
    nodes: tuple[str, ...]
    deadline: int
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, ticket: Mapping[str, Any], parameters: Mapping[str, Any]) -> Batch:
        """The batch of a ticket that was verified."""
        name = {member: ticket[member] for member in ("epoch", "run", "batch", "attempt")}
        # A node named twice is judged once.
        nodes = tuple(dict.fromkeys(ticket["nodes"]))
        return cls(name, ticket["check"], nodes, ticket["deadline"], parameters)

    @property
    def key(self) -> tuple[int, ...]:
        """The name as something to compare and sort by."""
        return tuple(self.name.values())

    def left(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return (self.deadline - now_ms()) / 1000


def run(check: Check, batch: Batch, tell: Callable[[list[Result]], None], at_once: int = 100) -> None:
    """``judge`` in an event loop of its own, which waits for no thread that does not end."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(at_once, thread_name_prefix="spice-judge"))
    try:
        loop.run_until_complete(judge(check, batch, tell, at_once))
    finally:
        loop.close()


async def judge(check: Check, batch: Batch, tell: Callable[[list[Result]], None], at_once: int = 100) -> None:
    """Judges every node, at most ``at_once`` at the same time, and tells exactly one result of each.

    A tenth of the time left (0.2 to 3 s) is kept for handing over. ``tell`` is given what is known, every half second.
    """
    left = batch.left()
    until = time.monotonic() + left - min(max(left / 10, 0.2), 3.0, left / 2)
    turns = asyncio.Semaphore(at_once)
    tasks = {asyncio.create_task(_judge_one(check, node, batch.parameters, turns)): node for node in batch.nodes}
    pending = set(tasks)
    while pending and (remains := until - time.monotonic()) > 0:
        flush_at = time.monotonic() + min(EARLY, remains)
        results: list[Result] = []
        while pending and (wait := flush_at - time.monotonic()) > 0:
            done, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            results += [task.result() for task in done]
        if results:
            tell(results)
    for task in pending:
        task.cancel()
    if pending:
        tell([_unjudged(tasks[task], "timeout", "no answer before the deadline") for task in pending])
        # Whoever does not end when it is cancelled is left behind with the event loop.
        await asyncio.wait(pending, timeout=0.2)


async def _judge_one(check: Check, node: str, parameters: Mapping[str, Any], turns: asyncio.Semaphore) -> Result:
    async with turns:
        requested_at = now_ms()
        try:
            outcome = await check.judge(node, parameters)
            return _result(node, outcome, requested_at)
        except CheckError as error:
            return _unjudged(node, "error", str(error), requested_at)
        except Exception as error:
            LOG.exception("the check failed inside while it judged %s", shown(node))
            reason = f"the adapter failed inside ({type(error).__name__}, see its log); report this as a bug"
            return _unjudged(node, "error", reason, requested_at)


def _result(node: str, outcome: Outcome, requested_at: int) -> Result:
    if not isinstance(outcome, Outcome) or outcome.status not in _STATUSES:
        raise TypeError("judge() must return passed(...) or failed(...)")
    result: Result = {
        "node": node,
        "status": outcome.status,
        "reason": shown(outcome.reason, _LONGEST["reason"]),
        "requested_at": requested_at,
        "finished_at": now_ms(),
        "self_reported": bool(outcome.self_reported),
    }
    if outcome.verified_at is not None:
        result["verified_at"] = int(outcome.verified_at)
    if outcome.boot is not None:
        result["boot"] = shown(outcome.boot, _LONGEST["boot"])
    return result


def _unjudged(node: str, status: str, reason: str, requested_at: int | None = None) -> Result:
    now = now_ms()
    return {
        "node": node,
        "status": status,
        "reason": shown(reason, _LONGEST["reason"]),
        "requested_at": now if requested_at is None else requested_at,
        "finished_at": now,
        "self_reported": False,
    }
