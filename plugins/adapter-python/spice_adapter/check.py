# SPDX-License-Identifier: Apache-2.0
"""What an author writes: how one node is judged."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class CheckError(Exception):
    """The node could not be judged; the text says why, and what to do. Any other exception means the same."""


@dataclass(frozen=True)
class Outcome:
    """What was found of one node; made with ``passed`` or ``failed``.

    ``verified_at`` (milliseconds since 1970) says since when what was judged is known: a result is as old as that.
    ``boot`` is any text that changes with every boot of the node. ``self_reported`` says that it is only the node's own
    word, which never makes a node trusted unless the pool accepts that.
    """

    status: str
    reason: str
    verified_at: int | None = None
    boot: str | None = None
    self_reported: bool = False


def passed(reason: str, **more: Any) -> Outcome:
    """The node was judged and found good."""
    return Outcome("pass", reason, **more)


def failed(reason: str, **more: Any) -> Outcome:
    """The node was judged and found bad. What could not be asked is no failure: raise CheckError."""
    return Outcome("fail", reason, **more)


class Check(abc.ABC):
    """One way to judge nodes.

    ``name`` is the adapter's name: lower-case letters, digits and underscores; its key holds the role ``adapter:NAME``.
    ``schema`` is the JSON Schema of the parameters; SPICE refuses checks whose parameters do not match when they are
    registered. Numbers in it are integers.
    """

    name: str
    schema: Mapping[str, Any]

    @abc.abstractmethod
    async def judge(self, node: str, parameters: Mapping[str, Any]) -> Outcome:
        """Judges one node; raises CheckError when that is not possible.

        Called for many nodes at the same time and cancelled at the deadline, so it must not block: what blocks goes
        through ``asyncio.to_thread``, with a time limit of its own.
        """
