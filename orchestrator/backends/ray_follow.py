"""Follows one attempt on its node: mirrors what it says, brings what it seals, tells how it ended.

A thread an attempt, so that a node that does not answer holds nobody up: one question is under way at any time. The
attempt's folder here is locked while its worker lives there, and is filled so that a seal never stands in it before
all that it seals.
"""

import contextlib
import hashlib
import json
import threading
import time
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

from golf_core.rundir import APPENDED, RESULT, SEAL, TRAIN_SEAL, file_sha256, is_sealed, write_bytes
from orchestrator.backends import ray_node
from orchestrator.backends.base import Handle, State
from orchestrator.backends.ray_nodes import Nodes
from orchestrator.cluster.storage import Storage, StorageError
from orchestrator.proc import folder_lock

PAUSE_SECONDS = 1.0  # between looks
RELEASE_SECONDS = 0.05  # between looks whether an actor that was released has ended
WAIT_SECONDS = 1.0  # for an answer, before it is looked whether the node lives
START_SECONDS = 600.0  # for the actor to stand: Ray may have to set its packages up first
SILENT_SECONDS = 10.0  # without an answer, before that is told
LOCK_SECONDS = 10.0
TRIES = 3  # to bring a file that is not as it was told
LAST = (RESULT, TRAIN_SEAL, SEAL)  # of what is brought, in this order


class _Closed(Exception):
    """The controller lets go; the attempt goes on."""


class Gone(Exception):
    """The actor has ended, or its node has; what was asked of it is not known."""


