"""Programs of the cloud: started in sessions of their own, logged to files, ended with whoever started them."""

import contextlib
import os
import signal
import subprocess
import time

from private_server import end_with_parent


class Ended(Exception):
    """A program ended that was needed; the text says how its log ends."""


def until(what, seconds, found, alive=lambda: None, pause=0.2):
    """Waits until `found()` is true and returns it. `alive()` may raise to end it sooner."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(pause)


class Processes:
    """Programs by name, with their logs in a folder."""

    def __init__(self, logs, environment):
        self.logs, self.environment = logs, environment
        self.children = {}

    def start(self, name, command, **more):
        """Starts a program; `more` goes into its environment."""
        with open(self.logs / f"{name}.log", "ab") as log:
            self.children[name] = subprocess.Popen(
                [str(word) for word in command],
                env=self.environment | {key: str(value) for key, value in more.items()},
                cwd=self.logs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        return self.children[name]

    def run(self, name, command, **more):
        """Runs a program to its end."""
        child = self.start(name, command, **more)
        code = child.wait()
        del self.children[name]
        if code != 0:
            raise Ended(f"{name} exited with {code}; its log ends with\n{self.tail(name)}")

    def check(self, name):
        """Raises where the program has ended."""
        code = self.children[name].poll()
        if code is not None:
            raise Ended(f"{name} exited with {code}; its log ends with\n{self.tail(name)}")

    def stop(self, name, number=signal.SIGTERM, patience=15):
        """Ends a program and all that came from it."""
        child = self.children.pop(name, None)
        if child is None:
            return
        for each in (number, signal.SIGKILL):
            # Its children may outlive it: the whole session is told.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
                if each == signal.SIGKILL:
                    return

    def stop_all(self):
        """Asks all of them to end, then makes them."""
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for name in list(self.children):
            self.stop(name)

    def tail(self, name):
        """The end of a program's log."""
        path = self.logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"    {line[:300]}" for line in lines[-20:])
