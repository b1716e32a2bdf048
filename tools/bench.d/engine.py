"""100,000 nodes with three checks each every five minutes: what the roles use, and how fast they start again."""

import argparse
import json
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))

import bench_lab  # noqa: E402

CHECKS = ("boot", "kernel", "modules")
ROLES = ("nodes", "checks", "pool")
CORES, MEMORY_MIB, RESTART_S = 0.5, 286, 5
# 286 MiB are 300 MB.
FIRST_S = 900
"""How long the first results of all nodes may take to come."""
LOOK_S = 1
TELL_S = 60
"""How often the memory is printed, so that growth and peaks can be told apart."""


def must(answer):
    if "error" in answer:
        raise SystemExit(f"tools/bench: {answer['error']}")
    return answer["answer"]


def memory(roles):
    """Each role's share of the memory."""
    return {name: bench_lab.share_mib(role.pid) for name, role in roles.items()}


def wait_for_adapter(operator):
    """Until Checks has heard of the adapter."""
    deadline = time.monotonic() + bench_lab.START_S
    while not must(operator.tell(do="call", topic="checks", method="status"))["adapters"].get("bench"):
        if time.monotonic() > deadline:
            raise SystemExit("tools/bench: the adapter does not announce itself")
        time.sleep(LOOK_S)


def trusted(operator):
    pools = must(operator.tell(do="call", topic="nodes", method="pool_list"))
    return pools["pools"][0]["trusted"] if isinstance(pools, dict) else pools[0]["trusted"]


def wait_for_trust(operator, count, roles):
    """Until all nodes are trusted; the most memory meanwhile."""
    most, deadline = memory(roles), time.monotonic() + FIRST_S
    while (now := trusted(operator)) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"tools/bench: {now} of {count} nodes are trusted after {FIRST_S} s")
        time.sleep(LOOK_S)
        most = {name: max(most[name], value) for name, value in memory(roles).items()}
    return most


def serves(operator, name, folder, since):
    """Whether a role that was started again does its work."""
    if name == "pool":
        alive = folder / "run" / "pool.alive"
        return alive.exists() and alive.stat().st_mtime > since
    method = {"nodes": "node_list", "checks": "check_list"}[name]
    args = {"limit": 1} if name == "nodes" else {}
    answer = operator.tell(do="call", topic=name, method=method, args=args, limit_ms=500)
    return "answer" in answer


def restart(operator, spiced, roles, name, folder):
    """Kills a role and starts it again; the seconds from the start until it serves."""
    roles[name].process.kill()
    roles[name].process.wait()
    begun, since = time.monotonic(), time.time()
    roles[name] = bench_lab.Role(spiced, name, folder)
    while not serves(operator, name, folder, since):
        if time.monotonic() - begun > bench_lab.START_S:
            raise SystemExit(f"tools/bench: {name} does not serve again\n{roles[name].log.read_text()[-4000:]}")
        time.sleep(0.02)
    return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="600 for the bar")
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--every", default="5m")
    parser.add_argument("--quick", action="store_true", help="10,000 nodes for 60 s: a look, no measurement")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.nodes = 60, 10_000
    spiced, peer = bench_lab.build()
    broker = bench_lab.Broker()
    parts, roles = [], {}
    with tempfile.TemporaryDirectory(prefix="spice-bench-") as temporary:
        folder = pathlib.Path(temporary)
        bench_lab.configure(folder, broker, folder / "run", "changes")
        try:
            operator = bench_lab.Peer(peer, "engine", broker.url, folder / "state")
            parts.append(operator)
            for name in ROLES:
                roles[name] = bench_lab.Role(spiced, name, folder)
            begun = time.monotonic()
            operator.tell(do="register", nodes=arguments.nodes)
            print(f"{arguments.nodes} nodes registered in {time.monotonic() - begun:.1f} s", flush=True)
            wait_for_adapter(operator)
            begun = time.monotonic()
            for name in CHECKS:
                check = {
                    "name": name,
                    "adapter": "bench",
                    "schedule": {"every": arguments.every},
                    "pools": {"default": "required"},
                    "batch_size": 200,
                }
                must(operator.tell(do="call", topic="checks", method="check_create", args={"check": check}))
            first = wait_for_trust(operator, arguments.nodes, roles)
            print(f"all trusted after {time.monotonic() - begun:.1f} s", flush=True)
            figures = measure(arguments.seconds, broker, roles, operator)
            depth = {queue: broker.depth(queue) for queue in ("spice-nodes-results", "spice-checks-events")}
            late = must(operator.tell(do="call", topic="checks", method="status"))
            times = {name: restart(operator, spiced, roles, name, folder) for name in ROLES}
            complaints = [line for role in roles.values() for line in role.complaints()]
            return report(arguments, figures, first, times, depth, late, complaints)
        finally:
            for part in [*roles.values(), *parts]:
                part.stop()
            broker.stop()


def measure(seconds, broker, roles, operator):
    """Processor time and the most memory over a time."""
    asked = operator.tell(do="asked")["asked"]
    meter = bench_lab.Meter(**{name: role.pid for name, role in roles.items()}, adapter=operator.pid, broker=broker.pid)
    begun, most = time.monotonic(), memory(roles)
    together, tell = sum(most.values()), TELL_S
    while time.monotonic() - begun < seconds:
        time.sleep(LOOK_S)
        now = memory(roles)
        if time.monotonic() - begun >= tell:
            shares = ", ".join(f"{name} {value:.0f}" for name, value in now.items())
            print(f"after {tell} s: {shares}, together {sum(now.values()):.0f} MiB", flush=True)
            tell += TELL_S
        together = max(together, sum(now.values()))
        most = {name: max(most[name], value) for name, value in now.items()}
    took = time.monotonic() - begun
    used, others = meter.read()
    results = operator.tell(do="asked")["asked"] - asked
    return {
        "used": {name: spent / took for name, spent in used.items()},
        "others": others,
        "most": most,
        "together": together,
        "rate": results / took,
    }


def report(arguments, figures, first, times, depth, late, complaints):
    used, most = figures["used"], figures["most"]
    print(f"{figures['rate']:.0f} results a second over {arguments.seconds} s")
    for name in (*ROLES, "adapter", "broker"):
        room = f", {most[name]:.0f} MiB at most, {first[name]:.0f} while all came at once" if name in most else ""
        print(f"  {name:8} {used[name]:.3f} of a core{room}")
    print(f"  queues at the end: {depth}")
    print(f"  checks says: {json.dumps(late)[:600]}")
    for line in complaints[:5]:
        print(f"logged: {line}")
    cores, together = sum(used[name] for name in ROLES), figures["together"]
    bars = [
        (f"processor time of the roles together: {cores:.3f} of a core (bar: {CORES})", cores < CORES),
        (f"memory of the roles together: {together:.0f} MiB (bar: {MEMORY_MIB})", together < MEMORY_MIB),
        *(
            (f"{name} serves again {spent:.2f} s after its start (bar: {RESTART_S})", spent < RESTART_S)
            for name, spent in times.items()
        ),
    ]
    for what, holds in bars:
        print(f"{bench_lab.verdict(holds)}  {what}")
    bench_lab.warn_of(figures["others"])
    return 0 if all(holds for _, holds in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
