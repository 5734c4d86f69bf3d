"""What the check of one claim gives, and how figures are written in it."""

import typing
from dataclasses import asdict, dataclass

from results.verify.words import SCORES, SIZES, TIMES

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
AGREES = "agrees in all digits that the log has"


@dataclass(frozen=True)
class Finding:
    place: str
    says: str
    derived: str  # empty where nothing could be derived
    source: str  # file:line
    verdict: str
    why: str = ""
    claimed: float | None = None
    value: float | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def shown(metric: str, value: float, sd: bool = False) -> str:
    """A derived figure with the digits that such a figure has.

    >>> shown("bpb", 1.5), shown("artifact_bytes", 15990006.0), shown("steps", 7155.5)
    ('1.50000000', '15,990,006 B', '7,155.5')
    """
    if metric in SCORES or metric == "val_loss":
        return f"{value:.8f}"
    if metric == "ttt_gain":
        return f"{value:+.8f}"
    if metric in SIZES:
        return f"{value:,.0f} B" if value == int(value) else f"{value:,.1f} B"
    if metric in TIMES:
        return f"{value:.3f} s"
    if metric == "step_avg_ms":
        return f"{value:.3f} ms" if not sd else f"{value:.4f} ms"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
