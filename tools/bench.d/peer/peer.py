"""The Python half of `tools/bench bus`: an unmodified oslo.messaging, driven as its Rust twin is (see main.rs)."""

import json
import os
import sys
import threading
import time

import oslo_messaging
from oslo_config import cfg

EXCHANGE = "bench"
PATIENCE_S = 30


class Endpoint:
    def echo(self, context, payload):
        return payload


def say(line):
    print(json.dumps(line), flush=True)


def configuration(url):
    # The global one: oslo.messaging registers its options for tracing nowhere else.
    conf = cfg.CONF
    conf([], project="bench", default_config_files=[], default_config_dirs=[])
    oslo_messaging.set_transport_defaults(EXCHANGE)
    # 32 callers on the default pool of 30 connections would wait for each other.
    return conf, f"{url}?rpc_conn_pool_size=40"


class Server:
    def __init__(self, url):
        conf, url = configuration(url)
        transport = oslo_messaging.get_rpc_transport(conf, url=url)
        target = oslo_messaging.Target(exchange=EXCHANGE, topic="python", server="host1")
        self.server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
        self.server.start()

    def obey(self, command):
        raise ValueError(f"a server obeys nobody: {command}")


class Client:
    def __init__(self, url):
        conf, url = configuration(url)
        self.transport = oslo_messaging.get_rpc_transport(conf, url=url)
        self.notifier = oslo_messaging.Notifier(
            oslo_messaging.get_notification_transport(conf, url=url),
            publisher_id="bench.host1",
            driver="messagingv2",
            topics=["python_notifications"],
        )
        self.clients = {}

    def client(self, topic):
        if topic not in self.clients:
            target = oslo_messaging.Target(exchange=EXCHANGE, topic=topic)
            self.clients[topic] = oslo_messaging.get_rpc_client(self.transport, target, timeout=PATIENCE_S)
        return self.clients[topic]

    def obey(self, command):
        payload, context = command["payload"], command["context"]
        if command["do"] == "notify":

            def once():
                self.notifier.info({}, "bench.event", payload)

        else:
            client = self.client(command["topic"])

            def once():
                if client.call(context, "echo", payload=payload) != payload:
                    raise ValueError("not an echo")

        took, errors = [], []
        begun = time.perf_counter()
        stop = begun + command["milliseconds"] / 1000

        def caller():
            while (since := time.perf_counter()) < stop:
                try:
                    once()
                except Exception as error:
                    errors.append(error)
                else:
                    took.append((time.perf_counter() - since) * 1000)

        threads = [threading.Thread(target=caller) for _ in range(command["callers"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begun
        took.sort()
        count = len(took)
        return {
            "count": count,
            "seconds": seconds,
            "errors": len(errors),
            "why": repr(errors[0]) if errors else None,
            "median_ms": took[count // 2] if took else None,
            "p99_ms": took[count * 99 // 100] if took else None,
        }


def main():
    part, url = sys.argv[1:3]
    peer = {"serve": Server, "client": Client}[part](url)
    say({"ready": True})
    for line in sys.stdin:
        say(peer.obey(json.loads(line)))
    os._exit(0)


if __name__ == "__main__":
    main()
