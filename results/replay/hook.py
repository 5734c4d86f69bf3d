"""Told to every Python that starts in the sandbox (as sitecustomize): writes down what is opened, listed, connected to.

It sees what Python asks for: `open`, `os.open`, folders that are listed, addresses, programs and libraries that are
loaded; at the end also which files are mapped into memory. A file that native code opens, reads and closes by itself it
does not see. With "allow" it refuses what is not named there: then it is the only guard, and no strong one.
"""

import atexit
import contextlib
import json
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "")


class Trace:
    def __init__(self, order: dict[str, Any]) -> None:
        self.allow = order["allow"]
        path = os.path.join(order["trace"], f"{os.getpid()}-{os.urandom(4).hex()}")
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.told: set[tuple[str, ...]] = set()

    def note(self, *what: str) -> None:
        if what in self.told:
            return
        self.told.add(what)
        with contextlib.suppress(OSError):
            os.write(self.file, json.dumps(what).encode() + b"\n")

    def refused(self, kind: str, path: str) -> bool:
        if self.allow is None:
            return False
        real = os.path.realpath(path)
        roots = self.allow["write"] if kind == "write" else self.allow["read"] + self.allow["write"]
        return not any(real == one or real.startswith(one.rstrip("/") + "/") for one in roots)

    def file_event(self, kind: str, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        path = os.path.abspath(os.fsdecode(path))
        self.note(kind, path)
        if kind != "exec" and self.refused(kind, path):
            raise PermissionError(13, "refused by the replay's sandbox", path)

    def address(self, event: str, arguments: tuple[Any, ...]) -> None:
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        if isinstance(address, (bytes, str)):
            host, shown = os.fsdecode(address), os.fsdecode(address)
        else:
            host, shown = str(address[0]), f"{address[0]}:{address[1]}"
        if event != "socket.getaddrinfo" and isinstance(address, (bytes, str)):
            return  # a local socket: a path, or a name of this namespace
        self.note("connect" if host not in LOCAL else "loopback", shown)
        if self.allow is not None:
            raise PermissionError(13, "refused by the replay's sandbox", shown)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            kind = "write" if isinstance(arguments[2], int) and arguments[2] & WRITES else "read"
            self.file_event(kind, arguments[0])
        elif event in ("os.listdir", "os.scandir"):
            self.file_event("list", arguments[0] if arguments[0] is not None else ".")
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
            if len(arguments) > 1 or event == "socket.getaddrinfo":
                self.address(event, arguments)
        elif event == "ctypes.dlopen":
            if isinstance(arguments[0], str) and "/" in arguments[0]:
                self.note("read", os.path.abspath(arguments[0]))
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
            command = arguments[0]
            if isinstance(command, (str, bytes)):
                self.note("exec", os.fsdecode(command))

    def end(self) -> None:
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
                paths = {line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")}
        except (OSError, IndexError):
            return
        for path in paths:
            if path.startswith("/"):
                self.note("read", path)


def start() -> None:
    try:
        with open(os.path.join(HERE, "hook.json"), encoding="utf-8") as file:
            trace = Trace(json.load(file))
    except OSError:
        return
    sys.addaudithook(trace)
    atexit.register(trace.end)


start()
