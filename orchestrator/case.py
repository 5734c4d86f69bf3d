"""A run in the hands of a controller, and who may say that it must wait."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.attempts import Attempt
from orchestrator.backends.base import Handle
from orchestrator.ledger.store import Lease
from orchestrator.policy import Decision
from orchestrator.spec import Run


@dataclass
class Case:
    """A run and all that the controller knows about it."""

    run: Run
    attempts: list[Attempt]
    lease: Lease | None = None
    live: Handle | None = None
    live_folder: Path | None = None
    doing: str = ""  # stage with which what lives began
    cancelling: bool = False
    elsewhere: bool = False
    looked: float = 0.0
    faults: dict[str, int] = field(default_factory=lambda: {"train": 0, "evaluate": 0, "node": 0})
    fault_at: float = float("-inf")
    fresh: set[int] = field(default_factory=set)  # attempts that ended under this controller
    sought: set[int] = field(default_factory=set)  # attempts that were looked for on the cluster, in vain
    no_node_since: float | None = None
    end: Decision | None = None
    note: str = "queued"


class Barred(str):
    """Why a run is not started under this submit, whatever comes free."""


class Admission(typing.Protocol):
    """What stands between a run and its start though a slot is free, such as a canary or a budget."""

    def __call__(self, case: Case, cases: Sequence[Case]) -> str | None:
        """Why the run must wait, or is Barred; None: it may start."""

    def settle(self, cases: Sequence[Case]) -> None:
        """Called in each round: some attempts may have ended."""

    def close(self, cases: Sequence[Case]) -> None:
        """Called once, when this controller is done, or gives up."""


class AdmitAll:
    def __call__(self, case: Case, cases: Sequence[Case]) -> str | None:
        return None

    def settle(self, cases: Sequence[Case]) -> None:
        pass

    def close(self, cases: Sequence[Case]) -> None:
        pass


def lease_of_submission(submission_id: str) -> str:
    return f"submission:{submission_id}"


def lease_of_run(run_id: str) -> str:
    return f"run:{run_id}"
