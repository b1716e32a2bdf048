"""Asks the real Nova filter which hosts may take a server, as nova-scheduler does: one process that keeps its filter.

    ask_filter.py --nova-conf FILE [--host NAME...] [KEY=VALUE...]    extra specs of the flavor; prints who passes
    ask_filter.py --nova-conf FILE --serve                            JSON lines: questions in, answers out

Questions, by their member "do"; "hosts" is a list of names, "extra_specs" an object:
    ask     answers {"passed": [names]}
    until   asks again and again until all of "hosts" pass ("pass": true) or none of them does ("pass": false);
            answers {"at": seconds on CLOCK_MONOTONIC, "asked": times}, or {"at": null} after "patience_s"
"""

import argparse
import json
import logging
import sys
import time
import uuid
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "nova"))

import nova.conf  # noqa: E402
from nova import objects  # noqa: E402
from nova.scheduler import filters, host_manager  # noqa: E402

CONF = nova.conf.CONF
PAUSE_S = 0.001
"""Between two questions: a core is left to those whose answer is awaited."""


class Scheduler:
    """Nova's own way from the options in nova.conf to the filters of a request."""

    def __init__(self):
        objects.register_all()
        self.handler = filters.HostFilterHandler()
        found = self.handler.get_matching_classes(CONF.filter_scheduler.available_filters)
        by_name = {each.__name__: each for each in found}
        self.filters = [by_name[name]() for name in CONF.filter_scheduler.enabled_filters]

    def passed(self, hosts, extra_specs):
        states = [host_manager.HostState(name, name, str(uuid.uuid4())) for name in hosts]
        flavor = objects.Flavor(extra_specs=extra_specs)
        request = objects.RequestSpec(
            instance_uuid=str(uuid.uuid4()),
            flavor=flavor,
            ignore_hosts=None,
            force_hosts=None,
            force_nodes=None,
            requested_destination=None,
        )
        return [state.nodename for state in self.handler.get_filtered_objects(self.filters, states, request)]

    def until(self, hosts, extra_specs, wanted, patience_s):
        deadline, asked = time.monotonic() + patience_s, 0
        while time.monotonic() < deadline:
            passed, asked = self.passed(hosts, extra_specs), asked + 1
            if len(passed) == (len(hosts) if wanted else 0):
                return {"at": time.monotonic(), "asked": asked}
            time.sleep(PAUSE_S)
        return {"at": None, "asked": asked}


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(scheduler):
    say({"ready": True})
    for line in sys.stdin:
        question = json.loads(line)
        hosts, specs = question["hosts"], question["extra_specs"]
        if question["do"] == "ask":
            say({"passed": scheduler.passed(hosts, specs)})
        else:
            say(scheduler.until(hosts, specs, question["pass"], question["patience_s"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nova-conf", required=True, help="the nova.conf with [filter_scheduler] and [spice]")
    parser.add_argument("--host", action="append", help="a host to ask about; node-1 to node-20 when none is named")
    parser.add_argument("--serve", action="store_true", help="answer questions on standard input until it ends")
    parser.add_argument("extra_specs", metavar="KEY=VALUE", nargs="*", help="such as trust:trusted_host=trusted")
    arguments = parser.parse_args()
    # Other options of nova.conf ask for services that are not here; the filters need none.
    logging.basicConfig(level=logging.ERROR)
    CONF([], project="nova", default_config_files=[arguments.nova_conf], default_config_dirs=[])
    scheduler = Scheduler()
    if arguments.serve:
        serve(scheduler)
        return
    specs = dict(text.split("=", 1) for text in arguments.extra_specs)
    hosts = arguments.host or [f"node-{number}" for number in range(1, 21)]
    for host in scheduler.passed(hosts, specs):
        print(host)


if __name__ == "__main__":
    main()
