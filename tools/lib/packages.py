#!/usr/bin/env python3
"""Debian packages the developer's commands need: installed when root, else named with the command that installs them.

    tools/lib/packages.py PACKAGE...     installs those that are missing, or says why it cannot

A package that is there is never touched, and no service is started by an installation.
"""

import contextlib
import glob
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Left by an interrupted tools/lib/packages.py of SPICE: remove it.\nexit 101\n"

# Whether what a package brings is there already, from wherever it came.
PRESENT = {
    "build-essential": lambda: all(map(shutil.which, ("cc", "make"))) and os.path.exists("/usr/include/stdio.h"),
    "mariadb-server": lambda: bool(
        shutil.which("mariadbd", path="/usr/sbin:/usr/bin") and shutil.which("mariadb-install-db")
    ),
    "monitoring-plugins-basic": lambda: os.path.exists("/usr/lib/nagios/plugins/check_dummy"),
    "openssl": lambda: bool(shutil.which("openssl")),
    "prometheus": lambda: bool(shutil.which("promtool")),
    "python3-venv": lambda: bool(importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv")),
    "rabbitmq-server": lambda: bool(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")),
    "systemd": lambda: bool(shutil.which("systemd-analyze")),
}


class Missing(Exception):
    """What is missing, and how to get it."""


def missing(names):
    return [name for name in names if not PRESENT[name]()]


@contextlib.contextmanager
def no_services():
    """Keeps packages from starting their services. A policy that is there already stays as it is."""
    try:
        descriptor = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except OSError:
        yield
        return
    try:
        with os.fdopen(descriptor, "w") as policy:
            policy.write(POLICY_TEXT)
            # Whatever the umask is, it has to be run.
            os.fchmod(policy.fileno(), 0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def ensure(*names):
    """Installs what is missing. Raises `Missing` when that is not possible."""
    wanted = missing(names)
    if not wanted:
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *wanted]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"missing: {', '.join(wanted)}; on Debian run: sudo apt-get install {' '.join(wanted)}")
    print(f"installing {' '.join(wanted)}", file=sys.stderr, flush=True)
    # Where there is no systemd, run level 1 keeps services from starting; elsewhere the policy does.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}

    def run(arguments):
        return subprocess.run(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", check=False,
        )  # fmt: skip

    with no_services():
        done = run(command)
        if done.returncode != 0:
            # The list of packages may be missing or old.
            run(["apt-get", "update", "-qq", "-o", "DPkg::Lock::Timeout=300"])
            done = run(command)
    still = missing(wanted)
    if still:
        raise Missing(f"apt-get could not install {', '.join(still)}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    try:
        ensure(*sys.argv[1:])
    except Missing as error:
        sys.exit(f"tools: {error}")
    except KeyError as name:
        sys.exit(f"tools: {name} is none of {', '.join(PRESENT)}")
