"""What runs on the nodes of a cluster: an attempt, in an actor of its own, and looks into attempt folders.

The actor is detached: it outlives the controller that made it. It ends itself when the attempt has ended, which gives
the GPUs back, when nobody tells it to begin, and at the latest at its last deadline. What an attempt leaves lies in
<node_dir>/<home>/attempts/<attempt_id>, where `home` is the node that it ran on, and is read from there later.
"""

import contextlib
import os
import shutil
import threading
import time
import traceback
import typing
from collections.abc import Mapping
from pathlib import Path

from golf_core.rundir import (
    APPENDED,
    RESULT,
    RUN,
    SEAL,
    TRAIN_SEAL,
    RunDirError,
    file_sha256,
    is_sealed,
    read_json,
    write_bytes,
    write_json,
)
from orchestrator.attempts import ATTEMPTS, NODE, first_stage, now_utc
from orchestrator.cluster.node_data import DataUnfit, data_on_node
from orchestrator.cluster.node_disk import clear, mark_brought
from orchestrator.cluster.storage import Storage, StorageError
from orchestrator.proc import Locked, is_locked
from orchestrator.worker.attempt import run_attempt
from orchestrator.worker.result import refusal

CHUNK = 4 * 1024 * 1024  # of a file, in one answer
GROWN = 1024 * 1024  # of each growing file, in one look
BEGIN_SECONDS = 600.0  # for the order to begin; an actor whose controller died before it gave it ends
DATA_SECONDS = 900.0  # for the check of the data, during which the GPUs are idle
LINGER_SECONDS = 10.0  # for the controller to bring home what the attempt left, faster than by a process of its own
MARGIN_SECONDS = 120.0  # beyond the worker's own last deadline: then the actor ends it, and itself a minute later
KILL_SECONDS = 60.0

Place = tuple[str, str, str]  # node_dir as it was given, home, attempt_id


def folder_of(place: Place) -> Path:
    node_dir, home, attempt_id = place
    return Path(node_dir).expanduser() / home / ATTEMPTS / attempt_id


