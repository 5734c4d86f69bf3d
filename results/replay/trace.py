"""What a sandboxed evaluation opened: its own files, the system's and Python's, and what was none of its business."""

import csv
import functools
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.replay.sandbox import Work, readable

KERNEL = ("/proc", "/sys", "/dev")
MEMORY = ("/tmp", "/dev/shm")
SITES = ("site-packages", "dist-packages")
NAMED = 8  # paths that a record names of each kind


@dataclass
class Opened:
    """Paths as the sandbox saw them, but for those of `own`, which are told by their names there."""

    own: dict[str, int] = field(default_factory=dict)  # name within the sandbox's folder: bytes
    packages: int = 0  # files of Python, its packages and the system
    package_bytes: int = 0
    unlisted: dict[str, int] = field(default_factory=dict)  # in a folder of packages, and in the list of none
    recent: dict[str, int] = field(default_factory=dict)  # of Python or the system, and changed since the run began
    outside: list[str] = field(default_factory=list)  # asked for, and not there to be had
    network: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    heard: bool = False  # whether any hook spoke at all


def opened(events: Iterable[tuple[str, str]], work: Work, since: float | None = None) -> Opened:
    """`since`: when the run began that is replayed, in seconds of the epoch: nothing that it left may be read."""
    found = Opened()
    roots = [*readable(), "/etc"]
    for kind, what in events:
        found.heard = True
        if kind == "connect":
            found.network.append(what)
        elif kind == "exec":
            found.programs.append(what)
        elif kind == "loopback" or _within(what, [*KERNEL, str(work.outside)]):
            continue
        elif _within(what, [str(work.inside)]):
            _own(found, kind, Path(what), work)
        elif _within(what, roots):
            _package(found, kind, what, since)
        elif not _within(what, MEMORY) or _is_of_machine(what):
            found.outside.append(what)
    return found


def _within(path: str, folders: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in folders)


def _is_of_machine(path: str) -> bool:
    """Something that lies in this machine's /tmp, of which the sandbox has an empty one."""
    return os.path.lexists(path) and os.path.normpath(path) not in MEMORY


def _own(found: Opened, kind: str, path: Path, work: Work) -> None:
    """A file of the sandbox's folder. What is listed there and is not there is nobody's business: libraries look for
    folders of theirs beside a script, as a CUDA build of torch does."""
    name = path.relative_to(work.inside).as_posix()
    if kind == "list" or name.startswith("hook") or path.is_dir() or "__pycache__" in name:
        return
    source = dict((target, source) for source, target in work.files).get(path, path)
    if source.is_file():
        found.own[name] = source.stat().st_size
    else:
        found.outside.append(str(path))


def _package(found: Opened, kind: str, path: str, since: float | None) -> None:
    if kind != "read" or not os.path.isfile(path):
        return
    status = os.stat(path)
    found.packages += 1
    found.package_bytes += (size := status.st_size)
    if since is not None and status.st_ctime > since and "__pycache__" not in path:
        found.recent[path] = size
    if (site := _site_of(path)) is not None and not is_listed(path, site):
        found.unlisted[path] = size


def _site_of(path: str) -> str | None:
    """The folder of packages of this Python that a file lies in, where pip wrote what each package has."""
    for name in SITES:
        head, mark, _ = path.rpartition(f"/{name}/")
        if mark and path.startswith(sys.prefix + "/"):
            return f"{head}/{name}"
    return None


def is_listed(path: str, site: str) -> bool:
    """Whether an installed package lists the file as its own, or it is what installing leaves behind."""
    name = os.path.relpath(path, site)
    if "__pycache__" in name or name.endswith(".pth") or ".dist-info/" in name or ".egg-info" in name:
        return True
    return name in _listed(site)


@functools.lru_cache(maxsize=4)
def _listed(site: str) -> frozenset[str]:
    """Every file that an installed package lists as its own, as a path from the folder of packages."""
    found: set[str] = set()
    for record in Path(site).glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
        found.update(row[0] for row in csv.reader(lines) if row)
    return frozenset(found)
