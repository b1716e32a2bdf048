# SPDX-License-Identifier: Apache-2.0
"""Signed documents: tickets, policies and publications, which are believed away from the message they came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spice_client.canonical import CanonicalError, canonicalize, parse_strict
from spice_client.errors import AuthError, shown
from spice_client.keys import Signer
from spice_client.trust import TrustedKey, TrustStore, satisfies

_MIB = 1024 * 1024
# Per kind: the largest body, and the member that holds the time of signing.
_KINDS = {
    "ticket": (_MIB // 4, "issued_at"),
    "policy": (16 * _MIB, "issued_at"),
    "heartbeat": (_MIB // 16, "sent_at"),
    "delta": (16 * _MIB, "sent_at"),
    "snapshot": (128 * _MIB, "sent_at"),
}


def _covered(kind: str, body: bytes) -> bytes:
    return b"spice-document-v1\n" + kind.encode("ascii") + b"\n" + body


def sign_document(kind: str, content: Mapping[str, Any], signer: Signer) -> dict[str, str]:
    """Signs ``content``; CanonicalError when it cannot be signed or is too large for its kind."""
    body = canonicalize(content)
    limit = _KINDS[kind][0]
    if len(body) > limit:
        raise CanonicalError(f"a signed {kind} of {len(body)} bytes is too large: at most {limit} bytes; split it")
    signature = signer.sign(_covered(kind, body))
    return {"kind": kind, "body": body.decode("utf-8"), "key_id": signer.key_id, "signature": signature}


def open_document(
    document: Any, kind: str, store: TrustStore, required_role: str, deployment: str
) -> tuple[dict[str, Any], TrustedKey]:
    """Verifies a document and gives its content and the key that signed it; AuthError when it is not to be believed."""
    names = ("kind", "body", "key_id", "signature")
    known = isinstance(document, dict) and document.keys() == set(names)
    if not known or not all(isinstance(document[name], str) for name in names):
        raise AuthError("malformed", f"the signed message is malformed: a document has the members {', '.join(names)}")
    if document["kind"] != kind:
        raise AuthError("wrong_target", f"the message was signed as a {shown(document['kind'])!r}, not as a {kind}")
    limit, time_member = _KINDS[kind]
    try:
        body = document["body"].encode("utf-8")
    except UnicodeError as error:
        raise AuthError("malformed", "the signed message is malformed: the body is not Unicode text") from error
    if len(body) > limit:
        raise AuthError("malformed", f"the signed message is malformed: a {kind} of {len(body)} bytes; at most {limit}")
    # Verified first: nothing is parsed that a trusted key did not sign.
    key = store.verify(document["key_id"], None, _covered(kind, body), document["signature"])
    if not satisfies(key.roles, required_role):
        raise AuthError("forbidden", f"key {key.key_id} may not sign a {kind}: it takes the role {required_role}")
    try:
        content = parse_strict(body)
    except CanonicalError as error:
        raise AuthError("malformed", f"the signed message is malformed: {error}") from error
    signed_at = content.get(time_member) if isinstance(content, dict) else None
    if not isinstance(signed_at, int) or isinstance(signed_at, bool):
        raise AuthError("malformed", f"the signed message is malformed: {time_member} must be a time in milliseconds")
    key.check_valid(signed_at)
    if content.get("deployment") != deployment:
        text = f"the message was signed for deployment {shown(content.get('deployment'))!r}, this is {deployment!r}"
        raise AuthError("wrong_deployment", text)
    return content, key
