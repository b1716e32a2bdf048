"""SPICE beside a cloud: the service with keys of its own, an attestation service, and spicectl."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.request

import surroundings
from devcloud.processes import until

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOYMENT = "e2e"
CHECK = "boot"
TTL_S = 20
"""How long a pass counts: shorter than in a real cloud, so that an outage can be watched."""

CONFIGURATION = """\
[DEFAULT]
transport_url = {transport}

[spice]
deployment = {deployment}
state_dir = {dir}/state

[pool]
run_dir = {dir}/run

[notifications]
# Nobody else makes this exchange here.
declare = active

[adapter]
names = openattestation

[openattestation]
url = {attestation}
ca_file = {dir}/attestation/ca.pem

[openstack]
auth_url = {keystone}
username = service
password = {password}
region_name = RegionOne

[nova]
interval_s = 15
transport_url = {nova_transport}
"""

SCHEDULER = """\
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = spice_nova.TrustedFilterSPICE
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,TrustedFilterSPICE
weight_classes = nova.scheduler.weights.all_weighers
weight_classes = spice_nova.TrustWeigherSPICE

[spice]
deployment = {deployment}
pool_dir = {dir}/run
# Among a few empty hosts it decides.
trust_weight_multiplier = 1000
"""


class Spice:
    """One process with all roles."""

    def __init__(self, folder, cloud):
        self.dir, self.cloud = pathlib.Path(folder), cloud
        self.dir.mkdir(parents=True, exist_ok=True)
        self.control = None
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        self.bin = pathlib.Path(target) / "debug"
        self.config = self.dir / "spice.conf"

    def start(self):
        """Starts the attestation service and SPICE, on a virtual host of the cloud's own broker."""
        broker = [ROOT / "tools" / "broker", "ctl", self.cloud.dir / "broker", "--silent"]
        for words in (["add_vhost", "spice"], ["set_permissions", "-p", "spice", "guest", ".*", ".*", ".*"]):
            subprocess.run([*broker, *words], check=True, stdout=subprocess.DEVNULL)
        oat = [ROOT / "tools" / "oat-service", "--dir", self.dir / "attestation", "--nodes", "20"]
        told = self.first_line("attestation", oat)
        self.control = told["control"]
        place = self.cloud.place
        text = CONFIGURATION.format(
            transport=place.transport_url + "spice",
            nova_transport=place.transport_url,
            deployment=DEPLOYMENT,
            dir=self.dir,
            attestation=told["url"],
            keystone=place.url("keystone", "/v3"),
            password=place.password,
        )
        self.config.touch(mode=0o600)
        self.config.write_text(text)
        (self.dir / "run").mkdir(exist_ok=True)
        self.cloud.processes.start("spiced", [self.bin / "spiced", "--config-file", self.config])

        def answers():
            return self.ctl("status", must=False).returncode == 0

        until("spiced serves", 60, answers, lambda: self.cloud.processes.check("spiced"))

    def first_line(self, name, command):
        """Starts a program of ours that says as one line of JSON how it is reached."""
        self.cloud.processes.start(name, command)
        log = self.cloud.logs / f"{name}.log"

        def said():
            lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
            return json.loads(lines[0]) if lines else None

        return until(f"{name} serves", 60, said, lambda: self.cloud.processes.check(name))

    def scheduler_conf(self):
        """What nova.conf of the scheduler needs."""
        return SCHEDULER.format(deployment=DEPLOYMENT, dir=self.dir)

    def ctl(self, *words, must=True):
        """Runs spicectl."""
        done = subprocess.run(
            [self.bin / "spicectl", "--config-file", self.config, *words],
            env=surroundings.environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if must and done.returncode != 0:
            raise AssertionError(f"spicectl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *words):
        """What spicectl shows, as JSON."""
        return json.loads(self.ctl(*words, "-f", "json").stdout)

    def attest(self, **order):
        """Tells the attestation service what to be."""
        request = urllib.request.Request(self.control, json.dumps(order).encode(), {"content-type": "application/json"})
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def levels(self):
        """The level of each node."""
        return {row["name"]: row["trust"] for row in self.json("node", "list")}

    def await_levels(self, seconds=40, **wanted):
        """Waits until nodes have these levels; how long it took."""
        began = time.monotonic()
        wanted = {name.replace("_", "-"): level for name, level in wanted.items()}

        def has():
            levels = self.levels()
            return all(levels.get(name) == level for name, level in wanted.items())

        until(f"levels are {wanted}", seconds, has)
        return time.monotonic() - began

    def check_now(self, node):
        """Has a node checked, and waits for the answer, whichever that is."""
        self.ctl("check", "run", CHECK, "--node", node, "--wait", must=False)

    def pool_file(self):
        """The pool file's lines, for what cannot be seen otherwise."""
        return (self.dir / "run" / "pool").read_text().splitlines()

    def kill(self):
        """SIGKILL, and a new start."""
        self.cloud.processes.stop("spiced", signal.SIGKILL)
        self.cloud.processes.start("spiced", [self.bin / "spiced", "--config-file", self.config])
