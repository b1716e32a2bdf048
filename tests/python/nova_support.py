"""A small cloud around the filter: real nova objects, a pool folder, and a clock that tests move."""

import os
import sys
import types
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "plugins" / "nova"))

import pool_writer  # noqa: E402
from nova import objects  # noqa: E402
from nova.scheduler import filters, host_manager  # noqa: E402
from spice_nova import filter as spice_filter  # noqa: E402
from spice_nova import runtime  # noqa: E402

objects.register_all()

START = 1_800_000_000_000
BOOTED = 50_000_000
MINUTE = 60_000


class Clock:
    """Stands still until told."""

    def __init__(self):
        self.utc = START
        self.boottime = BOOTED
        self.boot = "boot-1"

    def utc_ms(self):
        return self.utc

    def boottime_ms(self):
        return self.boottime

    def boot_id(self):
        return self.boot

    def pass_ms(self, amount):
        self.utc += amount
        self.boottime += amount


def host_states(names):
    return [host_manager.HostState(f"service-{name}", name, str(uuid.uuid4())) for name in names]


def request_spec(extra_specs=None, **fields):
    return objects.RequestSpec(
        instance_uuid=str(uuid.uuid4()),
        flavor=objects.Flavor(extra_specs=dict(extra_specs or {})),
        ignore_hosts=None,
        force_hosts=None,
        force_nodes=None,
        requested_destination=None,
        **fields,
    )


TRUSTED = {"trust:trusted_host": "trusted"}


def pool(members, mode="enforce", max_silence_ms=10 * MINUTE):
    return {"mode": mode, "max_silence_ms": max_silence_ms, "members": members}


class Cloud:
    """The pool folder, as the pool role would fill it, and questions to the filter."""

    def __init__(self, folder, clock):
        self.folder = folder
        self.clock = clock
        self.filter = spice_filter.TrustedFilterSPICE()
        self.handler = filters.HostFilterHandler()

    @property
    def pool_path(self):
        return self.folder / "pool"

    @property
    def alive_path(self):
        return self.folder / "pool.alive"

    def instant(self):
        return {"boottime_ms": self.clock.boottime, "boot_id": self.clock.boot}

    def pool_bytes(self, pools, **header):
        return pool_writer.pool_bytes(pools, **{"written_at_ms": self.clock.utc, **self.instant(), **header})

    def alive_bytes(self, **fields):
        return pool_writer.alive_bytes(**{"heard_at_ms": self.clock.utc, **self.instant(), **fields})

    def write(self, pools, **header):
        pool_writer.replace(self.pool_path, self.pool_bytes(pools, **header))
        self.hear(**{key: header[key] for key in ("epoch", "version", "deployment") if key in header})

    def hear(self, **fields):
        pool_writer.replace(self.alive_path, self.alive_bytes(**fields))

    def write_default(self, members, **header):
        self.write({"default": pool(members)}, **header)

    def passing(self, names, extra_specs=TRUSTED, index=0):
        """The names that pass, by the way nova's scheduler asks."""
        passed = self.handler.get_filtered_objects(
            [self.filter], host_states(names), request_spec(extra_specs), index=index
        )
        return [host.nodename for host in passed]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    folder = tmp_path / "spice"
    folder.mkdir()
    os.chmod(folder, 0o755)
    clock = Clock()
    monkeypatch.setattr(runtime, "clock", clock)
    monkeypatch.setattr(spice_filter, "_restraint", runtime.Restraint())
    conf = runtime.CONF
    conf.set_override("pool_dir", str(folder), group="spice")
    conf.set_override("deployment", "test", group="spice")
    yield Cloud(folder, clock)
    for option in runtime.options.OPTIONS:
        conf.clear_override(option.dest, group="spice")


@pytest.fixture
def option(cloud):
    """Sets an option of [spice] for one test."""

    def set_option(name, value):
        runtime.CONF.set_override(name, value, group="spice")

    return set_option


def weighed(host):
    """What nova's weight handler wraps a host in."""
    return types.SimpleNamespace(obj=host)
