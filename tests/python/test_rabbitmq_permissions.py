"""tools/rabbitmq-permissions against a real broker, through rabbitmqctl and through the management API."""

import base64
import glob
import json
import os
import pathlib
import shlex
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "rabbitmq-permissions"
sys.path.insert(0, str(ROOT / "tools" / "lib"))

from permission_plan import Deployment, Mistake, plan, roles_of  # noqa: E402


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A private RabbitMQ: the one the suites share, or one of our own. Gives its folder and the port of its API."""
    if os.environ.get("SPICE_BROKER_DIR"):
        yield pathlib.Path(os.environ["SPICE_BROKER_DIR"]), os.environ["SPICE_BROKER_HTTP"]
        return
    folder = tmp_path_factory.mktemp("broker")
    process = subprocess.Popen(
        [ROOT / "tools" / "broker", "run", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    found = {}
    while "SPICE_BROKER_DIR" not in found:
        name, _, value = process.stdout.readline().strip().partition("=")
        assert name, "the broker did not start"
        found[name] = value
    yield folder, found["SPICE_BROKER_HTTP"]
    process.stdin.close()
    process.wait(60)


@pytest.fixture
def api(broker):
    def ask(method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{broker[1]}/api/{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    return ask


class Tool:
    """The program with a virtual host and accounts of this test's own."""

    def __init__(self, folder, way, environment):
        self.way, self.environment = way, environment
        self.id = uuid.uuid4().hex[:8]
        self.vhost = f"spice-{self.id}"
        self.passwords = folder / "passwords"
        self.users = {"nodes": "nodes", "checks": "checks", "ad": "adapter:openattestation", "pool": "pool"}

    def name(self, user):
        return f"{user}-{self.id}"

    def __call__(self, *more, stdin="", **environment):
        given = [f"--user={self.name(user)}={roles}" for user, roles in self.users.items()]
        words = [sys.executable, TOOL, *self.way, "--vhost", self.vhost, *given, "--passwords", self.passwords, *more]
        variables = {**os.environ, **self.environment, **environment}
        return subprocess.run(words, capture_output=True, text=True, input=stdin, env=variables, check=False)

    def succeed(self, *more, **environment):
        done = self(*more, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(params=["api", "rabbitmqctl"])
def tool(request, broker, tmp_path):
    folder, port = broker
    if request.param == "api":
        account = {"SPICE_RABBITMQ_USER": "guest", "SPICE_RABBITMQ_PASSWORD": "guest"}
        return Tool(tmp_path, ["--api", f"http://127.0.0.1:{port}"], account)
    slower = Tool(tmp_path, *rabbitmqctl(folder))
    slower.users = {"nodes": "nodes, checks", "pool": "pool"}
    return slower


def rabbitmqctl(folder):
    """How the private broker's own rabbitmqctl is called: option and environment."""
    state = json.loads((folder / "state.json").read_text())
    program = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmqctl"))[-1]
    environment = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(state["ports"]["epmd"]),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
    }
    return ["--rabbitmqctl", shlex.join([program, "-n", state["node"]])], environment


@pytest.fixture
def by_api(broker, tmp_path):
    account = {"SPICE_RABBITMQ_USER": "guest", "SPICE_RABBITMQ_PASSWORD": "guest"}
    return Tool(tmp_path, ["--api", f"http://127.0.0.1:{broker[1]}"], account)


