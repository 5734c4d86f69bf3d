"""Attempt folders as the controller and the views see them: what state they are in, by their files alone.

Nothing here reads a score: an attempt is void or counted by its seal, its result's class and its void mark.
"""

import os
import re
import shutil
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from golf_core.rundir import (
    BUNDLE,
    RESULT,
    RUN,
    SEAL,
    TRAIN_SEAL,
    VOID,
    RunDirError,
    is_sealed,
    read_json,
    verify_seal,
    write_bytes,
    write_json,
)
from orchestrator.proc import is_locked
from orchestrator.script import SCRIPT, SCRIPT_STAGE
from orchestrator.spec import ATTEMPT_ID_DIGITS, attempt_id
from orchestrator.worker.script_stage import WORK

ATTEMPTS = "attempts"
NODE = "node.json"  # of an attempt on a cluster: here where it was sent, on the node what is the node's own
FOLDER = re.compile(r"([0-9a-f]+)-a([1-9][0-9]{0,8})")  # of an attempt


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Attempt:
    """One attempt folder. `state`:

    counted    sealed, completed: evidence; `message` says what a script did not leave
    damaged    sealed once, but a file differs from the seal now
    void       never counts
    busy       a worker holds the folder
    failed     ended without a seal; `cls` and `stage` say how and where
    lost       no worker, no result: it was killed
    """

    folder: Path
    number: int
    state: str
    cls: str = ""
    stage: str = ""
    message: str = ""
    train_sealed: bool = False

    @property
    def attempt_id(self) -> str:
        return self.folder.name


def folders_of(runs_dir: Path, run_id: str) -> list[tuple[int, Path]]:
    """(number, folder) of every attempt of a run, in order."""
    prefix, parent = f"{key_of(run_id)}-a", runs_dir / ATTEMPTS
    found = []
    for name in os.listdir(parent) if parent.is_dir() else []:
        if name.startswith(prefix):  # first: with thousands of attempts, a pattern for each name is what a look costs
            match = re.fullmatch(r"[1-9][0-9]{0,8}", name[len(prefix) :])
            if match and (parent / name).is_dir():
                found.append((int(match[0]), parent / name))
    return sorted(found)


def key_of(run_id: str) -> str:
    """The part of a run's id that names its attempts."""
    return run_id[:ATTEMPT_ID_DIGITS]


def numbers_by_run(runs_dir: Path) -> dict[str, list[int]]:
    """The numbers of the attempts of every run that was ever started here, in order, by the run's key: one look at
    the folder for all of them, where `folders_of` looks for each."""
    found: dict[str, list[int]] = {}
    parent = runs_dir / ATTEMPTS
    for name in os.listdir(parent) if parent.is_dir() else []:
        if match := FOLDER.fullmatch(name):
            found.setdefault(match[1], []).append(int(match[2]))
    return {key: sorted(numbers) for key, numbers in found.items()}


def attempt_folders(runs_dir: Path) -> list[Path]:
    """Of every run that was ever started here."""
    parent = runs_dir / ATTEMPTS
    names = os.listdir(parent) if parent.is_dir() else []
    return sorted(parent / name for name in names if re.fullmatch(r"[0-9a-f]+-a[1-9][0-9]*", name))


def inspect(folder: Path, number: int) -> Attempt:
    """What the files of the folder say now. Reads every sealed byte: call it when something changed."""
    if (folder / VOID).exists():
        mark = _read(folder / VOID)
        return Attempt(folder, number, "void", str(mark.get("class", "unknown")), message=str(mark.get("message", "")))
    if is_locked(folder):
        return Attempt(folder, number, "busy")
    result = _read(folder / RESULT)
    cls, stage, message = (str(result.get(key) or "") for key in ("class", "stage", "message"))
    if (folder / SEAL).exists():
        try:
            verify_seal(folder)
        except RunDirError as error:
            return Attempt(folder, number, "damaged", "damaged", message=str(error))
        if result.get("outcome") == "completed":
            note = str(result.get("artifact_note") or "")
            return Attempt(folder, number, "counted", "completed", message=note, train_sealed=True)
    sealed = is_sealed(folder, TRAIN_SEAL)
    if not result or result.get("outcome") == "completed":  # the worker died before, or while, it sealed the end
        stage = "evaluate" if sealed else first_stage(folder)
        return Attempt(folder, number, "lost", "worker_lost", stage, train_sealed=sealed)
    return Attempt(folder, number, "failed", cls or "user_error", stage, message, sealed)


def first_stage(folder: Path) -> str:
    """What an attempt begins with: a recipe's trains, a script's is one stage."""
    return SCRIPT_STAGE if _read(folder / RUN).get("kind") == SCRIPT else "train"


def inspect_all(runs_dir: Path, run_id: str) -> list[Attempt]:
    return [inspect(folder, number) for number, folder in folders_of(runs_dir, run_id)]


def counted(attempts: list[Attempt]) -> Attempt | None:
    """The counted attempt of a run: of those that qualify, the lowest number."""
    return next((one for one in attempts if one.state == "counted"), None)


def create(runs_dir: Path, run_json: Mapping[str, typing.Any], bundle: str) -> Path:
    """Lay down an attempt folder, whole or not at all."""
    parent = runs_dir / ATTEMPTS
    parent.mkdir(exist_ok=True)
    folder = parent / attempt_id(run_json["run_id"], run_json["attempt"])
    scratch = parent / f".{folder.name}.{os.getpid()}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        write_json(scratch / RUN, run_json)
        write_bytes(scratch / BUNDLE, bundle.encode())
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder


def write_void(folder: Path, cls: str, message: str) -> None:
    """The mark; and what a script was writing when its worker and the watchdog went down together goes."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    write_json(folder / VOID, {"schema_version": 1, "class": cls, "message": message, "at": now_utc()})


def _read(path: Path) -> dict[str, typing.Any]:
    try:
        return read_json(path)
    except RunDirError:
        return {}
