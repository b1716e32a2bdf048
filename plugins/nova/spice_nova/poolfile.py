"""The format of the pool folder's files (POOLFILE.md): bytes in, facts out. No I/O, no clock."""

import array
import hashlib
import itertools
import json
import operator
import sys

FORMATS = (1,)
"""What this reader takes: its own format and, from format 2 on, the one before."""

MAX_POOL_BYTES = 256 * 1024 * 1024
MAX_ALIVE_BYTES = 4096
MAX_HEADER_BYTES = 1024 * 1024
MAX_POOLS = 1000
MODES = ("enforce", "soft", "observe")

_MAX_SEAL_BYTES = 256
_MAX_INTEGER = 2**53 - 1
_NO_EXPIRY = 2**63 - 1
_TRUSTED = frozenset(b"to")
_TRUE_WHERE_TRUSTED = bytes(byte in _TRUSTED for byte in range(256))
_TRUE_WHERE_UNTRUSTED = bytes(byte == ord("u") for byte in range(256))
_BLOCK = 1024


class Fault(Exception):
    """Why a file cannot be believed, as the end of a sentence that begins with its name."""


def shown(text):
    """Text from outside, fit for a log: one line of ASCII, and short."""
    return ascii(text if len(text) <= 64 else text[:64] + "...") if isinstance(text, str) else ascii(type(text))


class Names:
    """The nodes, in the file's order."""

    __slots__ = ("line", "names", "_known")

    def __init__(self, line, count):
        self.line = line
        self.names = line.decode("ascii").split(" ") if line else []
        self._known = None
        if len(self.names) != count:
            raise Fault(f"names {len(self.names)} nodes where its header says {count}")
        # Strictly ascending: so no node can stand there twice with two levels.
        if "" in self.names[:1] or not all(map(operator.lt, self.names, itertools.islice(self.names, 1, None))):
            raise Fault("does not have its node names in ascending order, each once")

    def __contains__(self, node):
        # Made on the first question: only a refused request asks. Two threads may both make it; both make the same.
        if self._known is None:
            self._known = set(self.names)
        return node in self._known


class Pool:
    """One pool: a level and an expiry per node. Never changed once made, so threads share it freely."""

    __slots__ = (
        "name",
        "mode",
        "max_silence_ms",
        "names",
        "levels",
        "expiry_line",
        "expiries",
        "earliest_ms",
        "trusted",
        "_untrusted",
    )

    def __init__(self, entry, names, levels, expiry_line, previous):
        self.name, self.mode, self.max_silence_ms = _pool_entry(entry)
        self.names = names
        self.levels = levels
        self.expiry_line = expiry_line
        count = len(names.names)
        if len(levels) != count or levels.translate(None, b"tou-"):
            raise Fault(f"has a damaged line of levels for pool {self.name}")
        if previous is not None and previous.expiry_line == expiry_line:
            self.expiries, self.earliest_ms = previous.expiries, previous.earliest_ms
        else:
            self.expiries = _expiries(expiry_line, count, self.name)
            # Of all nodes, not only the trusted: what stands at the others can only make it earlier, the safe side.
            self.earliest_ms = min(self.expiries, default=_NO_EXPIRY)
        self.trusted = self._trusted_names(previous)
        self._untrusted = None

    def _trusted_names(self, previous):
        """The names at `t` and `o`, expiry aside, and their positions.

        A dict and no set: its entries lie in the order of names, as hosts mostly come, and so it is faster to ask.
        """
        if previous is None or previous.names is not self.names:
            names, chosen = self.names.names, self.levels.translate(_TRUE_WHERE_TRUSTED)
            return dict(itertools.compress(zip(names, range(len(names))), chosen))
        if previous.levels == self.levels:
            return previous.trusted
        trusted = previous.trusted.copy()
        names, old, new = self.names.names, previous.levels, self.levels
        for start in range(0, len(new), _BLOCK):
            old_block, new_block = old[start : start + _BLOCK], new[start : start + _BLOCK]
            if old_block == new_block:
                continue
            for offset, (before, after) in enumerate(zip(old_block, new_block)):
                if before == after:
                    continue
                if after in _TRUSTED:
                    trusted[names[start + offset]] = start + offset
                else:
                    trusted.pop(names[start + offset], None)
        return trusted

    @property
    def untrusted(self):
        """The names at `u`; few requests ask for them."""
        if self._untrusted is None:
            self._untrusted = set(itertools.compress(self.names.names, self.levels.translate(_TRUE_WHERE_UNTRUSTED)))
        return self._untrusted

    def expiry_of(self, node):
        """Until when `node` is trusted, 0 where it is not: exact, for when something may have expired."""
        position = self.trusted.get(node)
        return 0 if position is None else self.expiries[position]


