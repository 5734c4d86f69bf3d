"""Processes of this machine: who somebody was, whether they still are, and a lock that ends with its holder."""

import contextlib
import fcntl
import os
import socket
import time
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """When the process began, in ticks since boot: with its pid it names a process for good. None: not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in ("Z", "X") else int(fields[19])


def machine() -> str:
    """This machine since its last start, and this space of process ids in it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"


@dataclass(frozen=True)
class Owner:
    """A process, told from every other process that has its pid, now or later."""

    machine: str
    pid: int
    start: int

    @classmethod
    def me(cls) -> "Owner":
        pid = os.getpid()
        return cls(machine(), pid, start_ticks(pid) or 0)

    @classmethod
    def of(cls, pid: int) -> "Owner":
        return cls(machine(), pid, start_ticks(pid) or 0)

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    def alive(self) -> bool | None:
        """None where it cannot be told from here: the owner was on another machine."""
        if self.machine != machine():
            return None
        return start_ticks(self.pid) == self.start


class Locked(Exception):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def folder_lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the only lock of a folder; the kernel takes it back when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Locked(f"{folder} is in use by another process") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether somebody holds the folder's lock now; a folder that is not there is not locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
