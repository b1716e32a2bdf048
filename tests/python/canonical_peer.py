"""Reads texts (hexadecimal, one a line) as signed content and answers each with its canonical text, or "refused"."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "plugins/client"))

from spice_client.canonical import CanonicalError, canonicalize, parse_strict  # noqa: E402

for line in sys.stdin:
    try:
        answer = canonicalize(parse_strict(bytes.fromhex(line))).hex()
    except CanonicalError:
        answer = "refused"
    print(answer)
