"""What a deployment needs of its message broker: virtual hosts, accounts, rights and policies. Pure.

The names are those of src/bus/topology.rs and src/rpc/table.rs. RabbitMQ's rights are regular expressions per account
and virtual host: *configure* to declare or delete, *write* to publish to an exchange or to bind a queue, *read* to
consume from a queue or to bind to an exchange. Topic rights narrow the routing keys on topic exchanges.
"""

import dataclasses
import re

EXCHANGE, WORK_EXCHANGE = "spice", "spice_work"
DEAD_LETTERS = "spice_work.dead"
RESULTS, EVENTS, AGENT = "spice-nodes-results", "spice-checks-events", "spice-agent"
DEFAULT_EXCHANGE = "amq.default"
"""How RabbitMQ's rights name the exchange through which replies go. Who may write there may write to every queue of the
virtual host, so only servers may."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")
HEX = "[0-9a-f]{32}"
REPLY_QUEUE = f"reply_{HEX}"
MINUTE, HOUR = 60_000, 3_600_000


class Mistake(Exception):
    """What was asked for makes no sense; the text says why."""


@dataclasses.dataclass
class Rights:
    """What one account may do in one virtual host: sets of regular expressions."""

    configure: set = dataclasses.field(default_factory=set)
    write: set = dataclasses.field(default_factory=set)
    read: set = dataclasses.field(default_factory=set)
    topics: dict = dataclasses.field(default_factory=dict)
    """Exchange -> (keys it may publish with, keys it may bind with)."""

    def may_publish(self, exchange, *keys):
        self.write.add(re.escape(exchange))
        self.topics.setdefault(exchange, (set(), set()))[0].update(keys)

    def may_bind(self, exchange, *keys):
        self.read.add(re.escape(exchange))
        self.topics.setdefault(exchange, (set(), set()))[1].update(keys)

    def may_own(self, *queues):
        """Declare, bind and consume."""
        for right in (self.configure, self.write, self.read):
            right.update(queues)

    def may_declare(self, *names):
        self.configure.update(names)

    def __ior__(self, other):
        for name in ("configure", "write", "read"):
            getattr(self, name).update(getattr(other, name))
        for exchange, (write, read) in other.topics.items():
            mine = self.topics.setdefault(exchange, (set(), set()))
            mine[0].update(write)
            mine[1].update(read)
        return self


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What is wanted. `users`: account -> list of roles as in `roles_of`."""

    users: dict
    vhost: str = "spice"
    agents_vhost: str = ""
    notifications_vhost: str = ""
    """Where Ceilometer listens, if not in `vhost`. It belongs to others: it is neither made nor given policies."""
    notifications_exchange: str = "spice"
    notifications_topics: tuple = ("notifications",)
    notifications_active: bool = False
    nova_vhost: str = ""
    """Where Nova notifies, if that is listened to. It belongs to others, too."""
    nova_exchange: str = "nova"
    nova_topic: str = "versioned_notifications"


@dataclasses.dataclass
class State:
    """A broker's part that concerns a deployment, as wanted or as found."""

    vhosts: set = dataclasses.field(default_factory=set)
    users: dict = dataclasses.field(default_factory=dict)
    """Account -> tags."""
    permissions: dict = dataclasses.field(default_factory=dict)
    """(account, virtual host) -> (configure, write, read)."""
    topics: dict = dataclasses.field(default_factory=dict)
    """(account, virtual host, exchange) -> (write, read)."""
    policies: dict = dataclasses.field(default_factory=dict)
    """(virtual host, name) -> (pattern, applies to, priority, definition)."""


def roles_of(text):
    """The roles named by `nodes,adapter:command`, as pairs of kind and name."""
    roles = []
    for word in (part.strip() for part in text.split(",")):
        kind, _, name = word.partition(":")
        if kind in ("nodes", "checks", "pool", "nova", "admin", "all") and not name:
            roles += [(one, "") for one in ("nodes", "checks", "pool")] if kind == "all" else [(kind, "")]
            roles += [("adapter", "*")] if kind == "all" else []
        elif kind in ("adapter", "agent") and (NAME.match(name) or (kind, name) == ("adapter", "*")):
            roles.append((kind, name))
        else:
            known = "nodes, checks, pool, nova, admin, all, adapter:NAME or agent:NODE"
            raise Mistake(f"{word!r} is no role: use {known}, several separated by commas")
    return roles


