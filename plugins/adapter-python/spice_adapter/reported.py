# SPDX-License-Identifier: Apache-2.0
"""An example to replace: nodes judged by what another tool found out and wrote down, a file per node.

A configuration management run, say, writes the running kernel's release of ``compute-1`` to ``FOLDER/compute-1``. The
check passes when the first line is the expected one. A pass is as old as the file: when the tool stops writing, trust
runs out.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

from spice_client.errors import shown

from spice_adapter.check import Check, CheckError, Outcome, failed, passed

_MAX_BYTES = 4096


class Reported(Check):
    """Compares the first line of ``folder/NODE`` with the parameter ``expected``."""

    name = "reported"
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["expected"],
        "properties": {"expected": {"type": "string", "minLength": 1, "maxLength": 200}},
    }

    def __init__(self, folder: str) -> None:
        # From this machine's command line, never a parameter: whoever registers checks must not choose what is read.
        self._folder = pathlib.Path(folder)
        if not self._folder.is_dir():
            raise ValueError(f"folder {folder} is not a directory; make it, and have the files written there")

    async def judge(self, node: str, parameters: Mapping[str, Any]) -> Outcome:
        text, written_at = await asyncio.to_thread(self._read, node)
        line = text.split("\n", 1)[0].strip()
        if line == parameters["expected"]:
            return passed(f"reports {shown(line)}", verified_at=written_at)
        return failed(f"reports {shown(line)!r}, not {shown(parameters['expected'])!r}", verified_at=written_at)

    def _read(self, node: str) -> tuple[str, int]:
        # SPICE's node names cannot name another folder; a check of our own costs nothing.
        if node != os.path.basename(node) or node.startswith("."):
            raise CheckError("the node's name is no file name")
        try:
            descriptor = os.open(self._folder / node, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CheckError(f"no report can be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CheckError("the report is no regular file")
            content = file.read(_MAX_BYTES)
        return content.decode("utf-8", "replace"), status.st_mtime_ns // 1_000_000
