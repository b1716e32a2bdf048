"""The rules once more, slowly and on their own, and the filter held against them for whatever hypothesis thinks of."""

import random

import pool_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nova_support import BOOTED, START
from spice_nova import poolfile, runtime

NODES = ["a", "b", "c.example", "d-1", "E"]
POOLS = ["default", "gold", "x"]

moments = st.integers(-5, 25)
members = st.dictionaries(
    st.sampled_from(NODES[:4]),
    st.one_of(
        st.tuples(st.sampled_from("to"), moments.map(lambda moment: START + moment)),
        st.tuples(st.sampled_from("u-"), st.none()),
    ),
)
pools = st.dictionaries(
    st.sampled_from(POOLS),
    st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["enforce", "enforce", "soft", "observe"]),
            "max_silence_ms": st.integers(1, 30),
            "members": members,
        }
    ),
)
file_faults = st.sampled_from([None] * 12 + ["missing", "deployment", "boot", "cut", "writable"])
steps = st.fixed_dictionaries(
    {
        "pools": pools,
        "write": st.booleans(),
        "hear": st.booleans(),
        "pool_fault": file_faults,
        "alive_fault": file_faults,
        "version": st.integers(1, 3),
        "heard_version": st.integers(1, 3),
        "utc": st.integers(-20, 20),
        "boottime": st.integers(-2, 20),
    }
)
extra_specs = st.fixed_dictionaries(
    {},
    optional={
        "trust:trusted_host": st.sampled_from(["trusted"] * 4 + ["untrusted", "unknown", "", "TRUSTED", "pending"]),
        "spice:pool": st.sampled_from(POOLS + ["", "nowhere"]),
        "hw:mem": st.just("1"),
    },
)
configurations = st.fixed_dictionaries(
    {
        "unknown_fails_open": st.booleans(),
        "require_trust_for_all": st.booleans(),
        "trusted_pool": st.sampled_from(["default"] * 3 + ["gold"]),
    }
)


def level(world, pool, node, now):
    """(level, whether nothing could be known), straight from the design."""
    file, alive = world["pool"], world["alive"]
    if file is None or file["fault"] or now["boottime"] < file["boottime"]:
        return "unknown", True
    limit = file["pools"][pool]["max_silence_ms"]
    if alive is None or alive["fault"] or alive["version"] > file["version"] or now["boottime"] < alive["boottime"]:
        return "unknown", True
    if now["boottime"] - alive["boottime"] > limit or now["utc"] - alive["utc"] > limit:
        return "unknown", True
    letter, expiry = file["pools"][pool]["members"].get(node, ("-", None))
    if letter == "u":
        return "untrusted", False
    on_boottime = file["utc"] + now["boottime"] - file["boottime"]
    if letter in "to" and now["utc"] < expiry and on_boottime < expiry:
        return "trusted", False
    return "unknown", False


def holds(world, pool, wanted, named, node, now, configuration):
    """Whether one demand lets `node` pass."""
    if wanted not in ("trusted", "untrusted", "unknown"):
        return False
    file = world["pool"]
    readable = file is not None and not file["fault"] and now["boottime"] >= file["boottime"]
    if readable and pool not in file["pools"]:
        return False
    mode = file["pools"][pool]["mode"] if readable else "enforce"
    if mode == "observe" or (mode == "soft" and not named):
        return True
    has, blind = level(world, pool, node, now)
    if not blind:
        return has == wanted
    last = file["pools"][pool]["members"].get(node, ("-", None))[0] if readable else "-"
    return wanted == "unknown" and configuration["unknown_fails_open"] and last != "u"


def passes(world, specs, node, now, configuration):
    """Whether the rules let `node` pass."""
    demands = []
    if specs.get("trust:trusted_host"):
        demands.append((configuration["trusted_pool"], specs["trust:trusted_host"], True))
    if "spice:pool" in specs:
        demands.append((specs["spice:pool"], "trusted", True))
    if not demands and configuration["require_trust_for_all"]:
        demands.append((configuration["trusted_pool"], "trusted", False))
    return all(holds(world, *demand, node, now, configuration) for demand in demands)


