"""Reading a broker's accounts, rights and policies, and changing them: through rabbitmqctl or the management API.

A change is a tuple of its kind and what it is about; both ways carry out the same ones, and so does who pastes them.
"""

import base64
import hashlib
import json
import secrets
import shlex
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from permission_plan import State

TIMEOUT_S = 60


class Refused(Exception):
    """The broker, or what speaks to it, says no."""


def changes(wanted, found, passwords_differ=()):
    """What makes the broker as it should be, in an order that works. Accounts that are not ours are left alone."""
    made = [("vhost", vhost) for vhost in sorted(wanted.vhosts - found.vhosts)]
    for user in sorted(wanted.users):
        if user not in found.users:
            made.append(("user", user))
        elif user in passwords_differ:
            made.append(("password", user))
        if found.users.get(user):
            made.append(("untag", user))
    for kind in ("permissions", "topics"):
        want, have = getattr(wanted, kind), getattr(found, kind)
        made += [(kind, *key, *want[key]) for key in sorted(want) if have.get(key) != want[key]]
        ours = (key for key in sorted(have) if key[0] in wanted.users and key not in want)
        made += [(f"no {kind}", *key) for key in ours]
    for key in sorted(wanted.policies):
        if found.policies.get(key) != wanted.policies[key]:
            made.append(("policy", *key, *wanted.policies[key]))
    return made


def strangers(wanted, found):
    """Accounts with rights in a virtual host of ours that have no business there."""
    return sorted(
        {(user, vhost) for user, vhost in found.permissions if vhost in wanted.vhosts} - set(wanted.permissions)
    )


def argv(change):
    """A change as arguments of rabbitmqctl. Passwords are read from standard input."""
    kind, *of = change
    if kind == "vhost":
        return ["add_vhost", *of]
    if kind == "user":
        return ["add_user", *of]
    if kind == "password":
        return ["change_password", *of]
    if kind == "untag":
        return ["set_user_tags", *of]
    if kind == "permissions":
        user, vhost, *rights = of
        return ["set_permissions", "-p", vhost, user, *rights]
    if kind == "no permissions":
        user, vhost = of
        return ["clear_permissions", "-p", vhost, user]
    if kind == "topics":
        user, vhost, exchange, *rights = of
        return ["set_topic_permissions", "-p", vhost, user, exchange, *rights]
    if kind == "no topics":
        user, vhost, exchange = of
        return ["clear_topic_permissions", "-p", vhost, user, exchange]
    vhost, name, pattern, applies, priority, definition = of
    options = ["--priority", str(priority), "--apply-to", applies]
    return ["set_policy", "-p", vhost, *options, name, pattern, json.dumps(definition, sort_keys=True)]


def command(change, passwords_file=""):
    """A change as a line for a shell."""
    line = "rabbitmqctl " + " ".join(shlex.quote(word) for word in argv(change))
    if change[0] in ("user", "password") and passwords_file:
        script = shlex.quote("$1 == user {print $2}")
        return f"awk -v user={shlex.quote(change[1])} {script} {shlex.quote(passwords_file)} | {line}"
    return line


def definitions(wanted, passwords):
    """The wanted state as RabbitMQ's definitions, for its `import_definitions`."""

    def hashed(password):
        salt = secrets.token_bytes(4)
        return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()

    def rows(kind, names, values):
        entries = sorted(getattr(wanted, kind).items())
        return [{**dict(zip(names, key)), **dict(zip(values, value))} for key, value in entries]

    algorithm = "rabbit_password_hashing_sha256"
    return {
        "vhosts": [{"name": vhost} for vhost in sorted(wanted.vhosts)],
        "users": [
            {"name": user, "password_hash": hashed(passwords[user]), "hashing_algorithm": algorithm, "tags": ""}
            for user in sorted(wanted.users)
        ],
        "permissions": rows("permissions", ("user", "vhost"), ("configure", "write", "read")),
        "topic_permissions": rows("topics", ("user", "vhost", "exchange"), ("write", "read")),
        "policies": rows("policies", ("vhost", "name"), ("pattern", "apply-to", "priority", "definition")),
    }


def _tags(tags):
    return tuple(sorted(tag for tag in (tags.split(",") if isinstance(tags, str) else tags) if tag))


