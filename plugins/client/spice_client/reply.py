# SPDX-License-Identifier: Apache-2.0
"""Signatures of replies, for whoever reads replies from the wire: oslo.messaging's client does not show them."""

from __future__ import annotations

from typing import Any

from spice_client.canonical import CanonicalError, canonicalize
from spice_client.errors import AuthError
from spice_client.request import checked_frame
from spice_client.trust import TrustedKey, TrustStore, satisfies

_FRAME = {"v": int, "key_id": str, "sender": str, "time": int, "signature": str}


def verify_reply(
    auth: Any,
    store: TrustStore,
    deployment: str,
    *,
    request_id: str,
    request_digest: bytes,
    role: str,
    **outcome: Any,
) -> TrustedKey:
    """Verifies that ``auth`` signs ``result=...`` or ``failure=...`` as the answer to one request; else AuthError.

    ``request_id`` is the call's ``_msg_id``, ``request_digest`` what sign_request() gave, ``role`` who may answer.
    """
    if outcome.keys() not in ({"result"}, {"failure"}):
        raise TypeError("verify_reply() takes either result or failure")
    frame = checked_frame(auth, _FRAME)
    signed = {name: value for name, value in frame.items() if name != "signature"}
    signed.update(outcome, type="spice-reply-v1", deployment=deployment, request_id=request_id)
    signed["request_digest"] = request_digest.hex()
    try:
        covered = canonicalize(signed)
    except CanonicalError as error:
        raise AuthError("malformed", f"the signed message is malformed: {error}") from error
    key = store.verify(frame["key_id"], frame["sender"], covered, frame["signature"])
    key.check_valid(frame["time"])
    if not satisfies(key.roles, role):
        raise AuthError("forbidden", f"key {key.key_id} may not do this: it takes the role {role}")
    return key
