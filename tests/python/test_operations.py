"""What an operator installs from etc/: alert rules that fire when they should and not else, units that systemd takes.

Needs promtool (Debian: prometheus) and systemd-analyze (Debian: systemd); tools/test installs both.
"""

import pathlib
import shutil
import subprocess

import pytest
import yaml

ETC = pathlib.Path(__file__).resolve().parents[2] / "etc"
RULES = ETC / "prometheus" / "spice.rules.yml"

ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}

WELL = {
    'up{job="spice"}': "1x90",
    'spice_loop_dead{role="checks",loop="dispatch"}': "0x90",
    'spice_role_active{role="nodes",instance="a"}': "1x90",
    'spice_role_active{role="nodes",instance="b"}': "0x90",
    'spice_role_takeovers_total{role="nodes"}': "0 0 1x90",
    'spice_bus_connected{transport="control",role="consume"}': "1x90",
    'spice_bus_blocked{transport="control",role="publish"}': "0x90",
    'spice_database_up{role="nodes"}': "1x90",
    'spice_checks_behind_seconds{check="boot"}': "0x90",
    'spice_checks_adapters_alive{adapter="command"}': "2x90",
    'spice_nodes_results_total{status="pass"}': "0+1000x90",
    'spice_nodes_results_total{status="error"}': "0+5x90",
    'spice_nodes_expiring{pool="default"}': "0 3 0 2 0x90",
    'spice_nodes_flapping{pool="default"}': "0 1 0x90",
    'spice_nodes_members{pool="default",level="trusted"}': "1000 990 900x90",
    'spice_nodes_members{pool="default",level="untrusted"}': "0x90",
    "spice_checks_late": "0 9 0x90",
    'spice_checks_recast_total{reason="silence"}': "0 2 2x90",
    'spice_bus_queue_messages{queue="spice-nodes-results"}': "900 900 0x90",
    'spice_bus_dead_letters{queue="spice_work.dead"}': "0x90",
    'spice_nodes_outbox_waiting{lane="events"}': "5000 5000 0x90",
    "spice_pool_last_heartbeat_timestamp_seconds": "0+60x90",
    "spice_pool_write_failures_total": "0x90",
    "spice_pool_clock_skew_seconds": "0.02x90",
    'spice_requests_refused_total{topic="spice-nodes",reason="expired"}': "0 1 1x90",
    'spice_bus_tampered_total{queue="spice-nodes-results",reason="consumers"}': "0x90",
    'spice_nodes_results_contradicted_total{check="boot"}': "0x90",
    'spice_nodes_overridden{pool="default"}': "2x30 0x60",
    "spice_trust_store_faults": "0x90",
    "spice_own_keys_not_believed": "0x90",
}

