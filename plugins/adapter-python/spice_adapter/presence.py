# SPDX-License-Identifier: Apache-2.0
"""Showing Checks that this adapter lives, and which batches it holds: what a lost adapter held is sent to another."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from spice_adapter.batch import Batch

LOG = logging.getLogger(__name__)

# Seconds between two announcements; within the second a batch that was taken is told of.
EVERY = 5.0
SOON = 0.25
# Most batches one announcement may name.
MAX_HOLDING = 1000


class InHand:
    """The batches taken and not handed over yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[tuple[int, ...], Batch] = {}
        self.taken = threading.Event()

    @contextmanager
    def holding(self, batch: Batch) -> Iterator[bool]:
        """Holds a batch; False when it is held already, under the very same ticket."""
        with self._lock:
            fresh = batch.key not in self._batches
            if fresh:
                self._batches[batch.key] = batch
        self.taken.set()
        try:
            yield fresh
        finally:
            if fresh:
                with self._lock:
                    del self._batches[batch.key]

    def names(self) -> list[Mapping[str, int]]:
        """How the tickets of these batches are named."""
        with self._lock:
            return [batch.name for _, batch in sorted(self._batches.items())][:MAX_HOLDING]


class Presence:
    """Announces an adapter from a thread of its own. ``announce`` is given the arguments of ``adapter_announce``."""

    def __init__(
        self,
        announce: Callable[[dict[str, Any]], None],
        adapter: str,
        instance: str,
        schema: Mapping[str, Any],
        in_hand: InHand,
    ) -> None:
        self._announce = announce
        self._fixed = {
            "adapter": adapter,
            "instance": instance,
            "schema": dict(schema),
            # New with every start: SPICE then knows that what this instance held before is lost.
            "incarnation": uuid.uuid4().hex,
        }
        self._in_hand = in_hand
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spice-presence", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, without waiting for the broker."""
        self._stop.set()
        self._in_hand.taken.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._in_hand.taken.clear()
            try:
                self._announce({**self._fixed, "holding": self._in_hand.names()})
            except Exception as error:  # noqa: BLE001 - whatever the transport raises, the next one may go through
                LOG.info("this adapter could not announce itself: %s", error)
            if self._in_hand.taken.wait(EVERY):
                # Those taken in the same moment are told of together.
                self._stop.wait(SOON)
