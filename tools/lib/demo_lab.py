"""The parts of the demonstration as processes: broker, attestation service, spiced, and a filter that is asked."""

import contextlib
import hashlib
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from private_server import end_with_parent, started_at

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target" / "debug"
NODES = [f"node-{number}" for number in range(1, 21)]
TRUSTED = {"trust:trusted_host": "trusted"}
PATIENCE_S = 90
CHECK_PROGRAM = "/usr/lib/nagios/plugins/check_tcp"

SPICE_CONF = """\
[DEFAULT]
transport_url = rabbit://guest:guest@127.0.0.1:{port}/

[spice]
deployment = demo
state_dir = {dir}/state

[pool]
run_dir = {dir}/run

[notifications]
# A broker of its own: nobody else creates the exchange.
declare = active

[openattestation]
url = {url}
ca_file = {dir}/attestation/ca.pem

[command]
plugin_dir = {dir}/plugins
user = nobody
"""

NOVA_CONF = """\
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = spice_nova.TrustedFilterSPICE
enabled_filters = TrustedFilterSPICE

[spice]
deployment = demo
pool_dir = {dir}/run
"""


class Failure(Exception):
    """The demonstration cannot go on; the text says why."""


class Lab:
    """Everything in one folder. `keep`: it outlives this process, until `stop`."""

    def __init__(self, folder, keep):
        self.dir, self.keep = pathlib.Path(folder), keep
        self.state_file = self.dir / "processes.json"
        self.children = {}
        self.broker = self.filter = None
        self.control = self.attestation_port = None

    # --- starting ---

    def spawn(self, name, command, stdout=None, stdin=subprocess.DEVNULL):
        with open(self.dir / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout or log,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=None if self.keep else end_with_parent,
            )
        self.children[name] = child
        if self.keep:
            known = {each: [it.pid, started_at(it.pid)] for each, it in self.children.items() if each != "filter"}
            self.state_file.write_text(json.dumps(known))
        return child

    def begin(self, venv):
        """Starts what takes a while, all at once: the broker, the attestation service, and Nova's filter."""
        verb = "start" if self.keep else "run"
        with open(self.dir / "broker.log", "ab") as log:
            self.broker = subprocess.Popen(
                [ROOT / "tools" / "broker", verb, self.dir / "broker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.children["attestation"] = self.spawn(
            "attestation",
            [ROOT / "tools" / "oat-service", "--dir", self.dir / "attestation", "--nodes", str(len(NODES))],
            stdout=subprocess.PIPE,
        )
        (self.dir / "nova.conf").write_text(NOVA_CONF.format(dir=self.dir))
        ask = ROOT / "tools" / "demo.d" / "ask_filter.py"
        self.filter = self.spawn(
            "filter",
            [f"{venv}/bin/python", "-W", "ignore", ask, "--nova-conf", self.dir / "nova.conf", "--serve"],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )

    def answer_of(self, name, child):
        """One line of JSON from a child."""
        with selectors.DefaultSelector() as ready:
            ready.register(child.stdout, selectors.EVENT_READ)
            line = child.stdout.readline() if ready.select(PATIENCE_S + 10) else ""
        if not line:
            raise Failure(f"{name} said nothing; its log ends with\n{self.tail(name)}")
        return json.loads(line)

    def await_broker(self):
        """The broker's AMQP port."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.broker.stdout, selectors.EVENT_READ)
            line = self.broker.stdout.readline() if ready.select(180) else ""
        name, _, value = line.strip().partition("=")
        if name != "SPICE_BROKER_AMQP":
            raise Failure(f"the broker did not start:\n{self.tail('broker')}")
        return int(value)

    def await_attestation(self):
        """The service's address."""
        told = self.answer_of("attestation", self.children["attestation"])
        self.control = told["control"]
        self.attestation_port = urllib.parse.urlsplit(told["url"]).port
        return told["url"]

    def start_service(self, port, url):
        config = self.dir / "spice.conf"
        config.touch(mode=0o600)
        config.write_text(SPICE_CONF.format(dir=self.dir, port=port, url=url))
        for folder in ("run", "plugins"):
            (self.dir / folder).mkdir(mode=0o755, exist_ok=True)
        self.spawn("spiced", [BIN / "spiced", "--config-file", config])
        # The first word from it: as soon as both roles answer.
        deadline = time.monotonic() + PATIENCE_S
        while self.spicectl("status", quiet=True).returncode != 0:
            if self.children["spiced"].poll() is not None or time.monotonic() > deadline:
                raise Failure(f"spiced does not serve; its log ends with\n{self.tail('spiced')}")
            time.sleep(0.1)

    def admit_program(self):
        """Puts a manifest for a program of Debian's monitoring-plugins into the plugin directory, its bytes pinned."""
        manifest = json.loads((ROOT / "plugins" / "checks" / "tcp_service.json").read_text())
        manifest["sha256"] = hashlib.sha256(pathlib.Path(CHECK_PROGRAM).read_bytes()).hexdigest()
        # The nodes here are only names; what is reached is this machine.
        manifest["argv"] = ["127.0.0.1" if word == "{node}" else word for word in manifest["argv"]]
        path = self.dir / "plugins" / "tcp_service.json"
        path.write_text(json.dumps(manifest, indent=2))
        path.chmod(0o644)

    # --- asking ---

    def spicectl(self, *words, quiet=False, stdin=None):
        done = subprocess.run(
            [BIN / "spicectl", "--config-file", self.dir / "spice.conf", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != 0 and not quiet:
            raise Failure(f"spicectl {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def attest(self, **order):
        """Tells the attestation service what to be."""
        request = urllib.request.Request(self.control, json.dumps(order).encode(), {"content-type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            answer.read()

    def question(self, do, hosts=NODES, **more):
        question = {"do": do, "hosts": list(hosts), "extra_specs": TRUSTED, **more}
        self.filter.stdin.write(json.dumps(question) + "\n")
        self.filter.stdin.flush()

    def ask(self, hosts=NODES, extra_specs=TRUSTED):
        self.question("ask", hosts, extra_specs=extra_specs)
        return self.answer_of("filter", self.filter)["passed"]

    def begin_until(self, hosts, passing):
        self.question("until", hosts, **{"pass": passing, "patience_s": PATIENCE_S})

    def end_until(self, what):
        """When it came about, on this process's monotonic clock."""
        told = self.answer_of("filter", self.filter)
        if told["at"] is None:
            raise Failure(f"not within {PATIENCE_S} s: {what}; the log of spiced ends with\n{self.tail('spiced')}")
        return told["at"]

    def tail(self, name):
        path = self.dir / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"    {line}" for line in lines[-15:])

    # --- stopping ---

    def stop(self):
        """Stops everything that was started here, spiced first."""
        for name in ("filter", "spiced", "attestation"):
            child = self.children.get(name)
            if child is not None:
                child.terminate()
                try:
                    child.wait(35)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        if self.broker is not None:
            self.broker.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.broker.wait(60)
            if self.keep:
                subprocess.run([ROOT / "tools" / "broker", "stop", self.dir / "broker"], check=False)

    def leave(self):
        """Ends only the filter that was asked; the rest goes on."""
        self.filter.stdin.close()
        self.filter.wait(10)

    def stop_kept(self):
        """Stops a demonstration that another process left running."""
        try:
            known = json.loads(self.state_file.read_text())
        except (OSError, ValueError) as error:
            raise Failure(f"{self.dir} holds no demonstration that was kept: {error}") from None
        for name in ("spiced", "attestation"):
            pid, began = known.get(name, (None, None))
            if pid is None or began is None or started_at(pid) != began:
                continue
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 35
            while started_at(pid) == began and time.monotonic() < deadline:
                time.sleep(0.05)
        subprocess.run([ROOT / "tools" / "broker", "stop", self.dir / "broker"], check=False)
        self.remove()

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit("this is a part of tools/demo")
