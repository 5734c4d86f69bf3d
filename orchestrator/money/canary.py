"""The canary: where GPUs are paid for, one seed goes first, and what it leaves decides whether the others follow.

What releases them is its size and its times, from files under its seal, held against the policy's caps: a recipe that
is too large is so with every seed. A score releases nothing and bars nothing. Pure, but for `measured`, which reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.policy import Policy
from golf_core.rundir import ARTIFACT, BUNDLE, METRICS, RESULT, SEAL, read_json, read_jsonl

OPEN, COUNTED, ENDED, CANCELLED = "open", "counted", "ended", "cancelled"


@dataclass(frozen=True)
class Seen:
    """A seed as it stands: open, counted, ended without a counted attempt, or cancelled. `over`: of a counted one, the
    caps that it does not keep."""

    seed: int
    state: str
    over: str = ""
    why: str = ""  # it ended


@dataclass(frozen=True)
class Verdict:
    """`go` | `wait` | `barred`, and why."""

    verb: str
    why: str = ""


GO = Verdict("go")


def release(seed: int, seeds: Sequence[Seen]) -> Verdict:
    """Whether `seed` may begin, with all seeds in their order. The canary is the first that nobody cancelled.

    >>> release(2, [Seen(1, OPEN), Seen(2, OPEN)])
    Verdict(verb='wait', why='the canary, seed 1, goes first')
    """
    if any(one.state == COUNTED and not one.over for one in seeds):
        return GO
    canary = next((one for one in seeds if one.state != CANCELLED), None)
    if canary is None or canary.seed == seed:
        return GO
    name = f"the canary, seed {canary.seed},"
    if canary.state == COUNTED:
        return Verdict("barred", f"{name} is over: {canary.over}; --parallel runs the others all the same")
    if canary.state == ENDED:
        return Verdict(
            "barred", f"{name} ended without a result ({canary.why}); --parallel runs the others all the same"
        )
    return Verdict("wait", f"{name} goes first")


@dataclass(frozen=True)
class Measured:
    """Of a sealed attempt. None: a script does not tell when it trains and when it evaluates."""

    artifact_bytes: int
    train_seconds: float | None
    evaluate_seconds: float | None

    def over(self, policy: Policy) -> str:
        """The caps that are not kept, in words; empty where all are, as far as is known."""
        found = []
        if self.artifact_bytes > policy.artifact_bytes:
            found.append(f"{self.artifact_bytes:,} bytes of {policy.artifact_bytes:,}")
        for what, seconds, most in (
            ("training", self.train_seconds, policy.train_seconds),
            ("evaluation", self.evaluate_seconds, policy.evaluate_seconds),
        ):
            if seconds is not None and seconds > most:
                found.append(f"{seconds:.3f} s of {what}, of {most:g}")
        return ", ".join(found)


def measured(folder: Path) -> Measured:
    """Of the attempt in `folder`, whose seal holds. Seconds are the larger of the worker's and the trainer's."""
    files = read_json(folder / SEAL)["files"]
    result = read_json(folder / RESULT)
    size = sum(int(files[name]["size"]) for name in (BUNDLE, ARTIFACT) if name in files)
    train = [result.get("train_seconds"), _trainer_seconds(folder) if METRICS in files else None]
    known = [float(seconds) for seconds in train if isinstance(seconds, int | float)]
    evaluate = result.get("evaluate_seconds")
    return Measured(size, max(known, default=None), float(evaluate) if isinstance(evaluate, int | float) else None)


def _trainer_seconds(folder: Path) -> float | None:
    ends = [row for row in read_jsonl(folder / METRICS, "train_end") if row.get("event") == "train_end"]
    seconds = ends[-1].get("train_seconds") if ends else None
    return float(seconds) if isinstance(seconds, int | float) else None
