"""The environment of commands that must do the same on every machine."""

import os
import pathlib

RUSTUP = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
"""How Rust is installed."""

FOREIGN_PREFIXES = ("OS_", "SPICE_BROKER_", "RABBITMQ_")
FOREIGN = ("PYTEST_ADDOPTS", "PYTHONPATH", "RUST_LOG", "RUST_TEST_THREADS", "SPICE_CONFIG", "SPICE_KEY", "SPICE_LOG")


def environment():
    """The caller's, without what would change what is shown or tested; cargo is found where rustup puts it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN and not name.startswith(FOREIGN_PREFIXES)
    }
    kept["PATH"] = os.pathsep.join([kept.get("PATH", os.defpath), str(pathlib.Path.home() / ".cargo" / "bin")])
    return kept
