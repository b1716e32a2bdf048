# SPDX-License-Identifier: Apache-2.0
"""Key files, key ids, and the identity one signs as."""

from __future__ import annotations

import base64
import hashlib
import os
import stat

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_MAX_KEY_FILE = 16 * 1024


class KeyFileError(Exception):
    """A key file that cannot be used; the text says what to do."""


def key_id_of(public_key: bytes) -> str:
    """The id of a raw public key: 32 hexadecimal digits."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def decode_base64(text: str) -> bytes | None:
    """The bytes of canonical base64, or None: every value has one spelling only."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


def verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the Ed25519 key's over ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_file(path: str | os.PathLike[str], limit: int, forbidden_mode: int, remedy: str) -> bytes:
    """Reads a regular file of at most ``limit`` bytes that root or this process's user owns.

    Raises OSError, or ValueError with what is wrong, in particular when its mode has any of ``forbidden_mode``.
    """
    # Non-blocking, so that a pipe put in the file's place cannot hold up the process.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_mode & forbidden_mode:
            raise ValueError(f"group or others may access it (mode {stat.S_IMODE(status.st_mode):04o}); run: {remedy}")
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to user id {status.st_uid}; it must belong to root or this process's user")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    return content


class Signer:
    """Signs in the name of ``sender``, for one deployment, with the key in ``key_file``.

    The file holds an unencrypted PKCS#8 Ed25519 key in PEM, as ``spicectl key create`` and ``openssl genpkey -algorithm
    ed25519`` write it, and only its owner may have access to it. KeyFileError says what is wrong with it.
    """

    def __init__(self, key_file: str | os.PathLike[str], sender: str, deployment: str) -> None:
        try:
            content = read_file(key_file, _MAX_KEY_FILE, 0o077, "chmod 600")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise KeyFileError(f"key file {os.fspath(key_file)}: {reason}") from error
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            # No cause: an error about the content might quote it.
            raise KeyFileError(
                f"key file {os.fspath(key_file)}: not an unencrypted Ed25519 private key in PEM; make one with: "
                "spicectl key create, or: openssl genpkey -algorithm ed25519"
            ) from None
        self._key = key
        self.sender = sender
        self.deployment = deployment
        self.public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = key_id_of(self.public_key)

    def sign(self, message: bytes) -> str:
        """Base64 of the signature over ``message``."""
        return base64.b64encode(self._key.sign(message)).decode("ascii")

    def __repr__(self) -> str:
        return f"Signer(sender={self.sender!r}, deployment={self.deployment!r}, key_id={self.key_id!r})"
