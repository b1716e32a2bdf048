"""The pool folder: its files opened with suspicion, and read again only when they changed.

One look at each file per request (a stat), no lock and no reading while nothing changed. What was read is never
altered: a new reading takes the old one's place in a single assignment, so requests in other threads finish with what
they began with.
"""

import os
import pwd
import stat
import threading
import weakref

from spice_nova.poolfile import MAX_ALIVE_BYTES, MAX_POOL_BYTES, Alive, Fault, PoolFile, shown

RETRY_MS = 1000
"""How often a refused file that did not change is read again: its folder or the user database may have been mended."""

_sources = weakref.WeakSet()


class Snapshot:
    """Both files as last read. A fault stands where the content cannot be believed, as the end of a sentence."""

    __slots__ = ("pool", "pool_key", "pool_fault", "alive", "alive_key", "alive_fault", "retry_at_ms")

    def __init__(self, pool, alive, retry_at_ms):
        self.pool, self.pool_key, self.pool_fault = pool
        self.alive, self.alive_key, self.alive_fault = alive
        self.retry_at_ms = retry_at_ms


class PoolSource:
    """The pool folder of one deployment."""

    def __init__(self, folder, deployment, owner, clock):
        self.folder = folder
        self.deployment = deployment
        self.owner = owner
        self.clock = clock
        self._pool_path = os.path.join(folder, "pool")
        self._alive_path = os.path.join(folder, "pool.alive")
        self._lock = threading.Lock()
        self._snapshot = None
        # The last good reading of `pool`: lends the next one whatever did not change.
        self._last_pool = None
        _sources.add(self)

    def snapshot(self):
        """What the files say now. Never raises for what is wrong with them."""
        current = self._snapshot
        if current is not None and self._is_current(current):
            return current
        with self._lock:
            current = self._snapshot
            if current is None or not self._is_current(current):
                current = self._snapshot = self._read(current)
            return current

    def _is_current(self, snapshot):
        # `pool.alive` first, here and in reading: it is written second, so what it agrees with is there by then.
        if _key_of(self._alive_path) != snapshot.alive_key or _key_of(self._pool_path) != snapshot.pool_key:
            return False
        return snapshot.retry_at_ms is None or self.clock.boottime_ms() < snapshot.retry_at_ms

    def _read(self, current):
        alive = self._read_alive()
        if current is not None and current.pool_fault is None and _key_of(self._pool_path) == current.pool_key:
            pool = (current.pool, current.pool_key, None)
        else:
            pool = self._read_pool()
        present_but_refused = (alive[2] and alive[1]) or (pool[2] and pool[1])
        retry_at_ms = self.clock.boottime_ms() + RETRY_MS if present_but_refused else None
        return Snapshot(pool, alive, retry_at_ms)

    def _read_pool(self):
        key = _key_of(self._pool_path)
        try:
            content, key = self._content("pool", MAX_POOL_BYTES)
            pool = PoolFile(content, self._last_pool)
            self._accept(pool)
        except Fault as fault:
            return None, key, str(fault)
        self._last_pool = pool
        return pool, key, None

    def _read_alive(self):
        key = _key_of(self._alive_path)
        try:
            content, key = self._content("pool.alive", MAX_ALIVE_BYTES)
            alive = Alive(content)
            self._accept(alive)
        except Fault as fault:
            return None, key, str(fault)
        return alive, key, None

    def _accept(self, file):
        if not self.deployment:
            raise Fault("cannot be believed before [spice] deployment is set in nova.conf")
        if file.deployment != self.deployment:
            raise Fault(f"is of deployment {shown(file.deployment)}, not {shown(self.deployment)}")
        try:
            boot_id = self.clock.boot_id()
        except (OSError, ValueError):
            raise Fault("cannot be placed in time: this machine's boot id cannot be read") from None
        if file.boot_id != boot_id:
            raise Fault("was written in another boot of the machine")

    def _content(self, name, limit):
        """The bytes of a file and the key of exactly the file they came from."""
        owners = self._owners()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            folder = os.open(self.folder, flags | os.O_DIRECTORY)
            try:
                _require_private(os.fstat(folder), owners, "is in a folder that")
                # Not to wait for a writer, were it a pipe.
                descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
            finally:
                os.close(folder)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise Fault("is not a regular file")
                _require_private(status, owners, "")
                if status.st_size > limit:
                    raise Fault(f"has {status.st_size} bytes, more than the {limit} allowed")
                return _read_bytes(descriptor, status.st_size), _key(status)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise Fault("is missing") from None
        except (OSError, ValueError) as error:
            # ELOOP is a link; so is ENOTDIR, for the folder. A ValueError is a NUL in the option.
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "its path is not valid"
            raise Fault(f"cannot be opened (links are not followed): {reason}") from None

    def _owners(self):
        owners = {0, os.geteuid()}
        if self.owner:
            if self.owner.isascii() and self.owner.isdigit():
                owners.add(int(self.owner))
            else:
                try:
                    owners.add(pwd.getpwnam(self.owner).pw_uid)
                except (KeyError, OSError, ValueError):
                    # No such user on this machine: then it owns nothing here.
                    pass
        return owners

    def after_fork(self):
        """In a child: a thread that is not there may hold the lock."""
        self._lock = threading.Lock()


def _key_of(path):
    try:
        return _key(os.stat(path, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def _key(status):
    # The change time too: it is what chmod and chown move.
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_ctime_ns, status.st_dev


def _require_private(status, owners, what):
    if status.st_uid not in owners:
        owner = f"belongs to uid {status.st_uid}, not to root, [spice] pool_owner or this process's user"
        raise Fault(f"{what} {owner}".strip())
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Fault(f"{what} can be written by group or others".strip())


def _read_bytes(descriptor, size):
    parts = []
    # One byte more than there should be, to see growth.
    left = size + 1
    while left:
        part = os.read(descriptor, left)
        if not part:
            break
        parts.append(part)
        left -= len(part)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(content) != size:
        raise Fault("changed its size while it was read: it must be replaced by rename")
    return content


def _after_fork():
    for source in list(_sources):
        source.after_fork()


os.register_at_fork(after_in_child=_after_fork)
