"""SPICE in nova-scheduler: a filter and a weigher that read the local pool file, and nothing else.

| module | owns |
|---|---|
| `filter` | `TrustedFilterSPICE`, what Nova calls |
| `weigher` | `TrustWeigherSPICE`, for pools in mode `soft` |
| `demand` | what a flavor asks for |
| `judgement` | which nodes have a level in a pool at an instant |
| `source` | the files of the pool folder: opened with suspicion, read again only when they changed |
| `poolfile` | their format (POOLFILE.md), bytes in, facts out |
| `clock`, `options`, `validators` | time; `[spice]` in nova.conf; the extra specs nova-api accepts |
"""

_EXPORTED = {"TrustedFilterSPICE": "filter", "TrustWeigherSPICE": "weigher"}


def __getattr__(name):
    # On demand: nova-api loads only the validators, and must not import the scheduler for them.
    if name in _EXPORTED:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_EXPORTED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
