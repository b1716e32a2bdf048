"""From a failing result's arrival on the bus to the Nova filter refusing the node, with results in the background.

Real parts: a broker, roles nodes and pool, and the filter in a Python process of its own that asks it in a loop, as
nova-scheduler would with every request: in turns about a few hosts and about all. An adapter hands over one failure at
a time; it is timed from just before its publish until the filter's list comes back without the node. CLOCK_MONOTONIC is
the same for all processes; when the file was put in its place is what its inode says, to a few milliseconds.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools" / "lib"), str(ROOT / "plugins" / "nova")]

import bench_lab  # noqa: E402

BAR_MS = 100
KINDS = {"few": 20, "all": None}
"""How many hosts a request is about; None: every node there is."""
PAUSE_S = 0.001
"""Between two requests of the filter's process."""
PATIENCE_S = 30
RATE = 1000
LAST_DIGIT = 9
"""Nodes whose number ends with this fail in the background, see peer/results/latency.rs."""


class Asking:
    """The filter's process: `{"node": number, "kind": ...}` in; out: a line when the node passes, and one
    when it does no more."""

    def __init__(self, folder, count):
        from nova import objects
        from nova.scheduler import host_manager
        from spice_nova import runtime
        from spice_nova.filter import TrustedFilterSPICE

        objects.register_all()
        runtime.CONF.set_override("pool_dir", folder, group="spice")
        runtime.CONF.set_override("deployment", "bench", group="spice")
        self.pool = os.path.join(folder, "pool")
        self.filter = TrustedFilterSPICE()
        names = [f"compute-{number:06d}" for number in range(count)]
        self.hosts = [host_manager.HostState(name, f"{name}.region1.example.org", None) for name in names]
        flavor = objects.Flavor(extra_specs={"trust:trusted_host": "trusted"})
        self.request = objects.RequestSpec(flavor=flavor, instance_uuid="0b1c4d6e-2f6a-4a30-9b76-3f1f4f3c2a10")
        # From a file's time, which is time of day, to the clock that never steps.
        self.offset = time.time_ns() - time.monotonic_ns()

    def passes(self, host, hosts):
        return any(passing is host for passing in self.filter.filter_all(hosts, self.request))

    def until(self, wanted, host, hosts):
        """Asks until the host passes, or does not; the time it was found out, or None when that took too long."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.passes(host, hosts) == wanted:
                return time.monotonic_ns()
            time.sleep(PAUSE_S)
        return None

    def watch(self, number, kind):
        host, size = self.hosts[number], KINDS[kind]
        hosts = (
            self.hosts if size is None else [self.hosts[(number + step * 37) % len(self.hosts)] for step in range(size)]
        )
        bench_lab.say({"passes": self.until(True, host, hosts) is not None})
        refused = self.until(False, host, hosts)
        bench_lab.say({"refused_ns": refused, "file_ns": os.stat(self.pool).st_ctime_ns - self.offset})

    def obey(self):
        bench_lab.say({"ready": True})
        for line in sys.stdin:
            command = json.loads(line)
            self.watch(command["node"], command["kind"])


class Change:
    """One failure, and how long each part of its way took, in ms."""

    def __init__(self, kind, said, heard):
        begun, refused = said["published_ns"], heard["refused_ns"]
        # By the time of the look another file may have come.
        file = min(max(heard["file_ns"], begun), refused)
        self.kind = kind
        self.parts = {
            "publish -> broker has it": (said["confirmed_ns"] - begun) / 1e6,
            "publish -> file in its place": (file - begun) / 1e6,
            "file in its place -> refused": (refused - file) / 1e6,
            "publish -> refused": (refused - begun) / 1e6,
        }


def one_change(cloud, asking, number, kind, pause):
    asking.say(node=number, kind=kind)
    if not asking.hear()["passes"]:
        raise SystemExit(f"tools/bench: the filter never let node {number} pass")
    time.sleep(pause)
    said = cloud.tell(do="fail", node=number)
    heard = asking.hear()
    if heard["refused_ns"] is None:
        raise SystemExit(f"tools/bench: {PATIENCE_S} s after its failure node {number} still passes")
    return Change(kind, said, heard)


def share(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) * part // 100, len(ordered) - 1)]


def report(changes, rate, seconds, used, others, complaints):
    print(f"{'ms':<10}  {'':<30} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}")
    for kind in ("both", *KINDS):
        chosen = [change for change in changes if kind in ("both", change.kind)]
        for part in chosen[0].parts:
            values = [change.parts[part] for change in chosen]
            figures = " ".join(f"{share(values, percent):>8.1f}" for percent in (50, 90, 99, 100))
            print(f"{kind:<10}  {part:<30} {figures}")
    shares = ", ".join(f"{name} {spent / seconds:.0%}" for name, spent in used.items())
    print(f"{len(changes)} changes in {seconds:.0f} s, {rate:.0f} results/s in the background")
    print(f"processor time: {shares} of a core; everybody else had {others:.0%} of the machine")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for line in complaints[:5]:
        print(f"logged: {line}")
    worst = share([change.parts["publish -> refused"] for change in changes], 99)
    bars = [
        (f"p99 of publish -> refused: {worst:.1f} ms (bar: under {BAR_MS})", worst < BAR_MS),
        (f"nothing was complained about ({len(complaints)} lines)", not complaints),
    ]
    for what, holds in bars:
        print(f"{bench_lab.verdict(holds)}  {what}")
    bench_lab.warn_of(others)
    return 0 if all(holds for _, holds in bars) else 1


def measure(arguments, folder, run_dir):
    spiced, peer = bench_lab.build()
    broker = bench_lab.Broker()
    parts = []
    bench_lab.configure(folder, broker, run_dir, "changes")
    try:
        cloud = bench_lab.Peer(peer, "results", broker.url, folder / "state", arguments.nodes)
        parts.append(cloud)
        roles = {name: bench_lab.Role(spiced, name, folder) for name in ("nodes", "pool")}
        parts += roles.values()
        cloud.tell(do="register")
        cloud.tell(do="load", seconds=3, batches=16)
        asking = bench_lab.Peer(sys.executable, "-W", "ignore", __file__, "--ask", run_dir, "--nodes", arguments.nodes)
        parts.append(asking)
        cloud.tell(do="background", rate=arguments.rate)
        pids = {name: role.pid for name, role in roles.items()}
        chance = random.Random(arguments.nodes)
        numbers = [number for number in range(arguments.nodes) if number % 10 != LAST_DIGIT]
        chance.shuffle(numbers)
        # Until the roles' first second is over; a role that has run for a month is what is measured.
        for number in numbers[-5:]:
            one_change(cloud, asking, number, "all", 0.1)
        meter = bench_lab.Meter(**pids, cloud=cloud.pid, filter=asking.pid, broker=broker.pid)
        begun, changes = time.monotonic(), []
        for index in range(arguments.changes):
            kind = list(KINDS)[index % len(KINDS)]
            # At any moment of the background's beat and of everybody's timers.
            changes.append(one_change(cloud, asking, numbers[index % (len(numbers) - 5)], kind, chance.uniform(0, 0.2)))
        seconds = time.monotonic() - begun
        used, others = meter.read()
        background = cloud.tell(do="rest")
        rate = background["sent"] / background["seconds"]
        complaints = [line for role in roles.values() for line in role.complaints()]
        return report(changes, rate, seconds, used, others, complaints)
    finally:
        for part in reversed(parts):
            part.stop()
        broker.stop()


def main():
    parser = argparse.ArgumentParser(
        prog="tools/bench latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--changes", type=int, default=1000, help="failures, one after the other (default: %(default)s)"
    )
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=RATE, help="results a second in the background, in batches of 200")
    parser.add_argument(
        "--run-dir", default="/dev/shm", help="where the pool file's folder is made; /run/spice is in memory, too"
    )
    parser.add_argument("--quick", action="store_true", help="50 changes: a look, no measurement")
    parser.add_argument("--ask", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        Asking(arguments.ask, arguments.nodes).obey()
        return 0
    if arguments.quick:
        arguments.changes = 50
    with (
        tempfile.TemporaryDirectory(prefix="spice-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="spice-bench-", dir=arguments.run_dir) as run_dir,
    ):
        return measure(arguments, pathlib.Path(folder), pathlib.Path(run_dir) / "spice")


if __name__ == "__main__":
    sys.exit(main())
