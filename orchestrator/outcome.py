"""How a submission ended, in words and as data."""

import math
import typing
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import errors
from orchestrator.money.spending import Spent
from orchestrator.overview import Row, final_score
from orchestrator.spec import Submission

# From the best to the worst, where one command ran several submissions.
SEVERITY = (errors.OK, errors.NOT_FINISHED, errors.GATE, errors.FAILED, errors.BUDGET, errors.USAGE, errors.BACKEND)


@dataclass(frozen=True)
class Outcome:
    """The end of the submission of a recipe, or of one variant of a grid."""

    submission: Submission
    exit_code: int
    rows: Sequence[Row]
    folder: Path
    spent: Spent | None = None  # None: nothing was paid for

    @property
    def mean_bpb(self) -> float | None:
        """Over all seeds; None while one has no score, or where a score is none."""
        scores = [
            final_score(row.folder)
            if row.state == "done" and row.folder is not None and not row.diagnostic_only
            else None
            for row in self.rows
        ]
        known = [score for score in scores if score is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(scores) else None

    def describe(self) -> str:
        """The mean, or why there is none."""
        if (mean := self.mean_bpb) is not None:
            return f"mean BPB {mean:.8f} ({len(self.rows)} seed{'s' if len(self.rows) > 1 else ''})"
        states = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in self.rows).items())
        return f"{states}; diagnostic only: no score" if any(row.diagnostic_only for row in self.rows) else states

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "submission_id": self.submission.submission_id,
            "exit_code": self.exit_code,
            "seeds": {str(row.seed): row.state for row in self.rows},
            "folder": str(self.folder),
            "cost": None if self.spent is None else self.spent.to_dict(),
        }


def exit_code_of(states: Iterable[str]) -> int:
    """Of `status`, by the states of its runs."""
    found = set(states)
    if "failed" in found:
        return errors.FAILED
    return errors.OK if found <= {"done"} else errors.NOT_FINISHED


def worst(codes: Iterable[int]) -> int:
    """
    >>> worst([0, 3, 1]), worst([]), worst([0, 99])
    (1, 0, 99)
    """
    return max(codes, key=lambda code: SEVERITY.index(code) if code in SEVERITY else len(SEVERITY), default=errors.OK)
