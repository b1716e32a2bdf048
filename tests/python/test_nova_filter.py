"""What the filter passes: levels, pools, modes, options."""

import datetime

import pytest
from nova import objects
from nova.scheduler import host_manager
from nova_support import BOOTED, MINUTE, START, TRUSTED, host_states, pool, request_spec
from oslo_config import cfg
from spice_nova import runtime

LATER = START + 5 * MINUTE
MEMBERS = {"good": ("t", LATER), "bad": ("u", None), "new": ("-", None), "let-in": ("o", LATER)}
NAMES = ["stranger", "good", "bad", "new", "let-in"]


@pytest.mark.parametrize(
    "level, expected",
    [
        ("trusted", ["good", "let-in"]),
        ("untrusted", ["bad"]),
        ("unknown", ["stranger", "new"]),
        ("Trusted", []),
        ("trusted ", []),
        ("timeout", []),
        ("", NAMES),
    ],
)
def test_a_level_is_compared_byte_for_byte(cloud, level, expected):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES, {"trust:trusted_host": level}) == expected


def test_a_flavor_that_asks_nothing_has_every_host_even_without_a_pool_file(cloud):
    assert cloud.passing(NAMES, {}) == NAMES


def test_a_flavor_that_came_without_extra_specs_asks_nothing(cloud):
    request = request_spec()
    request.flavor = objects.Flavor()
    hosts = host_states(NAMES)
    assert list(cloud.filter.filter_all(hosts, request)) == hosts


def test_a_generator_of_hosts_is_taken(cloud):
    cloud.write_default(MEMBERS)
    passed = cloud.filter.filter_all((host for host in host_states(NAMES)), request_spec(TRUSTED))
    assert [host.nodename for host in passed] == ["good", "let-in"]


def test_trust_belongs_to_the_node_and_not_to_the_service_host(cloud):
    cloud.write_default(MEMBERS)
    impostor = host_manager.HostState("good", "bad", None)
    assert not cloud.filter.host_passes(impostor, request_spec(TRUSTED))


def test_a_named_pool_and_a_level_must_both_hold(cloud):
    cloud.write({"default": pool(MEMBERS), "gold": pool({"let-in": ("t", LATER), "bad": ("t", LATER)})})
    assert cloud.passing(NAMES, {"spice:pool": "gold"}) == ["bad", "let-in"]
    assert cloud.passing(NAMES, {"spice:pool": "gold", **TRUSTED}) == ["let-in"]
    assert cloud.passing(NAMES, {"spice:pool": "gold", "trust:trusted_host": "untrusted"}) == ["bad"]


@pytest.mark.parametrize("name", ["silver", "", "Gold", "gold\n"])
def test_an_unknown_pool_has_no_host(cloud, name):
    cloud.write({"default": pool(MEMBERS), "gold": pool(MEMBERS)})
    assert cloud.passing(NAMES, {"spice:pool": name}) == []


def test_an_unknown_pool_or_level_has_no_host_even_where_pools_only_observe(cloud):
    cloud.write({"default": pool(MEMBERS, mode="observe")})
    assert cloud.passing(NAMES, {"spice:pool": "silver"}) == []
    assert cloud.passing(NAMES, {"trust:trusted_host": "yes"}) == []


def test_another_pool_may_be_the_one_levels_speak_of(cloud, option):
    cloud.write({"default": pool({}), "gold": pool(MEMBERS)})
    option("trusted_pool", "gold")
    assert cloud.passing(NAMES) == ["good", "let-in"]


def test_soft_is_enforced_for_a_flavor_that_names_a_level_or_the_pool(cloud):
    cloud.write({"default": pool(MEMBERS, mode="soft")})
    assert cloud.passing(NAMES) == ["good", "let-in"]
    assert cloud.passing(NAMES, {"spice:pool": "default"}) == ["good", "let-in"]


def test_observe_passes_with_one_warning_per_request(cloud, caplog):
    cloud.write({"default": pool(MEMBERS, mode="observe")})
    assert cloud.passing(NAMES, {"spice:pool": "default", **TRUSTED}) == NAMES
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "would refuse 3 of 5" in warnings[0].getMessage()
    assert "1 unknown, 1 unknown (not registered), 1 untrusted" in warnings[0].getMessage()


def test_observe_in_one_pool_does_not_soften_another(cloud):
    cloud.write({"default": pool(MEMBERS), "gold": pool({}, mode="observe")})
    assert cloud.passing(NAMES, {"spice:pool": "gold", **TRUSTED}) == ["good", "let-in"]


