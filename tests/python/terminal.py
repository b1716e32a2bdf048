"""Runs a command on a pseudo-terminal of 80 by 24, as a person would: waits for a text, enlarges the window, presses q.

    terminal.py TEXT COMMAND...

Prints what happened as one line of JSON.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

PATIENCE = 40


def resize(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(terminal, wanted):
    """What was written until `wanted` is in it, or nothing more comes."""
    written = b""
    deadline = time.monotonic() + PATIENCE
    while wanted not in written and time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    return written


def main(text, *command):
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(command[0], command)
    resize(terminal, 24, 80)
    first = read_until(terminal, text.encode())
    # The kernel tells the program; it draws the whole picture again.
    resize(terminal, 40, 120)
    second = read_until(terminal, text.encode())
    os.write(terminal, b"q")
    last = read_until(terminal, b"\x1b[?1049l")
    _, status = os.waitpid(process, 0)
    everything = first + second + last
    answer = {
        "shown": text.encode() in first,
        "drawn_again": text.encode() in second,
        "given_back": b"\x1b[?1049h" in everything and b"\x1b[?1049l" in last,
        "colours": b"\x1b[38;5;" in everything or b"\x1b[31m" in everything,
        "code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(answer))


main(*sys.argv[1:])
