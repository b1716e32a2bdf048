"""A writer of the pool file as plugins/nova/POOLFILE.md says, for tests and measurements."""

import hashlib
import json
import os
import time

NO_EXPIRY = "7fffffffffffffff"


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def utc_ms():
    return time.time_ns() // 1_000_000


def boottime_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def seal(rest, **changes):
    """`rest` behind its first line; `changes` falsify fields of that line."""
    line = {"format": 1, "length": len(rest), "sha256": hashlib.sha256(rest).hexdigest(), **changes}
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n" + rest


def body(nodes, pools):
    """Lines 3 and on. `pools`: name -> {"mode", "max_silence_ms", "members": {node: (letter, expiry or None)}}."""
    lines = [" ".join(nodes)]
    for _, pool in sorted(pools.items()):
        members = pool["members"]
        states = [members.get(node, ("-", None)) for node in nodes]
        lines.append("".join(level for level, _ in states))
        lines.append("".join(NO_EXPIRY if expiry is None else f"{expiry:016x}" for _, expiry in states))
    return "".join(line + "\n" for line in lines).encode("ascii")


def pool_bytes(pools, **header):
    """The whole file `pool`. `header` overrides fields of line 2."""
    nodes = sorted({node for pool in pools.values() for node in pool["members"]})
    line = {
        "deployment": "test",
        "epoch": 1,
        "version": 1,
        "written_at_ms": utc_ms(),
        "boottime_ms": boottime_ms(),
        "boot_id": boot_id(),
        "nodes": len(nodes),
        "pools": [
            {"name": name, "mode": pool.get("mode", "enforce"), "max_silence_ms": pool.get("max_silence_ms", 600_000)}
            for name, pool in sorted(pools.items())
        ],
        **header,
    }
    return seal(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n" + body(nodes, pools))


def alive_bytes(**fields):
    """The whole file `pool.alive`."""
    line = {
        "deployment": "test",
        "epoch": 1,
        "version": 1,
        "heard_at_ms": utc_ms(),
        "boottime_ms": boottime_ms(),
        "boot_id": boot_id(),
        **fields,
    }
    return seal(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")


def replace(path, content, mode=0o644):
    """Writes beside, then renames, so that no reader sees half a file."""
    beside = f"{path}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    os.replace(beside, path)
