# SPDX-License-Identifier: Apache-2.0
"""Why something is not believed."""

from __future__ import annotations

import unicodedata


class AuthError(Exception):
    """A request, reply or document that is not believed.

    ``kind`` is one stable word for counters: unsigned, malformed, wrong_deployment, wrong_target, unknown_key, revoked,
    sender_mismatch, bad_signature, expired, replayed or forbidden. The text is safe to show.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def shown(text: object, limit: int = 64) -> str:
    """``text`` from outside, short and without characters that control or reorder a terminal's text."""
    safe = []
    for character in str(text)[: limit + 1]:
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        safe.append(character.encode("unicode_escape").decode("ascii") if hidden else character)
    result = "".join(safe)
    return result if len(result) <= limit else result[: limit - 1] + "…"