class PoolFile:
    """The file `pool`."""

    __slots__ = ("deployment", "epoch", "version", "written_at_ms", "boottime_ms", "boot_id", "names", "pools")

    def __init__(self, content, previous=None):
        """`previous`, an earlier reading, lends what did not change since. Raises `Fault`."""
        rest = _unsealed(content)
        lines = rest.split(b"\n", 2 * MAX_POOLS + 3)
        if len(lines[0]) > MAX_HEADER_BYTES:
            raise Fault("has too long a header")
        header = _json_object(lines[0])
        self.deployment = _text(header, "deployment")
        self.epoch = _integer(header, "epoch")
        self.version = _integer(header, "version")
        self.written_at_ms = _integer(header, "written_at_ms")
        self.boottime_ms = _integer(header, "boottime_ms")
        self.boot_id = _text(header, "boot_id")
        entries = header.get("pools")
        if not isinstance(entries, list) or len(entries) > MAX_POOLS:
            raise Fault(f"has no list of at most {MAX_POOLS} pools")
        # Behind the header: the names, two lines a pool, and nothing after the last line's end.
        if len(lines) != 2 * len(entries) + 3 or lines[-1]:
            raise Fault(f"does not have the {2 * len(entries) + 3} lines that its {len(entries)} pools need")
        count = _integer(header, "nodes")
        if previous is not None and previous.names.line == lines[1] and len(previous.names.names) == count:
            self.names = previous.names
        else:
            self.names = Names(lines[1], count)
        self.pools = {}
        for number, entry in enumerate(entries):
            name = entry.get("name") if isinstance(entry, dict) else None
            earlier = previous.pools.get(name) if previous is not None and isinstance(name, str) else None
            pool = Pool(entry, self.names, lines[2 * number + 2], lines[2 * number + 3], earlier)
            if pool.name in self.pools:
                raise Fault(f"has pool {pool.name} twice")
            self.pools[pool.name] = pool


class Alive:
    """The file `pool.alive`."""

    __slots__ = ("deployment", "epoch", "version", "heard_at_ms", "boottime_ms", "boot_id")

    def __init__(self, content):
        """Raises `Fault`."""
        fields = _json_object(_unsealed(content))
        self.deployment = _text(fields, "deployment")
        self.epoch = _integer(fields, "epoch")
        self.version = _integer(fields, "version")
        self.heard_at_ms = _integer(fields, "heard_at_ms")
        self.boottime_ms = _integer(fields, "boottime_ms")
        self.boot_id = _text(fields, "boot_id")


def _unsealed(content):
    """What stands behind the seal, if the seal fits it."""
    end = content.find(b"\n", 0, _MAX_SEAL_BYTES + 1)
    if end < 0:
        raise Fault("does not begin with a line that seals it")
    seal = _json_object(content[:end])
    form = seal.get("format")
    if type(form) is not int or form not in FORMATS:
        raise Fault(f"has a format this version of spice-nova does not read (it reads {', '.join(map(str, FORMATS))})")
    rest = content[end + 1 :]
    if type(seal.get("length")) is not int or seal["length"] != len(rest):
        raise Fault("is truncated, or longer than its first line says")
    if seal.get("sha256") != hashlib.sha256(rest).hexdigest():
        raise Fault("is damaged: its digest is not the one in its first line")
    return rest


def _json_object(line):
    try:
        value = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        raise Fault("has a line that should be JSON and is not") from None
    if not isinstance(value, dict):
        raise Fault("has a line that should be a JSON object and is not")
    return value


def _integer(fields, name):
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise Fault(f"lacks a valid {name}")
    return value


def _text(fields, name):
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise Fault(f"lacks a valid {name}")
    return value


def _pool_entry(entry):
    if not isinstance(entry, dict):
        raise Fault("describes a pool by something that is no JSON object")
    name, mode, max_silence_ms = _text(entry, "name"), entry.get("mode"), _integer(entry, "max_silence_ms")
    if not isinstance(mode, str) or mode not in MODES:
        raise Fault(f"gives pool {shown(name)} a mode that is none of {', '.join(MODES)}")
    if max_silence_ms < 1:
        raise Fault(f"lacks a valid max_silence_ms for pool {shown(name)}")
    return name, mode, max_silence_ms


def _expiries(line, count, pool):
    expiries = array.array("q")
    if len(line) == 16 * count:
        try:
            expiries.frombytes(bytes.fromhex(line.decode("ascii")))
        except ValueError:
            pass
    # Also where blanks stood among the digits: fromhex skips them, and then there are fewer.
    if len(expiries) != count:
        raise Fault(f"has a damaged line of expiries for pool {shown(pool)}")
    if sys.byteorder == "little":
        expiries.byteswap()
    return expiries
