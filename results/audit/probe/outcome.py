"""What a probe found, and by how much two runs of the same evaluator may differ."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from results.audit.finding import PASS, SEVERITY
from results.audit.probe.scorer import Flags, Floats

FACTOR = 4.0  # times what a replay of the same input moves
FLOOR = 1e-5  # nats a token: rounding in float32 of a loss of some nats
COARSE = 0.02  # nats: an evaluator whose replays differ by more hides what a probe looks for


@dataclass(frozen=True)
class Outcome:
    """The verdict of one probe."""

    name: str  # "causality"
    check: str  # "D2'": its name in the literature of this audit
    verdict: str  # PASS, FAIL or REVIEW
    authority: str  # "[R] A2; [C] A1": on whose word the rule stands
    says: str  # one sentence, with the values
    runs: int  # of the stream
    evidence: dict[str, typing.Any] = field(default_factory=dict)  # plain values: position, cut, nats, Z

    def __post_init__(self) -> None:
        if self.verdict not in SEVERITY:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(SEVERITY)}")


def gravest_of(outcomes: Sequence[Outcome]) -> str:
    return max((one.verdict for one in outcomes), key=lambda verdict: SEVERITY[verdict], default=PASS)


@dataclass(frozen=True)
class Tolerance:
    """How far scores of unchanged input may lie apart: from replays of the same stream, and never under rounding."""

    token: float  # largest difference of one target in the replays
    total: float  # largest difference of the sums

    def largest(self) -> float:
        return max(FACTOR * self.token, FLOOR)

    def summed(self, targets: int) -> float:
        return max(FACTOR * self.total, FLOOR * float(np.sqrt(max(targets, 1))))


@dataclass(frozen=True)
class Difference:
    """How much some targets moved between two runs."""

    targets: int  # compared
    worst: int  # index of the target that moved most; -1 where none was compared
    nats: float  # by how much, with its sign
    total: float  # of all compared, with its sign
    beyond: int  # how many moved by more than the tolerance
    moved: bool

    def evidence(self) -> dict[str, typing.Any]:
        return {
            "targets_compared": self.targets,
            "token": self.worst + 1,
            "delta_nats": self.nats,
            "delta_sum_nats": self.total,
            "targets_beyond_tolerance": self.beyond,
        }


def difference(before: Floats, after: Floats, compared: Flags, tolerance: Tolerance) -> Difference:
    """Over the compared targets: the largest one, and the sum, each against its own tolerance."""
    where = np.flatnonzero(compared)
    if not len(where):
        return Difference(0, -1, 0.0, 0.0, 0, False)
    delta = after[where] - before[where]
    size = np.abs(delta)
    worst = int(np.argmax(size))
    total = float(delta.sum())
    beyond = int((size > tolerance.largest()).sum())
    moved = beyond > 0 or abs(total) > tolerance.summed(len(where))
    return Difference(len(where), int(where[worst]), float(delta[worst]), total, beyond, moved)