def place(cloud, name, content, fault):
    path = cloud.folder / name
    if fault == "missing":
        path.unlink(missing_ok=True)
    else:
        pool_writer.replace(path, content[:-1] if fault == "cut" else content, 0o666 if fault == "writable" else 0o644)


def falsified(fault):
    return {"deployment": {"deployment": "other"}, "boot": {"boot_id": "boot-0"}}.get(fault, {})


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(steps, min_size=1, max_size=4), extra_specs, configurations, st.lists(st.sampled_from(NODES), max_size=6)
)
def test_the_filter_passes_exactly_what_the_rules_pass(cloud, story, specs, configuration, names):
    clock = cloud.clock
    clock.utc, clock.boottime = START, BOOTED
    # As if nova-scheduler had just started: the example before is no history of this one.
    runtime._current = (None, None)
    for path in (cloud.pool_path, cloud.alive_path):
        path.unlink(missing_ok=True)
    for name, value in configuration.items():
        runtime.CONF.set_override(name, value, group="spice")
    world = {"pool": None, "alive": None}
    for step in story:
        if step["write"] or world["pool"] is None:
            fault = step["pool_fault"]
            version = {"version": step["version"]}
            place(cloud, "pool", cloud.pool_bytes(step["pools"], **version, **falsified(fault)), fault)
            world["pool"] = {
                "pools": step["pools"],
                "fault": fault,
                "utc": clock.utc,
                "boottime": clock.boottime,
                **version,
            }
        if step["hear"] or world["alive"] is None:
            fault = step["alive_fault"]
            version = {"version": step["heard_version"]}
            place(cloud, "pool.alive", cloud.alive_bytes(**version, **falsified(fault)), fault)
            world["alive"] = {"fault": fault, "utc": clock.utc, "boottime": clock.boottime, **version}
        clock.utc += step["utc"]
        clock.boottime += step["boottime"]
        now = {"utc": clock.utc, "boottime": clock.boottime}
        expected = [node for node in names if passes(world, specs, node, now, configuration)]
        assert cloud.passing(names, specs) == expected


def test_reading_on_from_an_earlier_file_gives_what_reading_afresh_gives(cloud):
    chance = random.Random(20_261)
    nodes = [f"node-{number:05d}" for number in range(5000)]
    state = {node: ("t", START + 1000) for node in nodes}
    previous = None
    for version in range(60):
        for node in chance.sample(nodes, chance.choice([0, 1, 2, 50, 3000])):
            letter = chance.choice("tou-")
            state[node] = (letter, START + chance.randrange(10_000) if letter in "to" else None)
        if version % 10 == 9:
            # Nodes come and go: the line of names changes.
            gone = chance.choice(nodes)
            state.pop(gone, None)
            state[f"new-{version}"] = ("t", START)
        named = {"default": {"members": dict(state)}, "gold": {"members": {nodes[version]: ("t", START)}}}
        if version % 7 == 6:
            del named["gold"]
        content = cloud.pool_bytes(named)
        fresh, previous = poolfile.PoolFile(content), poolfile.PoolFile(content, previous)
        assert previous.pools.keys() == fresh.pools.keys() == named.keys()
        for name, pool in fresh.pools.items():
            other = previous.pools[name]
            assert (pool.trusted, pool.earliest_ms, pool.levels) == (other.trusted, other.earliest_ms, other.levels)
            assert pool.untrusted == other.untrusted
            assert [pool.expiry_of(node) for node in nodes] == [other.expiry_of(node) for node in nodes]
            members = named[name]["members"]
            assert pool.trusted.keys() == {node for node, (letter, _) in members.items() if letter in "to"}