# What is different, and the labels of the alert.
TROUBLE = {
    "SpiceDown": ({'up{job="spice"}': "0x90"}, {"job": "spice"}),
    "SpiceLoopDead": (
        {'spice_loop_dead{role="checks",loop="dispatch"}': "1x90"},
        {"role": "checks", "loop": "dispatch"},
    ),
    "SpiceRoleNowhereActive": ({'spice_role_active{role="nodes",instance="a"}': "0x90"}, {"role": "nodes"}),
    "SpiceRoleTwiceActive": ({'spice_role_active{role="nodes",instance="b"}': "1x90"}, {"role": "nodes"}),
    "SpiceTakeovers": ({'spice_role_takeovers_total{role="nodes"}': "0+1x90"}, {"role": "nodes"}),
    "SpiceBrokerAway": (
        {'spice_bus_connected{transport="control",role="consume"}': "0x90"},
        {"transport": "control", "role": "consume"},
    ),
    "SpiceBrokerBlocked": (
        {'spice_bus_blocked{transport="control",role="publish"}': "1x90"},
        {"transport": "control", "role": "publish"},
    ),
    "SpiceDatabaseDown": ({'spice_database_up{role="nodes"}': "0x90"}, {"role": "nodes"}),
    "SpiceSchedulesBehind": ({'spice_checks_behind_seconds{check="boot"}': "0+60x90"}, {"check": "boot"}),
    "SpiceAdapterGone": ({'spice_checks_adapters_alive{adapter="command"}': "0x90"}, {"adapter": "command"}),
    "SpiceVerifierFails": ({'spice_nodes_results_total{status="error"}': "0+5000x90"}, {}),
    "SpiceTrustExpiring": ({'spice_nodes_expiring{pool="default"}': "1x90"}, {"pool": "default"}),
    "SpiceTrustExpiringWidely": ({'spice_nodes_expiring{pool="default"}': "400x90"}, {"pool": "default"}),
    "SpicePoolDegraded": (
        {'spice_nodes_members{pool="default",level="trusted"}': "1000x55 100x40"},
        {"pool": "default", "level": "trusted"},
    ),
    "SpiceNodesUntrusted": (
        {'spice_nodes_members{pool="default",level="untrusted"}': "1x90"},
        {"pool": "default", "level": "untrusted"},
    ),
    "SpiceNodesFlapping": ({'spice_nodes_flapping{pool="default"}': "1x90"}, {"pool": "default"}),
    "SpiceResultsLate": ({"spice_checks_late": "3x90"}, {}),
    "SpiceBatchesLost": ({'spice_checks_recast_total{reason="silence"}': "0+2x90"}, {"reason": "silence"}),
    "SpiceQueueGrows": (
        {'spice_bus_queue_messages{queue="spice-nodes-results"}': "0+100x90"},
        {"queue": "spice-nodes-results"},
    ),
    "SpiceDeadLetters": ({'spice_bus_dead_letters{queue="spice_work.dead"}': "1x90"}, {"queue": "spice_work.dead"}),
    "SpiceOutboxWaits": ({'spice_nodes_outbox_waiting{lane="events"}': "0+100x90"}, {"lane": "events"}),
    "SpicePoolCacheSilent": ({"spice_pool_last_heartbeat_timestamp_seconds": "0+60x50 3000x40"}, {}),
    "SpicePoolFileNotWritten": ({"spice_pool_write_failures_total": "0+1x90"}, {}),
    "SpiceClocksDiffer": ({"spice_pool_clock_skew_seconds": "12x90"}, {}),
    "SpiceRequestsRefused": (
        {'spice_requests_refused_total{topic="spice-nodes",reason="expired"}': "0+60x90"},
        {"topic": "spice-nodes", "reason": "expired"},
    ),
    "SpiceTamperedWith": (
        {'spice_bus_tampered_total{queue="spice-nodes-results",reason="consumers"}': "0+1x90"},
        {"queue": "spice-nodes-results", "reason": "consumers"},
    ),
    "SpiceContradictions": (
        {'spice_nodes_results_contradicted_total{check="boot"}': "0x50 1x40"},
        {"check": "boot"},
    ),
    "SpiceOverrides": ({'spice_nodes_overridden{pool="default"}': "2x90"}, {"pool": "default"}),
    "SpiceKeysAtFault": ({"spice_own_keys_not_believed": "1x90"}, {}),
}


def run(*command):
    tool = shutil.which(command[0])
    assert tool, f"{command[0]} is missing; on Debian: apt-get install prometheus systemd"
    return subprocess.run([tool, *map(str, command[1:])], capture_output=True, text=True, check=False)


def judged(tmp_path, changed, expected):
    """Runs promtool on a cloud that is well but for `changed`; `expected`: alert -> labels, or None for silence."""

    def alert(name, labels):
        rule = ALERTS[name]
        fires = {
            "exp_labels": {**rule["labels"], **(labels or {})},
            "exp_annotations": rule["annotations"],
        }
        return {"eval_time": "85m", "alertname": name, "exp_alerts": [] if labels is None else [fires]}

    series = [{"series": name, "values": values} for name, values in {**WELL, **changed}.items()]
    checks = [alert(name, labels) for name, labels in expected.items()]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": checks}],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    return run("promtool", "test", "rules", file)


def test_the_rules_are_valid():
    checked = run("promtool", "check", "rules", RULES)
    assert checked.returncode == 0, checked.stderr


def test_every_rule_has_its_trouble():
    assert TROUBLE.keys() == ALERTS.keys()


def test_no_alert_fires_while_all_is_well_and_passing_trouble_is_over(tmp_path):
    done = judged(tmp_path, {}, dict.fromkeys(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(TROUBLE))
def test_an_alert_fires_in_its_trouble(name, tmp_path):
    changed, labels = TROUBLE[name]
    done = judged(tmp_path, changed, {name: labels})
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_units(tmp_path):
    for unit in (ETC / "systemd").glob("*.service"):
        text = unit.read_text()
        assert "ExecStart=/usr/local/bin/spiced" in text
        # What they start is not installed here.
        name = unit.name.replace("@.", "@adapter.")
        (tmp_path / name).write_text(text.replace("/usr/local/bin/spiced", "/bin/true"))
    shutil.copytree(ETC / "systemd" / "spiced@adapter.service.d", tmp_path / "spiced@adapter.service.d")
    units = sorted(tmp_path.glob("*.service"))
    assert [unit.name for unit in units] == ["spiced.service", "spiced@adapter.service"]
    checked = run("systemd-analyze", "verify", "--man=no", *units)
    assert checked.returncode == 0 and "Unknown" not in checked.stderr, checked.stderr


@pytest.mark.parametrize("unit", ["spiced.service", "spiced@.service"])
def test_a_unit_gives_away_no_more_than_it_must(unit):
    checked = run("systemd-analyze", "security", "--offline=yes", "--threshold=30", ETC / "systemd" / unit)
    assert checked.returncode == 0, checked.stdout
