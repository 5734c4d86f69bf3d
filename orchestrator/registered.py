"""The submissions and grids that a runs folder has: which one is meant by a name, and what its spec.json says."""

import typing
from collections.abc import Sequence
from pathlib import Path

from golf_core.rundir import BUNDLE, read_json
from orchestrator.case import lease_of_submission
from orchestrator.errors import UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.spec import SUBMISSION_DIGITS, Submission, unique_prefix

SPEC = "spec.json"
GRID_SUBMITTED = "grid_submitted"  # event


def chosen(ledger: Ledger, prefix: str | None) -> str:
    """The submission that is meant: by a prefix of its id, or the latest that somebody drives, or the latest."""
    ids = [sid for sid in ledger.submissions() if is_there(ledger, sid)]
    if not ids:
        raise UsageError(f"there is no submission in {ledger.path.parent}; `python -m orchestrator submit` makes one")
    if prefix:
        return unique_prefix(prefix, ids)
    driven = (sid for sid in reversed(ids) if ledger.holder(lease_of_submission(sid)) is not None)
    return next(driven, ids[-1])


def meant(ledger: Ledger, name: str | None) -> list[str]:
    """Every submission of the grid of that name, or the one that is meant."""
    variants = grids(ledger).get(name or "", [])
    return [sid for sid in variants if is_there(ledger, sid)] or [chosen(ledger, name)]


def is_there(ledger: Ledger, submission_id: str) -> bool:
    """Whether its folder is; one may be moved away."""
    return (ledger.path.parent / submission_id[:SUBMISSION_DIGITS]).is_dir()


def spec_of(runs_dir: Path, submission_id: str) -> dict[str, typing.Any]:
    return read_json(runs_dir / submission_id[:SUBMISSION_DIGITS] / SPEC)


def runs_of(spec: typing.Mapping[str, typing.Any]) -> list[tuple[int, str]]:
    return [(run["seed"], run["run_id"]) for run in spec["runs"]]


def is_diagnostic(spec: typing.Mapping[str, typing.Any]) -> bool:
    """Whether none of its scores is a score."""
    return spec.get("config", {}).get("diagnostic_only") is True


def submission_of(runs_dir: Path, submission_id: str) -> Submission:
    """A submission as its folder has it."""
    bundle = runs_dir / submission_id[:SUBMISSION_DIGITS] / BUNDLE
    return Submission.from_dict(spec_of(runs_dir, submission_id), bundle.read_text(encoding="utf-8"))


def grids(ledger: Ledger) -> dict[str, list[str]]:
    """The submissions of each grid that was submitted here, in its order."""
    found: dict[str, list[str]] = {}
    for event in ledger.events(kind=GRID_SUBMITTED):
        found.pop(str(event.data.get("grid")), None)
        found[str(event.data.get("grid"))] = [str(one) for one in event.data.get("submissions", [])]
    return found


def write_grid(ledger: Ledger, name: str, submission_ids: Sequence[str]) -> None:
    ledger.append(GRID_SUBMITTED, data={"grid": name, "submissions": list(submission_ids)})
