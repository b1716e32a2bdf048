"""`TrustWeigherSPICE`: prefers trusted nodes where a pool is in mode `soft`."""

from nova.scheduler import utils, weights
from oslo_log import log as logging

from spice_nova import runtime
from spice_nova.demand import demands_of, extra_specs_of
from spice_nova.judgement import Judgement

LOG = logging.getLogger(__name__)

_WEIGHT = {"trusted": 1.0, "unknown": 0.5, "untrusted": 0.0}


class TrustWeigherSPICE(weights.BaseHostWeigher):
    """The mean, over all soft pools, of 1 for trusted, 0.5 for unknown and 0 for untrusted.

    A flavor that names a level or a pool is the filter's matter: then all hosts weigh the same.
    """

    minval = 0.0
    maxval = 1.0

    def weight_multiplier(self, host_state):
        return utils.get_weight_multiplier(
            host_state, "trust_weight_multiplier", runtime.CONF.spice.trust_weight_multiplier
        )

    def _weigh_object(self, obj, weight_properties):
        return _weights([obj], weight_properties)[0]

    def weigh_objects(self, weighed_obj_list, weight_properties):
        try:
            return _weights([weighed.obj for weighed in weighed_obj_list], weight_properties)
        except Exception:
            LOG.exception("SPICE could not weigh hosts and prefers none. This is a defect of spice-nova: report it.")
            return [0.0] * len(weighed_obj_list)


def _weights(hosts, request):
    nothing = [0.0] * len(hosts)
    if demands_of(extra_specs_of(request), runtime.CONF.spice.trusted_pool, False):
        return nothing
    snapshot = runtime.pool_source().snapshot()
    if snapshot.pool is None:
        return nothing
    utc_ms, boottime_ms = runtime.clock.utc_ms(), runtime.clock.boottime_ms()
    soft = [name for name, pool in snapshot.pool.pools.items() if pool.mode == "soft"]
    judgements = [Judgement(snapshot, name, utc_ms, boottime_ms) for name in soft]
    # Of a silent pool nothing is known that could prefer one host to another.
    judgements = [judgement for judgement in judgements if not judgement.blind]
    if not judgements:
        return nothing
    return [
        sum(_WEIGHT[judgement.level_of(host.nodename)] for judgement in judgements) / len(judgements) for host in hosts
    ]
