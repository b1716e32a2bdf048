"""What measurements share: a broker of their own, peers driven by JSON lines, and what processes cost, from /proc."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import surroundings

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_S = 60
"""How long a role may take to start."""

LED = ("checks", "nodes")
"""Roles of which one instance is active: it must have its lease before it serves."""

CONFIGURATION = """\
[DEFAULT]
transport_url = {url}

[spice]
deployment = bench
state_dir = {dir}/state

[pool]
run_dir = {run}

[notifications]
declare = active
results = {results}
"""


def build():
    """The release build of the service and of the Rust peer; both paths."""
    command = ["cargo", "build", "--release", "--locked", "--bins", "--example", "bench_peer"]
    environment = surroundings.environment()
    print("building (release) ...", file=sys.stderr, flush=True)
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
    folder = pathlib.Path(environment.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    return folder / "spiced", folder / "examples" / "bench_peer"


class Broker:
    """A RabbitMQ that ends when this process does."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="spice-bench-")
        self.process = subprocess.Popen(
            [ROOT / "tools" / "broker", "run", self.folder.name],
            env=surroundings.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        found = {}
        while "SPICE_BROKER_DIR" not in found:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("tools/bench: the broker did not start")
            name, _, value = line.strip().partition("=")
            found[name] = value
        self.url = f"rabbit://guest:guest@127.0.0.1:{found['SPICE_BROKER_AMQP']}/"
        self.http = f"http://127.0.0.1:{found['SPICE_BROKER_HTTP']}/api"
        state = json.loads((pathlib.Path(self.folder.name) / "state.json").read_text())
        self.pid = state["rabbitmq"][0]

    def ask(self, path, method="GET"):
        request = urllib.request.Request(f"{self.http}/{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def purge(self, queue):
        self.ask(f"queues/%2F/{urllib.parse.quote(queue, safe='')}/contents", "DELETE")

    def depth(self, queue):
        """Messages in a queue, those not yet acknowledged included."""
        return self.ask(f"queues/%2F/{urllib.parse.quote(queue, safe='')}").get("messages", 0)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.folder.cleanup()


def say(line):
    """Says something to whoever drives this process, as a `Peer`."""
    print(json.dumps(line), flush=True)


class Peer:
    """A process that obeys."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=surroundings.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.hear()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"tools/bench: {' '.join(self.process.args)} ended")
        return json.loads(line)

    def say(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def tell(self, **command):
        self.say(**command)
        return self.hear()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def configure(folder, broker, run_dir, results):
    """Writes `spice.conf` for the roles. `results`: which of them are notified, `all`, `changes` or `none`."""
    path = folder / "spice.conf"
    path.write_text(CONFIGURATION.format(url=broker.url, dir=folder, run=run_dir, results=results))
    path.chmod(0o600)


class Role:
    """A spiced of one role."""

    def __init__(self, program, name, folder):
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "--role", name, "--config-file", folder / "spice.conf"],
                env=surroundings.environment(),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.pid = self.process.pid
        deadline = time.monotonic() + START_S
        ready = " role is active" if name in LED else " spiced: started "
        while ready not in self.log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"tools/bench: {name} did not start\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)

    def complaints(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if " WARN " in line or " ERROR " in line]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()


def family(pid):
    """The process and all that came from it."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, rest = [], [pid]
    while rest:
        found.append(rest.pop())
        rest += children.get(found[-1], [])
    return found


def cpu_seconds(pids):
    """Processor time the processes have used."""
    ticks = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def memory_mib(pid):
    """What the process has in memory."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20


def share_mib(pid):
    """Its share of what is in memory: pages that it has in common with others count in parts, so that it adds up."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine_seconds():
    """Processor time the whole machine was busy, and could have been."""
    values = [int(value) for value in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / TICK, sum(values) / TICK


class Meter:
    """Processor time between two moments, by name, and what everybody else on the machine used."""

    def __init__(self, **pids):
        self.families = {name: family(pid) for name, pid in pids.items()}
        self.before = self.now()

    def now(self):
        return {name: cpu_seconds(pids) for name, pids in self.families.items()}, machine_seconds()

    def read(self):
        """Seconds by name, and `others`: the share of the machine that none of them had, 0 to 1."""
        (before, (busy, total)), (after, (busy_now, total_now)) = self.before, self.now()
        used = {name: after[name] - before[name] for name in before}
        others = (busy_now - busy - sum(used.values())) / max(total_now - total, 0.01)
        return used, max(0.0, others)


def warn_of(others):
    """Says so when the machine was too busy with other things for the figures to mean much."""
    if others > 0.2:
        print(f"NOTE  everybody else had {others:.0%} of this machine: repeat on a quiet one before believing this")


def verdict(holds):
    return "PASS" if holds else "MISS"
