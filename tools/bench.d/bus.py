"""RPC and notifications, Rust and Python on either side of one broker: latency, rate, processor time a call."""

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))

import bench_lab  # noqa: E402

PAYLOAD = {
    "node": "compute-000123.region1.example.org",
    "uuid": "6d1f3f0e-5f0a-4a53-9c5b-0d3c7d0e8a11",
    "state": "active",
    "memory_mb": 131072,
    "vcpus": 48,
    "labels": ["rack-17", "secure-boot"],
    "maintenance": False,
    "comment": "x" * 40,
}
CONTEXT = {
    "user_id": "b" * 32,
    "project_id": "c" * 32,
    "request_id": "req-5b1a6e0c-93c8-4a0e-8f1e-4d5c7d6b2a90",
    "roles": ["member", "reader"],
    "is_admin": False,
}
PAIRS = [("rust", "rust"), ("python", "rust"), ("rust", "python"), ("python", "python")]
"""Client, server."""
CALLERS = [1, 32]


def calls(lab, pair, callers, milliseconds):
    client, server = pair
    meter = bench_lab.Meter(client=lab[client].pid, server=lab[f"{server} server"].pid, broker=lab["broker"].pid)
    told = {"do": "call", "topic": server, "callers": callers, "milliseconds": milliseconds}
    answer = lab[client].tell(payload=PAYLOAD, context=CONTEXT, **told)
    if not answer["count"]:
        raise SystemExit(f"tools/bench: no call from {client} to {server} succeeded: {answer}")
    used, others = meter.read()
    count = max(answer["count"], 1)
    return {
        "median": answer["median_ms"],
        "p99": answer["p99_ms"],
        "rate": answer["count"] / answer["seconds"],
        "errors": answer["errors"],
        "others": others,
        **{name: seconds / count * 1e6 for name, seconds in used.items()},
    }


def notifications(lab, client, callers, milliseconds):
    told = {"do": "notify", "callers": callers, "milliseconds": milliseconds}
    answer = lab[client].tell(payload=PAYLOAD, context={}, **told)
    lab["broker"].purge(f"{client}_notifications.info")
    return {"rate": answer["count"] / answer["seconds"], "errors": answer["errors"]}


def measured(lab, rounds, milliseconds):
    """Every pair in turn, again and again, so that what else the machine does meets all of them."""
    found = {}
    for client in ("rust", "python"):
        for server in ("rust", "python"):
            calls(lab, (client, server), 4, 500)
        notifications(lab, client, 1, 200)
    for number in range(rounds):
        for callers in CALLERS:
            for pair in PAIRS:
                found.setdefault((pair, callers), []).append(calls(lab, pair, callers, milliseconds))
            for client in ("rust", "python"):
                found.setdefault((client, callers), []).append(notifications(lab, client, callers, milliseconds // 2))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return {
        case: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for case, runs in found.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement in a round")
    parser.add_argument("--quick", action="store_true", help="two short rounds: a look, no measurement")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 1.0
    _, rust = bench_lab.build()
    python = [sys.executable, "-W", "ignore", ROOT / "tools" / "bench.d" / "peer" / "peer.py"]
    broker = bench_lab.Broker()
    lab = {"broker": broker}
    try:
        for name, command in (("rust", [rust]), ("python", python)):
            lab[f"{name} server"] = bench_lab.Peer(*command, "serve", broker.url)
            lab[name] = bench_lab.Peer(*command, "client", broker.url)
        found = measured(lab, arguments.rounds, int(arguments.seconds * 1000))
    finally:
        for name, part in lab.items():
            if name != "broker":
                part.stop()
        broker.stop()
    return report(found)


def report(found):
    print("median of all rounds; processor time in microseconds a call, of client, server and broker")
    print(f"{'client':8}{'server':8}{'callers':>8}{'median ms':>11}{'p99 ms':>9}{'calls/s':>9}", end="")
    print(f"{'client':>9}{'server':>9}{'broker':>9}{'errors':>8}{'others':>8}")
    for callers in CALLERS:
        for pair in PAIRS:
            run = found[pair, callers]
            print(f"{pair[0]:8}{pair[1]:8}{callers:8}{run['median']:11.2f}{run['p99']:9.2f}{run['rate']:9.0f}", end="")
            print(
                f"{run['client']:9.0f}{run['server']:9.0f}{run['broker']:9.0f}{run['errors']:8.0f}{run['others']:8.0%}"
            )
    for callers in CALLERS:
        for client in ("rust", "python"):
            run = found[client, callers]
            print(f"{client} notifications, {callers} callers: {run['rate']:.0f}/s, errors {run['errors']:.0f}")
    rust, python, mixed = ("rust", "rust"), ("python", "python"), ("python", "rust")

    def ratio(first, second, callers, value):
        return value(found[first, callers]) / value(found[second, callers])

    def cpu(run):
        return run["client"] + run["server"]

    bars = [
        ("Python client: calls/s with our server by those with a Python server", mixed, python, "rate", 1, 1, True),
        ("Python client: latency with our server by that with a Python server", mixed, python, "median", 1, 1, False),
        ("Rust by Python: processor time of client and server a call, 1 caller", rust, python, cpu, 1, 0.2, False),
        ("Rust by Python: processor time of client and server a call, 32 callers", rust, python, cpu, 32, 0.2, False),
        ("Rust by Python: calls/s, 1 caller", rust, python, "rate", 1, 3, True),
        ("Rust by Python: calls/s, 32 callers", rust, python, "rate", 32, 4, True),
    ]
    missed = 0
    for what, first, second, value, callers, bar, at_least in bars:
        of = value if callable(value) else (lambda run, name=value: run[name])
        reached = ratio(first, second, callers, of)
        holds = reached > bar if at_least else reached < bar
        missed += not holds
        print(f"{bench_lab.verdict(holds)}  {what}: {reached:.2f} (bar: {'over' if at_least else 'under'} {bar})")
    bench_lab.warn_of(statistics.median(run["others"] for run in found.values() if "others" in run))
    errors = sum(run["errors"] for run in found.values())
    return 1 if missed or errors else 0


if __name__ == "__main__":
    sys.exit(main())
