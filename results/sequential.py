"""A look at a submission before all its registered seeds are in: the chance that it ends in a claim, and an honest p.

A seed list that is registered before the first result and run to its end needs no correction, however often somebody
looks on the way: no look can end in a claim. Giving up early costs no correction either, as it can only lose claims.
Stopping early *for success* does: then each look gets a share of alpha, and the shares add up to alpha (the union
bound, so that it holds however the looks depend on each other). `p_early` is the p-value of that rule.
"""

import math
import random
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from golf_core.significance import NotTestable, Sample, sample_of, student_quantile, welch

DRAWS = 10_000  # futures that are drawn: the chance is right to about one point
GENERATOR = 20260502  # fixed, so that the same seeds give the same chance
FUTILE = 0.05
CELLS = 128


@dataclass(frozen=True, kw_only=True)
class Look:
    """After `done` of `planned` seeds. `chance` has the spread from these seeds alone, `chance_typical` is told it."""

    done: int
    planned: int
    p: float | None  # of Welch's test now; None where there is no test yet
    p_early: float | None  # for who would stop early for success at this look or one before; None likewise
    share: float | None  # of alpha that this look gets under that rule
    chance: float | None  # of p < alpha at the end
    chance_typical: float
    typical_sd: float
    futile: bool

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def look(
    scores: Sequence[float],
    planned: int,
    theirs: Sample,
    alpha: float,
    margin: float = 0.0,
    typical_sd: float = 0.0006,
    in_order: int | None = None,
) -> Look:
    """What the first scores of a registered list tell, in its order. Raises NotTestable where no end could be tested.

    The chance is predictive: mean and spread are drawn from what the seeds so far leave open (flat in the mean and in
    log sd), then the missing scores. With two seeds the spread is hardly known, and the chance says so. With one it is
    not known at all; `chance_typical` takes a typical spread for the true one.

    `in_order`: so many of the scores are the first of the list without a gap; only these make a look that was planned,
    and so `p_early` rests on them alone. None: all.
    """
    done = len(scores)
    if not 1 <= done <= planned or planned < 2:
        raise NotTestable(f"{done} of {planned} seeds: a look needs one at least, and a test two in the end")
    shares, first = look_shares(planned), done if in_order is None else in_order
    looks = {n: _p(scores[:n], theirs, margin) for n in range(2, first + 1)}
    early = [min(1.0, p / shares[n]) for n, p in looks.items() if p is not None]
    chance_typical = chance_of_success(scores, planned, theirs, alpha, margin, typical_sd)
    try:
        chance = chance_of_success(scores, planned, theirs, alpha, margin) if done > 1 else None
    except NotTestable:
        chance = None
    return Look(
        done=done,
        planned=planned,
        p=_p(scores, theirs, margin),
        p_early=min(early, default=None),
        share=shares.get(first),
        chance=chance,
        chance_typical=chance_typical,
        typical_sd=typical_sd,
        futile=max(chance_typical, chance or 0.0) < FUTILE,
    )


def look_shares(planned: int) -> dict[int, float]:
    """Which share of alpha each look gets, from the second seed on: each twice that of the one before.

    >>> look_shares(3)
    {2: 0.3333333333333333, 3: 0.6666666666666666}
    """
    weights = {n: 2.0**n for n in range(2, planned + 1)}
    total = math.fsum(weights.values())
    return {n: weight / total for n, weight in weights.items()}


def _p(scores: Sequence[float], theirs: Sample, margin: float) -> float | None:
    try:
        return welch(sample_of(scores), theirs, margin).p
    except NotTestable:
        return None


def chance_of_success(
    scores: Sequence[float],
    planned: int,
    theirs: Sample,
    alpha: float,
    margin: float = 0.0,
    sd: float | None = None,
) -> float:
    """The share of drawn futures in which Welch's test at the end has p < alpha; `sd`: the true spread, where told."""
    now = sample_of(scores)
    welch(Sample(n=planned, mean=now.mean, sd=sd or now.sd), theirs)  # refuses a side without spread or with one seed
    if sd is None and not now.sd:
        raise NotTestable("the seeds so far have no spread to draw from")
    if now.n == planned:
        return float(welch(now, theirs, margin).p < alpha)
    draw, wins = random.Random(GENERATOR), 0
    limits = _Limits(planned, theirs, alpha)
    squares = 0.0 if now.sd is None else (now.n - 1) * now.sd**2
    for _ in range(DRAWS):
        spread = sd if sd is not None else math.sqrt(squares / draw.gammavariate((now.n - 1) / 2, 2.0))
        mean = draw.gauss(now.mean, spread / math.sqrt(now.n))
        future = [draw.gauss(mean, spread) for _ in range(planned - now.n)]
        centre = sum(future) / len(future)
        apart = now.n * len(future) / planned * (centre - now.mean) ** 2
        variance = (squares + sum([(one - centre) ** 2 for one in future]) + apart) / (planned - 1)
        gap = theirs.mean - margin - (now.n * now.mean + len(future) * centre) / planned
        wins += limits.met(gap, variance / planned)
    return wins / DRAWS


class _Limits:
    """Welch's critical value by the share of our variance in the total, so that a draw needs no quantile."""

    def __init__(self, n: int, theirs: Sample, alpha: float) -> None:
        if theirs.sd is None or theirs.n < 2:
            raise NotTestable(f"{theirs.n} seeds of theirs have no known spread")
        self.theirs = theirs.sd**2 / theirs.n
        shares = [i / CELLS for i in range(CELLS + 1)]
        self.values = [
            -student_quantile(alpha, 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (theirs.n - 1))) for share in shares
        ]

    def met(self, gap: float, ours: float) -> bool:
        """Whether a mean better by `gap` is significant with this squared standard error of ours."""
        total = ours + self.theirs
        if gap <= 0 or total <= 0:
            return False
        place = ours / total * CELLS
        low = min(int(place), CELLS - 1)
        limit = self.values[low] + (place - low) * (self.values[low + 1] - self.values[low])
        return gap > limit * math.sqrt(total)
