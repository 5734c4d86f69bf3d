"""D3: a score must be the logarithm of a distribution that was fixed before its target was looked at.

With the same prefix, exp(-nll) of a target summed over every token that could stand there is 1. Two ways to see it:

- exact: at a few positions every token of the vocabulary takes its turn, one run each.
- drawn: one run puts tokens at many positions, each drawn from a plain n-gram model q of what stands before it. Given
  all that a legal score may know, exp(-nll) / q has the mean that the sum has, at every one of these positions; so the
  mean over all of them has it too, whatever was drawn before. A few runs tell of thousands of positions.

Document starts stay where they are, since they may decide the order of an evaluation. The probability of a start is in
an exact sum where the order turns out to be the same with it; elsewhere a sum may be that much below 1.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.outcome import Outcome
from results.audit.probe.proposal import Proposal
from results.audit.probe.scorer import Floats, Ints
from results.audit.probe.stream import BOS
from results.audit.probe.subject import Subject

AUTHORITY = "[M2] A5 (#779, #659); [M] A5c (#1902)"
EXACT = (
    0.005  # by which an exact sum may differ from 1: rounding of losses in bf16; the least of the known cheats has 0.03
)
MISSING = 0.1  # by which a sum may be under 1: the document start is left out, and a smaller sum is no gain
SIGMAS = 4.0
SEEN = 0.005  # a drawn mean must be over 1 by that much too
BLUNT = 0.05  # standard error beyond which a drawn mean tells little
SHARE = 0.5  # of the targets that take a drawn token in one run


@dataclass(frozen=True)
class Sum:
    position: int  # of the token
    total: float
    whole: bool  # over all tokens; else over all but the document start


def exact_sums(subject: Subject, positions: Ints) -> list[Sum]:
    """The sum at each position: a run for each other token of the vocabulary."""
    found = []
    for position in positions.tolist():
        total, whole = math.exp(-float(subject.base.nll[position - 1])), False
        stream = subject.tokens.copy()
        for token in range(subject.vocab):
            if token == int(subject.tokens[position]) or (token == BOS and subject.layout.by_document):
                continue
            stream[position] = token
            score = subject.ask(stream)
            if token != BOS or (whole := np.array_equal(score.order, subject.base.order)):
                total += math.exp(-float(score.nll[position - 1]))
        found.append(Sum(position, total, whole))
    return found


def _exact_verdict(sums: list[Sum]) -> str:
    if any(one.total > 1 + EXACT or (one.whole and one.total < 1 - EXACT) for one in sums):
        return FAIL
    return REVIEW if any(one.total < 1 - MISSING for one in sums) else PASS


def drawn_ratios(subject: Subject, proposal: Proposal, runs: int) -> tuple[Floats, Ints]:
    """exp(-nll) / q at every position that took a drawn token, in all runs; and the positions."""
    ratios: list[Floats] = []
    places: list[Ints] = []
    for run in range(runs):
        random, stream = subject.random(100 + run), subject.tokens.copy()
        chosen = np.flatnonzero((random.random(len(stream)) < SHARE) & (subject.tokens != BOS))
        chosen = chosen[chosen >= 2]
        probabilities = np.empty(len(chosen))
        for place, position in enumerate(chosen.tolist()):  # from left to right: what was drawn before is seen
            token, probability = proposal.draw(int(stream[position - 2]), int(stream[position - 1]), random)
            stream[position], probabilities[place] = token, probability
        ratios.append(np.exp(-subject.ask(stream).nll[chosen - 1]) / probabilities)
        places.append(chosen)
    return np.concatenate(ratios), np.concatenate(places)


def normalisation(subject: Subject, proposal: Proposal, exact: int, runs: int) -> Outcome:
    """`exact`: at how many positions all tokens are tried; `runs`: how many runs with drawn tokens."""
    begin, told = subject.score.runs, []
    evidence: dict[str, object] = {"vocabulary": subject.vocab}
    verdicts = []
    if exact:
        candidates = 2 + np.flatnonzero(subject.tokens[2:] != BOS)
        positions = np.sort(subject.random(3).choice(candidates, min(exact, len(candidates)), replace=False))
        sums = exact_sums(subject, positions)
        worst = max(sums, key=lambda one: abs(one.total - 1))
        least, most = (pick(one.total for one in sums) for pick in (min, max))
        verdicts.append(_exact_verdict(sums))
        evidence["sums"] = [asdict(one) for one in sums]
        told.append(
            f"over all {subject.vocab:,} tokens the probabilities sum to Z = {least:.5g} to {most:.5g} at "
            f"{len(sums)} positions, farthest from 1 at token {worst.position}"
        )
    if runs:
        ratios, places = drawn_ratios(subject, proposal, runs)
        mean, error = float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(len(ratios)))
        verdicts.append(_drawn_verdict(mean, error, alone=not exact))
        worst_place = int(places[int(np.argmax(ratios))])
        evidence |= {"Z_mean": mean, "Z_error": error, "draws": len(ratios), "largest_ratio_at_token": worst_place}
        told.append(f"Z = {mean:.4g} ± {error:.2g} (standard error) over {len(ratios):,} drawn tokens in {runs} runs")
    verdict = FAIL if FAIL in verdicts else REVIEW if REVIEW in verdicts or not verdicts else PASS
    says = "; ".join(told) or "nothing was tried"
    return Outcome("normalisation", "D3", verdict, AUTHORITY, says, subject.score.runs - begin, evidence)


def _drawn_verdict(mean: float, error: float, alone: bool) -> str:
    """`alone`: no exact sum stands beside it, so that a mean that tells too little is for a reviewer."""
    if mean - 1 > max(SIGMAS * error, SEEN):
        return FAIL
    return REVIEW if (alone and error > BLUNT) or 1 - mean > max(SIGMAS * error, MISSING) else PASS
