"""`TrustedFilterSPICE`: places servers only on nodes that have the level of trust their flavor asks for."""

import logging as python_logging

from nova.scheduler import filters
from oslo_log import log as logging

from spice_nova import runtime
from spice_nova.bypass import bypass_state
from spice_nova.demand import LEVELS, demands_of, extra_specs_of, instance_of
from spice_nova.judgement import Judgement
from spice_nova.poolfile import shown

LOG = logging.getLogger(__name__)

_restraint = runtime.Restraint()


class TrustedFilterSPICE(filters.BaseHostFilter):
    """Reads SPICE's pool file; see README.md for the extra specs and options.

    `filter_all` decides for all hosts at once, since asking per host costs more than the decision. It is asked for
    every server of a request (`run_filter_once_per_request` stays False): trust may end between two of them.
    """

    RUN_ON_REBUILD = True

    def host_passes(self, host_state, spec_obj):
        return bool(self.filter_all([host_state], spec_obj))

    def filter_all(self, filter_obj_list, spec_obj):
        """The hosts that pass, as a list."""
        try:
            return _passing(filter_obj_list, spec_obj)
        except Exception:
            # An exception here would fail the request with nothing said of why; no host is the answer when in doubt.
            LOG.exception("SPICE could not judge a request and gives it no host: a defect of spice-nova, report it")
            return []


def _passing(hosts, request):
    conf = runtime.CONF.spice
    demands = demands_of(extra_specs_of(request), conf.trusted_pool, conf.require_trust_for_all)
    if not demands:
        return hosts
    if not isinstance(hosts, list):
        hosts = list(hosts)
    if _is_bypassed(conf.bypass_until):
        LOG.warning(
            "SPICE is bypassed until %(until)s: %(count)d host(s) pass unjudged for server %(server)s; its flavor asks "
            "for %(demand)s",
            {
                "until": conf.bypass_until,
                "count": len(hosts),
                "server": instance_of(request),
                "demand": _in_words(demands),
            },
        )
        return hosts
    snapshot = runtime.pool_source().snapshot()
    # After the reading, which may take a while: what expired meanwhile has expired.
    utc_ms, boottime_ms = runtime.clock.utc_ms(), runtime.clock.boottime_ms()
    kept = hosts
    refused, observed = [], []
    for demand in demands:
        judgement = Judgement(snapshot, demand.pool, utc_ms, boottime_ms)
        _report(judgement)
        passing = judgement.keep(kept, demand.level, conf.unknown_fails_open)
        if _is_enforced(demand, judgement):
            if len(passing) != len(kept):
                refused.append((demand, judgement, kept, passing))
            kept = passing
        elif judgement.mode == "observe" and (demand.named or len(passing) != len(kept)):
            observed.append((demand, judgement, kept, passing))
    if observed:
        LOG.warning(
            "SPICE only observes and lets server %(server)s pass: it would refuse %(refusals)s",
            {"server": instance_of(request), "refusals": _refusals(observed)},
        )
    # Where other hosts are left the request is not refused, and the line is for those who look into it.
    level = python_logging.DEBUG if kept else python_logging.INFO
    if refused and LOG.isEnabledFor(level):
        LOG.log(
            level,
            "SPICE passes %(kept)d of %(count)d host(s) for server %(server)s: it refuses %(refusals)s",
            {"kept": len(kept), "count": len(hosts), "server": instance_of(request), "refusals": _refusals(refused)},
        )
    return kept


def _is_enforced(demand, judgement):
    if judgement.missing or demand.level not in LEVELS:
        # A flavor that names what does not exist is wrong whatever the mode.
        return True
    if judgement.mode == "observe":
        return False
    # `soft` only weighs what no flavor asks for.
    return demand.named or judgement.mode == "enforce"


def _is_bypassed(until):
    if not until:
        return False
    active, complaint = bypass_state(until, runtime.clock.utc_ms())
    if _restraint.is_due("bypass_until", complaint, runtime.clock.boottime_ms()) and complaint:
        LOG.error("[spice] bypass_until = %(until)s %(complaint)s", {"until": shown(until), "complaint": complaint})
    return active


def _report(judgement):
    """Says loudly, but not for every request, that nodes cannot be judged."""
    if judgement.pool is None:
        _report_about("its files", judgement.blind)
    else:
        _report_about("its files", None)
        _report_about(f"pool {judgement.pool.name}", judgement.blind)


def _report_about(what, reason):
    # Silence grows by the second: it is news again only when its kind changes.
    kind = reason and reason.split(" last heard ")[0]
    if not _restraint.is_due(what, kind, runtime.clock.boottime_ms()):
        return
    if reason:
        LOG.error(
            "SPICE counts every node as unknown by %(what)s, because %(reason)s. Look after the pool role here",
            {"what": what, "reason": reason},
        )
    else:
        LOG.info("SPICE judges nodes by %(what)s again", {"what": what})


def _in_words(demands):
    return " and ".join(f"{shown(demand.level)} in pool {shown(demand.pool)}" for demand in demands)


def _refusals(judged):
    parts = []
    for demand, judgement, before, passing in judged:
        passed = {id(host) for host in passing}
        gone = [host for host in before if id(host) not in passed]
        reasons = f": {judgement.reasons(gone, demand.level)}" if gone else ""
        parts.append(f"{len(gone)} of {len(before)} host(s) as not {_in_words([demand])}{reasons}")
    return "; ".join(parts)