def _calls(topics):
    rights = Rights()
    rights.may_declare(re.escape(EXCHANGE))
    rights.may_publish(EXCHANGE, *topics)
    # A queue of its own for the answers; nobody else needs to reach it by binding.
    rights.configure.add(REPLY_QUEUE)
    rights.read.add(REPLY_QUEUE)
    return rights


def _serves(topic):
    rights = Rights()
    rights.may_declare(re.escape(EXCHANGE), f"{topic}_fanout")
    rights.may_own(topic, rf"{topic}\..+", f"{topic}_fanout_{HEX}")
    rights.may_bind(EXCHANGE, topic, rf"{topic}\..+")
    rights.read.add(f"{topic}_fanout")
    rights.write.add(re.escape(DEFAULT_EXCHANGE))
    return rights


def _takes_work(topic):
    rights = Rights()
    dead = re.escape(DEAD_LETTERS)
    rights.may_declare(re.escape(WORK_EXCHANGE), dead)
    rights.may_own(topic)
    rights.may_bind(WORK_EXCHANGE, topic)
    # It binds the queue of dead letters and publishes to their exchange. Both have one name, so it may read them too.
    rights.write.add(dead)
    rights.read.add(dead)
    return rights


def _sends_work(*topics, made_too=()):
    """`made_too`: queues that senders declare and bind as well, so that nothing is lost before their consumer ran."""
    rights = Rights()
    rights.may_declare(re.escape(WORK_EXCHANGE))
    rights.may_publish(WORK_EXCHANGE, *topics)
    if made_too:
        dead = re.escape(DEAD_LETTERS)
        rights.may_declare(dead, *made_too)
        rights.write.update({dead, *made_too})
        rights.read.add(dead)
        rights.may_bind(WORK_EXCHANGE, *made_too)
    return rights


def _adapter_topic(name):
    return "spice-adapter-" + ("[a-z0-9_]+" if name == "*" else re.escape(name))


def rights_of(kind, name, deployment):
    """What a role needs, by virtual host."""
    rights = Rights()
    elsewhere = {}
    if kind == "nodes":
        rights |= _serves("spice-nodes")
        rights |= _takes_work(RESULTS)
        rights |= _calls(["spice-checks"])
        rights |= _sends_work(EVENTS, made_too=[EVENTS])
        rights.may_declare("spice-pool_fanout")
        rights.write.add("spice-pool_fanout")
        elsewhere[deployment.notifications_vhost or deployment.vhost] = _notifies(deployment)
    elif kind == "checks":
        rights |= _serves("spice-checks")
        rights |= _takes_work(EVENTS)
        rights |= _calls(["spice-nodes"])
        rights |= _sends_work(_adapter_topic("*"), RESULTS, made_too=[RESULTS])
    elif kind == "adapter":
        rights |= _takes_work(_adapter_topic(name))
        rights |= _sends_work(RESULTS, made_too=[RESULTS])
        rights.may_declare(re.escape(EXCHANGE))
        rights.may_publish(EXCHANGE, "spice-checks")
        if deployment.agents_vhost:
            elsewhere[deployment.agents_vhost] = _calls([rf"{AGENT}\..+"])
    elif kind == "pool":
        rights.may_declare("spice-pool_fanout")
        rights.may_own(f"spice-pool_fanout_{HEX}")
        rights.read.add("spice-pool_fanout")
        rights |= _calls(["spice-nodes"])
    elif kind == "nova":
        rights |= _calls(["spice-nodes"])
        if deployment.nova_vhost:
            elsewhere[deployment.nova_vhost] = _overhears(deployment)
    elif kind == "admin":
        rights |= _calls(["spice-checks", "spice-nodes"])
    elif kind == "agent":
        if not deployment.agents_vhost:
            raise Mistake(f"agent:{name} needs a virtual host for agents: give --agents-vhost")
        server = rf"{AGENT}\.{re.escape(name)}"
        own = Rights()
        own.may_declare(re.escape(EXCHANGE))
        own.may_own(server)
        own.may_bind(EXCHANGE, server)
        own.write.add(re.escape(DEFAULT_EXCHANGE))
        return {deployment.agents_vhost: own}
    if deployment.vhost in elsewhere:
        rights |= elsewhere.pop(deployment.vhost)
    return {deployment.vhost: rights, **elsewhere}


