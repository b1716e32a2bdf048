"""What a flavor asks of trust. Pure."""

LEVEL_KEY = "trust:trusted_host"
POOL_KEY = "spice:pool"
LEVELS = ("trusted", "untrusted", "unknown")


class Demand:
    """A node must have `level` in `pool`. `named`: the flavor's own word, not one that an option adds to all."""

    __slots__ = ("pool", "level", "named")

    def __init__(self, pool, level, named=True):
        self.pool = pool
        self.level = level
        self.named = named


def demands_of(extra_specs, trusted_pool, require_trust_for_all):
    """What must hold, all of it.

    An absent or empty level asks nothing, as with TrustedFilter; an empty pool name is a pool that does not exist.
    """
    demands = []
    level = extra_specs.get(LEVEL_KEY)
    if level:
        demands.append(Demand(trusted_pool, level))
    pool = extra_specs.get(POOL_KEY)
    if pool is not None:
        demands.append(Demand(pool, "trusted"))
    if not demands and require_trust_for_all:
        demands.append(Demand(trusted_pool, "trusted", named=False))
    return demands


def extra_specs_of(request):
    """The extra specs of a request's flavor; none where Nova sent none, as Nova's own filters take it."""
    flavor = request.flavor
    if flavor is None or "extra_specs" not in flavor:
        return {}
    return flavor.extra_specs or {}


def instance_of(request):
    """The request's server, for a log."""
    return request.instance_uuid if "instance_uuid" in request else None
