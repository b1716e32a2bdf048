"""The options of `[spice]` in nova.conf. Importing this module registers them."""

import nova.conf
from oslo_config import cfg

GROUP = "spice"

OPTIONS = [
    cfg.StrOpt("pool_dir", default="/run/spice", help="Folder in which SPICE's pool role keeps the pool file."),
    cfg.StrOpt(
        "deployment",
        help="The deployment id of this cloud's SPICE. A pool file of another deployment is refused. Required: "
        "while it is not set, every node is unknown.",
    ),
    cfg.StrOpt(
        "pool_owner",
        default="spice",
        help="Name or uid of the user the pool role runs as. Root and nova-scheduler's own user may own the files too.",
    ),
    cfg.StrOpt(
        "trusted_pool",
        default="default",
        help="The pool the extra spec trust:trusted_host and require_trust_for_all speak of.",
    ),
    cfg.BoolOpt(
        "require_trust_for_all",
        default=False,
        help="Flavors that name neither a level nor a pool are treated as if they asked for trusted nodes, as far as "
        "the mode of trusted_pool says: enforce refuses, soft only weighs, observe only logs.",
    ),
    cfg.BoolOpt(
        "unknown_fails_open",
        default=False,
        help="While the pool file cannot be believed or SPICE is silent, let flavors that ask for "
        "trust:trusted_host=unknown have the nodes not last known as untrusted. By default they get none.",
    ),
    cfg.StrOpt(
        "bypass_until",
        mutable=True,
        help="Break glass: until this time (ISO 8601, UTC where no zone is given, at most 24 hours ahead) the filter "
        "passes every host and logs each request it would have judged.",
    ),
    cfg.FloatOpt(
        "trust_weight_multiplier",
        default=1.0,
        help="Multiplier of TrustWeigherSPICE; aggregate metadata of the same name overrides it for its hosts.",
    ),
]

CONF = nova.conf.CONF
CONF.register_opts(OPTIONS, group=GROUP)


def list_opts():
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS)]
