# SPDX-License-Identifier: Apache-2.0
"""Speaks to SPICE from Python, over an unmodified oslo.messaging.

* ``SignedRPCClient``: administrative calls, and results of an adapter written in Python
* ``verify_request``: for servers, such as adapters, to check who calls them
* ``sign_document`` and ``open_document``: tickets and other documents that outlive a message

Replies are signed too, but oslo.messaging gives its callers no access to what travels beside a result, so this client
cannot verify replies: whoever decides something by an answer uses spicectl, or keeps other users off the broker.
"""

from spice_client.canonical import CanonicalError, canonicalize, parse_strict
from spice_client.document import open_document, sign_document
from spice_client.errors import AuthError
from spice_client.keys import KeyFileError, Signer, key_id_of
from spice_client.reply import verify_reply
from spice_client.request import CONTEXT_MEMBER, Verified, check_window, sign_request, verify_request
from spice_client.trust import TrustedKey, TrustStore, satisfies

__all__ = [
    "CONTEXT_MEMBER",
    "AuthError",
    "CanonicalError",
    "KeyFileError",
    "SignedRPCClient",
    "Signer",
    "TrustStore",
    "TrustedKey",
    "Verified",
    "canonicalize",
    "check_window",
    "key_id_of",
    "open_document",
    "parse_strict",
    "satisfies",
    "sign_document",
    "sign_request",
    "verify_reply",
    "verify_request",
]


def __getattr__(name):
    # oslo.messaging takes a while to import; who only verifies documents does not need it.
    if name == "SignedRPCClient":
        from spice_client.client import SignedRPCClient

        return SignedRPCClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
