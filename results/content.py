"""What the files of a runs folder hold: read afresh, or remembered for as long as nothing touched the file.

`pack`, `verify` and a submission's own tables read afresh. Tables over many submissions remember, as git's index does:
the SHA-256 of a file stands while its device, inode, size, mtime and ctime are those from when it was hashed. Whoever
changes a byte and sets the mtime back cannot set the ctime back. A file changed so shortly before it was hashed that
a second change could carry the same times (git calls it racy) is hashed again next time. What is remembered are
hashes, and what follows from the bytes of a hash alone; never that something is valid.
"""

import json
import os
import re
import stat
import tempfile
import typing
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from golf_core.rundir import MAX_JSON_BYTES, RUN, RunDirError, file_sha256, read_json, write_bytes
from results.bundle_config import frozen_config

REMEMBERED = ".hashes"  # in the runs folder; may be deleted at any time
HEAD = b"golf hashes 1 "  # then the SHA-256 of what follows the line
RACY_NS = 2_000_000_000  # the coarsest clock of a file system that we know counts in two seconds (FAT)
ATTEMPT_NAME = re.compile(r"(.+)-a([1-9][0-9]{0,8})")

Times = tuple[int, int, int, int, int]  # device, inode, size, mtime, ctime: another file, or another content, differs


class Fresh:
    """Reads every file whenever it is asked."""

    def sha256(self, path: Path, size: int | None = None) -> str:
        return file_sha256(path, size)

    def diagnostic_only(self, bundle: Path, digest: str) -> bool | None:
        """What the bundle is frozen with; None where it is none of ours. `digest` is its SHA-256, checked before."""
        frozen = frozen_config(bundle.read_text(encoding="utf-8", errors="replace"))
        return None if frozen is None else frozen.get("diagnostic_only", False) is True

    def attempts(self, parent: Path) -> Mapping[str, list[int]]:
        """The numbers of the attempts in a folder, by the start of their run's id."""
        found: dict[str, list[int]] = {}
        for name in os.listdir(parent) if parent.is_dir() else []:
            if match := ATTEMPT_NAME.fullmatch(name):
                found.setdefault(match[1], []).append(int(match[2]))
        return {run: sorted(numbers) for run, numbers in found.items()}

    def runs(self, parent: Path) -> Mapping[str, set[tuple[int, str]]]:
        """(seed, run id) of the attempts in a folder, by the SHA-256 of what ran, as run.json tells them."""
        found: dict[str, set[tuple[int, str]]] = {}
        for run, numbers in self.attempts(parent).items():
            for number in numbers:
                sha256, seed, run_id = _asked(parent / f"{run}-a{number}" / RUN)
                if isinstance(sha256, str) and type(seed) is int and isinstance(run_id, str):
                    found.setdefault(sha256, set()).add((seed, run_id))
        return found


FRESH = Fresh()


class Remembered(Fresh):
    """One look at all submissions of a runs folder. Raises OSError where nothing can be written there."""

    def __init__(self, runs_dir: Path, forget: bool = False) -> None:
        self._root, self._path = f"{runs_dir}{os.sep}", runs_dir / REMEMBERED
        with tempfile.TemporaryFile(dir=runs_dir) as probe:
            self._began = os.fstat(
                probe.fileno()
            ).st_mtime_ns  # by the clock of the file system, which stamps the files
        self._files, self._bundles = ({}, {}) if forget else _read(self._path)
        self._seen: dict[str, tuple[Times, str]] = {}
        self._frozen: dict[str, bool | None] = {}
        self._listed: dict[Path, Mapping[str, list[int]]] = {}
        self._ran: dict[Path, Mapping[str, set[tuple[int, str]]]] = {}

    def sha256(self, path: Path, size: int | None = None) -> str:
        name = str(path).removeprefix(self._root)
        before = _times(os.stat(path, follow_symlinks=False))
        if size is not None and size != before[2]:
            return file_sha256(path, size)  # of a part: a stage's seal, which no table reads
        known = self._seen.get(name) or self._files.get(name)
        if known is None or known[0] != before:
            known = before, file_sha256(path, size)
            if _times(os.stat(path, follow_symlinks=False)) != before:
                return known[1]
        self._seen[name] = known
        return known[1]

    def diagnostic_only(self, bundle: Path, digest: str) -> bool | None:
        known = self._frozen if digest in self._frozen else self._bundles
        self._frozen[digest] = known[digest] if digest in known else super().diagnostic_only(bundle, digest)
        return self._frozen[digest]

    def attempts(self, parent: Path) -> Mapping[str, list[int]]:
        if parent not in self._listed:
            self._listed[parent] = super().attempts(parent)
        return self._listed[parent]

    def runs(self, parent: Path) -> Mapping[str, set[tuple[int, str]]]:
        if parent not in self._ran:
            self._ran[parent] = super().runs(parent)
        return self._ran[parent]

    def save(self, all_seen: bool) -> None:
        """Keep what this look has seen; what it has not is forgotten, if it has looked at all there is."""
        settled = {name: one for name, one in self._seen.items() if max(one[0][3:]) + RACY_NS < self._began}
        bundles = self._frozen
        if not all_seen:
            settled, bundles = self._files | settled, self._bundles | bundles
        if (settled, bundles) == (self._files, self._bundles):
            return
        files = {name: [*times, digest] for name, (times, digest) in settled.items()}
        text = json.dumps({"files": files, "bundles": bundles}, separators=(",", ":")).encode()
        write_bytes(self._path, HEAD + sha256(text).hexdigest().encode() + b"\n" + text)


def _asked(path: Path) -> tuple[typing.Any, ...]:
    """What ran, for which seed, under which id; nothing where the file does not tell."""
    try:
        run = read_json(path)
    except RunDirError:
        return None, None, None
    return tuple(run.get(key) for key in ("bundle_sha256", "seed", "run_id"))


def _times(found: os.stat_result) -> Times:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> tuple[dict[str, tuple[Times, str]], dict[str, bool | None]]:
    """What was remembered; nothing where the file is missing, damaged or not of this version."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_JSON_BYTES:
            return {}, {}
        head, _, text = path.read_bytes().partition(b"\n")
        if head != HEAD + sha256(text).hexdigest().encode():
            return {}, {}
        kept = json.loads(text)
        files = {name: _entry(values) for name, values in kept["files"].items()}
        bundles: dict[str, bool | None] = {name: _answer(value) for name, value in kept["bundles"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}, {}
    return files, bundles


def _entry(values: typing.Any) -> tuple[Times, str]:
    device, inode, size, mtime, ctime, digest = values
    if any(type(value) is not int for value in values[:5]) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("not an entry of ours")
    return (device, inode, size, mtime, ctime), digest


def _answer(value: typing.Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("not an answer of ours")
    return value
