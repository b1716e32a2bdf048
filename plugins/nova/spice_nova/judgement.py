"""Which nodes have a level in a pool, at an instant. Pure: the snapshot and the times are passed in."""

from collections import Counter


class Judgement:
    """One pool at one instant.

    `blind`: why every node must count as unknown (the end of a sentence), else None. `missing`: the files can be
    believed, and there is no such pool. `pool`: what the files say of it, None where they cannot be believed.
    """

    __slots__ = ("blind", "missing", "mode", "now_ms", "pool")

    def __init__(self, snapshot, name, utc_ms, boottime_ms):
        self.blind = None
        self.missing = False
        self.pool = None
        # Of a pool that cannot be seen nobody knows that it was to be let pass.
        self.mode = "enforce"
        self.now_ms = utc_ms
        file = snapshot.pool
        if file is None:
            self.blind = f"the file pool {snapshot.pool_fault}"
            return
        if boottime_ms < file.boottime_ms:
            self.blind = "the file pool was written later in this boot than it is now"
            return
        # The earlier limit holds: neither a UTC that steps back nor a suspended machine prolongs trust.
        self.now_ms = max(utc_ms, file.written_at_ms + boottime_ms - file.boottime_ms)
        self.pool = file.pools.get(name)
        if self.pool is None:
            self.missing = True
            return
        self.mode = self.pool.mode
        self.blind = _silence(snapshot, self.pool, utc_ms, boottime_ms)

    def keep(self, hosts, level, unknown_fails_open):
        """Those of `hosts` whose node has `level`, in order."""
        pool = self.pool
        if self.missing:
            return []
        if self.blind:
            if level != "unknown" or not unknown_fails_open:
                return []
            # Failing open is for nodes nothing is known of. The last word on these was no.
            distrusted = pool.untrusted if pool else ()
            return [host for host in hosts if host.nodename not in distrusted]
        if level == "trusted":
            trusted = pool.trusted
            if self.now_ms < pool.earliest_ms:
                return [host for host in hosts if host.nodename in trusted]
            return [host for host in hosts if pool.expiry_of(host.nodename) > self.now_ms]
        if level == "untrusted":
            untrusted = pool.untrusted
            return [host for host in hosts if host.nodename in untrusted]
        if level == "unknown":
            if self.now_ms < pool.earliest_ms:
                trusted, untrusted = pool.trusted, pool.untrusted
                return [host for host in hosts if host.nodename not in trusted and host.nodename not in untrusted]
            return [host for host in hosts if self.level_of(host.nodename) == "unknown"]
        return []

    def level_of(self, node):
        """The level of one node."""
        pool = self.pool
        if self.blind or pool is None:
            return "unknown"
        if pool.expiry_of(node) > self.now_ms:
            return "trusted"
        return "untrusted" if node in pool.untrusted else "unknown"

    def reasons(self, hosts, level):
        """How many of `hosts`, all refused, were so for which reason: text, for one line of a log."""
        if self.missing:
            return "there is no such pool"
        if self.blind:
            return f"all nodes are unknown, because {self.blind}"
        if level not in ("trusted", "untrusted", "unknown"):
            return "there is no such level"
        counts = Counter(self._reason(host.nodename) for host in hosts)
        return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))

    def _reason(self, node):
        level = self.level_of(node)
        if level != "unknown":
            return level
        if node in self.pool.trusted:
            return "unknown (trust expired)"
        return "unknown" if node in self.pool.names else "unknown (not registered)"


def _silence(snapshot, pool, utc_ms, boottime_ms):
    """Why Nodes counts as silent for `pool`, or None."""
    alive = snapshot.alive
    if alive is None:
        return f"the file pool.alive {snapshot.alive_fault}"
    if (alive.epoch, alive.version) > (snapshot.pool.epoch, snapshot.pool.version):
        return "the file pool is older than what Nodes last said"
    if boottime_ms < alive.boottime_ms:
        return "the file pool.alive was written later in this boot than it is now"
    silent_ms = max(boottime_ms - alive.boottime_ms, utc_ms - alive.heard_at_ms)
    if silent_ms > pool.max_silence_ms:
        return f"Nodes was last heard {silent_ms // 1000} s ago and the pool allows {pool.max_silence_ms // 1000} s"
    return None
