# SPDX-License-Identifier: Apache-2.0
"""The keys this verifier trusts: a directory of one JSON file per key, placed by the administrator."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from spice_client.canonical import CanonicalError, parse_strict
from spice_client.errors import AuthError, shown
from spice_client.keys import decode_base64, key_id_of, read_file, verifies

LOG = logging.getLogger(__name__)

_MAX_TRUST_FILE = 64 * 1024
_MAX_FILES = 200_000
_TIMES = ("revoked_since", "not_before", "not_after")
_MEMBERS = frozenset(("key_id", "sender", "roles", "public_key", *_TIMES, "comment"))
_SENDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z")
_ROLE = re.compile(
    r"(admin|operator|reader|checks|nodes|adapter:[a-z0-9][a-z0-9_]{0,47}|agent:[A-Za-z0-9][A-Za-z0-9._-]{0,254})\Z"
)
_KEY_ID = re.compile(r"[0-9a-f]{32}\Z")
_LADDER = ("reader", "operator", "admin")


def satisfies(roles: Iterable[str], required: str) -> bool:
    """Whether one of ``roles`` is enough for ``required``: admin is also operator, which is also reader."""
    enough = _LADDER[_LADDER.index(required) :] if required in _LADDER else (required,)
    return any(role in enough for role in roles)


@dataclass(frozen=True)
class TrustedKey:
    """A key the administrator trusts; times are in milliseconds since 1970, or None."""

    key_id: str
    sender: str
    roles: frozenset[str]
    public_key: bytes
    revoked_since: int | None = None
    not_before: int | None = None
    not_after: int | None = None

    def check_valid(self, signed_at: int, received: int | None = None) -> None:
        """AuthError when a signature of ``signed_at`` that came at ``received`` (now, where not given) does not count.

        The stated time alone would let whoever stole a revoked key sign on with yesterday's date.
        """
        for at in (signed_at, int(time.time() * 1000) if received is None else received):
            if self.revoked_since is not None and at >= self.revoked_since:
                text = f"key {self.key_id} is revoked since {self.revoked_since}: sign with another key"
                raise AuthError("revoked", text)
            if (self.not_before is not None and at < self.not_before) or (
                self.not_after is not None and at > self.not_after
            ):
                text = f"key {self.key_id} was not valid at {at}: sign with the key that is valid now"
                raise AuthError("out_of_time", text)

    def merged(self, other: TrustedKey) -> TrustedKey:
        """Only what two files about one key both allow, so that a forgotten copy cannot undo a revocation."""
        given = {name: [t for t in (getattr(self, name), getattr(other, name)) if t is not None] for name in _TIMES}
        return replace(
            self,
            roles=self.roles & other.roles,
            revoked_since=min(given["revoked_since"], default=None),
            not_before=max(given["not_before"], default=None),
            not_after=min(given["not_after"], default=None),
        )


class TrustStore:
    """The keys of a trust directory, read again when it changes (looked at every 2 s at most).

    A file with faults is logged; what it said before stays in force, and where it had said nothing it trusts nobody.
    All other files hold. The directory and its files may be writable by their owner only. OSError or ValueError when
    the directory as a whole cannot be used.
    """

    def __init__(self, directory: str | os.PathLike[str], poll_interval: float = 2.0) -> None:
        self._directory = os.fspath(directory)
        self._interval = poll_interval
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self.faults: list[str] = []
        self._keys: dict[str, TrustedKey] = {}
        self._sources: dict[str, str] = {}
        self._keys = self._load()
        self._next = time.monotonic() + poll_interval

    @classmethod
    def of(cls, keys: Iterable[TrustedKey]) -> TrustStore:
        """A store of these keys that follows no directory."""
        store = cls.__new__(cls)
        store._directory = None
        store._keys = {key.key_id: key for key in keys}
        store.faults = []
        return store

    def lookup(self, key_id: str) -> TrustedKey | None:
        """The key with this id, as the directory says now, or None."""
        if self._directory is not None and time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            try:
                started = time.monotonic()
                try:
                    self._keys = self._load()
                except (OSError, ValueError) as error:
                    self._tell({f"trust directory {self._directory}: {error}; the keys read before stay in force"})
                # A large directory is looked at more rarely: looking takes a twentieth of a core at most.
                ended = time.monotonic()
                self._next = ended + max(self._interval, 20 * (ended - started))
            finally:
                self._lock.release()
        return self._keys.get(key_id)

    def verify(self, key_id: str, sender: str | None, covered: bytes, signature: str) -> TrustedKey:
        """The key, when it is trusted, is the sender's and made ``signature`` over ``covered``; else AuthError."""
        key = self.lookup(key_id)
        if key is None:
            raise AuthError("unknown_key", f"key {key_id} is not in the trust store: place its trust file there")
        if sender is not None and sender != key.sender:
            raise AuthError("sender_mismatch", f"key {key_id} belongs to another sender than {shown(sender)!r}")
        raw = decode_base64(signature)
        if raw is None:
            raise AuthError("malformed", "the signed message is malformed: the signature is not base64")
        if not verifies(key.public_key, covered, raw):
            raise AuthError("bad_signature", f"the signature of key {key_id} does not fit the message")
        return key

    def _load(self) -> dict[str, TrustedKey]:
        _judge_directory(self._directory)
        names = sorted(name for name in os.listdir(self._directory) if not name.startswith("."))
        if len(names) > _MAX_FILES:
            raise ValueError(f"it holds more than {_MAX_FILES} files; move the others away")
        keys: dict[str, TrustedKey] = {}
        sources: dict[str, str] = {}
        faults = []
        for name in names:
            try:
                if not name.endswith(".json"):
                    raise ValueError("its name does not end in .json; rename it or move it away")
                content = read_file(os.path.join(self._directory, name), _MAX_TRUST_FILE, 0o022, "chmod go-w")
                key = parse_trust_file(content)
            except (OSError, ValueError) as error:
                faults.append(f"trust file {shown(name)}: {error}")
                # Half a file, or one that others may write to, neither trusts more nor silences a service.
                key = self._keys.get(self._sources.get(name, ""))
                if key is None:
                    continue
            sources[name] = key.key_id
            known = keys.get(key.key_id)
            if known is not None:
                key = known.merged(key)
                faults.append(f"trust file {shown(name)}: key {key.key_id} stands in another file too; remove one")
            keys[key.key_id] = key
        self.faults, self._sources = faults, sources
        self._tell(set(faults))
        return keys

    def _tell(self, faults: set[str]) -> None:
        for fault in sorted(faults - self._told):
            LOG.warning("%s", fault)
        self._told = faults


