"""A check for tests of adapters: it says what it was asked, and answers when the test lets it."""

import asyncio
import pathlib

from spice_adapter import Check, failed, passed


class Gated(Check):
    """Writes ``folder/asked-NODE``, then waits for ``folder/NODE``, which holds pass or fail."""

    name = "gated"
    schema = {"type": "object", "additionalProperties": False, "properties": {"word": {"type": "string"}}}

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)

    async def judge(self, node, parameters):
        (self._folder / f"asked-{node}").touch()
        gate = self._folder / node
        while not gate.exists():
            await asyncio.sleep(0.05)
        said = gate.read_text().strip()
        return passed("let through") if said == "pass" else failed("told to fail")
