# SPDX-License-Identifier: Apache-2.0
"""One JSON text per value (RFC 8785), and the strict parser for text that was signed.

Signed content holds integers within ±(2^53 - 1), text, booleans, null, lists and objects, nested 32 deep at most.
Anything else is refused on both sides, so that what was verified and what is used cannot differ.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import rfc8785

from spice_client.errors import shown

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1


class CanonicalError(ValueError):
    """A value that cannot be signed, or a signed text that is not read."""


def canonicalize(value: Any) -> bytes:
    """The canonical text of ``value``; CanonicalError for floats, large integers, deep nesting and foreign types."""
    _check(value, 0)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise CanonicalError(f"the content cannot be signed: {shown(error, 200)}") from error


def _check(value: Any, depth: int) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise CanonicalError("signed content cannot hold an integer beyond 2^53 - 1: use text")
        return
    if isinstance(value, float):
        raise CanonicalError(f"signed content cannot hold the number {value!r}: use an integer, or text")
    if not isinstance(value, (dict, list, tuple)):
        raise CanonicalError(f"signed content cannot hold a {type(value).__name__}: convert it to text first")
    if depth >= MAX_DEPTH:
        raise CanonicalError(f"signed content is nested deeper than {MAX_DEPTH} levels: flatten it")
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise CanonicalError(f"signed content cannot hold the member name {shown(repr(name))}: use text")
            _check(member, depth + 1)
    else:
        for item in value:
            _check(item, depth + 1)


def parse_strict(text: bytes | str) -> Any:
    """Reads JSON, accepting only what canonicalize() could have signed, in any layout.

    Refuses, with CanonicalError, members named twice, floats, integers beyond 2^53 - 1, nesting beyond 32, lone
    surrogates, and text after the value.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except CanonicalError:
        raise
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"not valid JSON for signed content: {shown(error, 200)}") from error
    canonicalize(value)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Libraries disagree on which of the two counts, so neither does.
        raise CanonicalError("not valid JSON for signed content: a member occurs twice")
    return members


def _refuse_number(text: str) -> NoReturn:
    raise CanonicalError(f"signed content cannot hold the number {shown(text)}: use an integer, or text")


def _integer(text: str) -> int:
    # Length first: Python refuses, or takes long over, integers of thousands of digits.
    if text == "-0" or len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        _refuse_number(text)
    return int(text)
