# SPDX-License-Identifier: Apache-2.0
"""Handing results over: kept until the broker has stored them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from spice_client.canonical import CanonicalError

from spice_adapter.batch import Result

LOG = logging.getLogger(__name__)

# Seconds before results that could not be handed over are tried again: at first, and at most.
RETRY = (0.2, 10.0)


class HandOver:
    """Sends results until they are stored.

    ``send`` gets a ticket and results and raises when the broker did not confirm that it has stored them in a queue:
    the queue of Nodes is full, was never made, or the broker is away. Whoever gives results waits meanwhile, and so
    takes no more batches; what is kept is bounded by the batches in hand. Failures come first in every message.
    """

    def __init__(self, send: Callable[[Mapping[str, str], list[Result]], None]) -> None:
        self._send = send
        self._give_up = threading.Event()
        self._lock = threading.Lock()
        self._kept = 0

    @property
    def kept(self) -> int:
        """How many results could not be handed over yet."""
        return self._kept

    def give(self, ticket: Mapping[str, str], results: list[Result]) -> bool:
        """Hands results over, however long it takes; False when that was given up or can never succeed."""
        ordered = sorted(results, key=lambda result: result["status"] != "fail")
        with self._lock:
            self._kept += len(ordered)
        pause = RETRY[0]
        while True:
            try:
                self._send(ticket, ordered)
            except CanonicalError as error:
                LOG.error("%d results can never be handed over and are dropped: %s", len(ordered), error)
                stored = False
                break
            except Exception as error:  # noqa: BLE001 - whatever the transport raises, the results are kept
                LOG.warning("%d results are kept and handed over later: %s", len(ordered), _brief(error))
            else:
                stored = True
                break
            if self._give_up.wait(pause):
                return False
            pause = min(pause * 2, RETRY[1])
        with self._lock:
            self._kept -= len(ordered)
        return stored

    def give_up(self) -> None:
        """Ends all waiting; what was not handed over is lost, and Checks asks another adapter for it."""
        self._give_up.set()


def _brief(error: Exception) -> Any:
    text = str(error)
    return text if len(text) <= 200 else text[:199] + "…"
