"""The one stage of a script's attempt: run it in a folder of its own, then keep what it leaves as its artifact.

The folder, `work` in the attempt, begins with nothing but a copy of the script, so that what lies in it afterwards was
written by the run. One file of it is kept as artifact.bin; checkpoints and the script's own logs go with the folder.
"""

import os
import shutil
import typing
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import ARTIFACT, BUNDLE, file_sha256
from orchestrator.script import ARTIFACTS, Script

WORK = "work"
LISTED = 50  # files of the folder that result.json names, the largest
TOLD = 3  # files that a message names


@dataclass(frozen=True)
class Left:
    """What a run left behind: its artifact or why there is none, and the files of its folder."""

    artifact: dict[str, typing.Any] | None  # name, bytes, sha256
    note: str  # empty where there is an artifact
    files: list[dict[str, typing.Any]]  # name, bytes

    def to_dict(self) -> dict[str, typing.Any]:
        return {"artifact": self.artifact, "artifact_note": self.note, "files": self.files}


def lay_out(folder: Path) -> Path:
    """The folder that the script runs in, with a copy of it: some programs write beside themselves."""
    work = folder / WORK
    work.mkdir()
    shutil.copyfile(folder / BUNDLE, work / BUNDLE)
    return work


def take_artifact(folder: Path, script: Script) -> Left:
    """Move the one file that matches out of the work folder. None, or several: said, and nothing is taken."""
    work = folder / WORK
    files = _files(work)
    matched = _matches(work, (script.artifact,) if script.artifact is not None else ARTIFACTS)
    listed = [{"name": _shown(path, work), "bytes": size} for path, size in files[:LISTED]]
    if len(matched) != 1:
        return Left(None, _why(script, work, matched, files), listed)
    (found,) = matched
    os.replace(found, folder / ARTIFACT)
    size = (folder / ARTIFACT).stat().st_size
    kept = {"name": _shown(found, work), "bytes": size, "sha256": file_sha256(folder / ARTIFACT)}
    return Left(kept, "", listed)


def _files(work: Path) -> list[tuple[Path, int]]:
    """Plain files that the run wrote, the largest first."""
    found = []
    for parent, _, names in os.walk(work):
        for path in (Path(parent) / name for name in names):
            if path != work / BUNDLE and not path.is_symlink() and path.is_file():
                found.append((path, path.stat().st_size))
    return sorted(found, key=lambda one: (-one[1], one[0]))


def _matches(work: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {path for pattern in patterns for path in work.glob(pattern)}
    inside = [path for path in found if path.is_file() and not path.is_symlink() and path != work / BUNDLE]
    return sorted(path for path in inside if path.resolve().is_relative_to(work.resolve()))


def _why(script: Script, work: Path, matched: list[Path], files: list[tuple[Path, int]]) -> str:
    pattern = script.describe_artifact()
    if matched:
        sizes = dict(files)
        told = ", ".join(f"{_shown(path, work)} ({sizes.get(path, 0):,} bytes)" for path in matched[:TOLD])
        more = f" and {len(matched) - TOLD} more" if len(matched) > TOLD else ""
        return f"{len(matched)} files match {pattern}: {told}{more}; --artifact names one"
    told = ", ".join(f"{_shown(path, work)} ({size:,} bytes)" for path, size in files[:TOLD])
    return f"no file matches {pattern}; it left {told or 'no file'}" + ("; --artifact names one" if files else "")


def _shown(path: Path, work: Path) -> str:
    """A file's name as text that every reader takes."""
    name = os.fsencode(path.relative_to(work)).decode("utf-8", errors="backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)[:1000]
