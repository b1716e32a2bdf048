# SPDX-License-Identifier: Apache-2.0
"""Signed RPC requests; the signature travels in the request context as member CONTEXT_MEMBER."""

from __future__ import annotations

import hashlib
import re
import time as clock
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spice_client.canonical import CanonicalError, canonicalize
from spice_client.errors import AuthError, shown
from spice_client.keys import Signer
from spice_client.trust import TrustStore

CONTEXT_MEMBER = "spice_auth"

_REQUEST_ID = re.compile(r"[0-9a-f]{32}\Z")
_TARGET = ("exchange", "topic", "server", "fanout")
_FRAME = {
    "v": int,
    "deployment": str,
    "sender": str,
    "key_id": str,
    "time": int,
    "id": str,
    "exchange": str,
    "topic": str,
    "server": (str, type(None)),
    "fanout": bool,
    "signature": str,
}


def now_ms() -> int:
    """Now, in milliseconds since 1970."""
    return clock.time_ns() // 1_000_000


def sign_request(
    signer: Signer,
    *,
    exchange: str,
    topic: str,
    method: str,
    args: Mapping[str, Any],
    server: str | None = None,
    fanout: bool = False,
    namespace: str | None = None,
    version: str | None = None,
    time: int | None = None,
    id: str | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Signs one request: what belongs into the context as CONTEXT_MEMBER, and the digest its reply is bound to.

    CanonicalError when an argument cannot be signed. ``time`` (milliseconds since 1970) and ``id`` are for tests.
    """
    auth = {
        "v": 1,
        "deployment": signer.deployment,
        "sender": signer.sender,
        "key_id": signer.key_id,
        "time": now_ms() if time is None else time,
        "id": id or uuid.uuid4().hex,
        "exchange": exchange,
        "topic": topic,
        # oslo.messaging ignores the server of a fanout.
        "server": None if fanout else server,
        "fanout": bool(fanout),
    }
    covered = _covered(auth, method, args, namespace, version)
    auth["signature"] = signer.sign(covered)
    return auth, hashlib.sha256(covered).digest()


def _covered(auth: dict[str, Any], method: str, args: Any, namespace: str | None, version: str | None) -> bytes:
    signed = {name: value for name, value in auth.items() if name != "signature"}
    signed.update(type="spice-request-v1", namespace=namespace, method=method, version=version, args=args)
    return canonicalize(signed)


def checked_frame(auth: Any, members: Mapping[str, Any]) -> dict[str, Any]:
    """``auth``, when it has exactly these members, of these types, and version 1; else AuthError."""
    if auth is None:
        raise AuthError("unsigned", "the message is not signed: sign it with a key file")
    if not isinstance(auth, dict) or not auth.keys() <= members.keys():
        raise AuthError("malformed", "the signed message is malformed: its signature is no object of the known members")
    for name, kind in members.items():
        value = auth.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise AuthError("malformed", f"the signed message is malformed: {name} is missing or of the wrong type")
    if auth["v"] != 1:
        raise AuthError("malformed", f"the signed message is malformed: version {auth['v']} is not known here")
    if not re.match(r"[0-9a-f]{32}\Z", auth["key_id"]):
        raise AuthError("malformed", "the signed message is malformed: the key id is none")
    return auth


@dataclass(frozen=True)
class Verified:
    """A request whose signature holds; its time, its id and what its roles allow are for the caller to judge."""

    sender: str
    key_id: str
    roles: frozenset[str]
    time: int
    id: str
    digest: bytes


def verify_request(
    auth: Any,
    store: TrustStore,
    deployment: str,
    *,
    exchange: str,
    topic: str,
    method: str,
    args: Mapping[str, Any],
    server: str | None = None,
    fanout: bool = False,
    namespace: str | None = None,
    version: str | None = None,
) -> Verified:
    """Verifies the signature ``auth`` (the context's CONTEXT_MEMBER) over a request as it arrived; AuthError if not.

    ``server`` and ``fanout`` say how it arrived. A server that is not told passes what ``auth`` claims, after comparing
    the claimed server with its own name.
    """
    frame = checked_frame(auth, _FRAME)
    if not _REQUEST_ID.match(frame["id"]):
        raise AuthError("malformed", "the signed message is malformed: the id must be 32 lower-case hexadecimal digits")
    if frame["deployment"] != deployment:
        text = f"the message was signed for deployment {shown(frame['deployment'])!r}, this is {deployment!r}"
        raise AuthError("wrong_deployment", text)
    for name, own in zip(_TARGET, (exchange, topic, server, fanout)):
        if frame.get(name) != own:
            text = f"the message was signed for another {name} ({shown(frame.get(name))!r}, arrived at {shown(own)!r})"
            raise AuthError("wrong_target", text)
    try:
        covered = _covered({"server": None, **frame}, method, args, namespace, version)
    except CanonicalError as error:
        raise AuthError("malformed", f"the signed message is malformed: {error}") from error
    key = store.verify(frame["key_id"], frame["sender"], covered, frame["signature"])
    key.check_valid(frame["time"])
    digest = hashlib.sha256(covered).digest()
    return Verified(key.sender, key.key_id, key.roles, frame["time"], frame["id"], digest)


def check_window(time: int, now: int | None = None, window: int = 60_000) -> None:
    """AuthError unless ``time`` is at most ``window`` from ``now``; all in milliseconds."""
    distance = abs(time - (now_ms() if now is None else now))
    if distance > window:
        text = f"the message was signed {distance} ms from now (at most {window} ms)"
        raise AuthError("expired", f"{text}: set both clocks (NTP) and send it again")