def _judge_directory(directory: str) -> None:
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise ValueError("it is not a directory")
    if status.st_mode & 0o022:
        raise ValueError(f"group or others may write to it (mode {stat.S_IMODE(status.st_mode):04o}); run: chmod go-w")
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"it belongs to user id {status.st_uid}; it must belong to root or this process's user")


def parse_trust_file(content: bytes) -> TrustedKey:
    """The key a trust file speaks of; ValueError lists every fault."""
    members: Any = parse_strict(content)
    if not isinstance(members, dict):
        raise CanonicalError("it must hold a JSON object")
    # A misspelt revoked_since must not leave a stolen key trusted.
    faults = [f"unknown member {shown(name)!r}" for name in members if name not in _MEMBERS]
    raw = decode_base64(members["public_key"]) if isinstance(members.get("public_key"), str) else None
    if raw is None or len(raw) != 32:
        faults.append("public_key must be the base64 of exactly 32 bytes")
    key_id, sender, roles = members.get("key_id"), members.get("sender"), members.get("roles")
    if not (isinstance(key_id, str) and _KEY_ID.match(key_id)):
        faults.append("key_id must be 32 lower-case hexadecimal digits")
    elif raw is not None and len(raw) == 32 and key_id != key_id_of(raw):
        faults.append(f"key_id {key_id} is not that of public_key, which is {key_id_of(raw)}")
    if not (isinstance(sender, str) and _SENDER.match(sender)):
        faults.append("sender must be 1 to 128 characters out of A-Z a-z 0-9 . _ - @, starting with a letter or digit")
    if not (isinstance(roles, list) and roles):
        faults.append('roles must be a list such as ["operator"]')
        roles = []
    faults += [
        f"{shown(role)!r} is no role: use admin, operator, reader, checks, nodes, adapter:<name> or agent:<node>"
        for role in roles
        if not (isinstance(role, str) and _ROLE.match(role))
    ]
    times = [members.get(name) for name in _TIMES]
    faults += [
        f"{name} must be a time in milliseconds since 1970, or null"
        for name, at in zip(_TIMES, times, strict=True)
        if at is not None and (isinstance(at, bool) or not isinstance(at, int) or at < 0)
    ]
    if not isinstance(members.get("comment"), (str, type(None))):
        faults.append("comment must be text")
    if faults:
        raise ValueError("; ".join(faults))
    if times[1] is not None and times[2] is not None and times[1] > times[2]:
        raise ValueError("not_before is after not_after, so the key is never valid")
    return TrustedKey(key_id, sender, frozenset(roles), raw, *times)