def test_a_broker_is_made_right_once_and_then_left_alone(by_api, api):
    tool = by_api
    assert tool("--check").returncode == 1
    assert api("GET", f"vhosts/{tool.vhost}") is None, "checking changes nothing"
    todo = tool.succeed("--diff")
    assert f"rabbitmqctl add_vhost {tool.vhost}\n" in todo
    assert api("GET", f"vhosts/{tool.vhost}") is None, "nor does showing what would be done"

    tool.succeed("--apply")
    checked = tool("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert tool.succeed("--apply") == "" == tool.succeed("--diff"), "there is nothing left to do"

    rights = {row["user"]: row for row in api("GET", f"vhosts/{tool.vhost}/permissions")}
    assert set(rights) == {tool.name(user) for user in tool.users}, "also whoever made it has no rights in it"
    assert "nodes" not in rights[tool.name("pool")]["write"], "a pool cache can only publish calls"
    assert all("/" not in line and "guest" not in line for line in todo.splitlines() if "set_permissions" in line)
    policies = {row["name"]: row["definition"] for row in api("GET", f"policies/{tool.vhost}")}
    assert policies["spice-adapters"]["max-length"] == 10_000
    assert policies["spice-calls"]["overflow"] == "reject-publish"


def test_every_deviation_is_named_and_mended_and_strangers_are_reported_but_left(tool, api):
    tool.succeed("--apply")
    nodes, pool, compute = tool.name("nodes"), tool.name("pool"), f"compute-{tool.id}"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    api("PUT", f"users/{compute}", {"password": "x", "tags": ""})
    api("PUT", f"permissions/{tool.vhost}/{compute}", everything)
    api("PUT", f"permissions/{tool.vhost}/{pool}", everything)
    api("PUT", f"topic-permissions/{tool.vhost}/{pool}", {"exchange": "spice_work", "write": ".*", "read": ".*"})
    api("PUT", f"users/{nodes}", {"password": "guessed", "tags": "administrator"})
    api("DELETE", f"policies/{tool.vhost}/spice-calls")
    said = tool("--check")
    assert said.returncode == 1
    for expected in [
        f"account {compute} has rights in virtual host {tool.vhost}, where only SPICE should have any",
        f"rights of {pool} in {tool.vhost}\n",
        f"superfluous rights of {pool} in {tool.vhost} on exchange spice_work",
        f"password of {nodes}",
        f"tags of {nodes}",
        f"policy spice-calls in {tool.vhost}",
    ]:
        assert expected in said.stderr, said.stderr
    tool.succeed("--apply")
    after = tool("--check")
    assert after.returncode == 1 and after.stderr.count("\n") == 1, after.stderr
    assert compute in after.stderr, "taking away an account that is not ours is for its owner"
    assert tool("--check", "--known", compute).returncode == 0


def test_passwords_are_ours_alone_and_nowhere_else(by_api, api):
    shown = by_api.succeed("--apply") + by_api.succeed("--diff") + by_api.succeed()
    assert stat.S_IMODE(by_api.passwords.stat().st_mode) == 0o600
    kept = dict(line.split() for line in by_api.passwords.read_text().splitlines())
    assert set(kept) == {by_api.name(user) for user in by_api.users} and len(set(kept.values())) == len(kept)
    for user, password in kept.items():
        assert password not in shown and len(password) >= 32
        assert f"awk -v user={user} " in shown, "commands take them from the file"

    chosen = f"SPICE_PASSWORD_POOL_{by_api.id.upper()}"
    assert by_api.succeed("--apply", **{chosen: "from-the-vault"}) == f"done: password of {by_api.name('pool')}\n"
    by_api.passwords.chmod(0o644)
    refused = by_api("--check")
    assert refused.returncode == 2 and "can be read by others" in refused.stderr


def test_the_printed_commands_do_what_apply_does(broker, tmp_path, api):
    """As an operator pastes them, with the broker's own rabbitmqctl."""
    option, environment = rabbitmqctl(broker[0])
    tool = Tool(tmp_path, option, environment)
    tool.users = {"one": "all"}
    script = f'set -e\nrabbitmqctl() {{ {option[1]} -q "$@"; }}\n' + tool.succeed()
    done = subprocess.run(["bash", "-c", script], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tool("--check").returncode == 0, "passwords included"


def test_definitions_are_what_the_broker_imports(by_api, api):
    found = json.loads(by_api.succeed("--format", "definitions"))
    api("POST", "definitions", found)
    # Whoever imports them gets rights in the virtual hosts that this makes.
    checked = by_api("--check", "--known", "guest")
    assert (checked.returncode, checked.stderr) == (0, ""), "passwords included"


def test_the_service_s_own_file_names_hosts_and_notifications(by_api, api, tmp_path):
    api("PUT", f"vhosts/nova-{by_api.id}", {})
    conf = tmp_path / "spice.conf"
    conf.write_text(
        f"[DEFAULT]\ntransport_url = rabbit://a:b@one:5672,a:b@two:5672/{by_api.vhost}\n"
        f"[oslo_messaging_notifications]\ntransport_url = rabbit://a:b@one/nova-{by_api.id}\ntopics = telemetry\n"
        f"[agents]\ntransport_url = rabbit://a:b@one/agents-{by_api.id}?ssl=1\n"
    )
    by_api.vhost = f"spice-{by_api.id}"
    printed = by_api.succeed("--config-file", conf)
    assert f"add_vhost agents-{by_api.id}" in printed
    assert "telemetry.info a max-length" in printed, "a policy there is for whoever owns it"
    by_api.succeed("--config-file", conf, "--apply")
    rights = {row["user"]: row for row in api("GET", f"vhosts/nova-{by_api.id}/permissions")}
    nodes = rights[by_api.name("nodes")]
    assert (nodes["configure"], nodes["write"], nodes["read"]) == ("^$", "^(spice)$", "^$")
    assert "guest" in rights, "what others have there stays"
    assert api("GET", f"policies/nova-{by_api.id}") == []

    missing = by_api("--check", "--notifications-vhost", "not-there")
    assert missing.returncode == 2 and "does not exist; it is others' to make" in missing.stderr


def test_a_deployment_can_be_kept_in_a_file(by_api, tmp_path):
    file = tmp_path / "deployment.ini"
    file.write_text(
        "[vhosts]\nagents = agents\n"
        "[users]\nwork = adapter:command, adapter:openattestation\nnode-1 = agent:c1.example\n"
    )
    by_api.users = {}
    printed = by_api.succeed("--deployment", file)
    assert r"set_permissions -p agents node-1 '^(spice|spice-agent\.c1\.example)$'" in printed
    assert "spice-adapter-(" not in printed and "spice-adapter-command|spice-adapter-openattestation" in printed
    file.write_text("[vhosts]\nhorizon = horizon\n")
    refused = by_api("--deployment", file)
    assert refused.returncode == 2 and "[vhosts] horizon is not known" in refused.stderr


@pytest.mark.parametrize(
    "text",
    ["", "root", "adapter", "adapter:", "adapter:.*", "agent:*", "agent:a/b", "pool:x", "nodes,,pool", "agent:a|b"],
)
def test_what_is_no_role_is_refused(text):
    with pytest.raises(Mistake, match="is no role"):
        roles_of(text)


def test_names_cannot_widen_an_expression():
    state = plan(Deployment(users={"a": roles_of("agent:node.1")}, agents_vhost="agents"))
    assert r"spice-agent\.node\.1" in state.permissions[("a", "agents")][2]
    with pytest.raises(Mistake, match="must differ"):
        plan(Deployment(users={}, vhost="one", agents_vhost="one"))
    with pytest.raises(Mistake, match="no name for an account"):
        plan(Deployment(users={"a b": roles_of("pool")}))


def test_who_asks_nova_may_overhear_its_notifications_and_touch_nothing_of_it():
    users = {"asks": roles_of("nova")}
    heard = plan(Deployment(users=users, vhost="spice", nova_vhost="/"))
    own = "spice-overheard_[0-9a-f]{32}"
    assert heard.permissions[("asks", "/")] == (f"^({own})$", f"^({own})$", f"^(nova|{own})$")
    assert heard.topics[("asks", "/", "nova")] == ("^$", r"^(versioned_notifications\.info)$")
    assert "/" not in heard.vhosts, "it belongs to others"
    deaf = plan(Deployment(users=users, vhost="spice"))
    assert set(deaf.permissions) == {("asks", "spice")}
