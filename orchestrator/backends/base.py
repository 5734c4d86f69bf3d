"""The seam to where attempts execute: eight verbs that know nothing about training, and a small tree of errors.

* BackendError
  - SubmitError    refused, or no answer: the controller counts it as a launch fault and retries with a wait
  - JobLost        asked about a handle that the backend does not know (any more)
  - Unavailable    the backend is not there at all, or lacks what is asked for: nothing can be started
    - Refused      every node that could have taken it was found wanting: waiting helps nobody
An attempt that *failed* is not an exception. Its State is `ended`, and what happened is in its folder.
"""

import typing
from dataclasses import dataclass
from pathlib import Path


class BackendError(Exception):
    """Something between us and where attempts execute."""


class SubmitError(BackendError):
    pass


class JobLost(BackendError):
    pass


class Unavailable(BackendError):
    passing = False  # something ran there before: it may come back


class Refused(Unavailable):
    pass


Handle = dict[str, typing.Any]  # small JSON: it is written into the ledger


@dataclass(frozen=True)
class State:
    """`phase`: pending (not started yet), running, ended (the worker returned), lost (it did not)."""

    phase: str
    message: str = ""
    cls: str = ""  # of a lost attempt, where the backend knows better than worker_lost: node_lost, preempted, ...

    @property
    def over(self) -> bool:
        return self.phase in ("ended", "lost")


@dataclass(frozen=True)
class Job:
    """What a backend needs to know of an attempt: its name, its folder, what it keeps busy, all of it on one node."""

    attempt_id: str
    folder: Path
    cpus: int = 1
    gpus: int = 0
    gpu: str | None = None  # model
    stage: str = "train"  # or evaluate: the folder holds the sealed train files


class Backend(typing.Protocol):
    name: str
    outlives: bool  # attempts are on nodes of a cluster: they go on without us, and there may be another node to try

    def hold(self, job: Job) -> str | None:
        """Why the attempt cannot begin now, such as that every node that could take it is busy; None: it can. Raises
        Unavailable where it never can."""

    def start(self, job: Job) -> Handle:
        """Begin the attempt; the same attempt twice begins once. Raises SubmitError or Unavailable."""

    def find(self, attempt_id: str) -> Handle | None:
        """The handle of an attempt that is alive here, after a lost reply or a lost controller."""

    def poll(self, handle: Handle) -> State:
        """How it stands. Raises JobLost for a handle of nobody."""

    def logs(self, handle: Handle, since: int) -> bytes:
        """The log from byte `since` on."""

    def cancel(self, handle: Handle) -> None:
        """Ask the attempt to end; poll says when it has. Nothing happens where it has ended already."""

    def fetch(self, handle: Handle, into: Path) -> None:
        """Bring the attempt's folder to `into` (nothing to do where it was made there)."""

    def close(self) -> None:
        """Let go: what still runs is ended, and nothing of ours is left behind."""
