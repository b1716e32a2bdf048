"""Starts and stops the cloud."""

import contextlib
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import uuid

from . import config
from .api import Api
from .processes import Processes, until

TOOLS = pathlib.Path(__file__).resolve().parents[2]
SERVE = pathlib.Path(__file__).with_name("serve.py")

sys.path.insert(0, str(TOOLS / "lib"))

import surroundings  # noqa: E402
from private_server import free_ports  # noqa: E402

PORTS = ("keystone", "placement", "glance", "nova", "neutron")
DATABASES = ("keystone", "placement", "nova_api", "nova_cell0", "nova_cell1")
READY_S = 180
"""How long anything may take to be there; a machine of two processors imports much at once."""


class Server:
    """A private broker or database, which ends when our end of its standard input does."""

    def __init__(self, tool, folder, last):
        folder.mkdir(parents=True, exist_ok=True)
        self.tool, self.folder, self.last, self.variables = tool, folder, last, {}
        self.process = subprocess.Popen(
            [TOOLS / tool, "run", folder],
            env=surroundings.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ready(self):
        """Waits until it serves; what it says of itself."""
        watchdog = threading.Timer(READY_S, self.process.kill)
        watchdog.start()
        try:
            while self.last not in self.variables:
                line = self.process.stdout.readline()
                if not line:
                    raise TimeoutError(f"tools/{self.tool} did not start its server")
                name, _, value = line.strip().partition("=")
                self.variables[name] = value
        finally:
            watchdog.cancel()
        return self.variables

    def stop(self):
        """Stops it."""
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)


def place_of(database, broker, folder, venv):
    """Where the parts of a cloud are, once its servers run."""
    password = secrets.token_hex(12)
    port = database.ready()["SPICE_MARIADB_PORT"]
    statements = [
        f"CREATE USER 'cloud'@'127.0.0.1' IDENTIFIED BY '{password}'",
        "GRANT ALL ON *.* TO 'cloud'@'127.0.0.1'",
        # What is lost with the machine is not missed.
        "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
        *(f"CREATE DATABASE {name} CHARACTER SET utf8mb3" for name in DATABASES),
    ]
    command = [TOOLS / "mariadb", "sql", database.folder, "; ".join(statements)]
    subprocess.run(command, env=surroundings.environment(), check=True)
    amqp = broker.ready()["SPICE_BROKER_AMQP"]
    return config.Place(
        dir=folder,
        venv=venv,
        password=password,
        database=f"mysql+pymysql://cloud:{password}@127.0.0.1:{port}/",
        transport_url=f"rabbit://guest:guest@127.0.0.1:{amqp}/",
        ports=dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
        image=str(uuid.uuid4()),
    )


