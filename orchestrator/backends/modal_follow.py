"""Follows one attempt on Modal: mirrors what it says, brings what it seals, tells how it ended.

A thread an attempt. The attempt's folder here is locked while its call lives, and is filled so that a seal never stands
in it before all that it seals. What is asked may fail for as long as it likes: the attempt goes on without us.
"""

import contextlib
import hashlib
import json
import re
import threading
import typing
from collections.abc import Mapping
from pathlib import Path

from golf_core.rundir import (
    APPENDED,
    MAX_JSON_BYTES,
    RESULT,
    SEAL,
    TRAIN_SEAL,
    VOID,
    write_bytes,
    write_json,
)
from orchestrator.attempts import ATTEMPTS, NODE, first_stage
from orchestrator.backends.base import BackendError, Handle, State
from orchestrator.backends.modal_client import CallState, Cloud
from orchestrator.cloud.claims import AGAIN
from orchestrator.errors import CommandError
from orchestrator.proc import folder_lock
from orchestrator.worker.result import refusal

LOOK_SECONDS = 2.0
TROUBLE_SECONDS = 5.0  # after a question that failed
LOCK_SECONDS = 10.0
UNFIT_LOOKS = 3  # at files that are not what their seal says, once nothing writes there
LATE_LOOKS = 8  # that a call may take to return after its attempt was sealed
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MAX_BYTES = 1 << 30  # of a file that is brought
MARKS = (RESULT, TRAIN_SEAL, SEAL, VOID)  # brought last; what is void here our own controller says

Listing = Mapping[str, tuple[int, int]]


class Unfit(ValueError):
    """A file on the volume is not what a seal says of it."""


class _Closed(Exception):
    """Whoever followed lets go; the attempt goes on."""


