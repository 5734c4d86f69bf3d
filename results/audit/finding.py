"""What a check of the audit found: the rule, how sure it is, on whose word the rule stands, and where to look."""

from collections.abc import Iterable
from dataclasses import dataclass

PASS, FAIL, REVIEW = "pass", "fail", "review"
SEVERITY = {PASS: 0, REVIEW: 1, FAIL: 2}
RULES = tuple(f"S{number}" for number in range(1, 12))  # the static checks, in the order in which they are shown
MAX_EVIDENCE = 160  # characters of a source line that are kept


@dataclass(frozen=True)
class Finding:
    """One thing that a check found in a source."""

    rule: str  # "S1" to "S11", "C1", "source"
    verdict: str  # PASS, FAIL or REVIEW
    authority: str  # tag and rule id: "[R] A2; [M] #1972"
    says: str  # one sentence: what was found, with the values
    file: str  # which piece: "train_gpt.py", or "train_gpt.py (unwrapped: base85, lzma)"
    line: int | None  # in that piece, from 1
    evidence: str = ""  # the source line, stripped and printable, at most MAX_EVIDENCE characters

    def __post_init__(self) -> None:
        if self.verdict not in SEVERITY:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(SEVERITY)}")


def gravest(findings: Iterable[Finding]) -> str:
    """The verdict of them all: fail before review before pass; pass where there is none."""
    return max((finding.verdict for finding in findings), key=lambda verdict: SEVERITY[verdict], default=PASS)