class Cloud:
    """One cloud in one folder."""

    def __init__(self, folder, venv):
        self.dir = pathlib.Path(folder).absolute()
        self.logs = self.dir / "log"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.venv = pathlib.Path(venv)
        environment = surroundings.environment() | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self.processes = Processes(self.logs, environment)
        self.servers = []
        self.place = self.api = self.database_dir = None
        self.scheduler_options = {}

    @property
    def python(self):
        """The interpreter of the cloud's programs."""
        return self.venv / "bin" / "python"

    # --- starting ---

    def start(self, hosts):
        """Starts everything, with a compute service for each of `hosts`; returns when servers can be placed on them."""
        broker = Server("broker", self.dir / "broker", "SPICE_BROKER_DIR")
        # Started by root it runs as another account, which may not pass the folders above ours.
        self.database_dir = pathlib.Path(tempfile.mkdtemp(prefix="spice-mariadb-"))
        database = Server("mariadb", self.database_dir, "SPICE_MARIADB_DIR")
        self.servers = [broker, database]
        self.place = place_of(database, broker, self.dir, self.venv)
        config.write(self.place)
        self.api = Api(self.place)
        nova = threading.Thread(target=self.fill_nova)
        nova.start()
        self.fill_keystone()
        nova.join()
        # Nova's services look for it when they start, and end where it does not answer.
        self.start_service("placement")
        self.await_port("placement", "/")
        for name in ("conductor", "scheduler", "nova"):
            self.start_service(name)
        for host in hosts:
            self.start_compute(host)
        self.await_port("nova", "/")
        self.await_hosts(hosts)
        self.note()

    def fill_keystone(self):
        """Its database, its keys, its first account; then the catalog."""
        options = ["--config-file", self.place.etc / "keystone" / "keystone.conf"]
        # The keys belong to whoever starts this.
        owner = ["--keystone-user", str(pathlib.Path(self.dir).owner()), "--keystone-group", str(self.dir.group())]
        address = self.place.url("keystone", "/v3")
        bootstrap = ["bootstrap", "--bootstrap-password", self.place.password, "--bootstrap-region-id", config.REGION]
        for kind in ("public", "internal", "admin"):
            bootstrap += [f"--bootstrap-{kind}-url", address]
        groups = [["db_sync"], ["fernet_setup", *owner], ["credential_setup", *owner], bootstrap]
        self.manage("keystone", "keystone.cmd.manage", [[*options, *group] for group in groups])
        for name in ("keystone", "neutron", "glance"):
            self.start_service(name)
        self.await_port("keystone", "/v3")
        self.api.seed()

    def fill_nova(self):
        """Its databases and its one cell."""
        options = ["--config-file", self.place.etc / "nova" / "nova.conf"]
        cell = ["cell_v2", "create_cell", "--name", "cell1", "--transport-url", self.place.transport_url]
        cell += ["--database_connection", self.place.database_url("nova_cell1")]
        cell0 = ["cell_v2", "map_cell0", "--database_connection", self.place.database_url("nova_cell0")]
        groups = [["api_db", "sync"], cell0, cell, ["db", "sync"]]
        self.manage("nova", "nova.cmd.manage", [[*options, *group] for group in groups])

    def manage(self, name, module, groups):
        """Runs commands of a management program."""
        words = [word for group in groups for word in ("--", *group)]
        self.processes.run(f"init-{name}", [self.python, SERVE, "manage", module, *words])

    def start_service(self, name):
        """Starts a service that is no compute service."""
        place, serve, port = self.place, [self.python, SERVE], self.place.ports.get(name)
        nova = ["--config-file", place.etc / "nova" / "nova.conf"]
        more = self.dir / "scheduler.conf"
        config.private(more, self.scheduler_options.get("conf", ""))
        commands = {
            "keystone": [*serve, "app", "keystone.wsgi.api:application", port],
            "placement": [*serve, "app", "placement.wsgi.api:application", port],
            "nova": [*serve, "app", "nova.wsgi.osapi_compute:application", port],
            "neutron": [*serve, "neutron", port],
            "glance": [*serve, "glance", port, place.image],
            "conductor": [self.venv / "bin" / "nova-conductor", *nova],
            "scheduler": [self.venv / "bin" / "nova-scheduler", *nova, "--config-file", more],
        }
        variables = {
            "keystone": {"OS_KEYSTONE_CONFIG_DIR": place.etc / "keystone"},
            "placement": {"OS_PLACEMENT_CONFIG_DIR": place.etc / "placement"},
            "nova": {"OS_NOVA_CONFIG_DIR": place.etc / "nova"} | self.scheduler_options.get("environment", {}),
            "scheduler": self.scheduler_options.get("environment", {}),
        }
        self.processes.start(name, commands[name], **variables.get(name, {}))

    def restart_scheduler(self, conf, **environment):
        """Starts nova-scheduler again with a further configuration file, and waits until it serves."""
        self.scheduler_options = {"conf": conf, "environment": environment}
        self.processes.stop("scheduler")
        self.start_service("scheduler")
        self.await_consumer("scheduler")

    # --- compute services ---

    def start_compute(self, host):
        """Starts the compute service of a host, the first time or again."""
        folder = self.dir / "computes" / host
        folder.mkdir(parents=True, exist_ok=True)
        config.private(folder / "nova.conf", config.compute(self.place, host))
        files = ["--config-file", self.place.etc / "nova" / "nova.conf", "--config-file", folder / "nova.conf"]
        self.processes.start(f"compute-{host}", [self.venv / "bin" / "nova-compute", *files])

    def stop_compute(self, host, **how):
        """Ends it; nova is told nothing."""
        self.processes.stop(f"compute-{host}", **how)

    def forget_compute(self, host):
        """As an operator would: stops the service and deletes its record. Started again it is another service."""
        self.stop_compute(host)
        self.api.delete_service(host)

    def await_hosts(self, hosts):
        """Waits until servers can be placed on hosts."""
        names = [*(f"compute-{host}" for host in hosts), "scheduler", "conductor", "nova"]

        def alive():
            for name in names:
                self.processes.check(name)

        what = f"servers can be placed on {', '.join(hosts)}"
        until(what, READY_S, lambda: set(hosts) <= self.api.schedulable(), alive, 0.5)
        for host in hosts:
            self.await_consumer(f"compute.{host}")
        self.await_consumer("scheduler")
        self.await_consumer("conductor")

    # --- waiting ---

    def await_port(self, name, path):
        """Waits until an API answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def answers():
            try:
                opener.open(self.place.url(name, path), timeout=30).close()
            except urllib.error.HTTPError as error:
                return error.code < 500
            except OSError:
                return False
            return True

        until(f"{name} answers", READY_S, answers, lambda: self.processes.check(name))

    def await_consumer(self, queue):
        """Waits until an RPC server takes calls: one that is sent before is lost, and its caller waits a minute."""
        command = [TOOLS / "broker", "ctl", self.dir / "broker", "--silent", "list_queues", "name", "consumers"]

        def consumed():
            listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            lines = (line.split("\t") for line in listed.splitlines())
            return any(len(line) == 2 and line[0] == queue and line[1] not in ("0", "consumers") for line in lines)

        until(f"queue {queue} is consumed", READY_S, consumed)

    # --- ending ---

    def note(self):
        """Leaves what clients need, for shells and for SPICE."""
        place = self.place
        variables = {
            "OS_AUTH_URL": place.url("keystone", "/v3"),
            "OS_USERNAME": "admin",
            "OS_PASSWORD": place.password,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": config.REGION,
            "NOVA_TRANSPORT_URL": place.transport_url,
        }
        config.private(self.dir / "env", "".join(f"export {name}={value}\n" for name, value in variables.items()))

    def stop(self):
        """Stops everything that was started here."""
        self.processes.stop_all()
        for server in self.servers:
            server.stop()
        if self.database_dir:
            shutil.rmtree(self.database_dir, ignore_errors=True)