def look(place: Place, have: Mapping[str, int]) -> dict[str, typing.Any]:
    """How an attempt stands, and what its growing files have beyond the bytes that the asker has."""
    folder = folder_of(place)
    node = _read(folder / NODE)
    grown: dict[str, tuple[int, bytes]] = {}
    for name in APPENDED:
        with contextlib.suppress(OSError), (folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = have.get(name, 0) if have.get(name, 0) <= size else 0  # shorter than it was: from its start
            file.seek(begin)
            grown[name] = (begin, file.read(GROWN))
    try:
        result = (folder / RESULT).read_bytes()
    except OSError:
        result = None
    return {
        "launch": node.get("launch"),
        "busy": is_locked(folder),
        "result": result,
        "train_sealed": (folder / TRAIN_SEAL).exists(),
        "sealed": (folder / SEAL).exists(),
        "grown": grown,
    }


def listing(place: Place) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file that an attempt left."""
    folder = folder_of(place)
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.name != NODE:
            size = path.stat().st_size
            found[path.name] = (size, file_sha256(path, size))
    return found


def read(place: Place, name: str, begin: int) -> bytes:
    """A chunk of a file."""
    with (folder_of(place) / Path(name).name).open("rb") as file:
        file.seek(begin)
        return file.read(CHUNK)


def brought(place: Place, seal: str) -> None:
    """The head has all of it, verified by this seal."""
    mark_brought(folder_of(place), seal)


class NodeAttempt:
    """Runs one attempt; other threads of it answer and hear."""

    def __init__(self, place: Place, launch: str, seconds: float) -> None:
        """`seconds`: the worker's own last deadline."""
        self.place, self.launch, self.seconds = place, launch, seconds
        self.folder = folder_of(place)
        self.ending: str | None = None
        self.begun, self.laid, self.released = threading.Event(), threading.Event(), threading.Event()
        self.over, self.trouble = False, ""
        self.lock = threading.Lock()
        threading.Thread(target=self._dead_man, daemon=True).start()

    def run(self, files: Mapping[str, bytes], storage: str | None) -> None:
        """Lay the attempt down and run it. The files are what the controller has of it. Ends the actor."""
        with self.lock:
            if self.begun.is_set():
                return
            self.begun.set()
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, by the CPUs of the actor; the worker sets what it wants
        try:
            clear(self.folder.parents[2])
            self._lay_down(files)
            self._find_data()
            self.laid.set()
            self._run(storage)
        except (DataUnfit, OSError) as error:  # disk full, permissions, no data: another node may be better
            self._refuse("node_setup", str(error))
        except Exception as error:  # the run itself ends with a result
            traceback.print_exc()
            self._refuse("launch_error", f"{type(error).__name__}: {error}")
        self.over = True
        self.released.wait(LINGER_SECONDS)
        self._leave()

    def look(self, have: Mapping[str, int]) -> dict[str, typing.Any]:
        over = self.over  # before the look: what it sees then is the last word
        return look(self.place, have) | {"begun": self.begun.is_set(), "over": over, "trouble": self.trouble}

    def release(self, seal: str) -> None:
        """Everything has been brought home; `seal`: what verified it there, where it is sealed."""
        with contextlib.suppress(OSError):  # unmarked, its copy here stays
            if seal:
                brought(self.place, seal)
        self.released.set()

    def listing(self) -> dict[str, tuple[int, str]]:
        return listing(self.place)

    def read(self, name: str, begin: int) -> bytes:
        return read(self.place, name, begin)

    def end(self, cls: str) -> None:
        with self.lock:
            self.ending = self.ending or cls

    def _lay_down(self, files: Mapping[str, bytes]) -> None:
        """The folder as the controller has it. What lies there of an earlier execution is moved out of the way."""
        if is_locked(self.folder):
            raise Locked(f"{self.folder} is in use by another process")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.folder.with_name(f".{self.folder.name}.{self.launch}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            for name, content in files.items():
                write_bytes(scratch / Path(name).name, content)
            write_json(scratch / NODE, {"launch": self.launch, "laid_down_at": now_utc()})
            if self.folder.exists():
                shutil.rmtree(self.folder.with_name(f".{self.folder.name}.old"), ignore_errors=True)
                self.folder.rename(self.folder.with_name(f".{self.folder.name}.old"))
            scratch.rename(self.folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def _find_data(self) -> None:
        data = data_on_node(read_json(self.folder / RUN)["data"], self.folder.parents[2] / "data")
        write_json(self.folder / NODE, {**read_json(self.folder / NODE), "data": data})

    def _run(self, storage: str | None) -> None:
        if storage is None:
            run_attempt(self.folder, self._stop)
            return
        copies = Storage(storage, self.folder.name, self.launch)
        over = threading.Event()
        copier = threading.Thread(target=self._copy_train, args=(copies, over))
        copier.start()
        try:
            run_attempt(self.folder, self._stop)
        finally:
            over.set()
            copier.join()
        if is_sealed(self.folder):
            self._copy(copies, SEAL)

    def _copy_train(self, copies: Storage, over: threading.Event) -> None:
        """While evaluation runs. An attempt that begins with a sealed training was copied before."""
        if (self.folder / TRAIN_SEAL).exists():
            return
        while not (self.folder / TRAIN_SEAL).exists():
            if over.wait(1.0):
                return
        self._copy(copies, TRAIN_SEAL)

    def _copy(self, copies: Storage, seal: str) -> None:
        """The attempt stands without its copy; that it lacks one is told."""
        for pause in (1.0, 5.0, 0.0):
            try:
                copies.put(self.folder, seal)
                return
            except StorageError as error:
                self.trouble = str(error)
                time.sleep(pause)

    def _stop(self) -> str | None:
        return self.ending

    def _refuse(self, cls: str, message: str) -> None:
        """It could not be run here: a result that says so, where a folder can hold one."""
        self.trouble = message
        with contextlib.suppress(OSError, RunDirError):
            stage = "evaluate" if is_sealed(self.folder, TRAIN_SEAL) else first_stage(self.folder)
            write_json(self.folder / RESULT, refusal(cls, stage, message))

    def _leave(self) -> None:
        import ray

        ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    def _dead_man(self) -> None:
        """Without a controller, too, this comes to an end. When this process ends, the watchdog of the worker kills
        whatever is left of the attempt."""
        if not self.begun.wait(BEGIN_SECONDS) or not self.laid.wait(DATA_SECONDS):
            os._exit(1)
        time.sleep(self.seconds + MARGIN_SECONDS)
        self.end("deadline")
        time.sleep(KILL_SECONDS)
        os._exit(1)


def _read(path: Path) -> dict[str, typing.Any]:
    try:
        return read_json(path)
    except RunDirError:
        return {}
