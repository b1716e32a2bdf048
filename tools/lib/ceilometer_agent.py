"""Ceilometer's notification agent with the definitions of etc/ceilometer, installed as the README says."""

import argparse
import contextlib
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import amqp
import ceilometer
import oslo_messaging
import yaml
from ceilometer import service
from ceilometer.event import converter
from ceilometer.meter import notifications as meters
from oslo_config import cfg
from private_server import end_with_parent
from stevedore import extension

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ROOT / "etc" / "ceilometer"
PACKAGED_EVENTS = "pipeline/data/event_definitions.yaml"
STOCK = "nova glance neutron cinder heat keystone trove zaqar swift ceilometer magnum dns ironic aodh"
"""What the agent listens on unless it is told to."""
EXCHANGES = [*STOCK.split(), "spice"]
QUEUE = "notifications.info"
READY_S = 90
STOP_S = 60

PIPELINE = """\
sources:
  - name: everything
    {key}: ["*"]
    sinks: [file]
sinks:
  - name: file
    publishers: ["file://{file}?json"]
"""


def configure(folder, url, options):
    """Writes everything the agent reads into folder/etc; the path of its configuration."""
    etc = folder / "etc"
    shutil.rmtree(etc, ignore_errors=True)
    etc.mkdir(parents=True, mode=0o700)
    packaged = pathlib.Path(ceilometer.__file__).parent
    events = (packaged / PACKAGED_EVENTS).read_text() + (OURS / "event_definitions_spice.yaml").read_text()
    (etc / "event_definitions.yaml").write_text(events)
    for key, kind in (("meters", "samples"), ("events", "events")):
        (etc / f"{kind}.yaml").write_text(PIPELINE.format(key=key, file=folder / f"{kind}.jsonl"))
        (folder / f"{kind}.jsonl").touch()
    sections = {
        "DEFAULT": [
            # A dollar would begin the name of another option.
            ("transport_url", url.replace("$", "$$")),
            ("use_stderr", "true"),
            ("pipeline_cfg_file", etc / "samples.yaml"),
            ("event_pipeline_cfg_file", etc / "events.yaml"),
        ],
        "notification": [("notification_control_exchanges", exchange) for exchange in EXCHANGES],
        "meter": [
            ("meter_definitions_dirs", packaged / "data" / "meters.d"),
            ("meter_definitions_dirs", OURS / "meters.d"),
        ],
        "event": [("definitions_cfg_file", etc / "event_definitions.yaml")],
    }
    for option in options:
        name, _, value = option.partition("=")
        group, _, name = name.rpartition(".")
        sections.setdefault(group or "DEFAULT", []).append((name, value))
    text = [
        line
        for section, pairs in sections.items()
        for line in (f"[{section}]", *(f"{name} = {value}" for name, value in pairs), "")
    ]
    file = etc / "ceilometer.conf"
    file.write_text("\n".join(text))
    return file


def faults(file):
    """What Ceilometer would not take. When it runs, one bad file switches all meters off, with a line in its log."""
    conf = service.prepare_service(["check", "--config-file", str(file)])
    logging.disable(logging.CRITICAL)
    plugins = extension.ExtensionManager(namespace="ceilometer.event.trait_plugin")
    found, seen = [], set()
    for path in sorted(
        path for folder in conf.meter.meter_definitions_dirs for path in pathlib.Path(folder).glob("*.yaml")
    ):
        for definition in yaml.safe_load(path.read_text())["metric"]:
            name = definition["name"]
            if OURS in path.parents and name in seen:
                found.append(f"{path.name}: {name} is defined already")
            seen.add(name)
            try:
                meters.MeterDefinition(definition, conf, plugins)
            except Exception as error:
                found.append(f"{path.name}: {name}: {error}")
    try:
        converter.setup_events(conf, plugins)
    except Exception as error:
        found.append(f"event definitions: {error}")
    logging.disable(logging.NOTSET)
    return found


def consumers(url):
    """How many listen on the queue, asked of the broker."""
    conf = cfg.ConfigOpts()
    conf([])
    parsed = oslo_messaging.TransportURL.parse(conf, url)
    host = parsed.hosts[0]
    connection = amqp.Connection(
        f"{host.hostname}:{host.port or 5672}",
        userid=host.username,
        password=host.password,
        virtual_host=parsed.virtual_host or "/",
        connect_timeout=5,
    )
    with contextlib.closing(connection):
        connection.connect()
        try:
            return connection.channel().queue_declare(QUEUE, passive=True).consumer_count
        except amqp.exceptions.NotFound:
            return 0


def run(folder, url, options):
    file = configure(folder, url, options)
    # The parser of paths prints what it understood.
    with contextlib.redirect_stdout(sys.stderr):
        rejected = faults(file)
    if rejected:
        fail("\n".join(["Ceilometer rejects", *rejected]))
    if others := consumers(url):
        fail(f"{others} others listen on {QUEUE} and would take a part of the notifications; use another virtual host")
    with open(folder / "agent.log", "ab") as log:
        program = pathlib.Path(sys.executable).with_name("ceilometer-agent-notification")
        agent = subprocess.Popen(
            [sys.executable, "-W", "ignore", program, "--config-file", file],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent,
        )
    try:
        until = time.monotonic() + READY_S
        while not consumers(url):
            if agent.poll() is not None or time.monotonic() > until:
                fail(f"the agent does not listen; its log ends with\n{tail(folder / 'agent.log')}")
            time.sleep(0.2)
        print(f"SPICE_CEILOMETER={folder}", flush=True)
        sys.stdin.read()
    finally:
        agent.terminate()
        try:
            agent.wait(STOP_S)
        except subprocess.TimeoutExpired:
            agent.kill()


def tail(file):
    return "\n".join(file.read_text(errors="replace").splitlines()[-10:])


def fail(text):
    sys.exit(f"tools/ceilometer: {text}")


def main():
    parser = argparse.ArgumentParser(prog="tools/ceilometer", description="See the head of tools/ceilometer.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="whether Ceilometer takes the definitions")
    runs = verbs.add_parser("run", help="run the agent until standard input ends")
    runs.add_argument("folder", type=pathlib.Path)
    runs.add_argument("options", nargs="*", metavar="GROUP.NAME=VALUE", help="for its ceilometer.conf")
    arguments = parser.parse_args()
    os.umask(0o077)
    if arguments.verb == "run":
        url = os.environ.get("TRANSPORT_URL")
        if not url:
            fail("TRANSPORT_URL is not set; it names the bus, such as rabbit://guest:guest@127.0.0.1:5672/")
        arguments.folder.mkdir(parents=True, exist_ok=True)
        run(arguments.folder.absolute(), url, arguments.options)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = configure(pathlib.Path(folder), "rabbit://nobody@127.0.0.1/", [])
        with contextlib.redirect_stdout(sys.stderr):
            rejected = faults(file)
    if rejected:
        fail("\n".join(["Ceilometer rejects", *rejected]))
    print("Ceilometer takes the definitions of etc/ceilometer")


if __name__ == "__main__":
    main()