class Follower(threading.Thread):
    def __init__(self, nodes: Nodes, handle: Handle, folder: Path, actor: typing.Any, storage: str | None) -> None:
        """`actor` is None where only the folder on the node is left to look at."""
        super().__init__(daemon=True, name=f"follow {handle['attempt_id']}")
        self.nodes, self.handle, self.folder, self.actor = nodes, handle, folder, actor
        self.node_id: str = handle["node"]
        self.place: ray_node.Place = (handle["node_dir"], handle["home"], handle["attempt_id"])
        self.copies = None if storage is None else Storage(storage, handle["attempt_id"], handle["launch"])
        self.state = State("pending", f"starts on {handle['host']}")
        self.send: Callable[[], None] | None = None  # gives the order to begin to an actor that has none
        self.begun: typing.Any = None  # reference of the actor's work: its errors come out there
        self.closing, self.cancelled, self.answered = threading.Event(), False, False
        self._held = contextlib.ExitStack()
        self._held.enter_context(folder_lock(folder, LOCK_SECONDS))

    def run(self) -> None:
        try:
            with self._held:
                state = self._follow()
            self.state = state  # the folder is free before anybody reads that it is over
        except _Closed:
            pass

    def cancel(self) -> None:
        """Ask the attempt to end. One that does not stand yet is not begun."""
        self.cancelled = True
        if self.actor is not None and self.answered:
            self.actor.end.remote("cancelled")

    def close(self) -> None:
        self.closing.set()

    def release(self) -> None:
        """Of one that was never started."""
        self._held.close()

    # --- the way of an attempt

    def _follow(self) -> State:
        while True:
            try:
                return self._accompany() or self._settle()
            except _Closed:
                raise
            except Exception as error:  # of this machine, such as a full disk, or of Ray: the attempt may be well
                self._tell(f"cannot follow it now: {error}")
                self._sleep(5 * PAUSE_SECONDS)

    def _accompany(self) -> State | None:
        """While there is an actor; None where it was gone before everything had been brought."""
        try:
            while self.actor is not None:
                seen = self._ask(lambda: self.actor.look.remote(self._have()))
                if self.cancelled and not self.answered:
                    self.actor.end.remote("cancelled")
                self.answered = True
                if not seen["begun"] and self.send is not None:
                    self.send()
                    self.send = None
                laid = seen["launch"] == self.handle["launch"]  # until then there may be an earlier execution's folder
                more = laid and self._mirror(seen)
                if seen["over"] and not more:
                    return self._last_look(seen)
                told = "its copy in the storage failed: " + seen["trouble"] if seen["trouble"] else ""
                self.state = State("running", told)
                if laid and seen["train_sealed"] and not (self.folder / TRAIN_SEAL).exists():
                    self._bring_train()
                if not more:
                    self._sleep(PAUSE_SECONDS)
        except Gone:
            self.actor = None
        return None

    def _last_look(self, seen: Mapping[str, typing.Any]) -> State | None:
        """The attempt has ended and its actor waits for us."""
        seal = ""
        if seen["launch"] != self.handle["launch"] or seen["result"] is None:
            state = State("lost", seen["trouble"] or f"it did not begin on {self.handle['host']}", "launch_error")
        else:
            seal = self._bring_all()
            state = State("ended", seen["trouble"])
        with contextlib.suppress(Gone):  # when it is, its GPUs are free and its name too
            while self.actor is not None:
                self._ask(lambda: self.actor.release.remote(seal))
                self._sleep(RELEASE_SECONDS)
        self.actor = None
        return state

    def _settle(self) -> State:
        """The actor is gone: what is in the folder on its node, or, without the node, in the storage."""
        while True:
            if (death := self.nodes.death(self.node_id)) is not None:
                return self._without_node(*death)
            try:
                seen = self._ask(lambda: self._task(ray_node.look, self._have()))
                if seen["launch"] not in (self.handle["launch"], None):
                    return State("lost", f"another execution has its folder on {self.handle['host']}", "worker_lost")
                if seen["busy"]:  # what it started is being cleared
                    self._tell(f"its processes on {self.handle['host']} come to an end")
                    self._sleep(PAUSE_SECONDS)
                    continue
                if seen["launch"] is None or seen["result"] is None:
                    return self._without_result(seen)
                while self._mirror(seen):
                    seen = self._ask(lambda: self._task(ray_node.look, self._have()))
                self._tell_brought(self._bring_all())
                return State("ended")
            except Gone as gone:
                self._tell(f"what it left on {self.handle['host']} cannot be read: {gone}")
                self._sleep(PAUSE_SECONDS)

    def _tell_brought(self, seal: str) -> None:
        with contextlib.suppress(Gone):  # then its copy stays there
            if seal:
                self._ask(lambda: self._task(ray_node.brought, seal))

    def _without_result(self, seen: Mapping[str, typing.Any]) -> State:
        """Nothing says how it ended: its processes were killed, or never stood."""
        if seen["launch"] is not None and seen["train_sealed"] and not (self.folder / TRAIN_SEAL).exists():
            self._bring_train()
        if self.cancelled:
            return State("lost", "ended by `cancel`", "cancelled")
        if seen["launch"] is None:
            return State(
                "lost", self._why_never_begun() or f"it did not begin on {self.handle['host']}", "launch_error"
            )
        return State("lost", f"its worker on {self.handle['host']} was killed", "worker_lost")

    def _why_never_begun(self) -> str:
        if self.begun is None or not self.nodes.ray.wait([self.begun], timeout=0)[0]:
            return ""
        try:
            self.nodes.ray.get(self.begun)
        except self.nodes.ray.exceptions.RayError as error:
            if "exit_actor" not in str(error):
                return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return ""

    def _without_node(self, cls: str, message: str) -> State:
        """Its node is gone. What was sealed and copied in time is brought from the storage."""
        if self.copies is not None:
            try:
                for seal in (SEAL, TRAIN_SEAL):
                    if not (self.folder / seal).exists() and self.copies.has(seal):
                        self.copies.get(self.folder, seal)
                        if seal == SEAL:
                            return State("ended", f"{message}; brought from the storage")
                        message += "; its training was brought from the storage"
            except StorageError as error:
                message += f"; {error}"
        return State("lost", message, "cancelled" if self.cancelled else cls)

    # --- questions

    def _ask(self, question: Callable[[], typing.Any]) -> typing.Any:
        """The answer, however long the node takes while it lives. Raises Gone, or _Closed."""
        errors = self.nodes.ray.exceptions
        began, reference = time.monotonic(), None
        while True:
            try:
                reference = question() if reference is None else reference
                if self.nodes.ray.wait([reference], timeout=WAIT_SECONDS)[0]:
                    return self.nodes.ray.get(reference)
            except errors.ActorUnavailableError:  # its connection broke: it may live
                reference = None
                self._sleep(PAUSE_SECONDS)
            except errors.RayError as error:
                raise Gone(str(error)) from error
            if self.closing.is_set():
                raise _Closed
            if self.nodes.death(self.node_id) is not None:
                raise Gone("the node is gone")
            silent = time.monotonic() - began
            if self.actor is not None and not self.answered and (self.cancelled or silent > START_SECONDS):
                self.nodes.ray.kill(self.actor)
            if silent > SILENT_SECONDS:
                self._tell(f"{self.handle['host']} has not answered for {silent:.0f} s")

    def _task(self, function: Callable[..., typing.Any], *arguments: typing.Any) -> typing.Any:
        return self.nodes.task(self.node_id, function, self.place, *arguments)

    def _read(self, name: str, begin: int) -> bytes:
        if self.actor is not None:
            return bytes(self._ask(lambda: self.actor.read.remote(name, begin)))
        return bytes(self._ask(lambda: self._task(ray_node.read, name, begin)))

    def _listing(self) -> dict[str, tuple[int, str]]:
        if self.actor is not None:
            return dict(self._ask(lambda: self.actor.listing.remote()))
        return dict(self._ask(lambda: self._task(ray_node.listing)))

    # --- files

    def _have(self) -> dict[str, int]:
        return {name: _size(self.folder / name) for name in APPENDED}

    def _mirror(self, seen: Mapping[str, typing.Any]) -> bool:
        """Take in what the growing files have more; True where there may be more still."""
        more = False
        for name, (begin, content) in seen["grown"].items():
            path = self.folder / name
            if not path.exists() or begin != path.stat().st_size or content:
                with path.open("r+b" if path.exists() else "xb") as file:
                    file.truncate(begin)
                    file.seek(begin)
                    file.write(content)
            more = more or len(content) >= ray_node.GROWN
        return more

    def _bring_train(self) -> None:
        """The files of the train seal as it has them, then the seal: evaluation can be repeated from them anywhere."""
        seal = self._content(TRAIN_SEAL)
        files = json.loads(seal)["files"]
        self._bring({name: (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}, prefix=True)
        write_bytes(self.folder / TRAIN_SEAL, seal)

    def _bring_all(self) -> str:
        """SHA-256 of the seal that stands for what is here now; empty where it is not sealed."""
        self._bring(self._listing(), prefix=False)
        return file_sha256(self.folder / SEAL) if is_sealed(self.folder) else ""

    def _bring(self, files: Mapping[str, tuple[int, str]], prefix: bool) -> None:
        """Have these files here, each whole and with the hash that it has there; what grows may be longer here."""
        for name in sorted(files, key=lambda name: (LAST.index(name) if name in LAST else -1, name)):
            (size, sha256), path = files[name], self.folder / Path(name).name
            here = _size(path)
            longer = prefix and name in APPENDED and here > size
            if not (path.exists() and (here == size or longer) and file_sha256(path, size) == sha256):
                write_bytes(path, self._checked(name, size, sha256))

    def _checked(self, name: str, size: int, sha256: str) -> bytes:
        for _ in range(TRIES):
            content = self._content(name, size)
            if len(content) == size and hashlib.sha256(content).hexdigest() == sha256:
                return content
            self._tell(f"{name} of {self.handle['host']} arrived otherwise than it was told; asking again")
            self._sleep(PAUSE_SECONDS)
        raise Gone(f"{name} is not what the node says that it is")

    def _content(self, name: str, size: int | None = None) -> bytes:
        """A file whole, or its first bytes."""
        content = b""
        while size is None or len(content) < size:
            chunk = self._read(name, len(content))
            content += chunk
            if len(chunk) < ray_node.CHUNK:
                break
        return content[:size]

    # --- this thread

    def _tell(self, message: str) -> None:
        self.state = State(self.state.phase, message)

    def _sleep(self, seconds: float) -> None:
        if self.closing.wait(seconds):
            raise _Closed


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
