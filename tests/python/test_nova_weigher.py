"""The weigher, through nova's own weight handler."""

from nova.scheduler import weights
from nova_support import MINUTE, START, TRUSTED, host_states, pool, request_spec, weighed
from spice_nova import runtime
from spice_nova.weigher import TrustWeigherSPICE

LATER = START + 5 * MINUTE
MEMBERS = {"good": ("t", LATER), "bad": ("u", None), "short": ("t", START + 1)}
NAMES = ["bad", "stranger", "good"]


def order(names, extra_specs=None):
    """The names as nova's weight handler sorts them with only this weigher, and their weights."""
    handler = weights.HostWeightHandler()
    sorted_hosts = handler.get_weighed_objects([TrustWeigherSPICE()], host_states(names), request_spec(extra_specs))
    return [(host.obj.nodename, host.weight) for host in sorted_hosts]


def test_a_soft_pool_prefers_trusted_to_unknown_to_untrusted(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    assert order(NAMES) == [("good", 1.0), ("stranger", 0.5), ("bad", 0.0)]


def test_pools_that_are_not_soft_prefer_nothing(cloud):
    cloud.write({"default": pool(MEMBERS), "gold": pool(MEMBERS, mode="observe")})
    assert {weight for _, weight in order(NAMES)} == {0.0}


def test_of_several_soft_pools_the_mean_counts(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft"), "gold": pool({"bad": ("t", LATER)}, mode="soft")})
    assert dict(order(NAMES)) == {"good": 0.75, "stranger": 0.5, "bad": 0.5}


def test_a_flavor_that_names_a_level_is_the_filters_matter(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    assert {weight for _, weight in order(NAMES, TRUSTED)} == {0.0}


def test_expiry_and_silence_end_the_preference(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    cloud.clock.pass_ms(1)
    assert dict(order(["short", "good"])) == {"short": 0.5, "good": 1.0}
    cloud.clock.pass_ms(11 * MINUTE)
    assert {weight for _, weight in order(NAMES)} == {0.0}


def test_without_a_file_and_after_a_defect_nothing_is_preferred(cloud, monkeypatch):
    assert {weight for _, weight in order(NAMES)} == {0.0}
    monkeypatch.setattr(runtime, "pool_source", lambda: 1 / 0)
    assert {weight for _, weight in order(NAMES)} == {0.0}


def test_the_multiplier_is_an_option_that_an_aggregate_overrides(cloud, option):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    option("trust_weight_multiplier", 7.0)
    assert order(NAMES)[0] == ("good", 7.0)
    host = host_states(["good"])[0]

    class Aggregate:
        metadata = {"trust_weight_multiplier": "-2"}

    host.aggregates = [Aggregate]
    assert TrustWeigherSPICE().weight_multiplier(host) == -2.0


def test_one_host_can_be_weighed(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    weigher = TrustWeigherSPICE()
    assert weigher._weigh_object(host_states(["good"])[0], request_spec()) == 1.0
    assert weigher.weigh_objects([weighed(host) for host in host_states(NAMES)], request_spec()) == [0.0, 0.5, 1.0]