def _notifies(deployment):
    rights = Rights()
    queues = [re.escape(f"{topic}.info") for topic in deployment.notifications_topics]
    rights.may_publish(deployment.notifications_exchange, *queues)
    if deployment.notifications_active:
        rights.may_declare(re.escape(deployment.notifications_exchange), *queues)
        rights.write.update(queues)
        rights.may_bind(deployment.notifications_exchange, *queues)
    return rights


def _overhears(deployment):
    rights = Rights()
    # A queue of its own. The exchange is Nova's and never made.
    rights.may_own(f"spice-overheard_{HEX}")
    rights.may_bind(deployment.nova_exchange, re.escape(f"{deployment.nova_topic}.info"))
    return rights


def one_of(expressions):
    """One regular expression; nothing at all where there is none."""
    return "^(" + "|".join(sorted(expressions)) + ")$" if expressions else "^$"


def policies(deployment):
    """Limits for queues that oslo.messaging peers may declare too, so that they cannot stand in the declaration."""
    spare = {"max-length": 10_000, "overflow": "drop-head", "message-ttl": 5 * MINUTE, "expires": HOUR // 2}
    found = {
        # The oldest goes first: its deadline is nearest, and a full queue must not hold up checks of other adapters.
        "spice-adapters": (
            "^spice-adapter-",
            {"max-length": 10_000, "overflow": "drop-head", "dead-letter-exchange": DEAD_LETTERS},
        ),
        # A call is refused when it is a minute old.
        "spice-calls": (
            r"^spice-(checks|nodes)(\..+)?$",
            {"max-length": 10_000, "overflow": "reject-publish", "message-ttl": 2 * MINUTE},
        ),
        "spice-replies": (f"^({REPLY_QUEUE}|spice-[a-z]+_fanout_{HEX})$", spare),
    }
    if not deployment.notifications_vhost:
        queues = one_of(re.escape(f"{topic}.info") for topic in deployment.notifications_topics)
        found["spice-notifications"] = (queues, {"max-length": 100_000, "overflow": "drop-head"})
    wanted = {
        (deployment.vhost, name): (pattern, "queues", 1, definition) for name, (pattern, definition) in found.items()
    }
    if deployment.agents_vhost:
        pattern = rf"^({AGENT}\..+|{REPLY_QUEUE})$"
        wanted[(deployment.agents_vhost, "spice-agents")] = (pattern, "queues", 1, {**spare, "max-length": 1000})
    return wanted


def plan(deployment):
    """The state a deployment wants."""
    own = [deployment.vhost] + ([deployment.agents_vhost] if deployment.agents_vhost else [])
    all_of_them = own + ([deployment.notifications_vhost] if deployment.notifications_vhost else [])
    if len(set(all_of_them)) < len(all_of_them):
        raise Mistake("the virtual hosts of SPICE, its agents and the notifications must differ")
    state = State(vhosts=set(own), policies=policies(deployment))
    for user, roles in deployment.users.items():
        if not NAME.match(user):
            raise Mistake(f"{user!r} is no name for an account: use letters, digits, and . _ - after the first")
        state.users[user] = ()
        by_vhost = {}
        for kind, name in roles:
            for vhost, rights in rights_of(kind, name, deployment).items():
                merged = by_vhost.setdefault(vhost, Rights())
                merged |= rights
        for vhost, rights in by_vhost.items():
            state.permissions[(user, vhost)] = tuple(
                one_of(found) for found in (rights.configure, rights.write, rights.read)
            )
            for exchange, (write, read) in rights.topics.items():
                state.topics[(user, vhost, exchange)] = (one_of(write), one_of(read))
    return state
