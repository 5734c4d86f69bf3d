"""Known faults of counting bytes: which of them gives the count that a score was divided by.

Each was made in the race (rules.md D2 of the challenge's rulings): byte-fallback pieces counted as three bytes made the
text 4.13 % longer, a space counted in the table and in the loop 16.7 %.
"""

import itertools
import math
from dataclasses import dataclass

from results.recount.decode import Counts

ROUNDED = 2e-6  # relative: what is left of a count that was derived from a loss and a BPB of eight digits
ROUND_RATIO = 1e-9  # relative: of a ratio of bytes per token that somebody wrote down


@dataclass(frozen=True)
class Fault:
    says: str
    bytes: int  # by which the count is too large


def known_faults(counts: Counts) -> list[Fault]:
    """Those that would change the count of this text."""
    faults = [
        Fault("byte-fallback pieces counted as three bytes each", 2 * counts.byte_tokens),
        Fault("byte-fallback pieces counted by the letters of their names", counts.byte_spelled - counts.byte_tokens),
        Fault("the space before a word counted twice, in the table and in the loop", counts.spaced),
        Fault("spaces counted as the three bytes of U+2581", 2 * counts.marks),
        Fault("the space before a word not counted", -counts.spaced),
        Fault("a space counted before every document", counts.first_spaced),
        Fault("a byte counted for every BOS", counts.documents),
        Fault("the names of BOS and other control pieces counted as text", counts.silent_spelled),
        Fault(
            "spaces spelled by three byte pieces: the vocabulary has no U+2581 of its own", 2 * counts.spaces_as_bytes
        ),
        Fault("spaces behind control pieces not counted", -counts.behind_silent),
    ]
    return [fault for fault in faults if fault.bytes]


def deviation(claimed: float, counted: int) -> str:
    """By how much a count is off.

    >>> deviation(104.13, 100), deviation(99.99995, 100)
    ('+4.13 %', '-0.00005 %')
    """
    percent = 100 * (claimed / counted - 1) if counted else math.inf
    return f"{percent:+.2f} %" if abs(percent) >= 0.01 else f"{percent:+.5f} %"


def explained(claimed: float, counts: Counts, targets: int, exact: bool = True) -> str:
    """The known fault, or two of them together, that gives the claimed count; empty where none does."""
    within = 0.5 if exact else ROUNDED * max(claimed, 1)
    faults = known_faults(counts)
    for several in (1, 2):
        for chosen in itertools.combinations(faults, several):
            if abs(counts.bytes + sum(one.bytes for one in chosen) - claimed) <= within:
                return " and ".join(one.says for one in chosen)
    if targets and (ratio := _written(claimed / targets, 0.5 / targets if exact else ROUNDED)):
        return f"a number of bytes per token that somebody wrote down, {ratio}"
    return ""


def _written(ratio: float, within: float) -> str:
    """The ratio with at most three decimals, where it is one, and so many tokens that this is no chance."""
    for digits in (0, 1, 2, 3):
        if 100 * within < 10**-digits and abs(round(ratio, digits) - ratio) <= max(within, ROUND_RATIO * ratio):
            return f"{ratio:.{digits}f}"
    return ""
