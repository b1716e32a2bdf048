"""The extra specs nova-api accepts (entry point nova.api.extra_spec_validators)."""

from nova.api.validation.extra_specs import base

EXTRA_SPEC_VALIDATORS = [
    base.ExtraSpecValidator(
        name="trust:trusted_host",
        description="The level of trust a node must have, in the pool [spice] trusted_pool names, to get this server.",
        value={"type": str, "description": "A level of trust.", "enum": ["trusted", "untrusted", "unknown"]},
    ),
    base.ExtraSpecValidator(
        name="spice:pool",
        description="The SPICE pool in which a node must be trusted to get this server.",
        value={"type": str, "description": "A pool's name.", "pattern": r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"},
    ),
]


def register():
    return EXTRA_SPEC_VALIDATORS