class Rabbitmqctl:
    """Speaks through the program, on the broker's own machine."""

    def __init__(self, program):
        self.program = shlex.split(program)

    def _run(self, words, stdin=""):
        try:
            done = subprocess.run(
                [*self.program, *words], input=stdin, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(f"{self.program[0]} cannot be run: {error}") from error
        return done

    def _ask(self, *words):
        done = self._run(["-q", "--formatter", "json", *words])
        if done.returncode != 0:
            raise Refused(f"rabbitmqctl {words[0]}: {(done.stderr or done.stdout).strip()}")
        return json.loads(done.stdout or "[]")

    def read(self, vhosts):
        """The state; of rights and policies, those in `vhosts`."""
        state = State(
            vhosts={row["name"] for row in self._ask("list_vhosts", "name")},
            users={row["user"]: _tags(row["tags"]) for row in self._ask("list_users")},
        )
        for vhost in sorted(state.vhosts & set(vhosts)):
            for row in self._ask("list_permissions", "-p", vhost):
                state.permissions[(row["user"], vhost)] = (row["configure"], row["write"], row["read"])
            for row in self._ask("list_topic_permissions", "-p", vhost):
                state.topics[(row["user"], vhost, row["exchange"])] = (row["write"], row["read"])
            for row in self._ask("list_policies", "-p", vhost):
                definition = row["definition"]
                definition = json.loads(definition) if isinstance(definition, str) else definition
                found = (row["pattern"], row["apply-to"], int(row["priority"]), definition)
                state.policies[(vhost, row["name"])] = found
        return state

    def knows(self, user, password):
        """Whether this is the account's password."""
        return self._run(["-q", "authenticate_user", user], password + "\n").returncode == 0

    def carry_out(self, change, password=""):
        done = self._run(["-q", *argv(change)], password + "\n" if password else "")
        if done.returncode != 0:
            raise Refused(f"rabbitmqctl {argv(change)[0]}: {(done.stderr or done.stdout).strip()}")


class Management:
    """Speaks through the management API, from anywhere."""

    def __init__(self, url, user, password):
        self.url = url.rstrip("/") + "/api/"
        self.user = user
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def _request(self, method, path, body=None, missing=None):
        words = "/".join(urllib.parse.quote(word, safe="") for word in path)
        request = urllib.request.Request(self.url + words, method=method)
        request.add_header("Authorization", self.authorization)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing is not None:
                return missing
            detail = error.read().decode(errors="replace")
            raise Refused(f"the management API refuses {method} /{'/'.join(path)}: {error.code} {detail}") from error
        except (OSError, ValueError) as error:
            raise Refused(f"the management API at {self.url} cannot be asked: {error}") from error

    def read(self, vhosts):
        """The state; of rights and policies, those in `vhosts`."""
        state = State(
            vhosts={row["name"] for row in self._request("GET", ["vhosts"])},
            users={row["name"]: _tags(row["tags"]) for row in self._request("GET", ["users"])},
        )
        for vhost in sorted(state.vhosts & set(vhosts)):
            for row in self._request("GET", ["vhosts", vhost, "permissions"]):
                state.permissions[(row["user"], vhost)] = (row["configure"], row["write"], row["read"])
            for row in self._request("GET", ["vhosts", vhost, "topic-permissions"]):
                state.topics[(row["user"], vhost, row["exchange"])] = (row["write"], row["read"])
            for row in self._request("GET", ["policies", vhost]):
                found = (row["pattern"], row["apply-to"], row["priority"], row["definition"])
                state.policies[(vhost, row["name"])] = found
        return state

    def knows(self, user, password):
        """Whether this is the account's password."""
        salted = base64.b64decode(self._request("GET", ["users", user], missing={}).get("password_hash") or "")
        return salted[4:] == hashlib.sha256(salted[:4] + password.encode()).digest()

    def carry_out(self, change, password=""):
        kind, *of = change
        if kind == "vhost":
            self._request("PUT", ["vhosts", *of], {})
            # Whoever makes a virtual host through the API gets every right in it.
            self._request("DELETE", ["permissions", *of, self.user], missing={})
        elif kind in ("user", "password", "untag"):
            body = {"tags": ""}
            if kind == "untag":
                body["password_hash"] = self._request("GET", ["users", *of])["password_hash"]
            else:
                body["password"] = password
            self._request("PUT", ["users", *of], body)
        elif kind == "permissions":
            user, vhost, configure, write, read = of
            self._request("PUT", ["permissions", vhost, user], {"configure": configure, "write": write, "read": read})
        elif kind == "no permissions":
            self._request("DELETE", ["permissions", of[1], of[0]])
        elif kind == "topics":
            user, vhost, exchange, write, read = of
            body = {"exchange": exchange, "write": write, "read": read}
            self._request("PUT", ["topic-permissions", vhost, user], body)
        elif kind == "no topics":
            self._request("DELETE", ["topic-permissions", of[1], of[0], of[2]])
        else:
            vhost, name, pattern, applies, priority, definition = of
            body = {"pattern": pattern, "apply-to": applies, "priority": priority, "definition": definition}
            self._request("PUT", ["policies", vhost, name], body)