class Follower(threading.Thread):
    def __init__(self, cloud: Cloud, handle: Handle, folder: Path) -> None:
        super().__init__(daemon=True, name=f"follow {handle['attempt_id']}")
        self.cloud, self.handle, self.folder = cloud, handle, folder
        self.path = f"{ATTEMPTS}/{handle['attempt_id']}"
        with_gpus = f" with {handle['gpus']} GPUs" if handle.get("gpus") else ""
        self.state = State("pending", f"waits for a container{with_gpus}")
        self.looked = threading.Event()  # once something is known of it
        self.closing, self.cancelled, self.begun, self.late = threading.Event(), False, False, 0
        self.unfit = 0
        self.told_cancel = ""  # the call that was
        self.brought: dict[str, tuple[int, int]] = {}  # of growing files, as they were listed
        self.listed: Listing = {}
        self._held = contextlib.ExitStack()
        self._held.enter_context(folder_lock(folder, LOCK_SECONDS))

    def run(self) -> None:
        try:
            with self._held:
                state = self._follow()
                self._tell_result(state)
            self.state = state  # the folder is free before anybody reads that it is over
        except _Closed:
            pass
        finally:
            self.looked.set()

    def _tell_result(self, state: State) -> None:
        """Of an attempt that left none: it stays so for whoever looks later. One that never began costs nothing."""
        unknown = not self.begun and state.cls == "worker_lost"  # perhaps to another account's token: ask again
        if state.phase == "lost" and not unknown and (state.cls == "damaged" or not (self.folder / RESULT).exists()):
            sealed = state.cls != "damaged" and (self.folder / TRAIN_SEAL).exists()
            told = refusal(state.cls, "evaluate" if sealed else first_stage(self.folder), state.message)
            write_json(self.folder / RESULT, told | {"worker_seconds": None if self.begun else 0.0})

    def cancel(self) -> None:
        """Ask the attempt to end: until Modal has heard it."""
        self.cancelled = True

    def close(self) -> None:
        self.closing.set()

    def _follow(self) -> State:
        while True:
            try:
                if (state := self._look()) is not None:
                    return state
                self.looked.set()
                self._sleep(LOOK_SECONDS)
            except _Closed:
                raise
            except Exception as error:  # whatever it is, somebody waits for this thread's word
                self.state = State(self.state.phase, f"cannot follow it now: {error}")
                self._sleep(TROUBLE_SECONDS)

    def _look(self) -> State | None:
        """What is seen now; a State where it is over."""
        if self.cancelled and self.told_cancel != self.handle["call"]:
            self.cloud.cancel(self.handle["call"])
            self.told_cancel = self.handle["call"]
        call = self.cloud.state(self.handle["call"])
        if call.told is not None and call.told.duplicate_of is not None:
            self._change_call(call.told.duplicate_of)
            return None
        there = self.listed = self.cloud.listing(self.path)  # after the call: of one that is over this is the last word
        if VOID in there:
            self.begun = self.begun or NODE in there
            self._unfit(there)
            void = self._json(VOID)
            return State("lost", str(void.get("message", "")), str(void.get("class", "preempted")))
        if not self.begun:
            node = self._json(NODE) if NODE in there else {}
            self.begun = node.get("call") == self.handle["call"]
            if (
                not self.begun
                and isinstance(node.get("call"), str)
                and node.get("execution") == self.handle["execution"]
            ):
                self._change_call(node["call"])  # it was given twice, and ours waits, or came second
                return None
        if not self.begun:
            return self._never_begun(call) if call.over else None
        self._mirror(there)
        if not call.over and not self._is_late(there):
            if TRAIN_SEAL in there and not (self.folder / TRAIN_SEAL).exists():
                self._bring_sealed(TRAIN_SEAL)
            self.state = State("running", self._told(there))
            return None
        return self._end(call, there)

    def _is_late(self, there: Listing) -> bool:
        """Whether everything is sealed, and the call does not come to its end."""
        self.late = self.late + 1 if SEAL in there else 0
        return self.late > LATE_LOOKS

    def _told(self, there: Listing) -> str:
        if RESULT in there and str(self._json(RESULT).get("class")) in AGAIN:
            return "its machine is taken away; Modal gives its order to another"
        return ""

    def _never_begun(self, call: CallState) -> State:
        cls, message = call.cls or "launch_error", call.message
        if call.told is not None:
            cls, message = call.told.cls or "launch_error", call.told.message
        if self.cancelled or cls == "cancelled":
            return State("lost", "ended by `cancel`", "cancelled")
        return State("lost", message or "its call ended before it began", cls)

    def _end(self, call: CallState, there: Listing) -> State:
        if call.told is not None:
            self.handle["seconds"] = call.told.seconds
            write_json(self.folder / NODE, self.handle)
        if why := self._unfit(there):
            return State("lost", why, "damaged")
        if RESULT in there:
            return State("ended")
        if call.told is not None:
            return State("lost", call.told.message or "its worker was killed", call.told.cls or "worker_lost")
        if self.cancelled:
            return State("lost", "ended by `cancel`", "cancelled")
        return State("lost", call.message, call.cls)

    def _unfit(self, there: Listing) -> str:
        """Bring everything; why that cannot be done, however often it is tried. Raises what may pass."""
        try:
            self._bring_all(there)
        except (_Closed, BackendError, CommandError, OSError):
            raise
        except Exception as error:  # of what lies there: whoever can write to the volume can write anything
            self.unfit += 1
            if self.unfit < UNFIT_LOOKS:
                raise
            return str(error) if isinstance(error, Unfit) else f"{self.path} on Modal cannot be read: {error!r}"
        return ""

    def _change_call(self, call: str) -> None:
        """Another call does the work: ours was a second one, and ended at once."""
        self.begun = False
        self.handle["call"] = call
        write_json(self.folder / NODE, self.handle)

    # Files

    def _mirror(self, there: Listing) -> None:
        """What the growing files have now: a volume gives a file whole."""
        for name in APPENDED:
            if name in there and self.brought.get(name) != there[name]:
                content, path = self._content(name), self.folder / name
                here = path.read_bytes() if path.exists() else b""
                if content.startswith(here) and here:
                    with path.open("ab") as file:
                        file.write(content[len(here) :])
                else:
                    write_bytes(path, content)
                self.brought[name] = there[name]

    def _bring_all(self, there: Listing) -> None:
        for name in there:
            if name not in (NODE, *MARKS, *APPENDED) and NAME.fullmatch(name) and there[name][0] <= MAX_BYTES:
                self._bring(name)
        self._mirror(there)
        if TRAIN_SEAL in there:
            self._bring_sealed(TRAIN_SEAL)
        if RESULT in there:  # with what is sealed before it: who finds a failure here looks no further
            self._bring(RESULT)
        if SEAL in there:
            self._bring_sealed(SEAL)

    def _bring(self, name: str) -> None:
        """Have a file here as it is there."""
        write_bytes(self.folder / name, self._content(name))

    def _bring_sealed(self, seal: str) -> None:
        """Everything that a seal names, each as it says, then the seal."""
        content = self._content(seal)
        for name, entry in json.loads(content)["files"].items():
            if not NAME.fullmatch(name):
                raise Unfit(f"{self.path}/{seal} on Modal names {name!r}, which is no file of an attempt")
            size, sha256, path = int(entry["size"]), str(entry["sha256"]), self.folder / name
            if _is(path, size, sha256):
                continue
            found = self._content(name)
            if hashlib.sha256(found[:size]).hexdigest() != sha256 or len(found) < size:
                raise Unfit(f"{self.path}/{name} on Modal is not what {seal} says: damaged, or changed by somebody")
            write_bytes(path, found if name in APPENDED else found[:size])
        write_bytes(self.folder / seal, content)

    def _content(self, name: str) -> bytes:
        if (size := self.listed.get(name, (0, 0))[0]) > MAX_BYTES:
            raise Unfit(f"{self.path}/{name} on Modal has {size:,} bytes, more than any file of ours")
        if (content := self.cloud.read(f"{self.path}/{name}")) is None:
            raise Unfit(f"{self.path}/{name} is not on Modal any more")
        return content

    def _json(self, name: str) -> dict[str, typing.Any]:
        """Of a small file; nothing where it is none of ours."""
        if self.listed.get(name, (0, 0))[0] > MAX_JSON_BYTES:
            return {}
        try:
            found = json.loads(self.cloud.read(f"{self.path}/{name}") or b"{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _sleep(self, seconds: float) -> None:
        if self.closing.wait(seconds):
            raise _Closed


def _is(path: Path, size: int, sha256: str) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) >= size and hashlib.sha256(content[:size]).hexdigest() == sha256
