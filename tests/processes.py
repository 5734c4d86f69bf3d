"""Processes that tests wait for and look for: by a mark in their environment, by their command line."""

import os
import time
from pathlib import Path

PATIENCE = 90.0  # seconds for what must happen; machines are shared


def until(condition, what, patience=PATIENCE):
    """The first true value of `condition`; fails after `patience` seconds, with `what` was waited for."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {patience} s: {what() if callable(what) else what}")


def carrying(name, value):
    """Processes, other than this one, whose environment holds name=value."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{name}={value}".encode() in environ and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def command_line(pid):
    """Its words, one space between them; nothing of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
