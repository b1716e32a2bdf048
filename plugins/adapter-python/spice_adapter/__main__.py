# SPDX-License-Identifier: Apache-2.0
"""Serves a check: ``python -m spice_adapter --check MODULE:CLASS ...``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings

from oslo_config import cfg
from oslo_messaging import MessagingException
from spice_client import KeyFileError, Signer, TrustStore

from spice_adapter.adapter import Adapter
from spice_adapter.check import Check
from spice_adapter.transports import Transports

EXIT_LOST = 1
EXIT_USAGE = 2

LOG = logging.getLogger("spice_adapter")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spice-adapter",
        description="An adapter for SPICE in Python: serves a check over an unmodified oslo.messaging.",
        epilog="Exit status: 0 stopped by a signal, 1 stopped with results that could not be handed over, 2 wrong use.",
    )
    parser.add_argument(
        "--transport-url",
        default=os.environ.get("SPICE_TRANSPORT_URL"),
        help="SPICE's broker; SPICE_TRANSPORT_URL keeps its password out of the list of processes",
    )
    parser.add_argument("--config-file", action="append", default=[], help="a file with oslo.messaging's options")
    parser.add_argument("--deployment", required=True, help="the deployment, as in SPICE's configuration")
    parser.add_argument("--key", required=True, help="PEM file of the private key with the role adapter:NAME")
    parser.add_argument("--sender", help="the sender the key's trust file names; default: adapter-NAME")
    parser.add_argument("--trust", required=True, help="folder of trust files; that of role checks must be there")
    parser.add_argument(
        "--check", default="spice_adapter.reported:Reported", metavar="MODULE:CLASS", help="default: %(default)s"
    )
    parser.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="given to the check's class"
    )
    parser.add_argument(
        "--instance", default=socket.gethostname(), help="tells adapters of one name apart; default: the host's name"
    )
    parser.add_argument("--batches", type=int, default=4, help="batches carried out at once; default: %(default)s")
    parser.add_argument("--nodes", type=int, default=100, help="nodes of a batch judged at once; default: %(default)s")
    parser.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="for batches in hand when stopping; default: %(default)s",
    )
    parser.add_argument("--debug", action="store_true")
    return parser


def load_check(named: str, options: dict[str, str]) -> Check:
    """The check ``MODULE:CLASS``, made with ``options``; ValueError says what is wrong."""
    module_name, colon, class_name = named.partition(":")
    if not colon:
        raise ValueError(f"--check {named}: write MODULE:CLASS")
    try:
        made = getattr(importlib.import_module(module_name), class_name)(**options)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"--check {named}: {error}") from error
    if not isinstance(made, Check):
        raise ValueError(f"--check {named}: it is no spice_adapter.Check")
    return made


def _adapter(options: argparse.Namespace) -> Adapter:
    check = load_check(options.check, dict(options.option))
    signer = Signer(options.key, options.sender or f"adapter-{check.name}", options.deployment)
    trust = TrustStore(options.trust)
    transports = Transports(options.config_file, options.transport_url)
    return Adapter(check, transports, signer, trust, options.instance, options.batches, options.nodes)


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; gives the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("batches", "nodes"):
        if not 1 <= getattr(options, name) <= 1000:
            parser.error(f"--{name} is {getattr(options, name)}; use 1 to 1000")
    if not sys.warnoptions:
        # The libraries' notes to their developers are not for whoever runs this.
        warnings.simplefilter("ignore")
    level = logging.DEBUG if options.debug else logging.INFO
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    LOG.setLevel(level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        adapter = _adapter(options)
    except (KeyFileError, cfg.Error, MessagingException, OSError, ValueError) as error:
        print(f"spice-adapter: {error}", file=sys.stderr)
        return EXIT_USAGE
    adapter.start()
    stop.wait()
    lost = adapter.stop(options.grace)
    if lost:
        LOG.error("%d results could not be handed over; Checks asks another adapter, or reports a timeout", lost)
    return EXIT_LOST if lost else 0


def run() -> None:
    """The program: threads of oslo.messaging may still wait for the broker, so the process ends without them."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
