# SPDX-License-Identifier: Apache-2.0
"""One signed call or cast from the command line: ``python -m spice_client ... TOPIC METHOD key=jsonvalue ...``."""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from spice_client.canonical import CanonicalError, parse_strict
from spice_client.keys import KeyFileError, Signer

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

# Seconds for reaching the broker, besides the time the answer may take.
CONNECTING = 5.0


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no key=jsonvalue")
    try:
        return name, parse_strict(value)
    except CanonicalError as error:
        hint = f"{error}; text takes quotes: {name}='\"...\"'"
        raise argparse.ArgumentTypeError(hint) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spice-client",
        description="Sends one signed request to SPICE and prints the answer as JSON. The answer's signature is not "
        "verified; spicectl does that.",
        epilog="Exit status: 0 answered, 1 refused or failed, 2 wrong use, 3 no answer.",
    )
    parser.add_argument(
        "--transport-url",
        default=os.environ.get("SPICE_TRANSPORT_URL"),
        help="the broker; SPICE_TRANSPORT_URL keeps its password out of the list of processes",
    )
    parser.add_argument("--config-file", action="append", default=[], help="a file with oslo.messaging's options")
    parser.add_argument("--key", required=True, help="PEM file of the private key")
    parser.add_argument("--sender", required=True, help="the sender the key's trust file names")
    parser.add_argument("--deployment", required=True, help="the deployment the request is for")
    parser.add_argument("--exchange", default="spice", help="default: %(default)s")
    parser.add_argument("--server", help="address one server of the topic")
    parser.add_argument("--namespace")
    parser.add_argument("--version", help="version of the interface asked for, such as 1.0")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--cast", action="store_true", help="await no answer")
    parser.add_argument("--fanout", action="store_true", help="cast to all servers of the topic")
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("args", metavar="key=jsonvalue", nargs="*", type=_argument)
    return parser


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What ``work`` gives or raises; TimeoutError when it takes longer.

    oslo.messaging tries to reach a broker for ever before its own timeout begins, hence a thread that need not end.
    """
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the broker was not reached within {seconds:g} s; check --transport-url") from None
    if error is not None:
        raise error
    return answer


def _send(options: argparse.Namespace, args: dict[str, Any], transport: Any, signer: Signer) -> Any:
    from spice_client.client import SignedRPCClient

    client = SignedRPCClient(
        transport,
        options.topic,
        signer,
        exchange=options.exchange,
        server=options.server,
        fanout=options.fanout,
        version=options.version,
        namespace=options.namespace,
        timeout=options.timeout,
    )
    if options.cast or options.fanout:
        return client.cast(options.method, **args)
    return client.call(options.method, **args)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; gives the exit status."""
    options = _parser().parse_args(arguments)
    args = dict(options.args)
    if len(args) != len(options.args):
        print("spice-client: an argument is given twice", file=sys.stderr)
        return EXIT_USAGE
    if not sys.warnoptions:
        # The libraries' notes to their developers are not for the caller of a command.
        warnings.simplefilter("ignore")
    import oslo_messaging
    from oslo_config import cfg

    # The global one: oslo.messaging registers some of its options nowhere else.
    conf = cfg.CONF
    try:
        conf([], project="spice", default_config_files=options.config_file, default_config_dirs=[])
        signer = Signer(options.key, options.sender, options.deployment)
        transport = oslo_messaging.get_rpc_transport(conf, url=options.transport_url)
    except (KeyFileError, cfg.Error, oslo_messaging.MessagingException, ValueError) as error:
        print(f"spice-client: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        answer = _within(options.timeout + CONNECTING, lambda: _send(options, args, transport, signer))
    except oslo_messaging.RemoteError as error:
        print(f"spice-client: {error.exc_type}: {error.value}", file=sys.stderr)
        return EXIT_REFUSED
    except (TimeoutError, oslo_messaging.MessagingTimeout, oslo_messaging.MessageDeliveryFailure) as error:
        print(f"spice-client: no answer from {options.topic}: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE
    except Exception as error:  # noqa: BLE001 - failures of builtin types are raised here as themselves
        print(f"spice-client: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    transport.cleanup()
    if not (options.cast or options.fanout):
        json.dump(answer, sys.stdout, indent=2, ensure_ascii=False, sort_keys=True)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
