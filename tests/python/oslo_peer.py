#!/usr/bin/env python3
"""An unmodified oslo.messaging, driven by JSON lines: commands on standard input, answers on standard output.

    oslo_peer.py --url rabbit://... [--option NAME=VALUE]...      (options of [oslo_messaging_rabbit])

Commands, by their member "do":
    serve   exchange, topic, server, and optionally ping (rpc_ping_enabled): methods of Endpoint, in namespace null and
            "special" (version 2.3)
    call    exchange, topic, method, args, context, and optionally server, namespace, version, timeout, monitor, exmods
    cast    the same, and optionally fanout
    listen  exchange, topics, and optionally pool, requeue: a notification listener of info and error; the event types
            in requeue are given back to the queue once
    notify  exchange, topic, publisher_id, event_type, payload, and optionally priority, driver
    stop    stops what it serves and listens to
Every command may have url and options, another transport than the command line's.
An answer is {"answer": ...} or {"error": class, "message": ..., "exc_type": ..., "value": ...}.
What a server or listener receives comes in between as {"event": "request"|"notification", ...}.
Ends with its standard input.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import threading
import time

import oslo_messaging
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_messaging import conffixture
from oslo_messaging.rpc import dispatcher

OUT = threading.Lock()


def say(line):
    with OUT:
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()


class Endpoint:
    """What a Python server offers."""

    target = oslo_messaging.Target(version="1.3")

    def echo(self, context, **kwargs):
        return kwargs

    def context(self, context):
        return context

    def add(self, context, a, b):
        return a + b

    def fail(self, context, message):
        raise ValueError(message)

    def lookup(self, context, key):
        return {}[key]

    def slow(self, context, seconds):
        time.sleep(seconds)
        return "slept"

    def nan(self, context):
        return float("nan")

    def huge(self, context):
        return 2**70

    def _private(self, context):
        return "secret"

    def tell(self, context, **kwargs):
        say({"event": "request", "method": "tell", "args": kwargs, "context": context})


class Special(Endpoint):
    target = oslo_messaging.Target(namespace="special", version="2.3")

    def where(self, context):
        return "special"


class Listener:
    """What a Python notification listener hears."""

    def __init__(self, requeue):
        self.requeue = set(requeue)

    def hear(self, priority, context, publisher_id, event_type, payload, metadata):
        say(
            {
                "event": "notification",
                "priority": priority,
                "publisher_id": publisher_id,
                "event_type": event_type,
                "payload": payload,
                "metadata": metadata,
                "context": context,
            }
        )
        if event_type in self.requeue:
            self.requeue.remove(event_type)
            return oslo_messaging.NotificationResult.REQUEUE
        return oslo_messaging.NotificationResult.HANDLED

    def info(self, *heard):
        return self.hear("info", *heard)

    def error(self, *heard):
        return self.hear("error", *heard)


class Peer:
    def __init__(self, url, options):
        self.url = url
        self.options = options
        self.transports = {}
        self.servers = []

    def conf(self, command):
        conf = cfg.ConfigOpts()
        conf([], project="peer")
        conffixture.ConfFixture(conf)  # registers the options
        for name, value in {**self.options, **command.get("options", {})}.items():
            conf.set_override(name, value, group="oslo_messaging_rabbit")
        return conf

    def transport(self, command, make=oslo_messaging.get_rpc_transport, **kwargs):
        wanted = {name: command.get(name) for name in ("url", "options", "exchange", "exmods")}
        key = (make.__name__, json.dumps(wanted, sort_keys=True))
        if key not in self.transports:
            self.transports[key] = make(self.conf(command), url=command.get("url", self.url), **kwargs)
        return self.transports[key]

    def client(self, command):
        target = oslo_messaging.Target(
            exchange=command["exchange"],
            topic=command["topic"],
            server=command.get("server"),
            namespace=command.get("namespace"),
            version=command.get("version"),
            fanout=command.get("fanout"),
        )
        transport = self.transport(command, allowed_remote_exmods=tuple(command.get("exmods", ())))
        # Releases before 14.1 have no get_rpc_client, newer ones warn about the class.
        make = getattr(oslo_messaging, "get_rpc_client", None) or oslo_messaging.RPCClient
        return make(transport, target, timeout=command.get("timeout", 20), call_monitor_timeout=command.get("monitor"))

    def do_call(self, command):
        args = decoded(command.get("args", {}))
        return self.client(command).call(command.get("context", {}), command["method"], **args)

    def do_cast(self, command):
        self.client(command).cast(command.get("context", {}), command["method"], **decoded(command.get("args", {})))

    def do_serve(self, command):
        target = oslo_messaging.Target(exchange=command["exchange"], topic=command["topic"], server=command["server"])
        # The dispatcher asks the global configuration, whatever transport it has.
        cfg.CONF.register_opts(dispatcher._dispatcher_opts)
        cfg.CONF.set_override("rpc_ping_enabled", command.get("ping", False))
        server = oslo_messaging.get_rpc_server(
            self.transport(command), target, [Endpoint(), Special()], executor="threading"
        )
        self.start(server)

    def do_listen(self, command):
        transport = self.transport(command, oslo_messaging.get_notification_transport)
        targets = [oslo_messaging.Target(exchange=command["exchange"], topic=topic) for topic in command["topics"]]
        listener = oslo_messaging.get_notification_listener(
            transport,
            targets,
            [Listener(command.get("requeue", ()))],
            executor="threading",
            allow_requeue=True,
            pool=command.get("pool"),
        )
        self.start(listener)

    def start(self, server):
        server.start()
        self.servers.append(server)

    def do_stop(self, command):
        while self.servers:
            server = self.servers.pop()
            server.stop()
            server.wait()

    def do_notify(self, command):
        transport = self.transport(command, oslo_messaging.get_notification_transport)
        notifier = oslo_messaging.Notifier(
            transport,
            publisher_id=command["publisher_id"],
            driver=command.get("driver", "messagingv2"),
            topics=[command["topic"]],
        )
        getattr(notifier, command.get("priority", "info"))({}, command["event_type"], command["payload"])

    def obey(self, command):
        return getattr(self, "do_" + command["do"])(command)


def decoded(args):
    """Lets a command name values that JSON cannot carry."""
    named = {"<nan>": float("nan"), "<infinity>": float("inf"), "<2**70>": 2**70}
    return {name: named.get(value, value) if isinstance(value, str) else value for name, value in args.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    # The failures that tests provoke would fill the output; PEER_LOG=WARNING shows them.
    # For the names of use_queue_manager.
    lockutils.set_defaults(tempfile.mkdtemp(prefix="oslo-peer-"))
    logging.basicConfig(level=os.environ.get("PEER_LOG", "CRITICAL"), stream=sys.stderr)
    options = dict(option.split("=", 1) for option in arguments.option)
    words = {"true": True, "false": False}
    peer = Peer(arguments.url, {name: words.get(value, value) for name, value in options.items()})
    say({"answer": "ready"})
    for line in sys.stdin:
        try:
            say({"answer": peer.obey(json.loads(line))})
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
            say(
                {
                    "error": type(error).__name__,
                    "bases": [base.__name__ for base in type(error).__mro__],
                    "message": str(error),
                    "exc_type": getattr(error, "exc_type", None),
                    "value": getattr(error, "value", None),
                }
            )
    # Threads of the library may still be waiting for the broker.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