@pytest.mark.parametrize("mode, expected", [("enforce", ["good", "let-in"]), ("soft", NAMES), ("observe", NAMES)])
def test_trust_can_be_required_of_all_flavors_as_far_as_the_mode_says(cloud, option, caplog, mode, expected):
    cloud.write({"default": pool(MEMBERS, mode=mode)})
    option("require_trust_for_all", True)
    assert cloud.passing(NAMES, {}) == expected
    assert any(record.levelname == "WARNING" for record in caplog.records) == (mode == "observe")


def test_what_is_required_of_all_does_not_override_what_a_flavor_names(cloud, option):
    cloud.write({"default": pool({}), "gold": pool(MEMBERS)})
    option("require_trust_for_all", True)
    assert cloud.passing(NAMES, {"spice:pool": "gold"}) == ["good", "let-in"]


def test_a_refused_request_says_in_one_line_how_many_hosts_for_which_reason(cloud, caplog):
    caplog.set_level("INFO", logger="spice_nova")
    cloud.write_default(MEMBERS)
    assert cloud.passing(["bad", "new", "stranger", "other"]) == []
    lines = [record.getMessage() for record in caplog.records if record.name == "spice_nova.filter"]
    assert len(lines) == 1
    assert "1 unknown, 2 unknown (not registered), 1 untrusted" in lines[0]


def test_text_of_a_flavor_cannot_forge_a_line_of_the_log(cloud, caplog):
    caplog.set_level("DEBUG", logger="spice_nova")
    cloud.write_default(MEMBERS)
    cloud.passing(NAMES, {"spice:pool": "x\n2026-11-22 CRITICAL all is lost \u202e" + "y" * 5000})
    for record in caplog.records:
        if record.name.startswith("spice_nova"):
            message = record.getMessage()
            assert "\n" not in message and "\u202e" not in message and len(message) < 500


def test_each_server_of_a_multi_create_is_judged_anew(cloud):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES, index=0) == ["good", "let-in"]
    cloud.write_default({**MEMBERS, "good": ("u", None)}, version=2)
    assert cloud.passing(NAMES, index=1) == ["let-in"]
    cloud.clock.pass_ms(5 * MINUTE)
    assert cloud.passing(NAMES, index=2) == []


def test_a_rebuild_is_judged(cloud):
    cloud.write_default(MEMBERS)
    rebuild = request_spec(TRUSTED, scheduler_hints={"_nova_check_type": ["rebuild"]})
    good, bad = host_states(["good", "bad"])
    assert list(cloud.handler.get_filtered_objects([cloud.filter], [good], rebuild)) == [good]
    assert list(cloud.handler.get_filtered_objects([cloud.filter], [bad], rebuild)) == []
    # The way BaseHostFilter would ask for one host.
    assert cloud.filter._filter_one(good, rebuild)
    assert not cloud.filter._filter_one(bad, rebuild)


def test_novas_host_manager_finds_loads_and_asks_the_filter(cloud, monkeypatch):
    for name in ("refresh_cells_caches", "_init_aggregates", "_init_instance_info"):
        monkeypatch.setattr(host_manager.HostManager, name, lambda self: None)
    conf = runtime.CONF
    conf.set_override(
        "available_filters",
        ["nova.scheduler.filters.all_filters", "spice_nova.TrustedFilterSPICE"],
        group="filter_scheduler",
    )
    conf.set_override("enabled_filters", ["AllHostsFilter", "TrustedFilterSPICE"], group="filter_scheduler")
    conf.set_override(
        "weight_classes",
        ["nova.scheduler.weights.all_weighers", "spice_nova.TrustWeigherSPICE"],
        group="filter_scheduler",
    )
    try:
        manager = host_manager.HostManager()
    finally:
        for name in ("available_filters", "enabled_filters", "weight_classes"):
            conf.clear_override(name, group="filter_scheduler")
    assert "TrustWeigherSPICE" in [type(weigher).__name__ for weigher in manager.weighers]
    cloud.write_default(MEMBERS)
    for index in range(3):
        passed = manager.get_filtered_hosts(host_states(NAMES), request_spec(TRUSTED), index)
        assert [host.nodename for host in passed] == ["good", "let-in"]
    destined = request_spec(TRUSTED)
    destined.requested_destination = objects.Destination(host="service-bad", node="bad")
    assert manager.get_filtered_hosts(host_states(NAMES), destined) == []


