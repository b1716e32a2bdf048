"""A server process that a developer's command starts in a folder, and finds again by what it noted there."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import time


def free_ports(count):
    """Loopback ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def started_at(pid):
    """When the process began, in clock ticks: so a pid is not mistaken for a later process of the same number."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else fields[19]


def end_with_parent():
    """Run in a new child: the kernel ends it when this process ends, however that happens."""
    prctl_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(prctl_set_pdeathsig, signal.SIGTERM)


class PrivateServer:
    """What is known of the server in a folder. Subclasses say how it is started."""

    name = "server"

    def __init__(self, directory):
        self.dir = pathlib.Path(directory).absolute()
        self.state_file = self.dir / "state.json"
        try:
            self.state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            self.state = {}

    def save(self):
        """Notes what must be found again."""
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(self.state))
        temporary.rename(self.state_file)

    def spawn(self, command, environment):
        """Starts it in a process group of its own."""
        with open(self.dir / "log" / f"{self.name}.out", "ab") as out:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.state["process"] = [process.pid, started_at(process.pid)]
        self.save()
        return process

    def alive(self):
        """Whether the process that was started still lives."""
        pid, began = self.state.get("process", (None, None))
        return pid is not None and began is not None and started_at(pid) == began

    def signal_group(self, number):
        """Signals it and its children; does nothing when it is not ours any more."""
        if self.alive():
            os.killpg(self.state["process"][0], signal.Signals(number))
            return True
        return False

    def wait_gone(self, seconds):
        """Whether it has ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            try:
                os.waitpid(self.state["process"][0], os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(0.05)
        return not self.alive()
