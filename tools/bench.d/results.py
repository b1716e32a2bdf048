"""Results a second from the bus to stored and published, by a real role nodes, while a pool cache follows."""

import argparse
import json
import pathlib
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))

import bench_lab  # noqa: E402

BAR = 20_000
GROWTH = 1.25
"""How much more memory a role may have in the last tenth of the time than after the first: more is not flat."""
DEEPEST = 100
"""Most messages that may wait in a queue at the end; what is sent and not yet stored is bounded by --batches."""
QUEUES = ("spice-nodes-results", "spice-checks-events")
PATIENCE_S = 60


class Watch(threading.Thread):
    """Looks at memory and queues every second."""

    def __init__(self, roles, broker):
        super().__init__(daemon=True)
        self.roles, self.broker = roles, broker
        self.memory = {name: [] for name in roles}
        self.depth = {queue: [] for queue in QUEUES}
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(1):
            for name, role in self.roles.items():
                self.memory[name].append(bench_lab.memory_mib(role.pid))
            for queue in QUEUES:
                self.depth[queue].append(self.broker.depth(queue))


def header(path):
    """The second line of a pool file, or of `pool.alive`."""
    return json.loads(path.read_text().splitlines()[1])


def follows(folder):
    """Whether the pool file is what Nodes says it should be, within a few heartbeats."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        pool, alive = header(folder / "run" / "pool"), header(folder / "run" / "pool.alive")
        if (pool["epoch"], pool["version"]) == (alive["epoch"], alive["version"]):
            return pool
        time.sleep(0.2)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="600 for the bar")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=32, help="sent and not yet stored")
    parser.add_argument("--results", default="changes", help="which results are notified: all, changes, none")
    parser.add_argument("--quick", action="store_true", help="10 s: a look, no measurement")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds = 10
    spiced, peer = bench_lab.build()
    broker = bench_lab.Broker()
    parts = []
    with tempfile.TemporaryDirectory(prefix="spice-bench-") as temporary:
        folder = pathlib.Path(temporary)
        bench_lab.configure(folder, broker, folder / "run", arguments.results)
        try:
            cloud = bench_lab.Peer(peer, "results", broker.url, folder / "state", arguments.nodes)
            parts.append(cloud)
            roles = {name: bench_lab.Role(spiced, name, folder) for name in ("nodes", "pool")}
            parts += roles.values()
            cloud.tell(do="register")
            # A first pass of every node: from here on every part is at work.
            cloud.tell(do="load", seconds=3, batches=arguments.batches)
            watch = Watch(roles, broker)
            watch.start()
            pids = {name: role.pid for name, role in roles.items()}
            meter = bench_lab.Meter(**pids, cloud=cloud.pid, broker=broker.pid)
            answer = cloud.tell(do="load", seconds=arguments.seconds, batches=arguments.batches)
            used, others = meter.read()
            watch.over.set()
            watch.join()
            pool = follows(folder)
            complaints = [line for role in roles.values() for line in role.complaints()]
            return report(answer, watch, used, others, pool, complaints)
        finally:
            for part in reversed(parts):
                part.stop()
            broker.stop()


def report(answer, watch, used, others, pool, complaints):
    rate = answer["stored"] / answer["seconds"]
    each = sorted(answer["each_second"])
    middle, drained = each[len(each) // 2], answer["drain_seconds"]
    print(f"{answer['stored']} results stored in {answer['seconds']:.1f} s, {answer['runs']} runs")
    print(f"each second: {each[0]} to {each[-1]}, median {middle}; what was under way then: {drained:.2f} s more")
    shares = ", ".join(f"{name} {spent / answer['seconds']:.0%}" for name, spent in used.items())
    print(f"processor time: {shares} of a core; everybody else had {others:.0%} of the machine")
    flat = True
    for name, values in watch.memory.items():
        tenth = max(1, len(values) // 10)
        early, late = max(values[: 2 * tenth]), max(values[-tenth:])
        flat = flat and late <= early * GROWTH
        print(
            f"memory of {name}: {values[0]:.0f} MiB at the start, {values[-1]:.0f} at the end, most {max(values):.0f}"
        )
    shallow = True
    for queue, values in watch.depth.items():
        shallow = shallow and values[-1] <= DEEPEST
        print(f"queue {queue}: {values[0]} messages at the start, {values[-1]} at the end, most {max(values)}")
    for line in complaints[:5]:
        print(f"logged: {line}")
    bars = [
        (f"results a second: {rate:.0f} (bar: {BAR})", rate >= BAR),
        (f"memory is flat (bar: grows by less than {GROWTH - 1:.0%})", flat),
        (f"queues are flat (bar: at most {DEEPEST} messages at the end)", shallow),
        ("the pool file is what nodes says", pool is not None),
        (f"nothing was complained about ({len(complaints)} lines)", not complaints),
    ]
    for what, holds in bars:
        print(f"{bench_lab.verdict(holds)}  {what}")
    bench_lab.warn_of(others)
    return 0 if all(holds for _, holds in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
