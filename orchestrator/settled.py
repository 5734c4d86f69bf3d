"""Attempts that were found counted, and what is shown of them, remembered by the stamps of their files: a look at
hundreds need not read all that is sealed again.

For plans and views. Whoever makes a table, packs, or decides what runs next reads the bytes. As in git's index, what is
remembered stands while device, inode, size, mtime and ctime of every file are what they were, and nothing was added or
taken away; whoever changes a byte and sets the mtime back cannot set the ctime back. Files that were changed so shortly
before the look that a second change could carry the same times are not remembered.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import typing
from pathlib import Path

from golf_core.rundir import RunDirError, canonical_json, read_json, write_bytes
from orchestrator.attempts import ATTEMPTS, Attempt, inspect, key_of
from orchestrator.spec import attempt_id

REMEMBERED = ".settled"  # in the runs folder; may be deleted at any time
VERSION = 2
RACY_NS = 100_000_000  # a kernel's clock ticks every 10 ms at the latest
COARSE_NS = 2_000_000_000  # where a file system keeps whole seconds: the coarsest that we know counts in two (FAT)


class _Kept(typing.NamedTuple):
    stamp: str
    message: str
    shown: dict[str, typing.Any] | None = None


class Settled:
    """One look at the attempts of a runs folder; where nothing can be written there, nothing is remembered."""

    def __init__(self, runs_dir: Path) -> None:
        self._path = runs_dir / REMEMBERED
        self._known = _read(self._path)
        self._new: dict[str, _Kept] = {}
        self._same: set[str] = set()  # of the known ones, those that this look found unchanged
        self._old = 0  # what was changed before that is not changed again under the same time
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=runs_dir) as probe:
            now = os.fstat(probe.fileno()).st_mtime_ns  # by the clock of the file system, which stamps the files
            self._old = now - (RACY_NS if now % 1_000_000_000 else COARSE_NS)

    def of(self, run_id: str, there: typing.Mapping[str, typing.Sequence[int]]) -> list[Attempt]:
        """All attempts of a run, of those that `numbers_by_run` tells."""
        folders = [(n, self._path.parent / ATTEMPTS / attempt_id(run_id, n)) for n in there.get(key_of(run_id), ())]
        return [self.inspect(folder, number) for number, folder in folders if folder.is_dir()]

    def inspect(self, folder: Path, number: int) -> Attempt:
        known = self._known.get(folder.name)
        stamp, newest = _stamp(folder)
        if known is not None and known.stamp == stamp:
            self._same.add(folder.name)
            return Attempt(folder, number, "counted", "completed", message=known.message, train_sealed=True)
        attempt = inspect(folder, number)
        if attempt.state == "counted" and newest < self._old and _stamp(folder)[0] == stamp:
            self._new[folder.name] = _Kept(stamp, attempt.message)
        return attempt

    def shown(self, folder: Path) -> dict[str, typing.Any] | None:
        """What was kept of an attempt that this look found unchanged."""
        return self._known[folder.name].shown if folder.name in self._same else None

    def keep(self, folder: Path, shown: dict[str, typing.Any]) -> None:
        """What a view shows of an attempt that this look found counted: read from its files, it changes only with
        them."""
        known = self._known.get(folder.name) if folder.name in self._same else self._new.get(folder.name)
        if known is not None:
            self._new[folder.name] = known._replace(shown=shown)

    def save(self) -> None:
        """Keep what this look has found. Of two that save at once one wins: the other's is found again."""
        if self._new:
            self._known |= self._new
            self._new = {}
            content = {"version": VERSION, "sha256": _digest(self._known), "attempts": self._known}
            with contextlib.suppress(OSError):
                write_bytes(self._path, json.dumps(content, separators=(",", ":")).encode())


def _stamp(folder: Path) -> tuple[str, int]:
    """Of all files of a folder, and the time of the newest change."""
    newest, parts = 0, []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
            times = (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            parts.append((entry.name, *times))
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest(), newest


def _digest(attempts: typing.Any) -> str:
    return hashlib.sha256(canonical_json(attempts)).hexdigest()


def _read(path: Path) -> dict[str, _Kept]:
    """What was remembered; nothing where the file is missing, damaged or not of this version."""
    try:
        kept: typing.Any = read_json(path)
        attempts = kept["attempts"]
        if kept["version"] != VERSION or kept["sha256"] != _digest(attempts):
            return {}
        return {name: _Kept(*one) for name, one in attempts.items()}
    except (RunDirError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