@pytest.mark.parametrize("count", [0, 1, 2, 100, 10_000])
def test_any_number_of_hosts(cloud, count):
    names = [f"node-{number:05d}" for number in range(count)]
    levels = {name: (("t", LATER), ("u", None), ("-", None))[number % 3] for number, name in enumerate(names)}
    cloud.write_default(levels)
    assert cloud.passing(names) == names[::3]
    assert cloud.passing(names, {"trust:trusted_host": "untrusted"}) == names[1::3]
    assert cloud.passing(names, {"trust:trusted_host": "unknown"}) == names[2::3]


def iso(ms):
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc).isoformat()


@pytest.mark.parametrize(
    "until, passes",
    [
        (iso(START + MINUTE), True),
        (iso(START + MINUTE).replace("+00:00", "Z"), True),
        (iso(START + MINUTE).replace("+00:00", ""), True),
        (iso(START + 24 * 60 * MINUTE), True),
        (iso(START + 24 * 60 * MINUTE + 1000), False),
        (iso(START), False),
        (iso(START - MINUTE), False),
        ("tomorrow", False),
        ("9999-99-99", False),
        ("0001-01-01T00:00:00+23:59", False),
        ("Z", False),
    ],
)
def test_breaking_the_glass_lets_requests_pass_for_a_day_at_most(cloud, option, until, passes):
    cloud.write_default({name: ("u", None) for name in NAMES})
    option("bypass_until", until)
    assert cloud.passing(NAMES) == (NAMES if passes else [])


def test_the_glass_can_be_broken_without_a_restart(tmp_path):
    file = tmp_path / "nova.conf"
    file.write_text("[spice]\n")
    conf = cfg.ConfigOpts()
    conf.register_opts(runtime.options.OPTIONS, group="spice")
    conf(["--config-file", str(file)], default_config_dirs=[])
    assert conf.spice.bypass_until is None
    file.write_text("[spice]\nbypass_until = 2030-01-31T12:00:00Z\ndeployment = other\n")
    # What nova-scheduler does on SIGHUP.
    conf.mutate_config_files()
    assert conf.spice.bypass_until == "2030-01-31T12:00:00Z"
    assert conf.spice.deployment is None


def test_each_bypassed_request_is_logged(cloud, option, caplog):
    option("bypass_until", iso(START + MINUTE))
    cloud.passing(NAMES)
    cloud.passing(NAMES)
    cloud.passing(NAMES, {})
    assert sum("bypassed" in record.getMessage() for record in caplog.records) == 2


def test_a_bypass_too_far_ahead_is_an_error_in_the_log(cloud, option, caplog):
    option("bypass_until", iso(START + 48 * 60 * MINUTE))
    cloud.passing(NAMES)
    assert any(record.levelname == "ERROR" and "24 hours" in record.getMessage() for record in caplog.records)


def test_a_defect_costs_the_request_its_hosts_and_not_the_scheduler_its_life(cloud, monkeypatch, caplog):
    cloud.write_default(MEMBERS)
    monkeypatch.setattr(runtime, "pool_source", lambda: 1 / 0)
    assert cloud.passing(NAMES) == []
    assert any(record.exc_info for record in caplog.records)


def test_an_expiry_holds_to_the_millisecond(cloud):
    cloud.write_default({"a": ("t", START + 1000), "b": ("t", START + 2000)})
    cloud.clock.pass_ms(999)
    assert cloud.passing(["a", "b"]) == ["a", "b"]
    cloud.clock.pass_ms(1)
    assert cloud.passing(["a", "b"]) == ["b"]
    assert cloud.passing(["a", "b"], {"trust:trusted_host": "unknown"}) == ["a"]
    cloud.clock.pass_ms(1000)
    assert cloud.passing(["a", "b"]) == []


def test_utc_that_steps_back_prolongs_nothing(cloud):
    cloud.write_default({"a": ("t", START + MINUTE)})
    cloud.clock.pass_ms(MINUTE)
    cloud.clock.utc -= 60 * MINUTE
    assert cloud.passing(["a"]) == []


def test_utc_that_steps_forward_ends_trust_early(cloud):
    cloud.write_default({"a": ("t", START + MINUTE)})
    cloud.clock.utc += MINUTE
    assert cloud.passing(["a"]) == []


def test_a_boottime_before_the_files_is_not_believed(cloud):
    cloud.write_default(MEMBERS)
    cloud.clock.boottime = BOOTED - 1
    assert cloud.passing(NAMES) == []
    assert cloud.passing(NAMES, {"trust:trusted_host": "unknown"}) == []
